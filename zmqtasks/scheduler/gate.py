"""Durable before visible: holds every message back until the record that it reveals is on disk."""

from collections import deque
from collections.abc import Iterable

from zmqtasks.scheduler.core.effects import Send
from zmqtasks.wire import DoneAck


class Gate:
    """Keeps the order of each route, but lets work overtake acknowledgements.

    An Assign need not wait for the disk because the DoneAck in front of it does.
    """

    def __init__(self) -> None:
        self._held: dict[bytes, deque[Send]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    def pass_(self, sends: Iterable[Send], durable: int) -> list[Send]:
        """What may go out now of these and of what was held back, in order."""
        free: list[Send] = []
        if self._held:
            self._release(durable, free)
        for send in sends:
            held = self._held.get(send.route)
            if held is not None:
                if send.after <= durable and all(type(waiting.message) is DoneAck for waiting in held):
                    free.append(send)
                else:
                    held.append(send)
            elif send.after <= durable:
                free.append(send)
            else:
                self._held[send.route] = deque((send,))
        return free

    def forget(self, route: bytes) -> None:
        """The connection is over."""
        self._held.pop(route, None)

    def _release(self, durable: int, free: list[Send]) -> None:
        for route in list(self._held):
            held = self._held[route]
            while held and held[0].after <= durable:
                free.append(held.popleft())
            if not held:
                del self._held[route]
