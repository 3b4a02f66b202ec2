"""The submitter's loop: one daemon thread that owns the socket and the core, and what other threads ask of it."""

import logging
import os
import random
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from zmqtasks import clock, payload, wire
from zmqtasks.channel import Channel
from zmqtasks.clock import Now
from zmqtasks.config import SubmitterSettings
from zmqtasks.errors import ClientClosed, JobTimeout, PeerError, SchedulerUnreachable
from zmqtasks.ids import PREFIX_BYTES, Span, spans
from zmqtasks.submitter import results
from zmqtasks.submitter.core import IN, SubmitterCore
from zmqtasks.submitter.effects import Effects, Submission
from zmqtasks.submitter.info import ClientInfo
from zmqtasks.submitter.intake import Intake, Tail, submission
from zmqtasks.submitter.leading import Leading, Seat
from zmqtasks.submitter.results import Job, Pair, Source
from zmqtasks.submitter.waiters import CancelWaiter, Event, Waiter
from zmqtasks.submitter.whoami import identity
from zmqtasks.transport import NOBODY, Change, Context, Waitable, Wakeup

_log = logging.getLogger(__name__)

_TURN: Final = 0.002  # seconds of receiving in one turn
_LINGER: Final = 1.0  # seconds for the last messages when a connection is closed
_RESTART_PAUSE: Final = 1.0  # seconds between two connections given up because of a message that cannot be read
_NEWS: Final = 60.0  # seconds for which what the scheduler said is news
_LOOP_ANSWERS: Final = 5.0  # seconds; a turn of the loop takes milliseconds


