"""What operators ask."""

from zmqtasks import states
from zmqtasks.clock import Now
from zmqtasks.resources import number
from zmqtasks.scheduler.core import explain, rows, unserved
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.model import Operator, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import (
    AskJob,
    AskJobs,
    JobReport,
    JournalStatus,
    OperatorHello,
    OperatorWelcome,
    QueueStatus,
    RateStatus,
    Status,
    StoryLine,
    WorkerStatus,
)


def on_hello(state: State, route: bytes, hello: OperatorHello, fx: Effects, release: str) -> None:
    """An operator's connection begins."""
    state.peers[route] = Operator(route, hello.host, hello.pid)
    fx.sends.append(Send(route, OperatorWelcome(state.epoch, release)))


def on_ask_jobs(state: State, route: bytes, message: AskJobs, now: Now, fx: Effects) -> None:
    """Some of the jobs in some states."""
    fx.sends.append(Send(route, rows.jobs(state, message, now), _told_after(state)))


def on_ask_job(state: State, route: bytes, message: AskJob, now: Now, fx: Effects) -> None:
    """All about one job."""
    prefix, counter = message.prefix, message.counter
    story = [StoryLine(e.wall, states.name(e.state), e.cause) for e in state.story.of(prefix, counter)]
    job = state.find(prefix, counter)
    if job is None:
        report = JobReport(None, explain.unknown(state, prefix, counter), story, b"")
    else:
        since = next((line.wall for line in reversed(story) if line.state == "assigned"), 0.0)
        told = rows.row(job, rows.due(state, job, now), since)
        report = JobReport(told, explain.reasons(state, job, now), story, state.progress.get(job, b""))
    fx.sends.append(Send(route, report, _told_after(state)))


def _told_after(state: State) -> int:
    """The record that must be durable before a question is answered; none while nothing can be written.

    Whoever asks why nothing goes on must not wait for that himself. `status` never waits.
    """
    return 0 if state.journal.trouble else state.seq


def status(state: State, now: Now, me: Identity) -> Status:
    """The state of things. O(workers + lines); where operators have set rates, and limits."""
    ready: dict[str, int] = {}
    for line in state.lines.all():
        ready[line.need.queue] = ready.get(line.need.queue, 0) + len(line)
    serving: dict[str, int] = {}
    for worker in state.workers.values():
        for queue in worker.queues:
            serving[queue] = serving.get(queue, 0) + 1
    usage = state.journal
    return Status(
        state.epoch,
        me.release,
        me.pid,
        now.mono - me.started,
        state.durable,
        [_worker(worker, now) for worker in state.workers.values()],
        [
            QueueStatus(
                queue,
                ready.get(queue, 0),
                serving.get(queue, 0),
                state.durability(queue) if state.durable else "memory",
                queue in state.lines.paused,
                state.shares.weights.get(queue, 1.0),
            )
            for queue in sorted(ready.keys() | serving.keys() | state.lines.paused)
        ],
        {states.name(s): n for s, n in enumerate(state.moves.counts)},
        sum(1 for s in state.submitters.values() if s.route is not None),
        dict(state.counters),
        [*state.warnings, *unserved.warnings(state)],
        JournalStatus(me.journal, usage.size, usage.pending, usage.trouble) if state.durable else None,
        _rates(state),
    )


def _rates(state: State) -> list[RateStatus]:
    """Those that operators have set."""
    limits = state.limits
    declared = limits.declared() if limits.told else {}
    return [
        RateStatus(task, rate, burst, limits.told_at.get(task, 0.0), *declared.get(task, (None, 1)))
        for task, (rate, burst) in sorted(limits.told.items())
    ]


def _worker(worker: Worker, now: Now) -> WorkerStatus:
    condition = "suspect" if worker.route is None else "draining" if worker.draining else "up"
    return WorkerStatus(
        worker.name, worker.host, worker.pid, condition, worker.slots, len(worker.held),
        min(worker.busy, len(worker.held)), worker.done,
        worker.queues, worker.tasks, max(0.0, now.mono - worker.heard), worker.team.python if worker.team else "",
        {name: number(amount) for name, amount in worker.resources},
        {name: number(amount - worker.free[name]) for name, amount in worker.resources},
    )  # fmt: skip
