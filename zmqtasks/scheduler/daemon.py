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
from math import inf
from pathlib import Path

from zmqtasks import clock, descriptors, wire
from zmqtasks.clock import Now
from zmqtasks.config import BUSY_POLL, SchedulerSettings
from zmqtasks.errors import JournalDamaged, JournalError, PeerError, ZmqTasksError
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.restore import RestoreError
from zmqtasks.scheduler.entrance import Entrance
from zmqtasks.scheduler.gate import Gate
from zmqtasks.scheduler.journal import Journal, MemoryJournal
from zmqtasks.scheduler.journal.disk import DiskJournal
from zmqtasks.scheduler.journal.places import warn_of_networks
from zmqtasks.scheduler.lanes import Lanes
from zmqtasks.scheduler.leaders import Leaders
from zmqtasks.scheduler.reporter import STRANGERS, Reporter
from zmqtasks.security import AddressRule, Doorkeeper, check_bind
from zmqtasks.states import ASSIGNED, READY, RUNNING
from zmqtasks.transport import BusyPoll, Context, Ready, Router, Sleeper, Waitable, Wakeup
from zmqtasks.wire import Assign, Results

logger = logging.getLogger("zmqtasks.scheduler")

TURN_SECONDS = 0.002  # turns are short: input is drained for so long at most
TURN_MESSAGES = 1_000
LARGE = 1_000  # bytes of a message that may take a while
IDLE = 0.25  # seconds; the loop wakes at least so often: a gap is measured to this accuracy
CHUNKS = 16  # of large messages that go out in one turn
PARKED = 0.005  # seconds between tries of messages that found no room
SWEEP = 30.0  # seconds between garbage collections of what an error path may have left; steady work makes no cycles
SWEPT = 10_000  # jobs known at most when one is made: with a million it would stop everybody for a second
FEW_FILES = 4_096  # a limit of open files below this is worth a line in the log
PATIENCE = 3.0  # seconds for zmq to close its connections at the end
SWITCH = 0.0005  # seconds for which the loop may keep the writer's thread from going on after a commit
SMALL = 2_000  # bytes of records of a few jobs: the thread that leads the loop may write them by itself
LAZY = 0.02  # seconds that facts which nobody waits for may stay in memory
LAZY_BYTES = 256 * 1024  # as much is a commit of its own
LONE = 4  # jobs with workers, up to which the loop does not sleep at once: with more there is always something to do
FAREWELL = 0.5  # seconds for messages that are still on their way at the end
_STEPS = (Assign, Results)


@dataclass(slots=True, frozen=True)
class SchedulerOptions:
    """How a scheduler is started.

    Attributes:
        bind: URLs to listen on.
        data: directory of the journal; None: accepted jobs are kept in memory only.
        plaintext: networks (CIDR) that may connect without encryption, besides this machine.
        lifeline_fd: file descriptor whose end of file stops the scheduler.
        pidfile: where to write the process id.
        busy_poll: seconds for which it may look for the next step of a lone job before it sleeps; 0: never.
        settings: bounds and times.
    """

    bind: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    data: Path | None = None
    plaintext: tuple[str, ...] = ()
    lifeline_fd: int | None = None
    pidfile: str | None = None
    busy_poll: float = BUSY_POLL
    settings: SchedulerSettings = field(default_factory=SchedulerSettings)


