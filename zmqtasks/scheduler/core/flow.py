"""The lines of one submitter, the one with the oldest job first: O(log lines) however many tasks it uses."""

import heapq
from itertools import count
from typing import Generic, Protocol, TypeVar


class _Ordered(Protocol):
    @property
    def order(self) -> int:
        """The smaller, the sooner."""


T = TypeVar("T", bound=_Ordered)

_SLACK = 16  # entries that do not count any more and need no sweep


class Flow(Generic[T]):
    """Lines by the acceptance of their first job.

    A heap whose entries are looked at when they come up: a line's first job may have become a later one meanwhile.

    Attributes:
        served: at which turn of all it had its last one.
    """

    __slots__ = ("_heap", "_orders", "_serial", "served")

    def __init__(self, served: int = 0) -> None:
        self.served = served
        self._heap: list[tuple[int, int, T]] = []
        self._orders: dict[T, int] = {}  # by which each line stands in the heap; its other entries do not count
        self._serial = count()

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, line: object) -> bool:
        return line in self._orders

    def put(self, line: T) -> None:
        """A line has got its first job, or an older one in front of that."""
        order = line.order
        known = self._orders.get(line)
        if known is not None and known <= order:
            return
        self._orders[line] = order
        if len(self._heap) > 2 * len(self._orders) + _SLACK:
            self._heap = [(at, next(self._serial), one) for one, at in self._orders.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (order, next(self._serial), line))

    def remove(self, line: T) -> None:
        """A line is empty."""
        del self._orders[line]

    def first(self) -> T:
        """The line whose first job is the oldest; there must be one."""
        heap, orders = self._heap, self._orders
        while True:
            order, _, line = heap[0]
            if orders.get(line) != order:
                heapq.heappop(heap)
                continue
            present = line.order
            if present == order:
                return line
            orders[line] = present
            heapq.heapreplace(heap, (present, next(self._serial), line))
