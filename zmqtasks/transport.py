"""Sockets: the only module besides `zmqtasks.security` that imports zmq.

Two ends: a `Router` (the scheduler's) and a `Link` (everybody else's). Both hand over whole frames of bytes and never
block. Rules that hold here, each from a fact of libzmq that was seen in practice (`docs/architecture.md`):

- a connection is never resumed: when it breaks, the Link closes its socket and opens a new one, so that nothing from
  the old connection can arrive on the new one, in either direction;
- a ROUTER drops silently unless told not to: ROUTER_MANDATORY and DONTWAIT, and what does not fit is parked here;
- every high-water mark, time-out, size limit and linger is set explicitly.
"""

import errno
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import parse_monitor_message

from zmqtasks.descriptors import Doorman, Spares
from zmqtasks.errors import AddressInUse, BadUrl

HIGH_WATER = 1_000  # messages per connection; credit keeps us far below it
MAX_FRAME = 80 * 1024 * 1024  # bytes; above the largest payload (64 MiB) and its envelope
BACKLOG = 4_096
PARKED_MAX = 4_000  # messages kept for one peer that does not read, beyond those that zmq holds
HANDSHAKE_MS = 3_000
CONNECT_MS = 3_000  # else the kernel's SYNs come ever more rarely, and an outage ends up to a minute late
HEARTBEAT_MS = 1_000
HEARTBEAT_TIMEOUT_MS = 4_000
ROUTER_HEARTBEAT_MS = 10_000  # its peers have leases or come back by themselves: this only frees dead connections
RETRY_FIRST = 0.05  # seconds until the first reconnect
RETRY_MAX = 1.0

# As plain integers: zmq's own are enums, and or-ing two of them costs as much as a send.
_DONTWAIT: Final = int(zmq.DONTWAIT)
_SEND_MORE: Final = int(zmq.DONTWAIT) | int(zmq.SNDMORE)

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

# What a Router's monitor watches for.
_ACCEPTED: Final = int(zmq.EVENT_ACCEPTED)
_ACCEPT_FAILED: Final = int(zmq.EVENT_ACCEPT_FAILED)
_DISCONNECTED: Final = int(zmq.EVENT_DISCONNECTED)
_LISTENING: Final = int(zmq.EVENT_LISTENING)
_DENIED: Final = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
_WATCHED: Final = (
    _ACCEPTED
    | _ACCEPT_FAILED
    | _DISCONNECTED
    | _LISTENING
    | int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    | int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    | _DENIED
)
_EVENT: Final = struct.Struct("=Hi")  # event, and its value: a descriptor, or an error number

Socket = zmq.Socket[bytes]
Waitable = Socket | int
Ready = Mapping[Waitable, int]


def parse_url(url: str, *, listen: bool = False) -> str:
    """A URL as zmq wants it.

    Args:
        url: tcp://HOST:PORT or ipc://PATH.
        listen: it is to be listened on, so the host may be * and the port 0.

    Raises:
        BadUrl: it is none of tcp://HOST:PORT, ipc://PATH; the message says what is wrong.
    """
    try:
        parts = urlsplit(str(url))
        port = parts.port
    except ValueError as error:
        message = f"bad URL {url!r}: {error}"
        raise BadUrl(message) from None
    if parts.scheme == "tcp":
        more = parts.path or parts.query or parts.fragment or parts.username is not None
        if not parts.hostname or port is None or more or any(map(str.isspace, url)):
            message = f"bad URL {url!r}: a TCP URL is tcp://HOST:PORT"
            raise BadUrl(message)
        if not listen and (parts.hostname == "*" or port == 0):
            message = f"bad URL {url!r}: that is an address to listen on; to connect, name the host and the port"
            raise BadUrl(message)
        return url
    if parts.scheme == "ipc":
        path = url.removeprefix("ipc://")
        limit = 107  # sun_path holds 108 bytes with the terminating zero
        if not path or len(os.fsencode(path)) > limit:
            message = f"bad URL {url!r}: an ipc URL is ipc://PATH, the path at most {limit} bytes long"
            raise BadUrl(message)
        return url
    message = f"bad URL {url!r}: it begins with none of tcp://, ipc://, local://"
    raise BadUrl(message)


def _configure(sock: Socket) -> None:
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDHWM, HIGH_WATER),
        (zmq.RCVHWM, HIGH_WATER),
        (zmq.MAXMSGSIZE, MAX_FRAME),
        (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        # No TTL: zmq cancels a timer by looking through all of them, so one for each of the many peers of a Router that
        # is set anew once a second made its thread spend all its time on them from 6,000 peers on.
        (zmq.HEARTBEAT_TTL, 0),
    ):
        sock.setsockopt(option, value)


