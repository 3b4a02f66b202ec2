"""Ascending integers with their neighbours: the first counters of a session's submissions.

Blocks of a bounded length: a plain list of 200,000 would be moved in memory each time its oldest entry goes.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from operator import itemgetter
from typing import Final

_MOST: Final = 1_000  # integers in one block
_head = itemgetter(0)


class Firsts:
    """A sorted set of integers."""

    __slots__ = ("_blocks",)

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []  # none is empty

    def __iter__(self) -> Iterator[int]:
        for block in self._blocks:
            yield from block

    def add(self, number: int) -> None:
        """Take in a number that is not there."""
        blocks = self._blocks
        if not blocks:
            blocks.append([number])
            return
        at = max(0, self._block(number))
        block = blocks[at]
        insort(block, number)
        if len(block) > _MOST:
            cut = _MOST // 2 if number < block[-1] else _MOST  # what is appended to leaves full blocks behind
            blocks.insert(at + 1, block[cut:])
            del block[cut:]

    def remove(self, number: int) -> None:
        """Give up a number that is there."""
        at = self._block(number)
        block = self._blocks[at]
        del block[bisect_left(block, number)]
        if not block:
            del self._blocks[at]

    def upto(self, number: int) -> int | None:
        """The greatest that is not greater than `number`."""
        at = self._block(number)
        if at < 0:
            return None
        block = self._blocks[at]
        return block[bisect_right(block, number) - 1]

    def _block(self, number: int) -> int:
        """The last block that begins at `number` or before; -1 if there is none."""
        return bisect_right(self._blocks, number, key=_head) - 1
