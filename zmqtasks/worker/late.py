"""Jobs whose bytes are still on their way over the bulk connection: an argument, or the function that they call.

The two connections know no order: bytes may also come before the Assign that announces them.
"""

from collections.abc import Iterator
from typing import Final

from zmqtasks.ids import Span, inside
from zmqtasks.wire import Function, Work
from zmqtasks.worker.claims import Piece

Ready = tuple[Piece, Work]

EARLY: Final = 100  # functions kept that came before they were announced


class Late:
    """Waiting jobs, one piece per job that lacks its argument, and pieces that lack only their function.

    Attributes:
        coming: shipped functions that were announced and have not come.
    """

    def __init__(self) -> None:
        self.coming: dict[bytes, Function] = {}
        self._arguments: dict[int, Ready] = {}
        self._code: dict[bytes, list[Ready]] = {}
        self._early: dict[int, bytes] = {}
        self._early_code: dict[bytes, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._arguments or self._code)

    def announce(self, function: Function) -> Function | None:
        """Its bytes will come; if they have, here it is."""
        blob = self._early_code.pop(function.digest, None)
        if blob is not None:
            return Function(function.digest, function.name, blob)
        self.coming[function.digest] = function
        return None

    def split(self, piece: Piece, work: Work, late: set[int]) -> list[Piece]:
        """Keep the jobs at the places `late` of a piece; returns the rest, as pieces that are complete."""
        for place in list(late):
            early = self._early.pop(piece.first + place, None)
            if early is not None:
                piece.args[place] = early
                late.remove(place)
        rest: list[Piece] = []
        start = 0
        for place in [*sorted(late), len(piece.args)]:
            if place > start:
                rest.append(_part(piece, start, place))
            if place < len(piece.args):
                self._arguments[piece.first + place] = (_part(piece, place, place + 1), work)
            start = place + 1
        return rest

    def needs_code(self, piece: Piece, work: Work) -> bool:
        """Keep a piece whose function has not come; False if it has, or was never announced."""
        if work.function not in self.coming:
            return False
        self._code.setdefault(work.function, []).append((piece, work))
        return True

    def argument(self, number: int, data: bytes, seen: int) -> Ready | None:
        """An argument has come; None if nobody waits for it, yet or any more. `seen`: the highest number assigned."""
        if number > seen:
            self._early[number] = data
            return None
        found = self._arguments.pop(number, None)
        if found is not None:
            found[0].args[0] = data
        return found

    def code(self, digest: bytes, blob: bytes) -> tuple[Function | None, list[Ready]]:
        """A function has come; with what waited for it. None: it was not announced yet."""
        announced = self.coming.pop(digest, None)
        if announced is None:
            self._early_code[digest] = blob
            if len(self._early_code) > EARLY:
                del self._early_code[next(iter(self._early_code))]
            return None, []
        return Function(digest, announced.name, blob), self._code.pop(digest, [])

    def remove(self, spans: list[Span]) -> None:
        """These numbers are wanted no more; ones that are not here do not matter."""
        for number in list(inside(self._arguments, spans)):
            del self._arguments[number]
        for first, count in spans if self._code else ():
            for digest in list(self._code):
                kept = [
                    (part, work) for piece, work in self._code[digest] for part in _without(piece, first, first + count)
                ]
                self._code[digest] = kept
                if not kept:
                    del self._code[digest]

    def clear(self) -> None:
        """The connection that was to bring them is over."""
        self.coming.clear()
        self._arguments.clear()
        self._code.clear()
        self._early.clear()
        self._early_code.clear()

    def numbers(self) -> Iterator[int]:
        """All of them."""
        yield from self._arguments
        for pieces in self._code.values():
            for piece, _ in pieces:
                yield from range(piece.first, piece.first + len(piece.args))


def _part(piece: Piece, low: int, high: int) -> Piece:
    if low == 0 and high == len(piece.args):
        return piece
    return Piece(piece.first + low, piece.attempt + low, piece.prefix, piece.counters[low:high], piece.args[low:high])


def _without(piece: Piece, low: int, high: int) -> list[Piece]:
    """What is left of a piece without the numbers low … high - 1."""
    first, end = piece.first, piece.first + len(piece.args)
    kept = ((first, min(low, end)), (max(high, first), end))
    return [_part(piece, a - first, b - first) for a, b in kept if a < b]
