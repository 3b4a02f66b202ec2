"""The scheduler's loop. It moves bytes and time between the sockets, the core and the journal, and decides nothing."""

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from zmqtasks import clock, wire
from zmqtasks.clock import Now
from zmqtasks.config import SchedulerSettings
from zmqtasks.errors import ZmqTasksError
from zmqtasks.scheduler.core.core import Core, Identity
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.gate import Gate
from zmqtasks.scheduler.journal import Journal, MemoryJournal
from zmqtasks.security import AddressRule, Doorkeeper, check_bind
from zmqtasks.transport import Context, Router, Waitable, Wakeup, wait

logger = logging.getLogger("zmqtasks.scheduler")

TURN_SECONDS = 0.002  # turns are short: input is drained for so long at most
TURN_MESSAGES = 1_000
IDLE = 0.25  # seconds; the loop wakes at least so often: a gap is measured to this accuracy
PARKED = 0.005  # seconds between tries of messages that found no room
PROBES = (0.0, 0.002, 0.01, 0.05)  # seconds after a disconnect at which every peer is tried; zmq needs a moment
SWEEP = 30.0  # seconds between garbage collections of what an error path may have left; steady work makes no cycles
SWEPT = 10_000  # jobs known at most when one is made: with a million it would stop everybody for a second
LINES = 60  # of one kind that are logged in a minute
FAREWELL = 0.5  # seconds for messages that are still on their way at the end


@dataclass(slots=True, frozen=True)
class SchedulerOptions:
    """How a scheduler is started.

    Attributes:
        bind: URLs to listen on.
        in_memory: keep accepted jobs in memory only (the only way there is yet).
        plaintext: networks (CIDR) that may connect without encryption, besides this machine.
        lifeline_fd: file descriptor whose end of file stops the scheduler.
        pidfile: where to write the process id.
        settings: bounds and times.
    """

    bind: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    in_memory: bool = True
    plaintext: tuple[str, ...] = ()
    lifeline_fd: int | None = None
    pidfile: str | None = None
    settings: SchedulerSettings = field(default_factory=SchedulerSettings)


