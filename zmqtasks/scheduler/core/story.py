"""What happened lately, one entry per run of jobs: a bounded ring for people who ask why."""

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

RING = 10_000


class Entry(Struct, frozen=True, gc=False):
    """Jobs `first … first + jobs - 1` of a prefix came to `state` because of `cause`.

    `some`: where not all of these are meant, the counters of those that are, 32 bits each in this machine's order.
    """

    wall: float
    prefix: bytes
    first: int
    jobs: int
    state: int
    cause: str
    some: bytes = b""

    def holds(self, counter: int) -> bool:
        """Whether this job of the prefix is meant."""
        if not self.first <= counter < self.first + self.jobs:
            return False
        return not self.some or counter in memoryview(self.some).cast("I")


class Story:
    """The ring."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring: deque[Entry] = deque(maxlen=RING)

    def tell(self, entry: Entry) -> None:
        """Add one entry; the oldest falls out."""
        self._ring.append(entry)

    def tell_run(self, wall: float, prefix: bytes, counters: Sequence[int], state: int, cause: str) -> None:
        """Add one entry about jobs that moved together; their counters differ, in whatever order they are."""
        first, last, jobs = counters[0], counters[-1], len(counters)
        some = b""
        # The hot path: ends and sum tell a run from other sets, a tenth as long as looking at each; for other sets to
        # agree in both, jobs must have come back in just the wrong order.
        if jobs > 1 and (last - first + 1 != jobs or 2 * sum(counters) != (first + last) * jobs):
            first = min(counters)
            jobs = max(counters) - first + 1
            some = array("I", counters).tobytes()
        self._ring.append(Entry(wall, prefix, first, jobs, state, cause, some))

    def of(self, prefix: bytes, counter: int) -> list[Entry]:
        """The entries that concern one job, oldest first."""
        return [entry for entry in self._ring if entry.prefix == prefix and entry.holds(counter)]

    def latest(self, wanted: Mapping[bytes, Iterable[int]], state: int) -> dict[tuple[bytes, int], float]:
        """When each of these jobs last came to a state (Unix time); those that are forgotten are left out.

        One pass over the ring, however many jobs are asked for.

        Args:
            wanted: prefix → counters.
            state: number of a state.
        """
        ordered = {prefix: sorted(counters) for prefix, counters in wanted.items()}
        found: dict[tuple[bytes, int], float] = {}
        for entry in self._ring:
            counters = ordered.get(entry.prefix)
            if counters is not None and entry.state == state:
                found.update(((entry.prefix, counter), entry.wall) for counter in _within(entry, counters))
        return found


def _within(entry: Entry, ordered: Sequence[int]) -> Iterator[int]:
    """Those of some ascending counters that an entry holds."""
    for at in range(bisect_left(ordered, entry.first), len(ordered)):
        counter = ordered[at]
        if counter >= entry.first + entry.jobs:
            return
        if entry.holds(counter):
            yield counter
