"""What jobs came to: taken from the current attempt only; late and repeated outcomes are counted and acknowledged."""

from zmqtasks import payload
from zmqtasks.clock import Now
from zmqtasks.scheduler.core import lifecycle, payloads, strays
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import Job, Payload, Worker
from zmqtasks.scheduler.core.records import Succeeded
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import CANCELLED, FAILED, RUNNING, SUCCEEDED
from zmqtasks.wire import CANCELLED as END_CANCELLED
from zmqtasks.wire import CRASHED, LOST, RETRYABLE, SUSPECT, Done, End, Run

MAX_EVIDENCE = 4_000  # characters of a worker's account of one death

MANY_ACKS = 200  # outcomes whose acknowledgement does not wait for more


def on_done(state: State, worker: Worker, message: Done, now: Now, fx: Effects) -> None:
    """Outcomes: taken from the current attempt only; late and repeated ones are counted and acknowledged."""
    numbers: list[int] = []
    for run in message.runs:
        numbers.extend(range(run.first, run.first + len(run.results)))
        _succeeded(state, worker, run, now, fx)
    for end in message.ends:
        numbers.append(end.number)
        job = worker.held.get(end.number)
        if job is None:
            _stale(state, worker, end.number, end, fx)
        else:
            worker.done += 1
            if end.number == worker.window.number:
                worker.window.returned(state.settings.horizon, now.mono)
            _ended(state, worker, job, end, now, fx)
    worker.moved = now.mono
    worker.stuck = False
    lifecycle.seat(state, worker)
    if worker.strays:  # nobody has taken these yet: the worker keeps them
        numbers = [number for number in numbers if number not in worker.strays]
    if numbers:
        waiting, _ = state.acks.setdefault(worker, ([], now.mono))
        waiting.extend(numbers)
        if worker.draining or len(waiting) >= MANY_ACKS:
            state.hurry_acks(worker)


def _succeeded(state: State, worker: Worker, run: Run, now: Now, fx: Effects) -> None:
    held = worker.held
    jobs: list[Job] = []
    outcomes: list[Payload] = []
    load = 0.0
    number = run.first
    timed = number <= worker.window.number < number + len(run.results) and worker.window.number in held
    keep = state.payloads.keep
    spill = state.payloads.spill
    for result in run.results:
        job = held.pop(number, None)
        number += 1
        if job is None:
            share = run.total / len(run.results)
            _stale(state, worker, number - 1, Run(number - 1, [result], share, run.longest), fx)
            continue
        load += job.cost
        if job.state == RUNNING:
            worker.running -= 1
        if job.submission.counted:
            lifecycle.uncount(state, worker, job.submission, now)
        job.worker = None
        jobs.append(job)
        outcomes.append(result if len(result) <= spill else keep(result, fx))
    if not jobs:
        return
    worker.asked.difference_update(range(run.first, number))
    worker.credit += len(jobs)
    worker.load = worker.load - load if held else 0.0
    worker.done += len(jobs)
    state.moves.many(jobs, SUCCEEDED)
    jobs[0].submission.target.measured(len(run.results), run.total, run.longest)
    if timed:
        worker.window.returned(state.settings.horizon, now.mono)
    _record_success(state, jobs, outcomes, now, fx)
    lifecycle.settle(state, jobs, outcomes, now, fx)
    state.count("succeeded", len(jobs))


def _stale(state: State, worker: Worker, number: int, outcome: Run | End, fx: Effects) -> None:
    """An outcome of what the worker does not hold, to our knowledge: late, repeated, or of an unknown job."""
    if number in worker.strays:
        strays.on_outcome(state, worker.strays[number], outcome, fx)
    else:
        state.count("stale_results")


def _record_success(state: State, jobs: list[Job], outcomes: list[Payload], now: Now, fx: Effects) -> None:
    """One record and one line of the story per prefix and durability."""
    start = 0
    for index in range(1, len(jobs) + 1):
        submission = jobs[start].submission
        prefix, level = submission.source.prefix, submission.level
        if index < len(jobs):
            following = jobs[index].submission
            if following is submission or (following.source is submission.source and following.level == level):
                continue
        counters = [job.counter for job in jobs[start:index]]
        if state.recording:
            told = [o if type(o) is bytes else payloads.told(o) for o in outcomes[start:index]]
            state.record(fx, Succeeded(prefix, counters, told, now.wall), level)
        state.story.tell_run(now.wall, prefix, counters, SUCCEEDED, "its result came")
        start = index


def _ended(state: State, worker: Worker, job: Job, end: End, now: Now, fx: Effects) -> None:
    if end.took and end.kind not in (CRASHED, LOST, SUSPECT):
        job.submission.target.measured(1, end.took, end.took)
    if end.kind == END_CANCELLED:
        lifecycle.end(state, job, CANCELLED, end.payload, now, fx)
    elif end.kind == RETRYABLE:
        lifecycle.retry(state, job, end.payload, now, fx, delay=end.delay, limit=end.limit)
    elif end.kind in (CRASHED, SUSPECT):
        job.attempt = 0
        job.solo = job.solo or end.kind == SUSPECT
        lifecycle.crash(state, job, payload.read_failure(end.payload).text[:MAX_EVIDENCE], now, fx)
    elif end.kind == LOST:
        job.attempt = 0
        lifecycle.lost(state, job, f"its outcome was lost with a child of worker {worker}", now, fx)
    else:
        lifecycle.end(state, job, FAILED, end.payload, now, fx)