class Daemon:
    """One scheduler.

    Args:
        options: how it was started.
        journal: where facts go.
    """

    def __init__(self, options: SchedulerOptions, journal: Journal) -> None:
        self.options = options
        self.journal = journal
        now = clock.now()
        identity = Identity(int(now.wall * 1000), version("zmqtasks"), os.getpid(), durable=False, started=now.mono)
        self.core = Core(options.settings, identity)
        self.gate = Gate()
        self.context = Context()
        self.wakeup = Wakeup()
        self.router = Router(self.context)
        self.doorkeeper = Doorkeeper(self.context.zmq, AddressRule(options.plaintext))
        self.router.zap_domain("zmqtasks")
        self.urls: list[str] = []
        self._probes: list[float] = []
        self._stop = False
        self._told: dict[str, int] = {}  # lines of each kind in this minute
        self._told_minute = 0

    def bind(self) -> None:
        """Listen on every address.

        Raises:
            AddressInUse, BadUrl: one of them cannot be taken.
            BadUrl: one of them may be reached from elsewhere, and --plaintext does not allow it.
        """
        for url in self.options.bind:
            check_bind(url, self.options.plaintext)
            self.urls.append(self.router.bind(url))
        for network in self.options.plaintext:
            logger.warning(
                "peers from %s may connect without encryption or keys, as --plaintext says",
                network,
                extra={"action": "plaintext"},
            )

    def stop(self) -> None:
        """Have the loop end after this turn."""
        self._stop = True

    def run(self) -> None:
        """Turn until stopped."""
        lifeline = self.options.lifeline_fd
        router, monitor = self.router.readers()
        (door,) = self.doorkeeper.readers()
        readers: list[Waitable] = [router, monitor, door, self.wakeup.fileno()]
        if lifeline is not None:
            readers.append(lifeline)
        next_sweep = time.monotonic() + SWEEP
        now = clock.now()
        caught_up = True
        while not self._stop:
            timeout = self._timeout(now) if caught_up else 0.0
            before = now.mono  # of the last turn, so that a stop in the middle of that is seen, too
            ready = wait(readers, timeout)
            now = clock.now()
            gap = now.mono - before - timeout
            if gap > self.options.settings.gap:
                logger.warning(
                    "this process stood still, or was busy, for %.1f s; leases are prolonged",
                    gap,
                    extra={"action": "gap"},
                )
                self.core.on_gap(gap)
            if lifeline is not None and lifeline in ready and not os.read(lifeline, 1):
                logger.info("the owner of this scheduler is gone; ending", extra={"action": "lifeline"})
                return
            if self.wakeup.fileno() in ready:
                self.wakeup.clear()
            if door in ready:
                self.doorkeeper.service()
            if monitor in ready and self.router.disconnects():
                self._probes = [now.mono + delay for delay in PROBES]
            caught_up = self._turn(now)
            if now.mono > next_sweep and sum(self.core.state.moves.counts) < SWEPT:
                gc.collect()
                next_sweep = now.mono + SWEEP

    def _turn(self, now: Now) -> bool:
        """Drain, decide, carry out; whether all that waited was handled."""
        core, fx = self.core, Effects()
        caught_up = False
        end = now.mono + TURN_SECONDS
        for count in range(TURN_MESSAGES):
            message = self.router.receive()
            if message is None:
                caught_up = True
                break
            core.receive(*message, now, fx)
            if count & 15 == 15 and time.monotonic() > end:  # a look at the clock costs 50 ns
                break
        self._probe(now)
        while self.router.gone:
            route = self.router.gone.pop()
            self.router.drop(route)
            self.gate.forget(route)
            core.on_gone(route, now, fx)
        for number, data in self.journal.loaded():
            core.on_loaded(number, data, now, fx)
        core.tick(now, fx, caught_up=caught_up)
        self._carry_out(fx)
        return caught_up and not self.router.gone

    def _carry_out(self, fx: Effects) -> None:
        journal = self.journal
        for number, data in fx.stores:
            journal.store(number, data)
        if fx.records:
            journal.append(fx.records)
        for number in fx.drops:
            journal.drop(number)
        for number in fx.loads:
            journal.load(number)
        for route in fx.forget:
            self.gate.forget(route)
            self.router.drop(route)
        if self.router.parked:
            self.router.flush()
        for send in self.gate.pass_(fx.sends, journal.durable):
            self.router.send(send.route, wire.encode(send.message))
        for level, action, text in fx.logs:
            self._log(level, action, text)
        if fx.loads:
            self.wakeup.set()

    def _log(self, level: int, action: str, text: str) -> None:
        """A line, but of each kind not more in a minute than a person can read: strangers can cause them."""
        minute = int(time.monotonic() / 60)
        if self._told_minute != minute:
            for kind, count in self._told.items():
                if count > LINES:
                    logger.warning("%d more lines like that in a minute", count - LINES, extra={"action": kind})
            self._told_minute = minute
            self._told.clear()
        self._told[action] = self._told.get(action, 0) + 1
        if self._told[action] <= LINES:
            logger.log(level, "%s", text, extra={"action": action})

    def _probe(self, now: Now) -> None:
        """After a disconnect, find out whose it was: a send to a dead route says so."""
        if self._probes and now.mono >= self._probes[0]:
            self._probes.pop(0)
            ping = wire.encode(wire.Ping())
            for route in self.core.state.peers:
                self.router.send(route, ping)

    def _timeout(self, now: Now) -> float:
        """Seconds until the next turn at the latest."""
        times = [now.mono + IDLE, *self._probes[:1]]
        deadline = self.core.next_deadline(now)
        if deadline is not None:
            times.append(deadline)
        if self.router.parked:
            times.append(now.mono + PARKED)
        return max(0.0, min(times) - time.monotonic())

    def close(self) -> None:
        """Let go of everything, giving what is on its way a moment."""
        self.doorkeeper.close()
        self.router.close(FAREWELL)
        self.context.close()
        self.wakeup.close()


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM and SIGINT end the loop in good order."""

    def on_signal(number: int, _frame: object) -> None:
        logger.info("%s: ending", signal.Signals(number).name, extra={"action": "signal"})
        daemon.stop()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    wakeup = signal.set_wakeup_fd(daemon.wakeup.write_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _pidfile(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    file = Path(path)
    try:
        file.write_text(f"{os.getpid()}\n", encoding="ascii")
    except OSError as error:
        message = f"cannot write the pidfile {path}: {error.strerror}"
        raise ZmqTasksError(message) from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def run_scheduler(options: SchedulerOptions) -> int:
    """Run a scheduler in this process until a signal or its lifeline ends it; returns the exit status.

    Prints ``zmqtasks scheduler ready on URL`` once it listens.

    Raises:
        AddressInUse, BadUrl: it cannot listen as told.
    """
    gc.disable()  # the steady state makes no cycles; a collection of a million jobs would stop everybody for a second
    daemon = Daemon(options, MemoryJournal())
    try:
        daemon.bind()
        with _pidfile(options.pidfile), _signals(daemon):
            gc.freeze()
            for url in daemon.urls:
                print(f"zmqtasks scheduler ready on {url}", flush=True)  # noqa: T201  (scripts wait for this line)
            daemon.run()
    finally:
        daemon.close()
        gc.enable()
    return 0


def main() -> int:
    """``python -m zmqtasks.scheduler.daemon [URL]``: the bare daemon, for profiling."""
    try:
        return run_scheduler(SchedulerOptions(bind=tuple(sys.argv[1:]) or SchedulerOptions().bind))
    except ZmqTasksError as error:
        print(f"zmqtasks: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
