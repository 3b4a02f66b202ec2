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
        self._inside: set[int] = set()  # threads that are in `send`

    def send(self, report: Report) -> None:
        """Write it. Raises OSError: the agent is gone, or a job has closed what it should not have."""
        data = encode(report)
        thread = threading.get_ident()
        self._inside.add(thread)  # before it has the lock: a signal's handler may run between any two steps
        try:
            with self._lock:
                self._stream.sendall(len(data).to_bytes(8, "little") + data)
        finally:
            self._inside.discard(thread)

    def interrupted(self) -> bool:
        """Whether the calling thread is in the middle of `send`: in a signal's handler, which must not send itself."""
        return threading.get_ident() in self._inside


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
        interrupted: whether the calling thread is in `send`: in a signal's handler, whose value waits.
        by_hand: no thread is made: whoever made this calls `send_due`.
    """

    def __init__(
        self,
        send: Callable[[Report], None],
        runs: Callable[[int, int], bool],
        interrupted: Callable[[], bool],
        *,
        by_hand: bool = False,
    ) -> None:
        self._send = send
        self._runs = runs
        self._interrupted = interrupted
        self._by_hand = by_hand
        self._closed = False
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
        if self._interrupted():  # no lock: the thread may hold it, and wait for what this one writes
            told = self._told.get(slot)
            if told is not None and told.number == number and told.value != value:  # else the job is over
                told.value, told.waits = value, True
            return
        with self._changed:
            told = self._told.get(slot)
            if told is None or told.number != number:
                told = self._told[slot] = _Told(claim, number, b"", 0.0)
            if value == told.value:
                return
            told.value = value
            if at_once or now >= told.again_at:
                self._put(told, now)
                if not told.waits:  # else a signal's handler has told more meanwhile
                    return
            told.waits = True
            if self._thread is None and not self._by_hand:
                self._thread = threading.Thread(target=self._loop, name="zmqtasks progress", daemon=True)
                self._thread.start()
            self._changed.notify()

    def send_due(self) -> float | None:
        """Send what waits and whose time has come, unless its job is over.

        Returns:
            Seconds until the next one; None: nothing waits.

        Raises:
            OSError: the agent is gone.
        """
        with self._changed:
            now = monotonic()
            due: list[float] = []
            for slot, told in self._told.items():
                if not told.waits:
                    continue
                if not self._runs(slot, told.number):
                    told.waits = False
                elif now >= told.again_at:
                    self._put(told, now)
                else:
                    due.append(told.again_at - now)
            return min(due, default=None)

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _put(self, told: _Told, now: float) -> None:
        told.waits = False
        told.again_at = now + INTERVAL
        self._send(Report(told.claim, [], [], False, [(told.number, told.value)]))

    def _loop(self) -> None:
        """Thread."""
        with self._changed:
            while not self._closed:
                try:
                    left = self.send_due()
                except OSError:
                    return  # the slots notice the same, and end the process
                self._changed.wait(left)
