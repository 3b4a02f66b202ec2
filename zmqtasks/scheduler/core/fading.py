"""A queue of things that may die where they stand: the dead are sifted out, some in each turn, never all at once."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_STEP: Final = 2_000  # things that are looked at in one turn


class Fading(Generic[T]):
    """First in, first out; what has died on its way is skipped by whoever takes it out.

    Args:
        alive: whether a thing still matters.

    Attributes:
        back: where new things are appended.
    """

    __slots__ = ("_alive", "_sifted", "back")

    def __init__(self, alive: Callable[[T], bool]) -> None:
        self._alive = alive
        self._sifted: deque[T] = deque()  # in front of `back`: those that a sweep under way has looked at
        self.back: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._sifted) + len(self.back)

    def __reversed__(self) -> Iterator[T]:
        yield from reversed(self.back)
        yield from reversed(self._sifted)

    @property
    def head(self) -> T | None:
        """The first thing, dead or alive; None: there is none."""
        first = self._sifted or self.back
        return first[0] if first else None

    def popleft(self) -> T | None:
        """Take out the first thing, dead or alive; None: there is none."""
        first = self._sifted or self.back
        return first.popleft() if first else None

    def tidy(self, most: int) -> None:
        """Called once a turn: when there are more than `most` things, the dead among the first ones leave."""
        sifted, back, alive = self._sifted, self.back, self._alive
        if not sifted and len(back) <= most:
            return
        for _ in range(min(len(back), _STEP)):
            thing = back.popleft()
            if alive(thing):
                sifted.append(thing)
        if not back:
            self._sifted, self.back = back, sifted
