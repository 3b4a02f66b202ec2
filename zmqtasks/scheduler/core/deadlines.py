"""Timers in two heaps, one per clock. Entries are checked when they come up, or all at once when they have doubled."""

import heapq
from collections.abc import Callable, Iterator
from itertools import count, islice
from math import inf
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SAMPLE: Final = 100  # entries by which it is judged whether a sweep is worth its time
_SWEEP: Final = 1_000  # entries at which those that do not matter any more are first looked for


class Timers(Generic[T]):
    """Things that are due at a time of one clock.

    Args:
        alive: whether a thing still matters; those that do not are swept out when they become many.

    Attributes:
        at: when the next one comes up; inf: there is none.
    """

    __slots__ = ("_alive", "_heap", "_serial", "_sweep_at", "at")

    def __init__(self, alive: Callable[[T], bool]) -> None:
        self._alive = alive
        self._sweep_at = _SWEEP
        self._heap: list[tuple[float, int, T]] = []
        self._serial = count()
        self.at = inf

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, thing: T) -> None:
        """Have `thing` come up at `when`."""
        if len(self._heap) >= self._sweep_at:
            if self._is_worth_it():
                self._heap = [entry for entry in self._heap if self._alive(entry[2])]
                heapq.heapify(self._heap)
            self._sweep_at = max(_SWEEP, 2 * len(self._heap))
        heapq.heappush(self._heap, (when, next(self._serial), thing))
        self.at = self._heap[0][0]

    def _is_worth_it(self) -> bool:
        """Whether many do not matter any more: to look at a million that all do would stop everybody for 0.2 s."""
        sample = self._heap[:: len(self._heap) // _SAMPLE]
        return sum(not self._alive(entry[2]) for entry in sample) > len(sample) // 8

    def due(self, now: float) -> Iterator[tuple[float, T]]:
        """Take out what is due, in order."""
        while self._heap and self._heap[0][0] <= now:
            when, _, thing = heapq.heappop(self._heap)
            self.at = self._heap[0][0] if self._heap else inf
            yield when, thing

    def soonest(self) -> Iterator[tuple[float, T]]:
        """What still matters, in order, and nothing is taken out. Each step is O(log of the steps so far)."""
        heap = self._heap
        ahead = [(*heap[0][:2], 0)] if heap else []  # the front of a walk down the heap: (when, serial, place)
        while ahead:
            when, _, place = heapq.heappop(ahead)
            thing = heap[place][2]
            if self._alive(thing):
                yield when, thing
            for child in (2 * place + 1, 2 * place + 2):
                if child < len(heap):
                    heapq.heappush(ahead, (*heap[child][:2], child))

    def when(self, thing: T, look: int) -> float | None:
        """When a thing comes up, if it is among the first `look` entries, in whatever order they stand."""
        return next((when for when, _, other in islice(self._heap, look) if other is thing), None)
