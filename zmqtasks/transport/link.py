"""One end of a connection to a scheduler: a DEALER with its monitor."""

from collections import deque
from enum import Enum
from typing import Final

import zmq

from zmqtasks.errors import BadUrl
from zmqtasks.transport.sockets import (
    CONNECT_MS,
    DONTWAIT,
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    Context,
    Socket,
    allow_ipv6,
    configure,
    end_monitor,
    read_event,
    send,
)
from zmqtasks.transport.urls import parse_url
from zmqtasks.transport.waiting import Ready, Waitable, has_input

RETRY_FIRST = 0.05  # seconds until the first reconnect
RETRY_MAX = 1.0
NOBODY: Final[list[Waitable]] = []  # stays empty

_CONNECTED: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_BROKEN: Final = frozenset(
    int(event)
    for event in (
        zmq.EVENT_DISCONNECTED,
        zmq.EVENT_CLOSED,
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    )
)


class Change(Enum):
    """What happened to a Link's connection."""

    CONNECTED = "connected"
    BROKEN = "broken"


class Link:
    """A DEALER with its monitor: one connection at a time, reopened with back-off after a break.

    Args:
        context: of this process.
        url: tcp:// or ipc://.
        jitter: 0…1, spreads the reconnects of many peers.

    Attributes:
        connected: whether it stands.
        monitor: tells what becomes of it; None: there is no socket now.
        outbox: messages that wait for room.
        reopen_at: monotonic time of the next reconnect; None: none is due.
        watched: what to wait for. A list that is not changed: another one comes when the sockets are others.
        lone: set by an owner that had to sleep for a message, and takes that one alone in this turn: there hardly is a
            second one, and whoever sleeps next is told of it.
    """

    def __init__(self, context: Context, url: str, jitter: float) -> None:
        self.url = parse_url(url)
        self._context = context
        self._jitter = jitter
        self.outbox: deque[bytes] = deque()
        self._socket: Socket | None = None
        self.monitor: Socket | None = None
        self.watched: list[Waitable] = []
        self._retry = RETRY_FIRST
        self.reopen_at: float | None = 0.0
        self._row = 0  # messages that came one after the other
        self.lone = False
        self.connected = False

    def readers(self) -> list[Waitable]:
        """What to wait for."""
        return self.watched

    def writers(self) -> list[Waitable]:
        """What to wait for while messages are parked."""
        return [self._socket] if self.outbox and self._socket is not None and self.connected else NOBODY

    def next_deadline(self) -> float | None:
        """Monotonic time of the next reconnect, if one is due."""
        return self.reopen_at

    def service(self, mono: float, ready: Ready | None = None) -> list[Change]:
        """Take in what the monitor saw, reopen when it is time. Call it once a turn, before receiving.

        Args:
            mono: the time.
            ready: what `wait` found; None: not known. To look in vain costs as much as to receive a message.
        """
        changes: list[Change] = []
        if self.reopen_at is not None and mono >= self.reopen_at:
            self._open()
        while self.monitor is not None and (ready is None or self.monitor in ready):
            try:
                event, _ = read_event(self.monitor.recv_multipart(DONTWAIT))
            except zmq.Again:
                break
            if event == _CONNECTED:
                self.connected = True
                self._retry = RETRY_FIRST
                changes.append(Change.CONNECTED)
            elif event in _BROKEN:
                changes.append(Change.BROKEN)
                self._close()
                self.reopen_at = mono + self._retry * (1.0 + self._jitter)
                self._retry = min(RETRY_MAX, self._retry * 2)
        return changes

    def restart(self, mono: float) -> None:
        """Drop the connection and begin a new one at once."""
        self._close()
        self.reopen_at = mono

    def send(self, data: bytes) -> None:
        """Send or park one message; without a connection it is dropped, for the next hello tells everything anew."""
        if not self.connected or self._socket is None:
            return
        if self.outbox:
            self.outbox.append(data)
            return
        try:
            send(self._socket, data, DONTWAIT)
        except zmq.Again:
            self.outbox.append(data)

    def flush(self) -> bool:
        """Send what was parked; whether nothing is left."""
        while self.outbox and self._socket is not None:
            try:
                self._socket.send(self.outbox[0], DONTWAIT)
            except zmq.Again:
                return False
            self.outbox.popleft()
        return True

    def receive(self) -> bytes | None:
        """The next message, or None. Anything but one frame is dropped: it cannot be ours."""
        while self._socket is not None:
            if self._row == 1 and not has_input(self._socket):  # cheaper than an exception
                self._row = 0
                return None
            try:
                frame = self._socket.recv(DONTWAIT, copy=False, track=False)
            except zmq.Again:
                self._row = 0
                return None
            self._row = 0 if self.lone else self._row + 1
            if not frame.more:  # a Frame knows it; to ask the socket would cost more than to copy a small one
                return frame.bytes
            while self._socket.recv(DONTWAIT, copy=False, track=False).more:
                pass
        return None

    def _open(self) -> None:
        self.reopen_at = None
        sock = self._context.zmq.socket(zmq.DEALER)
        configure(sock)
        sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        allow_ipv6(sock, self.url)
        sock.setsockopt(zmq.IMMEDIATE, 1)
        sock.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        sock.setsockopt(zmq.RECONNECT_IVL, -1)  # this class reconnects, with a new socket
        events = _CONNECTED | sum(_BROKEN)
        monitor = sock.get_monitor_socket(events)
        monitor.setsockopt(zmq.LINGER, 0)
        self._socket, self.monitor, self.watched = sock, monitor, [sock, monitor]
        try:
            sock.connect(self.url)
        except zmq.ZMQError as error:
            self._close()
            message = f"cannot connect to {self.url}: {error.strerror or error}"
            raise BadUrl(message) from None

    def _close(self) -> None:
        self.outbox.clear()
        self.connected = False
        if self._socket is not None:
            end_monitor(self._socket, self.monitor)
            self._socket.close(0)
        self._socket = self.monitor = None
        self.watched = []
        self._row = 0

    def close(self, linger: float = 0.0) -> None:
        """Close for good, giving parked and unsent messages `linger` seconds."""
        if self._socket is not None and linger:
            self.flush()
            end_monitor(self._socket, self.monitor)
            self._socket.close(int(linger * 1000))
            self._socket = self.monitor = None
        self._close()
        self.reopen_at = None
