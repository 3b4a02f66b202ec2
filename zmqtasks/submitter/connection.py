"""The submitter's loop: one daemon thread that owns the socket and the core, and what other threads hand to it.

A thread that submits appends to a list under a lock, and wakes the loop only where it sleeps: what comes meanwhile
travels together.
"""

import getpass
import logging
import os
import random
import secrets
import socket
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from importlib import metadata
from typing import Any, Final

from zmqtasks import clock, payload, wire
from zmqtasks.clock import Now
from zmqtasks.config import MAX_JOBS_PER_MESSAGE, MIB, SubmitterSettings
from zmqtasks.errors import ClientClosed, JobTimeout, PeerError, QueueFull, SchedulerUnreachable, ZmqTasksError
from zmqtasks.ids import MAX_COUNTER, PREFIX_BYTES, Span, expand, spans
from zmqtasks.submitter import results
from zmqtasks.submitter.core import IN, SubmitterCore
from zmqtasks.submitter.effects import CancelAnswer, Effects, Identity, Submission
from zmqtasks.submitter.ledger import Call
from zmqtasks.submitter.results import Job, Pair, Source
from zmqtasks.transport import Change, Context, Link, Wakeup, wait

_log = logging.getLogger(__name__)

_TURN: Final = 0.002  # seconds of receiving in one turn
_PENDING_BYTES: Final = 256 * MIB  # payloads that wait to be accepted, before submitting threads are held up
_LINGER: Final = 1.0  # seconds for the last messages when a connection is closed
_RESTART_PAUSE: Final = 1.0  # seconds between two connections given up because of a message that cannot be read

Command = Submission | Callable[[Now, Effects], None]


class _Waiter:
    """A thread that waits until `holds()` is true in the loop."""

    __slots__ = ("event", "holds")

    def __init__(self, holds: Callable[[], bool]) -> None:
        self.holds = holds
        self.event = threading.Event()


class _CancelWaiter:
    """A thread that waits for the answers to its cancels, one per prefix."""

    __slots__ = ("cancelled", "event", "left")

    def __init__(self, left: int) -> None:
        self.left = left
        self.cancelled: set[Pair] = set()
        self.event = threading.Event()

    def answer(self, told: CancelAnswer) -> None:
        self.cancelled.update((told.prefix, counter) for counter in expand(told.cancelled))
        self.left -= 1
        if not self.left:
            self.event.set()


