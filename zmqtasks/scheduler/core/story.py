"""What happened lately, one entry per run of jobs: a bounded ring for people who ask why."""

from collections import deque
from typing import NamedTuple

RING = 10_000


class Entry(NamedTuple):
    """Jobs `first … first + jobs - 1` of a prefix came to `state` because of `cause`."""

    wall: float
    prefix: bytes
    first: int
    jobs: int
    state: int
    cause: str


class Story:
    """The ring."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring: deque[Entry] = deque(maxlen=RING)

    def tell(self, entry: Entry) -> None:
        """Add one entry; the oldest falls out."""
        self._ring.append(entry)

    def of(self, prefix: bytes, counter: int) -> list[Entry]:
        """The entries that concern one job, oldest first."""
        return [e for e in self._ring if e.prefix == prefix and e.first <= counter < e.first + e.jobs]
