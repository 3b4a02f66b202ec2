"""Results beyond the budget of bytes in memory live on disk only: the oldest stand in pages, read when wanted.

A record says which results stand in a page: after a restart they are not in memory either.
"""

from collections.abc import Sequence
from itertools import groupby

from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import MEMORY, OS, Job
from zmqtasks.scheduler.core.records import Paged
from zmqtasks.scheduler.core.state import State

PAGE = 1024 * 1024  # bytes, about
LEAST = PAGE // 16  # no page is smaller, where the budget is not
FEW = 1_000  # entries of jobs that are forgotten do not matter below this


def page(state: State, fx: Effects) -> None:
    """Put a page away, if the outcomes in memory are too many bytes. Called once a turn."""
    residents = state.residents
    residents.tidy(2 * state.results + FEW)
    if not is_due(state):
        return
    jobs: list[Job] = []
    small: list[bytes] = []
    total = 0
    while total < PAGE and (job := residents.popleft()) is not None:
        outcome = job.outcome
        if isinstance(outcome, bytes) and outcome and job.submission.level != MEMORY:
            jobs.append(job)
            small.append(outcome)
            total += len(outcome)
    if jobs:
        refs = state.payloads.page(small, fx)
        for job, ref in zip(jobs, refs, strict=True):
            job.outcome = ref
        state.resident_bytes -= total
        state.pageable_bytes -= total
        state.record(fx, Paged(refs[0].number, _runs(jobs), [len(data) for data in small]), OS)


def is_due(state: State) -> bool:
    """Whether outcomes in memory are too many bytes, and enough of these can be put away to make up a page."""
    most = state.settings.max_result_bytes
    return state.resident_bytes > most and state.pageable_bytes >= min(LEAST, most)


def _runs(jobs: Sequence[Job]) -> list[tuple[bytes, list[int]]]:
    runs = groupby(jobs, key=lambda job: job.submission.source.prefix)
    return [(prefix, [job.counter for job in run]) for prefix, run in runs]
