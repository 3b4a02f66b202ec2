"""What a thread leaves with the loop when it waits for something."""

import threading
from collections.abc import Callable
from typing import Protocol

from zmqtasks.ids import expand
from zmqtasks.submitter.effects import CancelAnswer
from zmqtasks.submitter.results import Pair


class Event(Protocol):
    """How a thread (`threading.Event`) or a coroutine (`loops.Event`) is told."""

    def set(self) -> None:
        """It has happened; called in the loop."""


class Waiter:
    """A thread or coroutine that waits until `holds()` is true in the loop."""

    __slots__ = ("event", "holds")

    def __init__(self, event: Event) -> None:
        self.holds: Callable[[], bool] = bool
        self.event = event

    def begin(self, holds: Callable[[], bool]) -> None:
        """In the loop: what to wait for, unless nobody does any more."""
        if self.holds is not _true:
            self.holds = holds

    def leave(self) -> None:
        """Nobody waits any more: the loop drops it."""
        self.holds = _true

    def over(self) -> bool:
        """Whether the wait is over; the thread is told."""
        if self.holds():
            self.event.set()
            return True
        return False


class CancelWaiter:
    """A thread or coroutine that waits for the answers to its cancels, one per prefix."""

    __slots__ = ("cancelled", "event", "left")

    def __init__(self, left: int, event: Event | None = None) -> None:
        self.left = left
        self.cancelled: set[Pair] = set()
        self.event: Event = event or threading.Event()
        if not left:
            self.event.set()

    def answer(self, told: CancelAnswer) -> None:
        """Take in one answer."""
        self.cancelled.update((told.prefix, counter) for counter in expand(told.cancelled))
        self.left -= 1
        if not self.left:
            self.event.set()


def _true() -> bool:
    return True
