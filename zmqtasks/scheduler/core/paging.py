"""Results beyond the budget of bytes in memory live on disk only: the oldest stand in pages, read when wanted."""

from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import MEMORY, Job
from zmqtasks.scheduler.core.state import State

PAGE = 1024 * 1024  # bytes, about
FEW = 1_000  # entries of jobs that are forgotten do not matter below this


def page(state: State, fx: Effects) -> None:
    """Put a page away, if the outcomes in memory are too many bytes. Called once a turn."""
    residents = state.residents
    while residents and residents[0].outcome is None:  # forgotten meanwhile
        residents.popleft()
    if len(residents) > 2 * state.results + FEW:
        state.residents = residents = type(residents)(job for job in residents if job.outcome is not None)
    if state.resident_bytes <= state.settings.max_result_bytes:
        return
    jobs: list[Job] = []
    small: list[bytes] = []
    total = 0
    while residents and total < PAGE:
        job = residents.popleft()
        outcome = job.outcome
        if isinstance(outcome, bytes) and outcome and job.submission.level != MEMORY:
            jobs.append(job)
            small.append(outcome)
            total += len(outcome)
    if jobs:
        for job, ref in zip(jobs, state.payloads.page(small, fx), strict=True):
            job.outcome = ref
        state.resident_bytes -= total