def _end_monitor(sock: Socket, monitor: Socket | None) -> None:
    """Before `sock` is closed: `disable_monitor` alone leaves the monitor's own socket open."""
    sock.disable_monitor()
    if monitor is not None:
        monitor.close(0)


def _allow_ipv6(sock: Socket, url: str) -> None:
    if url.startswith("tcp://["):  # with it on, zmq tells IPv4 addresses as ::ffff:127.0.0.1
        sock.setsockopt(zmq.IPV6, 1)


class Context:
    """The zmq context of one process. Never used across a fork: it remembers whose it is."""

    def __init__(self) -> None:
        self.zmq = zmq.Context(io_threads=1)
        self._pid = os.getpid()

    def close(self, patience: float | None = None) -> None:
        """Close what is left, without lingering; does nothing in a forked child.

        Args:
            patience: seconds after which zmq is left to itself, for a process that ends anyway: to close ten thousand
                connections takes it a minute. None: for ever.
        """
        if os.getpid() != self._pid:
            return
        if patience is None:
            self.zmq.destroy(linger=0)
            return
        ending = threading.Thread(target=self.zmq.destroy, kwargs={"linger": 0}, daemon=True)
        ending.start()
        ending.join(patience)


class Wakeup:
    """Lets another thread (or a signal handler) end a `wait`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._closed = False

    def fileno(self) -> int:
        """For `wait`."""
        return self._read

    @property
    def write_fd(self) -> int:
        """For `signal.set_wakeup_fd`."""
        return self._write

    def set(self) -> None:
        """End the wait that runs, or the next one. Safe from any thread."""
        if self._closed:
            return
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # it is full of wake-ups already

    def clear(self) -> bytes:
        """Forget all wake-ups so far; returns what was written, for signal numbers."""
        try:
            return os.read(self._read, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        if not self._closed:
            self._closed = True
            os.close(self._read)
            os.close(self._write)


def wait(readers: Iterable[Waitable], timeout: float | None, writers: Sequence[Waitable] = ()) -> dict[Waitable, int]:
    """Sleep until one of these sockets or file descriptors is ready.

    Args:
        readers: to read from.
        timeout: seconds; None is for ever.
        writers: to write to.

    Returns:
        The ready ones. A zmq socket must then be read until it is empty: readiness is edge-triggered inside zmq.
    """
    items: list[tuple[Any, int]] = [(reader, zmq.POLLIN) for reader in readers]
    items += [(writer, zmq.POLLOUT) for writer in writers]
    milliseconds = -1 if timeout is None else max(0, int(timeout * 1000 + 0.999))
    return dict(zmq.zmq_poll(items, milliseconds))


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
    """

    def __init__(self, context: Context, url: str, jitter: float) -> None:
        self.url = parse_url(url)
        self._context = context
        self._jitter = jitter
        self._outbox: deque[bytes] = deque()
        self._socket: Socket | None = None
        self._monitor: Socket | None = None
        self._retry = RETRY_FIRST
        self._reopen_at: float | None = 0.0
        self.connected = False

    def readers(self) -> list[Waitable]:
        """What to wait for."""
        return [s for s in (self._socket, self._monitor) if s is not None]

    def writers(self) -> list[Waitable]:
        """What to wait for while messages are parked."""
        return [self._socket] if self._outbox and self._socket is not None and self.connected else []

    def next_deadline(self) -> float | None:
        """Monotonic time of the next reconnect, if one is due."""
        return self._reopen_at

    def service(self, mono: float, ready: Ready | None = None) -> list[Change]:
        """Take in what the monitor saw, reopen when it is time. Call it once a turn, before receiving.

        Args:
            mono: the time.
            ready: what `wait` found; None: not known. To look in vain costs as much as to receive a message.
        """
        changes: list[Change] = []
        if self._reopen_at is not None and mono >= self._reopen_at:
            self._open()
        while self._monitor is not None and (ready is None or self._monitor in ready):
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(_DONTWAIT))["event"]
            except zmq.Again:
                break
            if event == _CONNECTED:
                self.connected = True
                self._retry = RETRY_FIRST
                changes.append(Change.CONNECTED)
            elif event in _BROKEN:
                changes.append(Change.BROKEN)
                self._close()
                self._reopen_at = mono + self._retry * (1.0 + self._jitter)
                self._retry = min(RETRY_MAX, self._retry * 2)
        return changes

    def restart(self, mono: float) -> None:
        """Drop the connection and begin a new one at once."""
        self._close()
        self._reopen_at = mono

    def send(self, data: bytes) -> None:
        """Send or park one message; without a connection it is dropped, for the next hello tells everything anew."""
        if not self.connected or self._socket is None:
            return
        if self._outbox:
            self._outbox.append(data)
            return
        try:
            self._socket.send(data, _DONTWAIT)
        except zmq.Again:
            self._outbox.append(data)

    def flush(self) -> bool:
        """Send what was parked; whether nothing is left."""
        while self._outbox and self._socket is not None:
            try:
                self._socket.send(self._outbox[0], _DONTWAIT)
            except zmq.Again:
                return False
            self._outbox.popleft()
        return True

    def receive(self) -> bytes | None:
        """The next message, or None. Anything but one frame is dropped: it cannot be ours."""
        while self._socket is not None:
            try:
                data = self._socket.recv(_DONTWAIT)
            except zmq.Again:
                return None
            if not self._socket.getsockopt(zmq.RCVMORE):
                return data
            while self._socket.getsockopt(zmq.RCVMORE):
                self._socket.recv(_DONTWAIT)
        return None

    def _open(self) -> None:
        self._reopen_at = None
        sock = self._context.zmq.socket(zmq.DEALER)
        _configure(sock)
        sock.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        _allow_ipv6(sock, self.url)
        sock.setsockopt(zmq.IMMEDIATE, 1)
        sock.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
        sock.setsockopt(zmq.RECONNECT_IVL, -1)  # this class reconnects, with a new socket
        events = _CONNECTED | sum(_BROKEN)
        monitor = sock.get_monitor_socket(events)
        monitor.setsockopt(zmq.LINGER, 0)
        self._socket, self._monitor = sock, monitor
        try:
            sock.connect(self.url)
        except zmq.ZMQError as error:
            self._close()
            message = f"cannot connect to {self.url}: {error.strerror or error}"
            raise BadUrl(message) from None

    def _close(self) -> None:
        self._outbox.clear()
        self.connected = False
        if self._socket is not None:
            _end_monitor(self._socket, self._monitor)
            self._socket.close(0)
        self._socket = self._monitor = None

    def close(self, linger: float = 0.0) -> None:
        """Close for good, giving parked and unsent messages `linger` seconds."""
        if self._socket is not None and linger:
            self.flush()
            _end_monitor(self._socket, self._monitor)
            self._socket.close(int(linger * 1000))
            self._socket = self._monitor = None
        self._close()
        self._reopen_at = None


