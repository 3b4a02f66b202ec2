"""A child's stream to its agent: outcomes, and how far running jobs have come."""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from zmqtasks.worker.claims import Report, encode

INTERVAL: Final = 0.05  # seconds between two that a job tells of itself; the newest waits, the others are dropped


class Reports:
    """The stream, shared by all threads of a child; a report goes out whole."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, report: Report) -> None:
        """Write it. Raises OSError: the agent is gone, or a job has closed what it should not have."""
        data = encode(report)
        with self._lock:
            self._stream.sendall(len(data).to_bytes(8, "little") + data)


@dataclass(slots=True)
class _Told:
    """What the job of a slot told of itself last."""

    claim: int
    number: int
    value: bytes
    again_at: float  # monotonic time from which the next one may be sent
    waits: bool = False  # `value` has not been sent yet


class Progress:
    """What jobs tell of themselves, at most 20 times a second each. A thread, made when first needed, sends the rest.

    Args:
        send: writes a report.
        runs: whether this number still runs in this slot.
    """

    def __init__(self, send: Callable[[Report], None], runs: Callable[[int, int], bool]) -> None:
        self._send = send
        self._runs = runs
        self._told: dict[int, _Told] = {}  # by slot
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    @property
    def usable(self) -> bool:
        """False in a process that a job has forked: the stream is its parent's."""
        return os.getpid() == self._pid

    def tell(self, slot: int, claim: int, number: int, value: bytes, *, at_once: bool) -> None:
        """The job in this slot says how far it has come."""
        now = monotonic()
        with self._changed:
            told = self._told.get(slot)
            if told is None or told.number != number:
                told = self._told[slot] = _Told(claim, number, b"", 0.0)
            if value == told.value:
                return
            told.value = value
            if at_once or now >= told.again_at:
                self._put(told, now)
                return
            told.waits = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="zmqtasks progress", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _put(self, told: _Told, now: float) -> None:
        told.waits = False
        told.again_at = now + INTERVAL
        self._send(Report(told.claim, [], [], False, [(told.number, told.value)]))

    def _loop(self) -> None:
        """Thread: send what waits when its time has come, unless its job is over."""
        with self._changed:
            while True:
                now = monotonic()
                due: list[float] = []
                for slot, told in self._told.items():
                    if not told.waits:
                        continue
                    if not self._runs(slot, told.number):
                        told.waits = False
                    elif now >= told.again_at:
                        try:
                            self._put(told, now)
                        except OSError:
                            return  # the slots notice the same, and end the process
                    else:
                        due.append(told.again_at - now)
                self._changed.wait(min(due, default=None))