class Connection:
    """One session with one scheduler. Makes its thread; `open` waits until the scheduler has let it in.

    Args:
        url: tcp:// or ipc://.
        max_pending: jobs that are submitted and not accepted, before submitting threads are held up.
        accept: codecs that results are decoded from.

    Attributes:
        intake: where jobs go in.
        attend: for whoever asks whether a job is over, instead of waiting: see `Leading.attend`.
        prefix: of the session's job ids.
        max_payload: bytes that the scheduler takes as the arguments of one job.
        welcome: the scheduler's last one.

    Raises:
        BadUrl: the URL is none.
    """

    def __init__(self, url: str, *, max_pending: int = 100_000, accept: Collection[str] = payload.ALL_CODECS) -> None:
        self.url = url
        self.accept = accept
        self.max_payload = 0
        self.welcome: wire.SubmitterWelcome | None = None
        self.prefix = secrets.token_bytes(PREFIX_BYTES)
        self._context = Context()
        self._core = SubmitterCore(SubmitterSettings(), identity(self.prefix))
        self._link = Channel(self._context, url, random.random(), self._core.bulk_hello)
        self._wakeup = Wakeup()
        self._alarm = self._wakeup.fileno()
        self._leading = Leading(self._turn, self._rest, self._unfinished, self._wakeup)
        self.attend = self._leading.attend
        self.intake = Intake(url, self.prefix, max_pending, self._leading.rouse, self._leading.wake, self._why)
        self._leading.quiet = self.intake.may_sleep
        self._watched: list[Waitable] = [self._alarm]  # and those of the connection, which were:
        self._of_link: list[Waitable] = NOBODY
        self._waiters: list[Waiter] = []
        self._restarted = -_RESTART_PAUSE
        self._lost = False  # a connection that stood, and the user has been told
        self._answered = threading.Event()
        self._refused: bytes | None = None  # a Failure
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
        welcome = False
        try:
            welcome = self._answered.wait(timeout) and self._refused is None
        finally:
            if not welcome:
                self.close(0)
        if self._refused is not None:
            raise payload.decode_exception(self._refused)
        if not welcome:
            raise SchedulerUnreachable(
                f"no scheduler answered at {self.url} within {timeout:g} s; "
                f"start one with: zmqtasks scheduler --bind {self.url}"
            )

    def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until everything submitted is accepted, then end the session and the thread.

        Raises:
            JobTimeout: says how many jobs did not get through. The session is closed all the same.
        """
        if self.intake.closed is not None:
            return
        try:
            if timeout > 0 and self._thread.is_alive():
                self.flush(timeout)
        finally:
            self.intake.close(ClientClosed(f"the client of {self.url} is closed"))
            if self._thread.is_alive():
                self._thread.join(_LINGER + _LOOP_ANSWERS)
            _connections.discard(self)

    @property
    def usable(self) -> bool:
        """Whether it is neither closed nor the parent process's."""
        return self.intake.closed is None

    def check_usable(self) -> None:
        """For whoever begins to wait for a job: see that somebody looks for its outcome.

        Raises:
            ClientClosed: nobody will: after `close`, and in a forked child.
        """
        self.intake.check_open()
        self._leading.attend()

    def lead(self, done: Callable[[], bool], timeout: float | None) -> None:
        """The same for a thread that sleeps until the job is done: it may bring the outcome itself (`leading`).

        Args:
            done: whether it is.
            timeout: seconds for which the caller would wait; None: for ever.

        Raises:
            ClientClosed: see `check_usable`.
        """
        self.intake.check_open()
        self._leading.lead(done, timeout)

    # ------------------------------------------------------------------------------------------ asking the loop

    def flush(self, timeout: float | None) -> None:
        """Wait until everything submitted so far is accepted or over.

        Raises:
            JobTimeout: not within `timeout` seconds; says how many are left, and why.
        """
        if not self._wait_until(self.settled, timeout):
            raise self.unsettled(timeout)

    def settled(self, number: int) -> Callable[[], bool]:
        """For `when`: whether all submissions up to this one are accepted or over."""
        return lambda: self._core.settled(number)

    def unsettled(self, timeout: float | None) -> JobTimeout:
        """What to raise when they were not, within `timeout` seconds."""
        left = self._core.pending[0]
        return JobTimeout(
            f"{left} jobs were not accepted within {timeout:g} s by the scheduler at {self.url}{self._why()}"
        )

    def wait_accepted(self, job: Pair, timeout: float | None) -> bool:
        """Whether the job is accepted (or over) within `timeout` seconds."""
        return self._wait_until(lambda _: lambda: self._core.is_accepted(*job), timeout)

    def wait_idle(self, timeout: float) -> bool:
        """Whether no job is open within `timeout` seconds."""
        return self._wait_until(lambda _: lambda: not self._core.open, timeout)

    def _wait_until(self, make: Callable[[int], Callable[[], bool]], timeout: float | None) -> bool:
        """Wait until the loop finds that a condition holds, as `when` does; whether it held in time."""
        event = threading.Event()
        waiter = self.when(make, event)
        try:
            if not event.wait(timeout):
                return False
        finally:
            waiter.leave()
        self.check_usable()
        return True

    def when(self, make: Callable[[int], Callable[[], bool]], event: Event) -> Waiter:
        """Have `event` set when a condition holds; the loop makes the condition, from the last submission's number."""
        waiter = Waiter(event)

        def begin(_now: Now, _fx: Effects) -> None:
            waiter.begin(make(self._core.submissions))
            self._waiters.append(waiter)

        self.intake.do(begin)
        return waiter

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
        event = threading.Event()
        waiter = self.request_cancel(pairs, force=force, event=event)
        if not event.wait(timeout):
            raise self.unanswered(len(pairs), timeout)
        return [pair in waiter.cancelled for pair in pairs]

    def unanswered(self, count: int, timeout: float) -> JobTimeout:
        """What to raise when a cancel of `count` jobs was not answered within `timeout` seconds."""
        return JobTimeout(
            f"the scheduler at {self.url} did not answer a cancel of {count} jobs within {timeout:g} s; "
            f"the request stands"
        )

    def request_cancel(self, pairs: Iterable[Pair], *, force: bool, event: Event | None = None) -> CancelWaiter:
        """Cancel without waiting; `event` is set when all of it is answered."""
        wanted: dict[bytes, list[int]] = {}
        for prefix, counter in pairs:
            wanted.setdefault(prefix, []).append(counter)
        grouped: list[tuple[bytes, list[Span]]] = [(p, spans(sorted(set(cs)))) for p, cs in wanted.items()]
        waiter = CancelWaiter(len(grouped), event)

        def begin(now: Now, fx: Effects) -> None:
            for prefix, counters in grouped:
                self._core.cancel(prefix, counters, force, waiter, now, fx)

        self.intake.do(begin)
        return waiter

    def job(self, pair: Pair, given: str = "") -> Job[Any]:
        """The Job of an id: the one that is open here already, or a new one whose outcome is asked for.

        Args:
            pair: the id.
            given: the text that it stands for, if somebody chose one.
        """
        made: Job[Any] = Job(Source(self, pair[0], "", given), pair[1])
        found: list[Job[Any]] = []
        ready = threading.Event()

        def begin(now: Now, fx: Effects) -> None:
            found.append(self._core.ask(pair[0], pair[1], made, now, fx))
            ready.set()

        self.intake.do(begin)
        ready.wait(_LOOP_ANSWERS)
        return found[0] if found else made

    def hint(self, sources: Iterable[Source] = ()) -> str:
        """What the scheduler warned of, as the end of the message of a time-out; empty if there is nothing.

        Args:
            sources: of the jobs that are late. Without them only what concerns all jobs is told.
        """
        kinds = {(source.task, id(source.spec)): source.kind for source in sources}
        told = self._core.notices.about([kind for kind in kinds.values() if kind is not None])
        if told is None:
            return ""
        text, said_at = told
        age = time.monotonic() - said_at
        return f"; the scheduler {'says' if age < _NEWS else f'said {age:.0f} s ago'}: {text}"

    def _why(self) -> str:
        """What may explain that the scheduler has not accepted jobs, as the end of a message."""
        return f" ({'connected' if self.connected else 'not connected'}){self.hint()}"

    def info(self) -> ClientInfo:
        """What this side knows, without asking the scheduler."""
        welcome = self.welcome
        return ClientInfo(
            url=self.url,
            connected=self.connected,
            session=self.prefix.hex(),
            scheduler_release=welcome.release if welcome else "",
            scheduler_epoch=welcome.epoch if welcome else 0,
            durable=bool(welcome and welcome.durable),
            max_payload=self.max_payload,
            open_jobs=self.open_count,
            pending_jobs=self.intake.pending[0],
            pending_bytes=self.intake.pending[1],
        )

    @property
    def connected(self) -> bool:
        """Whether the scheduler has let us in on the present connection."""
        return self._core.phase == IN

    @property
    def open_count(self) -> int:
        """Jobs that are not over."""
        return self.intake.fresh + self._core.open

    def open_jobs(self, limit: int) -> list[tuple[str, str]]:
        """(id, task) of up to `limit` jobs that are not over."""
        found: list[tuple[str, str]] = []
        ready = threading.Event()

        def begin(_now: Now, _fx: Effects) -> None:
            found.extend(self._core.open_jobs(limit))
            ready.set()

        self.intake.do(begin)
        ready.wait(_LOOP_ANSWERS)
        return found

    # ------------------------------------------------------------------------------------------ the loop

    def _run(self) -> None:
        reason = ""
        leading = self._leading
        with leading.baton:
            try:
                self._serve(Seat(leading.baton))
                reason = str(self.intake.closed)
            except BaseException as error:  # noqa: BLE001  (nobody may be left waiting, whatever happens)
                _log.exception("the client of %s has failed; all its jobs end with ClientClosed", self.url)
                reason = f"the client of {self.url} has failed: {type(error).__name__}: {error}"
            finally:
                leading.end()
                self._end(reason)

    def _serve(self, seat: Seat) -> None:
        """Turns, until the client is closed; a caller makes them for a moment when it waits for the only job."""
        leading = self._leading
        while self.intake.closed is None:
            if not self._turn(seat):
                if leading.park():
                    seat.ready = None
                else:
                    self._rest(seat)
            if leading.failure is not None:
                raise leading.failure

    def _unfinished(self) -> int:
        return self.intake.fresh + self._core.book.open

    def _turn(self, seat: Seat) -> bool:
        """Take in what has come, and do what follows; whether there may be more."""
        now, fx = clock.now(), Effects()
        ready, seat.ready = seat.ready, None
        for change in self._link.service(now.mono, ready, slept=ready is not None and seat.sleeper.slept):
            if change is Change.CONNECTED:
                self._core.on_connected(now, fx)
            else:
                self._on_broken(now, fx)
        more = (ready is None or seat.heard) and self._receive(now, fx)
        if self.intake.commands:
            self._take_commands(now, fx)
        self._core.tick(now, fx)
        self._carry_out(fx)
        return more

    def _receive(self, now: Now, fx: Effects) -> bool:
        """One turn's worth of messages; whether there may be more."""
        until = now.mono + _TURN
        while (data := self._link.receive()) is not None:
            try:
                self._core.handle(wire.decode_to_submitter(data), now, fx)
            except PeerError as error:
                self._on_nonsense(error, now, fx)
                return True
            if self._link.lone:  # of what else may be there the next wait tells
                return False
            if time.monotonic() > until:
                return True
        return False

    def _take_commands(self, now: Now, fx: Effects) -> None:
        for command in self.intake.take():
            if isinstance(command, Submission | Tail):
                self._core.submit(submission(command, self.prefix), now, fx)
            else:
                command(now, fx)

    def _send(self, fx: Effects) -> None:
        if fx.close_bulk:
            self._link.close_bulk()
        for message in fx.sends:
            self._link.send(wire.encode(message))
        for large in fx.bulk:
            self._link.send_bulk(large)
        if fx.open_bulk:
            self._link.open_bulk()

    def _carry_out(self, fx: Effects) -> None:
        if fx.sends or fx.bulk or fx.open_bulk or fx.close_bulk:
            self._send(fx)
        self.intake.publish(self._core.pending)
        for done in fx.finished:
            results.finish(done.handles, done.values, done.codec)
        for ended in fx.ended:
            results.end(ended.handle, ended.state, ended.payload)
        for _, _, handle, value in fx.progress:
            results.tell(handle, value)
        for answer in fx.cancel_answers:
            answer.token.answer(answer)
        for text in fx.notices:
            _log.warning("the scheduler at %s says: %s", self.url, text, extra={"action": "notice"})
        if fx.welcome is not None:
            self.welcome = fx.welcome
            self.max_payload = fx.welcome.max_payload
            self._answered.set()
            self._tell_back()
        if fx.refused is not None:
            self._refused = self._core.refusal
            self._answered.set()
        if self._waiters:
            self._waiters = [waiter for waiter in self._waiters if not waiter.over()]

    def _rest(self, seat: Seat, until: float | None = None) -> bool:
        """Sleep until there is something to do, or the monotonic time `until`; False: the client is being closed."""
        readers, writers, reopen = self._link.waits()
        due = clock.soonest(reopen, self._core.next_deadline(), until)
        timeout = due - time.monotonic() if due is not None else None
        if timeout is not None and timeout <= 0:
            return True
        if readers is not self._of_link:
            self._of_link, self._watched = readers, [*readers, self._alarm]
        if self.intake.may_sleep():
            seat.ready = ready = seat.sleeper.wait(self._watched, timeout, writers)
            self.intake.asleep = False
            seat.heard = not ready.keys().isdisjoint(readers)
            if self._alarm in ready:
                self._wakeup.clear()
        return self.intake.closed is None

    def _on_broken(self, now: Now, fx: Effects) -> None:
        was_in = self.connected
        self._core.on_disconnected(now, fx)
        if was_in:
            self._lost = True
            _log.warning(
                "lost the connection to the scheduler at %s with %d jobs open; reconnecting, they go on",
                self.url,
                self._core.open,
                extra={"action": "disconnected"},
            )

    def _tell_back(self) -> None:
        """Whoever read that the connection was lost reads that it is back."""
        if self._lost:
            self._lost = False
            _log.warning(
                "connected to the scheduler at %s again, with %d jobs open",
                self.url,
                self._core.open,
                extra={"action": "reconnected"},
            )

    def _on_nonsense(self, error: PeerError, now: Now, fx: Effects) -> None:
        """What the message told is lost; on a new connection the scheduler tells everything again."""
        if now.mono - self._restarted < _RESTART_PAUSE:
            return
        self._restarted = now.mono
        self._lost = True
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
        self.intake.close(ClientClosed(reason))
        now, fx = clock.now(), Effects()
        self._take_commands(now, fx)
        self._core.tick(now, fx)  # the last acknowledgements and cancels
        self._core.close(f"{reason} before the outcome came; the job itself may go on", fx)
        self._carry_out(fx)
        for waiter in self._waiters:
            waiter.event.set()
        self._answered.set()
        self._link.close(_LINGER if self._link.connected else 0.0)
        self._context.close()
        self._wakeup.close()


# ------------------------------------------------------------------------------------------------ fork

_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _mark_forked() -> None:
    for connection in list(_connections):
        connection.intake.forked()
    _connections.clear()


os.register_at_fork(after_in_child=_mark_forked)
