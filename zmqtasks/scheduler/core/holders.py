"""Which jobs have what another one waits for: room under a cap, resources of a worker. For people who ask."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from zmqtasks.scheduler.core.model import Job, Worker
from zmqtasks.scheduler.core.needs import LimitKey
from zmqtasks.scheduler.core.state import State
from zmqtasks.words import plural

NAMED: Final = 3  # jobs that are named


def of_cap(state: State, key: LimitKey) -> str:
    """The jobs that count for a cap, with their workers."""
    held = (job for worker in state.workers.values() for job in worker.held.values())
    return _named([job for job in held if key in state.limits.caps_of(job.submission)], where=True)


def of_resources(workers: Iterable[Worker], names: set[str]) -> str:
    """Who has resources of these names on these workers; empty: nobody that is known."""
    some = list(workers)
    jobs = [job for worker in some for job in worker.held.values() if _takes(job.submission.spec.resources, names)]
    strays = [stray for worker in some for stray in worker.strays.values() if stray.outcome is None]
    unknown = sum(1 for stray in strays if _takes(stray.resources, names))
    told = [_named(jobs, where=len(some) > 1)] if jobs else []
    told += [f"{plural(unknown, 'job')} of before the scheduler's last start"] if unknown else []
    return " and ".join(told)


def _takes(resources: Iterable[tuple[str, int]], names: set[str]) -> bool:
    return any(name in names for name, _ in resources)


def _named(jobs: list[Job], *, where: bool) -> str:
    told = [f"{job.id} on {job.worker.name}" if where and job.worker else job.id for job in islice(jobs, NAMED)]
    more = len(jobs) - len(told)
    return ", ".join(told) + (f" and {more:,} more" if more else "")