class Connection:
    """One session with one scheduler. Makes its thread; `open` waits until the scheduler has let it in.

    Args:
        url: tcp:// or ipc://.
        max_pending: jobs that are submitted and not accepted, before submitting threads are held up.
        accept: codecs that results are decoded from.

    Attributes:
        max_payload: bytes that the scheduler takes as the arguments of one job.

    Raises:
        BadUrl: the URL is none.
    """

    def __init__(self, url: str, *, max_pending: int = 100_000, accept: Collection[str] = payload.ALL_CODECS) -> None:
        self.url = url
        self.accept = accept
        self.max_payload = 0
        self.prefix = secrets.token_bytes(PREFIX_BYTES)
        self._max_pending = max_pending
        self._context = Context()
        self._link = Link(self._context, url, random.random())
        self._core = SubmitterCore(SubmitterSettings(), _identity(self.prefix))
        self._wakeup = Wakeup()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        # Below: under the lock.
        self._commands: list[Command] = []
        self._tail: Submission | None = None  # of the commands, while single jobs may still join it
        self._next = 0  # counter of the next job
        self._fresh = self._fresh_bytes = 0  # in the commands
        self._pending = self._pending_bytes = 0  # in the core
        self._hurried = 0  # threads that wait for room
        self._asleep = False
        self._closing = False
        self._unusable: ZmqTasksError | None = None
        # Below: the loop's own.
        self._waiters: list[_Waiter] = []
        self._restarted = -_RESTART_PAUSE
        self._answered = threading.Event()
        self._refusal: tuple[str, str] | None = None
        self._thread = threading.Thread(target=self._run, name=f"zmqtasks {url}", daemon=True)
        _connections.add(self)

    # ------------------------------------------------------------------------------------------ life

    def open(self, timeout: float) -> None:
        """Connect and wait for the scheduler's welcome.

        Raises:
            SchedulerUnreachable: nobody answered within `timeout` seconds.
            ProtocolMismatch: it speaks another version of the protocol.
            NotAuthorized: it will not have us.
        """
        self._thread.start()
        try:
            answered = self._answered.wait(timeout)
        except BaseException:
            self.close(0)
            raise
        if self._refusal is not None:
            failure = payload.decode_exception(self._core.refusal)
            self.close(0)
            raise failure
        if not answered:
            self.close(0)
            raise SchedulerUnreachable(
                f"no scheduler answered at {self.url} within {timeout:g} s; "
                f"start one with: zmqtasks scheduler --bind {self.url}"
            )

    def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything submitted is accepted, then end the session and the thread.

        Raises:
            JobTimeout: says how many jobs did not get through. The session is closed all the same.
        """
        if self._unusable is not None:
            return
        try:
            if timeout > 0 and self._thread.is_alive():
                self.flush(timeout)
        finally:
            self._stop()

    def _stop(self) -> None:
        with self._lock:
            self._closing = True
            self._unusable = ClientClosed(f"the client of {self.url} is closed")
            self._room.notify_all()
        self._wakeup.set()
        if self._thread.is_alive():
            self._thread.join(_LINGER + 5.0)
        _connections.discard(self)

    def check_usable(self) -> None:
        """Raise ClientClosed after `close`, and in a forked child."""
        if self._unusable is not None:
            raise ClientClosed(str(self._unusable))

    def forked(self) -> None:
        """This process is a forked child: threads and sockets are the parent's."""
        self._lock = threading.Lock()
        self._unusable = ClientClosed(
            f"the client of {self.url} was made before this process forked; make a new one in the child"
        )

    # ------------------------------------------------------------------------------------------ submitting

    def submit_one(self, source: Source, call: Call, data: bytes, timeout: float) -> Job[Any]:
        """One job under the session's prefix. Waits up to `timeout` seconds for room.

        Raises:
            QueueFull: there was none.
            ClientClosed: see `check_usable`.
        """
        with self._lock:
            if self._unusable is not None or self._is_full():
                self._wait_for_room(timeout)
            tail = self._tail
            if tail is None or tail.call is not call or len(tail.args) >= MAX_JOBS_PER_MESSAGE:
                tail = self._tail = Submission(self.prefix, self._next, call, [], [])
                self._commands.append(tail)
            job: Job[Any] = Job(source, self._next)
            self._next += 1
            tail.args.append(data)
            tail.handles.append(job)
            self._fresh += 1
            self._fresh_bytes += len(data)
            if not self._asleep:
                return job
            self._asleep = False
        self._wakeup.set()
        return job

    def submit_part(
        self,
        source: Source,
        call: Call,
        args: list[bytes],
        *,
        timeout: float,
        batch: int | None = None,
        first: int | None = None,
        stream: results.Stream | None = None,
    ) -> list[Job[Any]]:
        """Jobs that follow one another, part of a batch.

        Args:
            source: of these jobs; its prefix may stand for an id given by the user.
            call: what they have in common.
            args: encoded arguments, one per job.
            timeout: seconds to wait for room.
            batch: counter of the batch's first job; None: these are all of it.
            first: counter of the first of them; None: the next ones of the session.
            stream: gets each job when it is over.

        Raises:
            QueueFull: there was no room.
            ClientClosed: see `check_usable`.
        """
        with self._lock:
            if self._unusable is not None or self._is_full():
                self._wait_for_room(timeout)
            if first is None:
                first = self._next
                self._next += len(args)
            jobs: list[Job[Any]] = [Job(source, counter) for counter in range(first, first + len(args))]
            if stream is not None:
                for job in jobs:
                    job.feed(stream)
            # The core takes the list of handles over, the caller keeps the list of jobs.
            batch = first if batch is None else batch
            self._commands.append(Submission(source.prefix, first, call, args, jobs.copy(), batch))
            self._tail = None
            self._fresh += len(args)
            self._fresh_bytes += sum(map(len, args))
            wake, self._asleep = self._asleep, False
        if wake:
            self._wakeup.set()
        return jobs

    def reserve(self, count: int) -> int:
        """Counters for `count` jobs of one batch; returns the first."""
        with self._lock:
            first = self._next
            self._next += count
            return first

    def _is_full(self) -> bool:
        return (
            self._fresh + self._pending >= self._max_pending
            or self._fresh_bytes + self._pending_bytes >= _PENDING_BYTES
        )

    def _wait_for_room(self, timeout: float) -> None:
        """Under the lock: until fewer than `max_pending` jobs wait to be accepted."""
        end_time = time.monotonic() + timeout
        self._hurried += 1
        try:
            while self._unusable is None and self._is_full():
                left = end_time - time.monotonic()
                if left <= 0 or not self._room.wait(left):
                    where = "is connected" if self._core.phase == IN else "is not connected"
                    raise QueueFull(
                        f"{self._fresh + self._pending} jobs wait to be accepted by the scheduler at {self.url}, which "
                        f"{where}; there was no room for more within {timeout:g} s"
                    )
        finally:
            self._hurried -= 1
        self.check_usable()
        if self._next > MAX_COUNTER - self._max_pending:
            raise ClientClosed("this client has used up its job ids; make a new one")

    # ------------------------------------------------------------------------------------------ asking the loop

    def do(self, command: Command) -> None:
        """Have the loop run `command(now, effects)`, after what was submitted before.

        Raises:
            ClientClosed: see `check_usable`.
        """
        with self._lock:
            self.check_usable()
            self._commands.append(command)
            self._tail = None
            wake, self._asleep = self._asleep, False
        if wake:
            self._wakeup.set()

    def flush(self, timeout: float | None) -> None:
        """Wait until everything submitted so far is accepted or over.

        Raises:
            JobTimeout: not within `timeout` seconds; says how many are left, and why.
        """
        if not self._wait_until(lambda number: lambda: self._core.settled(number), timeout):
            left = self._core.pending[0]
            raise JobTimeout(
                f"{left} jobs were not accepted within {timeout:g} s by the scheduler at {self.url} "
                f"({'connected' if self._core.phase == IN else 'not connected'})"
            )

    def wait_accepted(self, job: Pair, timeout: float | None) -> bool:
        """Whether the job is accepted (or over) within `timeout` seconds."""
        return self._wait_until(lambda _: lambda: self._core.is_accepted(*job), timeout)

    def wait_idle(self, timeout: float) -> bool:
        """Whether no job is open within `timeout` seconds."""
        return self._wait_until(lambda _: lambda: not self._core.open, timeout)

    def _wait_until(self, make: Callable[[int], Callable[[], bool]], timeout: float | None) -> bool:
        """Wait until the loop finds that a condition holds; the loop makes it, with the last submission's number."""
        waiter = _Waiter(lambda: False)

        def begin(_now: Now, _fx: Effects) -> None:
            waiter.holds = make(self._core.submissions)
            self._waiters.append(waiter)

        self.do(begin)
        if not waiter.event.wait(timeout):
            return False
        self.check_usable()
        return True

    def cancel(self, jobs: Iterable[Pair], timeout: float, *, force: bool) -> list[bool]:
        """Cancel, and wait for the scheduler's answer.

        Args:
            jobs: their ids.
            timeout: seconds.
            force: also those that run.

        Returns:
            For each whether it is cancelled.

        Raises:
            JobTimeout: no answer in time; the request stands and is repeated when the scheduler is back.
        """
        pairs = list(jobs)
        waiter = self.request_cancel(pairs, force=force)
        if not waiter.event.wait(timeout):
            raise JobTimeout(
                f"the scheduler at {self.url} did not answer a cancel of {len(pairs)} jobs within {timeout:g} s; "
                f"the request stands"
            )
        return [pair in waiter.cancelled for pair in pairs]

    def request_cancel(self, pairs: Iterable[Pair], *, force: bool) -> _CancelWaiter:
        """Cancel without waiting."""
        wanted: dict[bytes, list[int]] = {}
        for prefix, counter in pairs:
            wanted.setdefault(prefix, []).append(counter)
        grouped: list[tuple[bytes, list[Span]]] = [(p, spans(sorted(set(cs)))) for p, cs in wanted.items()]
        waiter = _CancelWaiter(len(grouped))
        if not grouped:
            waiter.event.set()
            return waiter

        def begin(now: Now, fx: Effects) -> None:
            for prefix, counters in grouped:
                self._core.cancel(prefix, counters, force, waiter, now, fx)

        self.do(begin)
        return waiter

    def job(self, pair: Pair) -> Job[Any]:
        """The Job of an id: the one that is open here already, or a new one whose outcome is asked for."""
        made: Job[Any] = Job(Source(self, pair[0], ""), pair[1])
        found: list[Job[Any]] = []
        ready = threading.Event()

        def begin(now: Now, fx: Effects) -> None:
            found.append(self._core.ask(pair[0], pair[1], made, now, fx))
            ready.set()

        self.do(begin)
        ready.wait(5.0)  # a turn of the loop takes milliseconds
        return found[0] if found else made

    @property
    def usable(self) -> bool:
        """Whether it is neither closed nor the parent process's."""
        return self._unusable is None

    @property
    def connected(self) -> bool:
        """Whether the scheduler has let us in on the present connection."""
        return self._core.phase == IN

    @property
    def open_count(self) -> int:
        """Jobs that are not over."""
        return self._fresh + self._core.open

    def open_jobs(self, limit: int) -> list[tuple[str, str]]:
        """(id, task) of some jobs that are not over. Only while the loop is idle or ended: for last words."""
        try:
            return self._core.open_jobs(limit)
        except RuntimeError:  # the loop changed a table meanwhile
            return []

    # ------------------------------------------------------------------------------------------ the loop

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
            reason = str(self._unusable)
        except Exception as error:  # noqa: BLE001  (nobody may be left waiting, whatever happens)
            _log.exception("the client of %s has failed; all its jobs end with ClientClosed", self.url)
            reason = f"the client of {self.url} has failed: {type(error).__name__}: {error}"
        self._end(reason)

    def _turn(self) -> None:
        now, fx = clock.now(), Effects()
        for change in self._link.service(now.mono):
            if change is Change.CONNECTED:
                self._core.on_connected(now, fx)
            else:
                self._on_broken(now, fx)
        more = self._receive(now, fx)
        self._take_commands(now, fx)
        self._core.tick(now, fx)
        self._carry_out(fx)
        self._link.flush()
        if not more and self._core.next_deadline() is None:
            self._sleep(now)

    def _receive(self, now: Now, fx: Effects) -> bool:
        """One turn's worth of messages; whether there may be more."""
        until = now.mono + _TURN
        while (data := self._link.receive()) is not None:
            try:
                self._core.handle(wire.decode_to_submitter(data), now, fx)
            except PeerError as error:
                self._on_nonsense(error, now, fx)
                return True
            if time.monotonic() > until:
                return True
        return False

    def _take_commands(self, now: Now, fx: Effects) -> None:
        if not self._commands:
            return
        with self._lock:
            commands, self._commands, self._tail = self._commands, [], None
            # Still counted until the core has them and `_publish` counts anew.
            self._pending += self._fresh
            self._pending_bytes += self._fresh_bytes
            self._fresh = self._fresh_bytes = 0
        for command in commands:
            if isinstance(command, Submission):
                self._core.submit(command, now, fx)
            else:
                command(now, fx)

    def _carry_out(self, fx: Effects) -> None:
        for message in fx.sends:
            self._link.send(wire.encode(message))
        for done in fx.finished:
            results.finish(done.handles, done.values, done.codec)
        for ended in fx.ended:
            results.end(ended.handle, ended.state, ended.payload)
        for answer in fx.cancel_answers:
            answer.token.answer(answer)
        for text in fx.notices:
            _log.warning("the scheduler at %s says: %s", self.url, text, extra={"action": "notice"})
        if fx.welcome is not None:
            self.max_payload = fx.welcome.max_payload
            self._answered.set()
        if fx.refused is not None:
            self._refusal = fx.refused
            self._answered.set()
        pending, pending_bytes = self._core.pending
        if pending != self._pending or pending_bytes != self._pending_bytes:
            with self._lock:
                self._pending, self._pending_bytes = pending, pending_bytes
                if self._hurried:
                    self._room.notify_all()
        if self._waiters:
            self._waiters = [waiter for waiter in self._waiters if not _is_over(waiter)]

    def _sleep(self, now: Now) -> None:
        deadline = self._link.next_deadline()
        timeout = None if deadline is None else max(0.0, deadline - now.mono)
        with self._lock:
            if self._commands or self._closing:
                return
            self._asleep = True
        wait([*self._link.readers(), self._wakeup.fileno()], timeout, self._link.writers())
        self._asleep = False
        self._wakeup.clear()

    def _on_broken(self, now: Now, fx: Effects) -> None:
        was_in = self._core.phase == IN
        self._core.on_disconnected(now, fx)
        if was_in:
            _log.warning(
                "lost the connection to the scheduler at %s with %d jobs open; reconnecting, they go on",
                self.url,
                self._core.open,
                extra={"action": "disconnected"},
            )

    def _on_nonsense(self, error: PeerError, now: Now, fx: Effects) -> None:
        """What the message told is lost; a new connection makes the scheduler tell everything again."""
        if now.mono - self._restarted < _RESTART_PAUSE:
            return
        self._restarted = now.mono
        _log.error(
            "the scheduler at %s sent what this side cannot read (%s); connecting anew",
            self.url,
            error,
            extra={"action": "bad-message"},
        )
        self._link.restart(now.mono)
        self._core.on_disconnected(now, fx)

    def _end(self, reason: str) -> None:
        """Close everything; no thread that waits is left waiting."""
        with self._lock:
            self._unusable = self._unusable or ClientClosed(reason)
            commands, self._commands = self._commands, []
            self._room.notify_all()
        now, fx = clock.now(), Effects()
        self._core.tick(now, fx)  # the last acknowledgement
        for command in commands:
            if isinstance(command, Submission):
                self._core.submit(command, now, fx)
            else:
                command(now, fx)
        self._core.close(f"{reason} before the outcome came; the job itself may go on", fx)
        self._carry_out(fx)
        for waiter in self._waiters:
            waiter.event.set()
        self._answered.set()
        self._link.close(_LINGER if self._link.connected else 0.0)
        self._context.close()
        self._wakeup.close()


def _is_over(waiter: _Waiter) -> bool:
    if waiter.holds():
        waiter.event.set()
        return True
    return False


def _identity(prefix: bytes) -> Identity:
    try:
        release = metadata.version("zmqtasks")
    except metadata.PackageNotFoundError:
        release = "unknown"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    return Identity(prefix, release, payload.python_version(), socket.gethostname(), os.getpid(), user)


# ------------------------------------------------------------------------------------------------ fork

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _mark_forked() -> None:
    for connection in list(_connections):
        connection.forked()
    _connections.clear()


os.register_at_fork(after_in_child=_mark_forked)
