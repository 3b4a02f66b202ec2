"""A network switch and its cables in user space: Ethernet frames are lost, delayed and slowed down as a test says.

Not tc's netem, for kernels without it are common, and one-way faults, bounded buffers and a silent break take a line
each here. A host's network card is a TAP device; the other end of it is a file descriptor, which a thread of the test
process reads.
"""

import contextlib
import fcntl
import heapq
import os
import random
import select
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

FRAME = 2_048  # bytes; the cards take 1,514
BURST = 64  # frames read from one card before another one's turn
TUNSETCARRIER = 0x400454E2  # <linux/if_tun.h>


@dataclass
class Way:
    """One direction of a cable. What is queued stays in order, as on a real path.

    Attributes:
        loss: share of the frames that vanish, 0…1.
        delay: seconds that each frame takes.
        jitter: seconds, at most, by which the delay varies either way.
        rate: bytes per second; None: as fast as it goes.
        buffer: bytes that wait for the line at most; what comes then is lost, as in any router.
        carried: bytes that came through.
    """

    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    rate: float | None = None
    buffer: int = 256 * 1024
    carried: int = 0
    _free_at: float = 0.0
    _last: float = 0.0

    def arrival(self, size: int, now: float, dice: random.Random) -> float | None:
        """When a frame that enters now comes out; None: never."""
        if self.loss and dice.random() < self.loss:
            return None
        at = now
        if self.rate is not None:
            if (self._free_at - now) * self.rate > self.buffer:
                return None
            at = self._free_at = max(now, self._free_at) + size / self.rate
        if self.delay:
            at += self.delay + dice.uniform(-self.jitter, self.jitter)
        self._last = max(at, self._last)
        self.carried += size
        return self._last


class Cable:
    """Joins one host to the switch.

    Attributes:
        up: from the host.
        down: to the host.
    """

    def __init__(self, tap: int) -> None:
        self.tap = tap
        self.up = Way()
        self.down = Way()
        self.whole = True

    @property
    def ways(self) -> tuple[Way, Way]:
        """Both directions."""
        return self.up, self.down

    def pull(self) -> None:
        """Out of the host's card: its kernel sees that the carrier is gone."""
        self.whole = False
        self._carrier(0)

    def sever(self) -> None:
        """Cut where neither end can see it: every frame vanishes, and no RST or FIN gets through."""
        self.whole = False

    def plug(self) -> None:
        """Make it whole again."""
        self.whole = True
        self._carrier(1)

    def _carrier(self, on: int) -> None:
        fcntl.ioctl(self.tap, TUNSETCARRIER, struct.pack("I", on))


class Switch:
    """Carries frames between cables in a thread of its own, until it is closed. It learns addresses like any other.

    Args:
        seed: of the dice for loss and jitter.
    """

    def __init__(self, seed: int = 7) -> None:
        self._dice = random.Random(seed)
        self._lock = threading.Lock()
        self._poll = select.epoll()
        self._cables: dict[int, Cable] = {}
        self._where: dict[bytes, Cable] = {}  # MAC address → the cable behind which it is
        self._later: list[tuple[float, int, Callable[[Cable, bytes], None], Cable, bytes]] = []
        self._serial = 0
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._thread.start()

    def attach(self, tap: int) -> Cable:
        """Take over the open, non-blocking TAP device."""
        cable = Cable(tap)
        with self._lock:
            self._cables[tap] = cable
            self._poll.register(tap, select.EPOLLIN)
        return cable

    def detach(self, cable: Cable) -> None:
        """Close the cable's TAP device: the card is gone."""
        with self._lock:
            if self._cables.pop(cable.tap, None) is not None:
                cable.whole = False
                self._poll.unregister(cable.tap)
                os.close(cable.tap)
                self._where = {mac: where for mac, where in self._where.items() if where is not cable}

    def close(self) -> None:
        """End the thread and close every cable."""
        self._stop = True
        self._thread.join()
        for cable in list(self._cables.values()):
            self.detach(cable)
        self._poll.close()

    def _run(self) -> None:
        while not self._stop:
            due = self._later[0][0] if self._later else None
            timeout = 0.05 if due is None else min(0.05, max(0.0, due - time.monotonic()))
            ready = self._poll.poll(timeout)
            with self._lock:
                for tap, _ in ready:
                    if tap in self._cables:
                        self._read(self._cables[tap])
                now = time.monotonic()
                while self._later and self._later[0][0] <= now:
                    _, _, then, cable, frame = heapq.heappop(self._later)
                    then(cable, frame)

    def _read(self, cable: Cable) -> None:
        for _ in range(BURST):
            try:
                frame = os.read(cable.tap, FRAME)
            except OSError:  # nothing left, or the card is down
                return
            if cable.whole:
                self._travel(cable.up, len(frame), self._switch, cable, frame)

    def _travel(self, way: Way, size: int, then: Callable[[Cable, bytes], None], cable: Cable, frame: bytes) -> None:
        now = time.monotonic()
        at = way.arrival(size, now, self._dice)
        if at is None:
            return
        if at <= now:
            then(cable, frame)
        else:
            self._serial += 1
            heapq.heappush(self._later, (at, self._serial, then, cable, frame))

    def _switch(self, source: Cable, frame: bytes) -> None:
        if not source.whole:
            return
        self._where[frame[6:12]] = source
        known = self._where.get(frame[:6])
        for cable in [known] if known is not None else list(self._cables.values()):
            if cable is not source:
                self._travel(cable.down, len(frame), self._deliver, cable, frame)

    @staticmethod
    def _deliver(cable: Cable, frame: bytes) -> None:
        if cable.whole:
            with contextlib.suppress(OSError):  # the card is down
                os.write(cable.tap, frame)
