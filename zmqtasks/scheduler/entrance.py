"""Who comes and goes: those who did not get in are counted and told of; whose connection ended is found out."""

import logging
import time
from typing import Final

from zmqtasks import descriptors, wire
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.reporter import Reporter
from zmqtasks.security import Doorkeeper
from zmqtasks.transport import Router

PROBES: Final = (0.0, 0.002, 0.01, 0.05)  # seconds after a disconnect at which every peer is tried; zmq needs a moment
PROBE_SHARE: Final = 0.1  # of the time may be spent on probes, however many connections end


class Entrance:
    """Watches the connections of a router that listens.

    Attributes:
        probe_at: monotonic time at which peers are to be tried next, or None.
    """

    def __init__(self, router: Router, door: Doorkeeper, state: State, reporter: Reporter) -> None:
        self._router, self._door, self._state, self._reporter = router, door, state, reporter
        self._room = descriptors.room()  # connections that may be open at once
        self._turned_away = 0  # so many of them were told
        self._crowded = ""  # the warning that they are too many
        self._probes: list[float] = []
        self._probe_again = False

    def watch(self, mono: float) -> None:
        """Count and tell what happened to those who did not get in; turn newcomers away while there are too many."""
        router, door, count, tell = self._router, self._door, self._state.count, self._reporter.tell
        if router.failed_handshakes:
            failed, router.failed_handshakes = router.failed_handshakes, 0
            count("failed_handshakes", failed)
            text = "a connection was closed: no peer of ours spoke there, or it left in the middle of the handshake"
            tell(logging.WARNING, "handshake", text, mono, count=failed)
        for address, times in door.refused.items():
            count("refused_addresses", times)
            text = f"a peer at {address} was refused: not in --plaintext"
            tell(logging.WARNING, "refused", text, mono, address, times)
        door.refused.clear()
        before, self._turned_away = self._turned_away, router.turned_away + door.turned_away
        turned_away = self._turned_away - before
        full = len(router.connections) >= self._room * (0.95 if door.full else 1.0)
        if full != door.full:
            door.full = full
            self._note_crowd()
        if turned_away:
            count("turned_away", turned_away)
            text = self._crowded or "a new peer was turned away: there was no file descriptor left for it"
            tell(logging.WARNING, "turned-away", text, mono, count=turned_away)

    def _note_crowd(self) -> None:
        """Keep the warning in `status` as long as it holds."""
        warnings = self._state.warnings
        warnings.pop(self._crowded, None)
        self._crowded = ""
        if self._door.full:
            self._crowded = (
                f"{self._room:,} connections are open, and this process may not open many more files: new peers are "
                "turned away until others leave; raise its limit (ulimit -n, LimitNOFILE= of a service)"
            )
            warnings[self._crowded] = None

    def one_left(self, mono: float) -> None:
        """A connection ended: whose, a probe tells. While probes go out already, more of them follow these."""
        if self._probes:
            self._probe_again = True
        else:
            self._probes = [mono + delay for delay in PROBES]

    @property
    def probe_at(self) -> float | None:
        """See the class."""
        return self._probes[0] if self._probes else None

    def probe(self, mono: float) -> None:
        """After a disconnect, find out whose it was: a send to a dead route says so."""
        if not self._probes or mono < self._probes[0]:
            return
        self._probes.pop(0)
        began = time.monotonic()
        ping = wire.encode(wire.Ping())
        for route in self._state.peers:
            self._router.send(route, ping)
        if not self._probes and self._probe_again:  # connections that come and go all the time must not stop the rest
            self._probe_again = False
            ended = time.monotonic()
            self._probes = [ended + (ended - began) / PROBE_SHARE + delay for delay in PROBES]
