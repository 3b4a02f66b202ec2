"""How far running jobs have come, by their own account: the newest of each, passed on to those who wait for them."""

from typing import Final

from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_PROGRESS
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import Job, Submitter, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import Progress, Progressed

MANY: Final = MAX_BYTES_PER_MESSAGE // MAX_PROGRESS  # of the longest, that fit into one control message


def on_progress(state: State, worker: Worker, message: Progress, now: Now, fx: Effects) -> None:
    """Take in what a worker's jobs tell; what is too long, or of a job that is not its, is dropped."""
    for number, value in zip(message.numbers, message.values, strict=False):
        job = worker.held.get(number)
        if job is None or len(value) > MAX_PROGRESS:
            state.count("stale_progress")
            continue
        state.progress[job] = value
        owner = job.submission.source.owner
        for submitter in (*([owner] if owner else ()), *state.watchers.get(job, ())):
            tell(state, submitter, job)


def tell(state: State, submitter: Submitter, job: Job) -> None:
    """Pass the newest on, if the submitter is there."""
    if submitter.route is not None:
        state.told.setdefault(submitter, {})[job] = None


def flush(state: State, fx: Effects) -> None:
    """One message per submitter and prefix; what is over meanwhile is no news."""
    for submitter, jobs in state.told.items():
        messages: dict[bytes, list[Progressed]] = {}
        for job in jobs:
            value = state.progress.get(job)
            if value is None:
                continue
            prefix = job.submission.source.prefix
            told = messages.setdefault(prefix, [Progressed(prefix, [], [])])
            if len(told[-1].counters) >= MANY:
                told.append(Progressed(prefix, [], []))
            told[-1].counters.append(job.counter)
            told[-1].values.append(value)
        if submitter.route is not None:
            fx.sends.extend(Send(submitter.route, message) for told in messages.values() for message in told)
    state.told.clear()
