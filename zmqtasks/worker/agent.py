"""The agent: the loop of ``zmqtasks worker``. It moves messages between scheduler and children, runs no user code."""

import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

from zmqtasks import clock, wire
from zmqtasks.channel import Channel
from zmqtasks.clock import Now
from zmqtasks.config import BROKER_VARIABLE, DEFAULT_BROKER, WorkerSettings
from zmqtasks.errors import PeerError
from zmqtasks.payload import python_version
from zmqtasks.queues import direct
from zmqtasks.resources import Amounts, show
from zmqtasks.transport import NOBODY, Change, Context, Ready, Sleeper, Waitable, Wakeup, parse_url
from zmqtasks.words import plural
from zmqtasks.worker import hostinfo
from zmqtasks.worker.claims import Report
from zmqtasks.worker.core import WorkerCore
from zmqtasks.worker.effects import Effects, Identity
from zmqtasks.worker.failures import told
from zmqtasks.worker.gpus import devices_of
from zmqtasks.worker.loading import chosen_queues
from zmqtasks.worker.pool import Death, Event, Loaded, Pool

log = logging.getLogger(__name__)

TURN_MESSAGES: Final = 1_000
TURN_SECONDS: Final = 0.002
CREDIT_PER_SLOT: Final = 2_000
MAX_CREDIT: Final = 100_000
LAST_WORDS: Final = 1.0  # seconds that outcomes get to reach the scheduler when the worker stops at once
PEER_ERROR_PAUSE: Final = 1.0  # seconds until a scheduler that broke the protocol is tried again
LINGER: Final = 0.5  # seconds for the Goodbye
SILENT_AFTER: Final = 5.0  # seconds without a scheduler until that is said, and said again after a minute
FAILURES_PER_SECOND: Final = 20  # that are logged one by one
PARKED: Final = 0.01  # seconds until messages that found no room are tried again


@dataclass(slots=True, frozen=True)
class WorkerOptions:
    """What `run_worker` is told.

    Attributes:
        broker: the scheduler, tcp://HOST:PORT or ipc://PATH; empty: the app's, else that of
            $ZMQTASKS_BROKER, else this machine's.
        name: for people; empty: worker@HOST.
        concurrency: how many jobs run at once.
        queues: those it takes; empty: those that the app declares, else `default` and those that its tasks name.
        exclude: of these, those that it does not take.
        app: MODULE or MODULE:ATTRIBUTE.
        shutdown_timeout: seconds that running jobs may go on after the first SIGTERM.
        loglevel: for the processes that run jobs; the agent's own logging is set up by its caller.
        lifeline_fd: end of file on it stops the worker at once: its owner died.
        credit: assignments it holds at most; 0: as many as suit the slots.
        pool: processes: each slot is a child process; threads: all slots are threads of one child.
        logfile: where the agent's logging goes, for the processes that run jobs; None: stderr.
        resources: what it has for its jobs. Of `gpu` each is a device: those of its CUDA_VISIBLE_DEVICES, else 0, 1 …
    """

    broker: str
    name: str = ""
    concurrency: int = 1
    queues: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    app: str | None = None
    shutdown_timeout: float = 60.0
    loglevel: str = "info"
    lifeline_fd: int | None = None
    credit: int = 0
    pool: Literal["processes", "threads"] = "processes"
    logfile: str | None = None
    resources: Amounts = ()


def run_worker(options: WorkerOptions) -> int:
    """Be a worker until a signal ends it; for the main thread of a process.

    Returns:
        The exit code: 0 after a warm shutdown, 1 if that took too long or the owner died, 128 + the signal's number
        if a second one ended it.

    Raises:
        AppNotLoaded: the app cannot be imported; nothing was started.
        BadOption: a queue is none of the app's, or none is left.
        BadUrl: the broker's URL is wrong.
        BadOption: it cannot have these resources.
        ProtocolMismatch, NotAuthorized: the scheduler refused this worker.
    """
    if options.broker:
        parse_url(options.broker)
    hostinfo.allow_many_files()
    hostinfo.keep_freed_memory()
    wakeup = Wakeup()
    received: list[int] = []
    with _signals(wakeup, received):  # before the first process exists: from now on an end is an orderly one
        return Agent(options, wakeup, received).run()


