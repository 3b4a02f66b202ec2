"""The legal moves of a job between its states: everything that changes a job's state goes through `Moves`.

`docs/states.md` is drawn from `TABLE`; `make check` fails when they differ.
"""

from collections.abc import Iterable
from typing import Final

from zmqtasks import states
from zmqtasks.scheduler.core.model import Job
from zmqtasks.states import (
    ABORTED,
    ASSIGNED,
    CANCELLED,
    DELAYED,
    FAILED,
    READY,
    RUNNING,
    SUCCEEDED,
    WAITING,
)

TABLE: Final[dict[int, dict[int, str]]] = {
    WAITING: {
        READY: "the bytes of its arguments were loaded",
        CANCELLED: "cancelled before it started",
        ABORTED: "the system ended it",
    },
    DELAYED: {
        READY: "its time has come",
        CANCELLED: "cancelled before it started",
        ABORTED: "the system ended it",
    },
    READY: {
        ASSIGNED: "a worker has credit; or a worker that came back still holds it",
        WAITING: "its turn has come, but the bytes of its arguments must be loaded first",
        CANCELLED: "cancelled before it started",
        ABORTED: "the system ended it: no worker knows its task",
    },
    ASSIGNED: {
        RUNNING: "a heartbeat says that it started",
        READY: "retracted, handed back, or lost with its worker or child",
        DELAYED: "the attempt failed and is tried again later",
        SUCCEEDED: "its result came",
        FAILED: "its failure came, or its crash budget is spent",
        CANCELLED: "taken back from the worker, or killed there",
    },
    RUNNING: {
        READY: "lost with its worker or child, or tried again at once",
        DELAYED: "the attempt failed and is tried again later",
        SUCCEEDED: "its result came",
        FAILED: "its failure came, or its crash budget is spent",
        CANCELLED: "killed while it ran",
    },
    SUCCEEDED: {},
    FAILED: {},
    CANCELLED: {},
    ABORTED: {},
}

_MASKS: Final = [sum(1 << to for to in TABLE[state]) for state in sorted(TABLE)]


class IllegalMoveError(AssertionError):
    """The core tried to move a job where it may not go: a defect of ours."""


class Moves:
    """The choke point. Counts the jobs in every state on the way.

    Attributes:
        counts: how many jobs stand in each state, indexed by state; final ones until they are forgotten.
    """

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts = [0] * len(TABLE)

    def enter(self, count: int, state: int) -> None:
        """New jobs come into being in this state."""
        self.counts[state] += count

    def leave(self, job: Job) -> None:
        """A final job is forgotten."""
        self.counts[job.state] -= 1

    def one(self, job: Job, to: int) -> None:
        """Move one job."""
        state = job.state
        if not _MASKS[state] >> to & 1:
            message = f"job {job.id}: {states.name(state)} → {states.name(to)} is not in the table"
            raise IllegalMoveError(message)
        self.counts[state] -= 1
        self.counts[to] += 1
        job.state = to

    def many(self, jobs: Iterable[Job], to: int) -> None:
        """Move a run of jobs to the same state."""
        counts = self.counts
        bit = 1 << to
        for job in jobs:
            state = job.state
            if not _MASKS[state] & bit:
                self.one(job, to)  # raises, and says which
            counts[state] -= 1
            counts[to] += 1
            job.state = to
