"""The scheduler's end of all connections: a ROUTER with its monitor."""

import errno
import os
import socket
from collections import deque
from pathlib import Path
from typing import Final

import zmq

from zmqtasks.descriptors import Doorman, Spares
from zmqtasks.errors import AddressInUse, BadUrl
from zmqtasks.transport.sockets import (
    BACKLOG,
    DONTWAIT,
    PARKED_MAX,
    ROUTER_HEARTBEAT_MS,
    SEND_MORE,
    Context,
    Socket,
    allow_ipv6,
    configure,
    end_monitor,
    read_event,
    send,
)
from zmqtasks.transport.urls import parse_url
from zmqtasks.transport.waiting import Waitable, has_input

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


class Router:
    """The scheduler's ROUTER. A route is the random id that zmq gave to one connection: a reconnect makes a new one.

    Attributes:
        parked: messages that wait for room, by route; a ROUTER cannot be waited on for that: try `flush` now and then.
        lone: set by the owner that had to sleep for a message, so that there hardly is a second one: `receive` gives
            it, then None without looking further. Whoever sleeps next is told of what is left.
    """

    def __init__(self, context: Context) -> None:
        self._socket: Socket = context.zmq.socket(zmq.ROUTER)
        configure(self._socket)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, ROUTER_HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ROUTER_HEARTBEAT_MS)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.BACKLOG, BACKLOG)
        self._monitor: Socket = self._socket.get_monitor_socket(_WATCHED)
        self._spares = Spares()
        self._listeners: list[tuple[socket.socket, Doorman]] = []
        self._files: list[Path] = []  # of ipc addresses; zmq leaves them behind
        self.parked: dict[bytes, deque[bytes]] = {}
        self._row = 0  # messages that came one after the other
        self.lone = False
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
        allow_ipv6(self._socket, url)
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
    def ready(self) -> bool:
        """Whether a message can be received at once. Whoever sleeps meanwhile may not be told after this was asked."""
        return has_input(self._socket)

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next (route, data), or None. Messages of any other shape come as (route, b""), to be counted."""
        sock = self._socket
        if self._row == 1 and (self.lone or not has_input(sock)):  # an exception would cost more than this question
            self._row = 0
            return None
        try:
            route = sock.recv(DONTWAIT)
        except zmq.Again:
            self._row = 0
            return None
        self._row += 1
        # As a Frame, for it knows where it came from; with its copy of the bytes still faster than recv_multipart.
        self._last = frame = sock.recv(DONTWAIT, copy=False, track=False)
        if not frame.more:
            return route, frame.bytes
        while sock.recv(DONTWAIT, copy=False, track=False).more:
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
        waiting = self.parked.get(route)
        if waiting is not None:
            waiting.append(data)
            if len(waiting) > PARKED_MAX:  # credit keeps honest peers far below: this one asks and never reads
                self.drop(route)
                self.gone.add(route)
        elif not self._try(route, data):
            self.parked[route] = deque((data,))

    def flush(self) -> None:
        """Try what was parked."""
        for route in list(self.parked):
            waiting = self.parked[route]
            while waiting and route not in self.gone and self._try(route, waiting[0]):
                waiting.popleft()
            if not waiting or route in self.gone:
                del self.parked[route]

    def drop(self, route: bytes) -> None:
        """Forget what was parked for this route."""
        self.parked.pop(route, None)

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
                told = self._monitor.recv_multipart(DONTWAIT)
            except zmq.Again:
                break
            event, value = read_event(told)
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
            send(self._socket, route, SEND_MORE)
            send(self._socket, data, DONTWAIT)
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
        end_monitor(self._socket, self._monitor)
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