class Daemon:
    """One scheduler.

    Args:
        options: how it was started.
        journal: where facts go.
        wakeup: ends the wait of the loop; the journal does so when it has something to tell.
    """

    def __init__(self, options: SchedulerOptions, journal: Journal, wakeup: Wakeup) -> None:
        self.options = options
        self.journal = journal
        now = clock.now()
        path = "" if options.data is None else str(options.data.absolute())
        identity = Identity(
            int(now.wall * 1000), version("zmqtasks"), os.getpid(),
            durable=bool(path), started=now.mono, journal=path,
        )  # fmt: skip
        self.core = Core(options.settings, identity, recording=identity.durable)
        self.gate = Gate()
        self.context = Context()
        self.wakeup = wakeup
        self.router = Router(self.context)
        self.lanes = Lanes(self.router.send, self.core.wants)
        self.doorkeeper = Doorkeeper(self.context.zmq, AddressRule(options.plaintext))
        self.router.zap_domain("zmqtasks")
        self.urls: list[str] = []
        self.reporter = Reporter()
        self._leaders = Leaders(self._step, journal)
        self._stop = False
        self._flush_at = inf  # what the journal has taken goes to the disk then, even if nobody waits for it
        self._now = clock.now()  # of the last turn
        self._caught_up = True  # all that waited then was handled
        self._busy: BusyPoll | None = None  # of the next wait
        self._busy_idle, self._busy_out = BusyPoll(options.busy_poll), BusyPoll(options.busy_poll)
        self._next_sweep = self._now.mono + SWEEP

    def restore(self, journal: DiskJournal) -> None:
        """Take up what earlier lives of this scheduler have left in its journal.

        Raises:
            JournalDamaged: it does not hold what it once held.
        """
        began = time.monotonic()
        core, fx = self.core, Effects()
        try:
            for first, records in journal.records():
                core.restore(first, records)
            live = core.begin(clock.now(), fx)
        except RestoreError as error:
            message = f"the records of {journal.path} contradict one another: {error}"
            raise JournalDamaged(message) from None
        journal.start(live, committed=self._on_committed, replace=self._leaders.lead)
        state = core.state
        logger.info(
            "journal %s: %d unfinished jobs and %d results of %d records restored in %.1f s; epoch %d",
            journal.path, state.open, state.results, journal.last, time.monotonic() - began, state.epoch,
            extra={"action": "restored"},
        )  # fmt: skip
        self._carry_out(fx, clock.now())
        journal.flush()

    def bind(self) -> None:
        """Listen on every address.

        Raises:
            AddressInUse, BadUrl: one of them cannot be taken.
        """
        for url in self.options.bind:
            self.urls.append(self.router.bind(url))
        router, monitor = self.router.readers()
        (door,) = self.doorkeeper.readers()
        self._watched = (router, monitor, door, self.wakeup.fileno())
        self._readers: list[Waitable] = list(self._watched)
        self._sleeper = Sleeper(door, baton=self._leaders.baton if self.core.state.durable else None)
        self._entrance = Entrance(self.router, self.doorkeeper, self.core.state, self.reporter)
        for network in self.options.plaintext:
            logger.warning(
                "peers from %s may connect without encryption or keys, as --plaintext says",
                network,
                extra={"action": "plaintext"},
            )

    def stop(self) -> None:
        """Have the loop end after this turn."""
        self._stop = True
        self.wakeup.set()

    def run(self) -> None:
        """Turn until stopped."""
        if self.options.lifeline_fd is not None:
            self._readers.append(self.options.lifeline_fd)
        self._now = clock.now()  # what it took to restore is no gap
        if self.core.state.durable:
            self._leaders.run()
        else:
            while self._step():
                pass

    @property
    def signals(self) -> Wakeup:
        """Wakes the main thread, where handlers of signals run; without a journal it leads the loop."""
        return self._leaders.signals if self.core.state.durable else self.wakeup

    def _on_committed(self) -> None:
        """What became durable goes out at once, by the thread that wrote it; unless another one uses the sockets."""
        baton = self._leaders.baton
        if baton.acquire(blocking=False):
            try:
                self._let_out()
                router = self.router
                if not (router.ready or router.parked or router.gone or self.lanes.ready):
                    return
            finally:
                baton.release()
        self.wakeup.set()

    def _let_out(self) -> None:
        if self.gate:
            self._send(self.gate.pass_((), self.journal.durable))

    def _step(self) -> bool:
        """Sleep until there is something to do, and do it; False: it is time to end."""
        if self._stop:
            return False
        router = self._watched[0]
        timeout = self._timeout(self._now) if self._caught_up else 0.0
        before = self._now.mono  # of the last turn, so that a stop in the middle of that is seen, too
        ready = self._sleeper.wait(self._readers, timeout, (), self._busy)
        now = self._now = clock.now()
        if now.mono - before - timeout > self.options.settings.gap:
            self._mind_gap(now.mono - before - timeout)
        heard = router in ready or not self._caught_up
        # With a journal, what came meanwhile shares a commit with it.
        self.router.lone = self._sleeper.slept and not self.core.state.durable
        if len(ready) > (router in ready) and not self._hear_others(ready, now):
            return False
        self._caught_up = self._turn(now, heard=heard)
        if self.journal.fatal:
            raise JournalError(self.journal.fatal)
        if now.mono > self._next_sweep and sum(self.core.state.moves.counts) < SWEPT:
            gc.collect()
            self._next_sweep = now.mono + SWEEP
        return True

    def _hear_others(self, ready: Ready, now: Now) -> bool:
        """Take in what did not come from a peer; False: it is time to end."""
        _, monitor, door, news = self._watched
        lifeline = self.options.lifeline_fd
        if lifeline is not None and lifeline in ready and not os.read(lifeline, 1):
            logger.info("the owner of this scheduler is gone; ending", extra={"action": "lifeline"})
            return False
        if news in ready:
            self.wakeup.clear()
            self._let_out()  # before anything else is done
        if monitor in ready and self.router.disconnects():
            self._entrance.one_left(now.mono)
        if door in ready:  # after the monitor, which knows of the connections that are asked about here
            self.doorkeeper.service()
        if monitor in ready or door in ready:
            self._entrance.watch(now.mono)
        return True

    def _mind_gap(self, gap: float) -> None:
        logger.warning(
            "this process stood still, or was busy, for %.1f s; leases are prolonged", gap, extra={"action": "gap"}
        )
        self.core.on_gap(gap)

    def _turn(self, now: Now, *, heard: bool) -> bool:
        """Drain, decide, carry out; whether all that waited was handled. `heard`: something may wait."""
        core, lanes, fx = self.core, self.lanes, Effects()
        bulk_routes = lanes.by_bulk
        caught_up = not heard
        end = now.mono + TURN_SECONDS
        for count in range(TURN_MESSAGES if heard else 0):
            message = self.router.receive()
            if message is None:
                caught_up = True
                break
            told = len(fx.logs)
            if message[0] in bulk_routes:
                self._receive_bulk(*message, now, fx)
            else:
                core.receive(*message, now, fx)
            if len(fx.logs) > told and fx.logs[-1].action in STRANGERS:
                fx.logs[-1] = fx.logs[-1]._replace(source=self.router.source())
            # A look at the clock costs 50 ns, a small message some µs, one of 500 jobs a ms.
            if (count & 15 == 15 or len(message[1]) > LARGE) and time.monotonic() > end:
                break
        stalled = lanes.tend(now.mono) if bulk_routes else None
        if stalled is not None:
            text = "a peer did not go on with a large message while others had to wait for it; its connection is cut"
            fx.logs.append(Log(logging.WARNING, "stalled", text))
            core.on_gone(stalled, now, fx)
        self._entrance.probe(now.mono)
        while self.router.gone:
            route = self.router.gone.pop()
            self.router.drop(route)
            self.gate.forget(route)
            self.lanes.forget(route)
            core.on_gone(route, now, fx)
        journal = self.journal
        for number, data in journal.loaded():
            core.on_loaded(number, data, now, fx)
        if core.state.durable:
            core.on_journal(journal.size, journal.pending, journal.trouble, trimming=journal.trimming)
        core.decide(now, fx, caught_up=caught_up and not (heard and self.router.lone))
        self._carry_out(fx, now, alone=caught_up)
        self._busy = self._expecting(fx)
        rest = Effects()
        core.tidy(now, rest)
        if rest:
            self._carry_out(rest, now, alone=caught_up)
        return caught_up and not self.router.gone and not lanes.ready

    def _expecting(self, fx: Effects) -> BusyPoll | None:
        """After a step of a lone job: its next step may come at once, or the next job of somebody who waited for it."""
        counts = self.core.state.moves.counts
        out = counts[ASSIGNED] + counts[RUNNING]
        if out > LONE or counts[READY] or not any(isinstance(send.message, _STEPS) for send in fx.sends):
            return None
        return self._busy_out if out else self._busy_idle

    def _receive_bulk(self, route: bytes, data: bytes, now: Now, fx: Effects) -> None:
        """One frame of a bulk connection; a message that is whole with it comes as from its control connection."""
        core = self.core
        if route not in core.state.peers:  # the session ended in this turn
            core.receive(route, data, now, fx)
            return
        try:
            whole = self.lanes.receive(route, data, now.mono)
        except PeerError as error:
            core.receive(route, data, now, fx)  # counts it: the core can do nothing with such a frame
            fx.logs.append(Log(logging.WARNING, "malformed", f"a bulk connection was given up: {error}"))
            core.on_gone(route, now, fx)
            return
        if whole is not None:
            core.receive(*whole, now, fx)

    def _carry_out(self, fx: Effects, now: Now, *, alone: bool = False) -> None:
        """Do what the core has decided. `alone`: no input waits."""
        for route in fx.forget:
            self.gate.forget(route)
            self.router.drop(route)
            self.lanes.forget(route)
        for route in fx.reset:
            self.gate.forget(route)
            self.lanes.forget(route)
        for control, bulk in fx.bulks:
            self.lanes.bind(control, bulk)
        if self.router.parked:
            self.router.flush()
        journal = self.journal
        if not self.core.state.durable:  # nothing waits for a record
            self._record(fx)
            self._send(fx.sends)
        elif alone:  # a lone job is on its way while its records are encoded
            self._send(self.gate.pass_(fx.sends, journal.durable))
            self._record(fx)
            self._hand_over(now, alone=True)
        else:
            self._record(fx)
            free = self.gate.pass_(fx.sends, journal.durable)
            self._hand_over(now, alone=False)
            self._send(free)
        for level, action, text, source in fx.logs:
            self.reporter.tell(level, action, text, now.mono, source)
        self.reporter.tick(now.mono)
        if fx.loads and self.options.data is None:  # they have come at once
            self.wakeup.set()

    def _record(self, fx: Effects) -> None:
        """What the journal is to do."""
        journal = self.journal
        for number, data in fx.stores:
            journal.store(number, data)
        if fx.records:
            journal.append(fx.records, sync=fx.sync)
        for number in fx.drops:
            journal.drop(number)
        if fx.trim:
            journal.trim(fx.trim)
        for number in fx.loads:
            journal.load(number)

    def _hand_over(self, now: Now, *, alone: bool) -> None:
        """What somebody waits for goes to the disk at once; the rest with it, or a little later.

        A lone job's acceptance and its outcome are one commit so: the first need not be over for the second to begin.
        """
        journal = self.journal
        if not journal.waiting:
            self._flush_at = inf
        elif self.gate or journal.waiting > LAZY_BYTES or now.mono >= self._flush_at:
            if alone and journal.waiting <= SMALL:
                self._leaders.wanted = True
            else:
                journal.flush()
            self._flush_at = inf
        elif self._flush_at == inf:
            self._flush_at = now.mono + LAZY

    def _send(self, sends: list[Send]) -> None:
        for send in sends:
            if not send.bulk:
                self.router.send(send.route, wire.encode(send.message))
            elif send.route in self.core.state.peers:  # otherwise it would wait for ever
                self.lanes.send(send.route, send.message)
        if self.lanes.ready:
            self.lanes.pump(CHUNKS)

    def _timeout(self, now: Now) -> float:
        """Seconds until the next turn at the latest."""
        soonest = min(now.mono + IDLE, self._flush_at)
        deadline = self.core.next_deadline(now)
        if deadline is not None and deadline < soonest:
            soonest = deadline
        if self._entrance.probe_at is not None:
            soonest = min(soonest, self._entrance.probe_at)
        if self.router.parked:
            soonest = min(soonest, now.mono + PARKED)
        summary = self.reporter.next_deadline()
        if summary is not None:
            soonest = min(soonest, summary)
        return max(0.0, soonest - time.monotonic())

    def close(self) -> None:
        """Let go of everything, giving what is on its way a moment."""
        self.doorkeeper.close()
        self.router.close(FAREWELL)
        self.context.close(PATIENCE)
        self._close_journal()
        self._leaders.close()
        self.wakeup.close()

    def _close_journal(self) -> None:
        """Write the last totals, and all that waits; say what could not be written."""
        journal = self.journal
        if not isinstance(journal, DiskJournal) or not journal.started or journal.fatal:
            journal.close()
            return
        fx = Effects()
        self.core.end(fx)
        if fx.records:
            journal.append(fx.records, sync=fx.sync)
        journal.close()
        if journal.pending:
            logger.error(
                "%d bytes of records were not written (%s): of jobs and outcomes that nobody was told of; submitters "
                "and workers still have them, and will send them again",
                journal.pending, self.journal.fatal or "the disk did not answer in time",
                extra={"action": "journal-unwritten"},
            )  # fmt: skip


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP (its terminal is gone) end the loop in good order."""

    def on_signal(number: int, _frame: object) -> None:
        logger.info("%s: ending", signal.Signals(number).name, extra={"action": "signal"})
        daemon.stop()

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    wakeup = signal.set_wakeup_fd(daemon.signals.write_fd, warn_on_full_buffer=False)
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
        with contextlib.suppress(OSError):  # a file system that is read-only by now is no reason to end badly
            file.unlink(missing_ok=True)


def run_scheduler(options: SchedulerOptions) -> int:
    """Run a scheduler in this process until a signal or its lifeline ends it; returns the exit status.

    Prints ``zmqtasks scheduler ready on URL`` once it listens.

    Raises:
        AddressInUse, BadUrl: it cannot listen as told.
        BadUrl: an address may be reached from elsewhere, and --plaintext does not allow it.
        JournalError: its journal cannot be used, or cannot be written any more.
    """
    for url in options.bind:
        check_bind(url, options.plaintext)  # before there is a journal
    limit = descriptors.raise_limit()
    if limit < FEW_FILES:
        logger.warning(
            "this process may open %d files, one for each connection; raise the hard limit for more (ulimit -Hn, "
            "LimitNOFILE= of a service)",
            limit,
            extra={"action": "few-files"},
        )
    gc.disable()  # the steady state makes no cycles; a collection of a million jobs would stop everybody for a second
    wakeup = Wakeup()
    if options.data is not None:
        sys.setswitchinterval(SWITCH)
        warn_of_networks(options.data)
    journal = MemoryJournal() if options.data is None else DiskJournal.open(options.data, wakeup.set)
    daemon = Daemon(options, journal, wakeup)
    try:
        daemon.bind()
        if isinstance(journal, DiskJournal):
            daemon.restore(journal)
        with _pidfile(options.pidfile), _signals(daemon):
            gc.freeze()
            _say_ready(daemon.urls)
            daemon.run()
    finally:
        daemon.close()
        gc.enable()
        _let_go_of_streams()
    return 0


def _say_ready(urls: list[str]) -> None:
    try:
        for url in urls:
            print(f"zmqtasks scheduler ready on {url}", flush=True)  # noqa: T201  (scripts wait for this line)
    except OSError as error:
        logger.warning("stdout cannot be written (%s); going on", error.strerror, extra={"action": "stdout"})


def _let_go_of_streams() -> None:
    """What stdout and stderr could not take (a full disk, a reader that left) must not spoil the exit status."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)


def main() -> int:
    """``python -m zmqtasks.scheduler.daemon [URL]``: the bare daemon, for profiling."""
    try:
        return run_scheduler(SchedulerOptions(bind=tuple(sys.argv[1:]) or SchedulerOptions().bind))
    except ZmqTasksError as error:
        print(f"zmqtasks: {error}", file=sys.stderr)  # noqa: T201
        return 2


if __name__ == "__main__":
    sys.exit(main())
