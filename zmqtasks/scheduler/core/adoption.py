"""Workers that come back with what they hold: their attempts become the current ones again, and nothing runs twice."""

from zmqtasks.clock import Now
from zmqtasks.scheduler.core import lifecycle, outcomes, strays
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import OS, Job, Source, Stray, Worker
from zmqtasks.scheduler.core.records import Adopted
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.story import Entry
from zmqtasks.states import ASSIGNED, DELAYED, READY
from zmqtasks.wire import Done, Held, Run


def adopt_again(state: State, worker: Worker, held: Held, now: Now, fx: Effects) -> bool:
    """The worker was given up, but the job has not started elsewhere: it is the worker's again.

    Or the scheduler was restarted, and the submitter was sooner back than the worker.
    """
    job = state.find(held.prefix, held.counter)
    if job is None or job.state != READY or worker.credit <= 0:
        return False
    untouched = not job.number and _same_content(job.submission.source)  # no worker was ever given it
    if job.attempt != held.attempt and not (untouched and held.attempt <= state.first_attempt):
        return False
    state.lines.remove(job)
    job.attempt = held.attempt
    if job.solo:  # its worker was not dead after all
        job.solo = False
        job.crashes -= 1
        texts = state.evidence.get(job, [])
        del texts[-1:]
        if not texts:
            state.evidence.pop(job, None)
    fact = Adopted(worker.nonce, held.number, held.attempt, held.prefix, held.counter, job.crashes)
    state.record(fx, fact, _level(job))
    job.worker, job.number, job.cost = worker, held.number, 0.0
    worker.held[held.number] = job
    lifecycle.count(state, worker, job.submission, now)
    worker.next = max(worker.next, held.number + 1)
    worker.credit -= 1
    state.moves.one(job, ASSIGNED)
    state.story.tell(Entry(now.wall, held.prefix, held.counter, 1, ASSIGNED, f"adopted again from worker {worker}"))
    state.count("adopted")
    return True


def adopt(state: State, source: Source, jobs: list[Job], now: Now, fx: Effects) -> list[Job]:
    """Jobs were just accepted: where a worker holds a stray attempt at one, that is its current one.

    Returns the jobs that nobody holds.
    """
    rest: list[Job] = []
    workers: dict[Worker, Done] = {}
    foreign: list[Stray] = []
    for job in jobs:
        stray = state.strays.get((source.prefix, job.counter))
        if stray is None:
            rest.append(job)
            continue
        if not _same_content(source):
            foreign.append(stray)
            rest.append(job)
            continue
        lifecycle.forget_stray(state, stray)
        _take(state, job, stray, now, fx)
        done = workers.setdefault(stray.worker, Done([], []))
        if isinstance(stray.outcome, Run):
            done.runs.append(stray.outcome)
        elif stray.outcome is not None:
            done.ends.append(stray.outcome)
    strays.disown(state, foreign, fx)
    for worker, done in workers.items():
        worker.held = dict(sorted(worker.held.items()))
        lifecycle.seat(state, worker)
        if done.runs or done.ends:
            outcomes.on_done(state, worker, done, now, fx)
    return rest


def _same_content(source: Source) -> bool:
    """Whether an id of an earlier life surely means the same job now.

    A session numbers its own jobs once. An id that a user chose may have been given to another job meanwhile.
    """
    return source.owner is not None and source.owner.prefix == source.prefix


def _level(job: Job) -> int:
    """What the adoption outlives: without it the job runs again, which matters only if it may not."""
    submission = job.submission
    return min(OS, submission.level) if submission.spec.acks_late else submission.level


def _take(state: State, job: Job, stray: Stray, now: Now, fx: Effects) -> None:
    worker, prefix = stray.worker, stray.key[0]
    if job.state == DELAYED:
        state.moves.one(job, READY)
    state.moves.one(job, ASSIGNED)
    job.worker, job.number, job.attempt, job.cost = worker, stray.number, stray.attempt, 0.0
    worker.held[stray.number] = job
    lifecycle.count(state, worker, job.submission, now)
    worker.credit -= 1
    fact = Adopted(worker.nonce, stray.number, stray.attempt, prefix, job.counter, job.crashes)
    state.record(fx, fact, _level(job))
    text = f"worker {worker} had it from before the scheduler's restart"
    state.story.tell(Entry(now.wall, prefix, job.counter, 1, ASSIGNED, text))
    state.count("adopted")
