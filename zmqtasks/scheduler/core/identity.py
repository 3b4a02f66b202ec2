"""Who a scheduler is."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Identity:
    """Who this scheduler is.

    Attributes:
        epoch: max(last epoch + 1, Unix milliseconds) at its start.
        release: of zmqtasks.
        pid: of the daemon.
        durable: accepted jobs outlive the process.
        started: monotonic time of its start.
        journal: where its journal is, for people.
    """

    epoch: int
    release: str
    pid: int = 0
    durable: bool = False
    started: float = 0.0
    journal: str = ""
