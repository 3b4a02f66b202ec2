"""What every socket here has in common, and the context of a process."""

import os
import struct
import threading
from collections.abc import Callable
from typing import Final

import zmq
from zmq.backend import Socket as BackendSocket

HIGH_WATER = 1_000  # messages per connection; credit keeps us far below it
MAX_FRAME = 80 * 1024 * 1024  # bytes; above the largest payload (64 MiB) and its envelope
BACKLOG = 4_096
PARKED_MAX = 4_000  # messages kept for one peer that does not read, beyond those that zmq holds
HANDSHAKE_MS = 3_000
CONNECT_MS = 3_000  # else the kernel's SYNs come ever more rarely, and an outage ends up to a minute late
HEARTBEAT_MS = 1_000
HEARTBEAT_TIMEOUT_MS = 4_000
ROUTER_HEARTBEAT_MS = 10_000  # its peers have leases or come back by themselves: this only frees dead connections

# As plain integers: zmq's own are enums, and or-ing two of them costs as much as a send.
DONTWAIT: Final = int(zmq.DONTWAIT)
SEND_MORE: Final = int(zmq.DONTWAIT) | int(zmq.SNDMORE)

Socket = zmq.Socket[bytes]

send: Final[Callable[[Socket, bytes, int], object]] = BackendSocket.send  # without what pyzmq's own looks for first


def configure(sock: Socket) -> None:
    """Set what zmq would leave to chance."""
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


_EVENT: Final = struct.Struct("=Hi")


def read_event(told: list[bytes]) -> tuple[int, int]:
    """What a monitor saw, and its value: a descriptor, or an error number; of the frames of one message.

    pyzmq's own reader brings asyncio with it, 20 ms of every start.
    """
    event, value = _EVENT.unpack_from(told[0])
    return event, value


def end_monitor(sock: Socket, monitor: Socket | None) -> None:
    """Before `sock` is closed: `disable_monitor` alone leaves the monitor's own socket open."""
    sock.disable_monitor()
    if monitor is not None:
        monitor.close(0)


def allow_ipv6(sock: Socket, url: str) -> None:
    """Have IPv6 where the URL asks for it."""
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
