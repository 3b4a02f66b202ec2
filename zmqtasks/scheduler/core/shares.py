"""Whose turn it is: queues of the same priority share the slots' time by their weights.

Start-time fair queueing: each queue has a clock of its own, which its jobs put forward by their run time over its
weight; the queue whose clock is the furthest behind has its turn. A queue that was empty begins at the present time of
the others: what it did not use is not saved up. (Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996.)
"""

import heapq
from collections.abc import Iterable
from typing import Final

from zmqtasks.scheduler.core.model import Profile

LEAST: Final = 1e-4  # seconds that a job counts for at least: giving it out takes as long
UNKNOWN: Final = 0.01  # seconds that a job counts for whose run time is not known
_MANY: Final = 10_000  # queues whose clocks are remembered


class Shares:
    """The clocks of the queues.

    Attributes:
        weights: of queues whose weight is not 1.
    """

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self._clocks: dict[str, float] = {}
        self._now = 0.0

    def charge(self, queue: str, jobs: int, mean: float) -> None:
        """Jobs of a queue were given out. `mean`: seconds that one takes; below 0: unknown."""
        cost = jobs * (UNKNOWN if mean < 0 else max(mean, LEAST))
        self._now = self.clock(queue)  # when its turn was due
        self._clocks[queue] = self._now + cost / self.weights.get(queue, 1.0)

    def clock(self, queue: str) -> float:
        """When the next turn of a queue is due, on the clock that all have in common."""
        return max(self._clocks.get(queue, 0.0), self._now)

    def turns(self, profiles: Iterable[Profile]) -> "Turns":
        """These profiles take turns."""
        if len(self._clocks) > _MANY:
            self._clocks = {queue: clock for queue, clock in self._clocks.items() if clock > self._now}
        return Turns(self, profiles)


class Turns:
    """Profiles that take turns until none is put back."""

    __slots__ = ("_heap", "_serial", "_shares")

    def __init__(self, shares: Shares, profiles: Iterable[Profile]) -> None:
        self._shares = shares
        self._serial = 0
        self._heap: list[tuple[float, int, Profile]] = []
        for profile in profiles:
            self.put(profile)

    def __bool__(self) -> bool:
        return bool(self._heap)

    def put(self, profile: Profile) -> None:
        """It takes part, behind those of the same time."""
        self._serial += 1
        heapq.heappush(self._heap, (self._shares.clock(profile.queue), self._serial, profile))

    def next(self) -> Profile:
        """The one whose turn it is; it takes no further part unless it is put back."""
        return heapq.heappop(self._heap)[2]
