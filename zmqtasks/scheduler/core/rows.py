"""Jobs as rows for people: some of those in a state, found without looking at all of them."""

import heapq
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

from zmqtasks import states
from zmqtasks.clock import Now
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.errors import PeerError
from zmqtasks.scheduler.core.model import Job
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, DELAYED, FINAL, READY, RUNNING, WAITING
from zmqtasks.wire import AskJobs, Jobs, JobStatus

LOOK: Final = 20_000  # jobs that are looked at for one answer, at most
_NUMBERS: Final = {states.name(number): number for number in states.State}

_Found = tuple[Job, float]  # with the Unix time before which it does not start; 0: none


def jobs(state: State, asked: AskJobs, now: Now) -> Jobs:
    """What was asked for, running ones first. O(workers + lines + LOOK). Raises PeerError for what is no state."""
    wanted = _wanted(asked.states)
    limit = max(0, min(asked.limit, MAX_JOBS_PER_MESSAGE))
    found: list[_Found] = []
    fitting = 0
    for looked, (job, when) in enumerate(_candidates(state, wanted, asked.queue, now), start=1):
        if not asked.queue or job.submission.spec.queue == asked.queue:
            fitting += 1
            if len(found) < limit:
                found.append((job, when))
        if looked == LOOK or (not asked.queue and len(found) == limit):
            break
    else:
        return Jobs(_rows(state, found), fitting)
    total = -1 if asked.queue else sum(state.moves.counts[number] for number in wanted)
    return Jobs(_rows(state, found), total)


def _wanted(names: list[str]) -> frozenset[int]:
    unknown = [name for name in names if name not in _NUMBERS]
    if unknown:
        message = f"there is no job state {unknown[0]!r}; there are: {', '.join(_NUMBERS)}"
        raise PeerError(message)
    return frozenset(_NUMBERS[name] for name in names) or frozenset(_NUMBERS.values()) - FINAL


def _candidates(state: State, wanted: frozenset[int], queue: str, now: Now) -> Iterator[_Found]:
    """Jobs of these states; of the lines only those of the queue."""
    for group in (frozenset({RUNNING}), frozenset({ASSIGNED})):
        if group <= wanted:
            yield from ((job, 0.0) for job in _leased(state, group))
    if READY in wanted:
        for line in state.lines.all():
            if not queue or line.need.queue == queue:
                yield from ((job, 0.0) for job in line.jobs if job not in line.gone)
    if DELAYED in wanted:
        yield from delayed(state, now)
    if WAITING in wanted:
        yield from ((job, 0.0) for job in state.waiting.values())
    if wanted & FINAL:
        ended = chain((job for _, job in reversed(state.finished)), (job for _, job in state.expiries.soonest()))
        yield from ((job, 0.0) for job in islice(ended, LOOK) if job.state in wanted and job.outcome is not None)


def _leased(state: State, wanted: frozenset[int]) -> Iterator[Job]:
    """Jobs that workers hold; a worker is left as soon as it has no more of them."""
    for worker in state.workers.values():
        left = worker.running if RUNNING in wanted else len(worker.held) - worker.running
        for job in worker.held.values():
            if not left:
                break
            if job.state in wanted:
                left -= 1
                yield job


def delayed(state: State, now: Now) -> Iterator[_Found]:
    """Delayed jobs and when they may start, the soonest first."""
    etas = ((when, job) for when, job in state.delays.soonest())
    backoffs = ((now.wall + when - now.mono, job) for when, job in state.backoffs.soonest())
    for when, job in heapq.merge(etas, backoffs, key=lambda entry: entry[0]):
        yield job, when


def _rows(state: State, found: list[_Found]) -> list[JobStatus]:
    held: dict[bytes, list[int]] = {}
    for job, _ in found:
        if job.worker is not None:
            held.setdefault(job.submission.source.prefix, []).append(job.counter)
    since = state.story.latest(held, ASSIGNED) if held else {}
    return [row(job, due, since.get((job.submission.source.prefix, job.counter), 0.0)) for job, due in found]


def row(job: Job, due: float, since: float) -> JobStatus:
    """One job.

    Args:
        job: any.
        due: Unix time before which it does not start; 0: none.
        since: Unix time at which its worker got it; 0: not known.
    """
    owner = job.submission.source.owner
    return JobStatus(
        job.id, job.submission.target.name, states.name(job.state), job.submission.spec.queue,
        "" if job.worker is None else job.worker.name, job.attempt, job.retries, job.crashes, due,
        "" if owner is None else f"{owner.user}@{owner.host}", since if job.worker is not None else 0.0,
    )  # fmt: skip


def due(state: State, job: Job, now: Now) -> float:
    """Unix time before which a delayed job does not start; 0: none, or it is not found among very many."""
    if job.state != DELAYED:
        return 0.0
    if job.submission.spec.not_before > now.wall:
        return job.submission.spec.not_before
    when = state.backoffs.when(job, LOOK)
    return 0.0 if when is None else now.wall + when - now.mono