class Router:
    """The scheduler's ROUTER. A route is the random id that zmq gave to one connection: a reconnect makes a new one."""

    def __init__(self, context: Context) -> None:
        self._socket: Socket = context.zmq.socket(zmq.ROUTER)
        _configure(self._socket)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, ROUTER_HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ROUTER_HEARTBEAT_MS)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.BACKLOG, BACKLOG)
        self._monitor: Socket = self._socket.get_monitor_socket(_WATCHED)
        self._spares = Spares()
        self._listeners: list[tuple[socket.socket, Doorman]] = []
        self._files: list[Path] = []  # of ipc addresses; zmq leaves them behind
        self._parked: dict[bytes, deque[bytes]] = {}
        self._last: zmq.Frame | None = None  # that was received
        self._ended = 0  # connections, not told yet
        self._failed = False  # the handshake of the connection whose end comes next
        self.gone: set[bytes] = set()  # routes found dead by a send; the owner empties it
        self.connections: set[int] = set()  # descriptors of those that are open, with or without a handshake
        self.failed_handshakes = 0
        self._shed = 0  # connections turned away without a doorman

    def zap_domain(self, name: str) -> None:
        """Have every new TCP connection asked for at the ZAP handler (`zmqtasks.security`). Before `bind`."""
        self._socket.setsockopt_string(zmq.ZAP_DOMAIN, name)

    def bind(self, url: str) -> str:
        """Listen; returns the URL with the port that was taken (port 0 asks for a free one).

        Raises:
            AddressInUse: somebody listens there already.
            BadUrl: it cannot be bound.
        """
        if url.startswith("ipc://"):
            _refuse_live_ipc(url)
        _allow_ipv6(self._socket, url)
        try:
            self._socket.bind(parse_url(url, listen=True))
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"{url} is in use by another process; stop it, or choose another --bind"
                raise AddressInUse(message) from None
            message = f"cannot listen on {url}: {error.strerror or error}"
            raise BadUrl(message) from None
        if url.startswith("ipc://"):
            self._files.append(Path(url.removeprefix("ipc://")))
        self._take_events()  # they name the listener's descriptor
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def readers(self) -> list[Waitable]:
        """What to wait for."""
        return [self._socket, self._monitor]

    @property
    def parked(self) -> bool:
        """Whether messages wait for room; a ROUTER cannot be waited on for that, so try `flush` now and then."""
        return bool(self._parked)

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next (route, data), or None. Messages of any other shape come as (route, b""), to be counted."""
        sock = self._socket
        try:
            route = sock.recv(_DONTWAIT)
        except zmq.Again:
            return None
        # As a Frame, for it knows where it came from; with its copy of the bytes still faster than recv_multipart.
        self._last = frame = sock.recv(_DONTWAIT, copy=False, track=False)
        if not frame.more:
            return route, frame.bytes
        while sock.recv(_DONTWAIT, copy=False, track=False).more:
            pass
        return route, b""

    def source(self) -> str:
        """The address that the last message came from; empty where it is not known, as with ipc."""
        try:
            address = self._last.get("Peer-Address") if self._last is not None else ""
        except zmq.ZMQError:
            return ""
        return str(address)

    def send(self, route: bytes, data: bytes) -> None:
        """Send or park; a dead route is noted in `gone`."""
        waiting = self._parked.get(route)
        if waiting is not None:
            waiting.append(data)
            if len(waiting) > PARKED_MAX:  # credit keeps honest peers far below: this one asks and never reads
                self.drop(route)
                self.gone.add(route)
        elif not self._try(route, data):
            self._parked[route] = deque((data,))

    def flush(self) -> None:
        """Try what was parked."""
        for route in list(self._parked):
            waiting = self._parked[route]
            while waiting and route not in self.gone and self._try(route, waiting[0]):
                waiting.popleft()
            if not waiting or route in self.gone:
                del self._parked[route]

    def drop(self, route: bytes) -> None:
        """Forget what was parked for this route."""
        self._parked.pop(route, None)

    def disconnects(self) -> int:
        """How many connections that had shaken hands ended since the last call.

        Which ones, a probe by `send` finds out.
        """
        self._take_events()
        count, self._ended = self._ended, 0
        return count

    def _take_events(self) -> None:
        """Take in what the monitor saw. Whoever waits for a descriptor that there is not, is turned away."""
        starved = False
        while True:
            try:
                told = self._monitor.recv_multipart(_DONTWAIT)
            except zmq.Again:
                break
            event, value = _EVENT.unpack_from(told[0])
            if event == _ACCEPTED:
                self.connections.add(value)
            elif event == _DISCONNECTED:
                self.connections.discard(value)
                self._ended += not self._failed
                self._failed = False
            elif event == _ACCEPT_FAILED:
                starved = True
            elif event == _LISTENING:
                listener = socket.socket(fileno=os.dup(value))
                listener.setblocking(False)  # zmq and the doorman may both be after the same connection
                self._listeners.append((listener, Doorman(listener.fileno())))
            else:
                self._failed = True
                self.failed_handshakes += event != _DENIED
        if starved:
            self._turn_away()

    def _turn_away(self) -> None:
        for _, doorman in self._listeners:
            doorman.call()
        unable = [listener for listener, doorman in self._listeners if doorman.able is False]
        if unable:
            self._shed += self._spares.shed(unable)

    @property
    def turned_away(self) -> int:
        """Connections that were closed at once, for there was no descriptor left."""
        return self._shed + sum(doorman.turned_away for _, doorman in self._listeners)

    def _try(self, route: bytes, data: bytes) -> bool:
        try:
            self._socket.send(route, _SEND_MORE)
            self._socket.send(data, _DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            self.gone.add(route)
        return True

    def close(self, linger: float = 0.0) -> None:
        """Close, giving unsent messages `linger` seconds."""
        for path in self._files:  # while nobody else can have taken the address
            path.unlink(missing_ok=True)
        self._files.clear()
        for listener, doorman in self._listeners:
            doorman.close()
            listener.close()
        self._listeners.clear()
        self._spares.close()
        _end_monitor(self._socket, self._monitor)
        self._socket.close(int(linger * 1000))


def _refuse_live_ipc(url: str) -> None:
    """Bind on an ipc path takes it away from whoever listens there, without an error: look first."""
    path = url.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return
    message = f"{url} is in use by another process; stop it, or choose another --bind"
    raise AddressInUse(message)
