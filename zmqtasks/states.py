"""The states of a job, one word each, shared by every layer.

The legal moves between them live in `zmqtasks.scheduler.core.transitions`; `docs/states.md` is drawn from that table.
"""

from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Where a job stands. Numbers are wire and journal format: only ever appended."""

    WAITING = 0  # its dependencies, or the bytes of its arguments, are not here yet
    DELAYED = 1  # not before a point in time (eta, countdown, retry back-off)
    READY = 2  # eligible: stands in a line
    ASSIGNED = 3  # leased to a worker
    RUNNING = 4  # a heartbeat said that it started
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7  # somebody asked
    ABORTED = 8  # the system ended it: a dependency failed, it expired, nobody can run it

    @property
    def final(self) -> bool:
        """Whether a job in this state is over for good."""
        return self >= State.SUCCEEDED


# Plain integers for the hot paths: comparing an IntEnum member costs five times as much.
WAITING: Final = int(State.WAITING)
DELAYED: Final = int(State.DELAYED)
READY: Final = int(State.READY)
ASSIGNED: Final = int(State.ASSIGNED)
RUNNING: Final = int(State.RUNNING)
SUCCEEDED: Final = int(State.SUCCEEDED)
FAILED: Final = int(State.FAILED)
CANCELLED: Final = int(State.CANCELLED)
ABORTED: Final = int(State.ABORTED)

FINAL: Final = frozenset({SUCCEEDED, FAILED, CANCELLED, ABORTED})


def name(state: int) -> str:
    """The state's word in lower case, as documents, logs and the command line print it."""
    return State(state).name.lower()
