"""The jobs of one source by their counters, in blocks: one table of a million stands still whenever it has doubled."""

from collections.abc import Iterator, Sequence
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_BITS: Final = 12  # of a counter, that tell jobs of one block apart


class JobTable(Generic[T]):
    """Jobs by counter. Counters mostly ascend, so that a block fills up and later empties as a whole."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: dict[int, dict[int, T]] = {}  # none is empty

    def __len__(self) -> int:
        return sum(map(len, self._blocks.values()))

    def __iter__(self) -> Iterator[T]:
        for block in self._blocks.values():
            yield from block.values()

    def get(self, counter: int) -> T | None:
        """The job of this counter, if it is known."""
        block = self._blocks.get(counter >> _BITS)
        return block.get(counter) if block is not None else None

    def known(self, counter: int) -> T:
        """The job of this counter; there must be one."""
        return self._blocks[counter >> _BITS][counter]

    def put(self, counter: int, job: T) -> T:
        """Have a job stand under its counter, instead of the one that did."""
        self._blocks.setdefault(counter >> _BITS, {})[counter] = job
        return job

    def add(self, first: int, jobs: Sequence[T]) -> None:
        """Take in jobs of successive counters."""
        start = 0
        while start < len(jobs):
            counter = first + start
            number = counter >> _BITS
            some = min(len(jobs) - start, ((number + 1) << _BITS) - counter)  # up to the end of the block
            block = self._blocks.setdefault(number, {})
            block.update(zip(range(counter, counter + some), jobs[start : start + some], strict=True))
            start += some

    def remove(self, counter: int, job: T) -> bool:
        """Forget this job; False: it does not stand here."""
        number = counter >> _BITS
        block = self._blocks.get(number)
        if block is None or block.get(counter) is not job:
            return False
        del block[counter]
        if not block:
            del self._blocks[number]
        return True
