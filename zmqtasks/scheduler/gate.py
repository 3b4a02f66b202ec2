"""Durable before visible: holds every message back until the record that it reveals is on disk."""

from collections import deque
from collections.abc import Iterable
from typing import Final

from zmqtasks.scheduler.core.effects import Send
from zmqtasks.wire import DoneAck, Notice, Rejected

_ASIDE: Final = frozenset({Notice, Rejected})  # their order does not matter


class Gate:
    """Keeps the order of each connection, but lets work overtake acknowledgements.

    An Assign need not wait for the disk because the DoneAck in front of it does; and that the disk is full must be
    heard although an Accepted waits for it. Control and bulk connection of a peer are two: what waits for the one holds
    up nothing on the other.
    """

    def __init__(self) -> None:
        self._control: dict[bytes, deque[Send]] = {}  # by the control connection's route, as is the next
        self._bulk: dict[bytes, deque[Send]] = {}
        self._durable = -1  # when it was last looked through

    def __len__(self) -> int:
        return sum(map(len, (*self._control.values(), *self._bulk.values())))

    def __bool__(self) -> bool:
        return bool(self._control or self._bulk)

    def pass_(self, sends: Iterable[Send], durable: int) -> list[Send]:
        """What may go out now of these and of what was held back, in order."""
        free: list[Send] = []
        if durable != self._durable:
            self._durable = durable
            for lines in (self._control, self._bulk):
                if lines:
                    _release(lines, durable, free)
        for send in sends:
            lines = self._bulk if send.bulk else self._control
            held = lines.get(send.route)
            if held is not None:
                if send.after <= durable and (
                    type(send.message) in _ASIDE or all(type(waiting.message) is DoneAck for waiting in held)
                ):
                    free.append(send)
                else:
                    held.append(send)
            elif send.after <= durable:
                free.append(send)
            else:
                lines[send.route] = deque((send,))
        return free

    def forget(self, route: bytes) -> None:
        """The connection is over, control and bulk."""
        self._control.pop(route, None)
        self._bulk.pop(route, None)


def _release(lines: dict[bytes, deque[Send]], durable: int, free: list[Send]) -> None:
    for route in list(lines):
        held = lines[route]
        while held and held[0].after <= durable:
            free.append(held.popleft())
        if not held:
            del lines[route]
