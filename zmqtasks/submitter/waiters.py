"""What a thread leaves with the loop when it waits for something."""

import threading
from collections.abc import Callable

from zmqtasks.ids import expand
from zmqtasks.submitter.effects import CancelAnswer
from zmqtasks.submitter.results import Pair


class Waiter:
    """A thread that waits until `holds()` is true in the loop."""

    __slots__ = ("event", "holds")

    def __init__(self) -> None:
        self.holds: Callable[[], bool] = bool
        self.event = threading.Event()

    def over(self) -> bool:
        """Whether the wait is over; the thread is told."""
        if self.holds():
            self.event.set()
            return True
        return False


class CancelWaiter:
    """A thread that waits for the answers to its cancels, one per prefix."""

    __slots__ = ("cancelled", "event", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.cancelled: set[Pair] = set()
        self.event = threading.Event()
        if not left:
            self.event.set()

    def answer(self, told: CancelAnswer) -> None:
        """Take in one answer."""
        self.cancelled.update((told.prefix, counter) for counter in expand(told.cancelled))
        self.left -= 1
        if not self.left:
            self.event.set()
