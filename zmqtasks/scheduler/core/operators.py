"""What operators ask."""

from zmqtasks import states
from zmqtasks.clock import Now
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import Operator, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import OperatorHello, OperatorWelcome, QueueStatus, Status, WorkerStatus


def on_hello(state: State, route: bytes, hello: OperatorHello, fx: Effects, release: str) -> None:
    """An operator's connection begins."""
    state.peers[route] = Operator(route, hello.host, hello.pid)
    fx.sends.append(Send(route, OperatorWelcome(state.epoch, release)))


def status(state: State, now: Now, started: float, pid: int, release: str) -> Status:
    """The state of things. O(workers + lines)."""
    ready: dict[str, int] = {}
    for line in state.lines.all():
        ready[line.need.queue] = ready.get(line.need.queue, 0) + len(line)
    serving: dict[str, int] = {}
    for worker in state.workers.values():
        for queue in worker.queues:
            serving[queue] = serving.get(queue, 0) + 1
    return Status(
        state.epoch,
        release,
        pid,
        now.mono - started,
        state.durable,
        [_worker(worker, now) for worker in state.workers.values()],
        [QueueStatus(q, ready.get(q, 0), serving.get(q, 0)) for q in sorted(ready.keys() | serving.keys())],
        {states.name(s): n for s, n in enumerate(state.moves.counts)},
        sum(1 for s in state.submitters.values() if s.route is not None),
        dict(state.counters),
        list(state.warnings),
    )


def _worker(worker: Worker, now: Now) -> WorkerStatus:
    condition = "suspect" if worker.route is None else "draining" if worker.draining else "up"
    return WorkerStatus(
        worker.name, worker.host, worker.pid, condition, worker.slots, len(worker.held),
        min(worker.busy, len(worker.held)), worker.done,
        worker.queues, worker.tasks, max(0.0, now.mono - worker.heard),
    )  # fmt: skip