class Agent:
    """One worker's loop. `received`: numbers of signals, filled by their handlers, which also set `wakeup`."""

    def __init__(self, options: WorkerOptions, wakeup: Wakeup, received: list[int]) -> None:
        self._options = options
        self._name = options.name or f"worker@{hostinfo.host()}"
        self._devices = devices_of(options.resources, os.environ)
        self._wakeup = wakeup
        self._alarm = wakeup.fileno()
        self._sleeper = Sleeper()
        self._context: Context | None = None
        self._link: Channel | None = None
        self._url = ""
        self._core: WorkerCore | None = None
        self._pool = Pool(
            options.concurrency,
            options.app or "",
            self._name,
            options.loglevel,
            options.broker,
            threads=options.pool == "threads",
            logfile=str(Path(options.logfile).absolute()) if options.logfile else "",
            hide_gpus=bool(self._devices),
        )
        self._children = self._pool.fileno()
        lifeline = options.lifeline_fd
        self._own: list[Waitable] = [self._children, self._alarm, *([] if lifeline is None else [lifeline])]
        self._watched = self._own  # these, and those of the connection, which were:
        self._of_link: list[Waitable] = NOBODY
        self._signals = received
        self._stop_at: float | None = None  # monotonic time at which patience ends
        self._abandoned = False
        self._exit_code = 0
        self._heard = False  # the last wait found something of the connection
        self._more = False  # the last turn left something unread
        self._told_ready = False
        self._told_until = 0.0
        self._told = self._untold = 0  # failed jobs, in this second
        self._connected = False  # as far as it was told
        self._welcomed = False  # by the scheduler, at the end of the last turn
        self._silent_since = time.monotonic()
        self._say_silent_at = self._silent_since + SILENT_AFTER

    def run(self) -> int:
        """Work until the end; leaves no process, socket, memory or file."""
        try:
            while True:
                core = self._core
                if (self._stop_at is not None or (core is not None and core.drained)) and self._over():
                    break
                self._turn()
        finally:
            self._close()
        log.info("worker %s has ended", self._name)
        return self._exit_code

    def _close(self) -> None:
        self._pool.close()
        if self._link is not None:
            self._link.close(LINGER)
        if self._context is not None:
            self._context.close()
        self._wakeup.close()

    # -------------------------------------------------------------------------------------------- one turn

    def _turn(self) -> None:
        ready = self._wait()
        now = clock.now()
        if self._alarm in ready:
            self._wakeup.clear()
        if self._options.lifeline_fd in ready and self._owner_died():
            return
        fx = Effects()
        core, pool = self._core, self._pool
        if core is not None:
            self._more = self._serve_link(core, ready, now, fx)
        if self._children in ready or pool.to_fork:
            for event in pool.service(now.mono, heard=self._children in ready):
                if type(event) is tuple and core is not None:
                    self._on_report(core, *event, now, fx)
                else:
                    self._on_event(event, core, now, fx)
        if self._signals or self._stop_at is not None:
            self._on_signals(now, fx)
        if core is not None:
            core.tick(now, fx)
            self._carry_out(core, now, fx)
            if not (self._welcomed and core.welcomed):
                self._tell_state(core, now)

    def _wait(self) -> "dict[Waitable, int]":
        readers = writers = NOBODY
        due = self._stop_at
        link, core, pool = self._link, self._core, self._pool
        if link is not None and core is not None:
            readers, writers, reopen = link.waits()
            due = clock.soonest(due, reopen, core.next_deadline(), None if self._welcomed else self._say_silent_at)
        if pool.to_fork:
            due = clock.soonest(due, pool.next_deadline())
        if readers is not self._of_link:
            self._of_link, self._watched = readers, self._own + readers
        timeout = None if due is None else max(0.0, due - time.monotonic())
        ready = self._sleeper.wait(self._watched, 0.0 if self._more else timeout, writers)
        self._heard = not ready.keys().isdisjoint(readers)
        return ready

    def _on_event(self, event: Event, core: WorkerCore | None, now: Now, fx: Effects) -> None:
        """Anything but a report."""
        if isinstance(event, Loaded):
            self._on_loaded(event)
        elif isinstance(event, Death) and core is not None:
            core.on_child_exit(
                event.child, event.claim, event.number, event.evidence, now, fx, ours=event.ours, company=event.company
            )

    def _serve_link(self, core: WorkerCore, ready: Ready, now: Now, fx: Effects) -> bool:
        """Take in what the scheduler sent; whether something may be left."""
        link = self._link
        assert link is not None  # noqa: S101  (made together with the core)
        for change in link.service(now.mono, ready, slept=self._sleeper.slept):
            if change is Change.CONNECTED:
                core.on_connected(now, fx)
            else:
                if self._connected:
                    self._connected = False
                    log.warning("lost the scheduler at %s; jobs go on, and it is tried again", link.url)
                core.on_disconnected(now, fx)
                _void(fx)
        if not (self._more or self._heard):
            return False
        until = now.mono + TURN_SECONDS
        for _ in range(TURN_MESSAGES):
            data = link.receive()
            if data is None:
                return False
            try:
                core.handle(wire.decode_to_worker(data), now, fx)
            except PeerError as error:
                log.error("the scheduler at %s broke the protocol (%s); connecting anew", link.url, error)  # noqa: TRY400
                link.restart(now.mono + PEER_ERROR_PAUSE)
                core.on_disconnected(now, fx)
                _void(fx)
                return False
            if link.lone:  # of what else may be there the next wait tells
                return False
            if time.monotonic() > until:
                break
        return True

    def _carry_out(self, core: WorkerCore, now: Now, fx: Effects) -> None:
        """Do what the core asks for; what it learns thereby may ask for more."""
        link, pool = self._link, self._pool
        assert link is not None  # noqa: S101  (made together with the core)
        while True:
            _send(link, fx)
            for index, claim in enumerate(fx.pushes):
                if not pool.queue.push(claim):
                    for refused in reversed(fx.pushes[index:]):  # the youngest first, so that their order stays
                        core.on_push_refused(refused.id)
                    break
            for child in fx.kills:
                pool.kill(child)
            reclaim, look = fx.reclaim, fx.look
            if not reclaim and not look:
                return
            fx = Effects()
            if reclaim:
                core.on_reclaimed(pool.queue.take_all(), now, fx)
            if look or fx.look:
                fx.look = False
                core.on_running(pool.cells(), now, fx)

    # -------------------------------------------------------------------------------------------- beginning and end

    def _on_loaded(self, loaded: Loaded) -> None:
        if self._core is not None:
            return  # a new fork server: the app is the same
        options = self._options
        queues = chosen_queues(options.queues or tuple(loaded.queues), options.exclude, loaded.closed)
        own = (direct(self._name),) if loaded.direct else ()
        slots = options.concurrency
        credit = options.credit or min(MAX_CREDIT, CREDIT_PER_SLOT * slots)
        identity = Identity(
            hostinfo.release(),
            python_version(),
            hostinfo.host(),
            os.getpid(),
            self._name,
            os.urandom(16),
            tuple(dict.fromkeys((*queues, *own))),
            tuple(loaded.tasks),
            tuple(loaded.rates),
            tuple(loaded.caps),
        )
        self._core = WorkerCore(
            WorkerSettings(slots, credit, resources=options.resources, devices=self._devices), identity
        )
        self._context = Context()
        self._url = options.broker or loaded.broker or os.environ.get(BROKER_VARIABLE) or DEFAULT_BROKER
        self._link = Channel(self._context, self._url, random.random(), self._core.bulk_hello)
        self._more = True  # the connection is opened in the next turn

    def _on_report(self, core: WorkerCore, child: int, report: Report, now: Now, fx: Effects) -> None:
        if report.progress:
            core.on_progress(child, report.progress, now, fx)
            return
        if report.ends and log.isEnabledFor(logging.INFO):
            self._tell_failures(core, report, now)
        core.on_report(child, report.claim, report.runs, report.ends, report.finished, now, fx)

    def _tell_failures(self, core: WorkerCore, report: Report, now: Now) -> None:
        """One line for each job that did not succeed, but not more than a person can read."""
        if now.mono >= self._told_until:
            if self._untold:
                log.info("%d more jobs failed in that second", self._untold)
            self._told_until, self._told, self._untold = now.mono + 1.0, 0, 0
        for end in report.ends:
            self._told += 1
            if self._told > FAILURES_PER_SECOND:
                self._untold += 1
            else:
                log.info("%s: %s", core.work.name_of(report.claim, end.number), told(end))

    def _tell_state(self, core: WorkerCore, now: Now) -> None:
        """Whether a scheduler is there, for people. While one is, no turn calls this."""
        before, self._welcomed = self._welcomed, core.welcomed
        if self._welcomed:
            if not self._connected:
                self._connected = True
                if self._told_ready:
                    log.warning("connected to the scheduler at %s again", self._url)
            if not self._told_ready:
                self._told_ready = True
                me = core.identity
                _say(
                    f"zmqtasks worker {me.name} ready: {plural(self._options.concurrency, 'slot')}, "
                    f"queues {','.join(me.queues)}, {plural(len(me.tasks), 'task')}, "
                    + (f"{show(self._options.resources)}, " if self._options.resources else "")
                    + f"pid {me.pid}"
                )
        elif before:
            self._silent_since = now.mono
            self._say_silent_at = now.mono + SILENT_AFTER
        elif now.mono >= self._say_silent_at:
            self._say_silent_at = now.mono + 60.0
            silent = now.mono - self._silent_since
            log.warning(
                "no scheduler has answered at %s for %.0f s; it is tried again%s",
                self._url,
                silent,
                "" if self._told_ready else f". Start one with: zmqtasks scheduler --bind {self._url}",
            )

    def _on_signals(self, now: Now, fx: Effects) -> None:
        while self._signals:
            number = self._signals.pop(0)
            name = signal.Signals(number).name
            core = self._core
            if core is None:
                log.info("%s: stopping before the work began", name)
                self._stop_at = now.mono
            elif self._stop_at is None:
                log.info(
                    "%s: no new jobs; waiting up to %g s for those that run (once more: stop now)",
                    name, self._options.shutdown_timeout, extra={"action": "draining"},
                )  # fmt: skip
                core.drain(now, fx)
                self._stop_at = now.mono + self._options.shutdown_timeout
            elif self._exit_code == 0:
                log.warning("%s again: stopping now; what runs is handed back", name)
                self._exit_code = 128 + number
                self._abandon(core, now, fx)
        if self._stop_at is not None and now.mono >= self._stop_at and not self._abandoned and self._core is not None:
            log.warning("jobs still run after %g s; they are stopped and handed back", self._options.shutdown_timeout)
            self._exit_code = 1
            self._abandon(self._core, now, fx)

    def _abandon(self, core: WorkerCore, now: Now, fx: Effects) -> None:
        self._abandoned = True
        self._stop_at = now.mono + LAST_WORDS
        core.abandon(now, fx)

    def _owner_died(self) -> bool:
        fd = self._options.lifeline_fd
        assert fd is not None  # noqa: S101  (it was ready)
        try:
            if os.read(fd, 4096):
                return False
        except OSError:
            pass
        log.info("the process that owns this worker has ended; stopping now")
        self._exit_code = 1
        self._abandoned = True
        self._stop_at = 0.0
        return True

    def _over(self) -> bool:
        if self._core is not None and self._core.drained:
            return True
        if self._stop_at is None or time.monotonic() < self._stop_at:
            return False
        return self._core is None or self._abandoned


def _send(link: Channel, fx: Effects) -> None:
    if fx.close_bulk:
        link.close_bulk()
    for message in fx.sends:
        link.send(wire.encode(message))
    for large in fx.bulk:
        link.send_bulk(large)
    if fx.open_bulk:
        link.open_bulk()


def _void(fx: Effects) -> None:
    """What was to be sent was meant for a connection that is over."""
    fx.sends.clear()
    fx.bulk.clear()
    fx.open_bulk = False


def _say(line: str) -> None:
    """Whoever started this process may wait for this line; if nobody can read it, the work goes on."""
    try:
        print(line, flush=True)  # noqa: T201
    except (OSError, ValueError):
        with open(os.devnull, "w") as nowhere:  # what stays in the buffer would fail again at the end  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)


@contextmanager
def _signals(wakeup: Wakeup, received: list[int]) -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP (its terminal is gone) end the wait and are noted, while this lasts."""

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
    for ending in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if ending != signal.SIGHUP or signal.getsignal(ending) != signal.SIG_IGN:  # nohup means it
            before[ending] = signal.signal(ending, note)
    old_fd = signal.set_wakeup_fd(wakeup.write_fd, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in before.items():
            signal.signal(number, handler)
