"""Job: a `concurrent.futures.Future` that costs next to nothing until somebody waits for it.

A stock Future makes a lock and three lists at once (7.4 µs, 1.7 kB). A Job makes them on the first wait, keeps its
result encoded, and decodes it in the thread that asks: the I/O thread never unpickles what users wrote.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import Any, Final, NoReturn, Protocol, TypeVar

from zmqtasks import errors, ids, payload, states
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.errors import JobTimeout, PayloadError
from zmqtasks.submitter.callbacks import call_later
from zmqtasks.submitter.notices import Kind
from zmqtasks.submitter.progress import Number, Told
from zmqtasks.submitter.waiting import Guard, Stream, Sync
from zmqtasks.wire import Spec

T = TypeVar("T")
Pair = tuple[bytes, int]  # prefix and counter

_log = logging.getLogger(__name__)


CANCELLED_FORM: Final = states.name(states.CANCELLED)
ENDS: Final = {state: states.name(state) for state in states.FINAL - {states.SUCCEEDED}}
END_WORDS: Final = frozenset(ENDS.values())
RUN: Final = MAX_JOBS_PER_MESSAGE // 2  # jobs that share a Source; integers so small are there once for all


class Owner(Protocol):
    """What a Job needs of the connection that it came from."""

    url: str
    accept: Collection[str]

    def check_usable(self) -> None:
        """For whoever begins to wait. Raise if no result can come any more: in a forked child."""

    def hint(self, sources: "Iterable[Source]" = ()) -> str:
        """What may explain a time-out of the jobs of these, with "; " before it; or nothing."""

    def attend(self) -> None:
        """Somebody looks whether it is over."""

    def lead(self, done: Callable[[], bool], timeout: float | None) -> None:
        """As `check_usable`, for a thread that sleeps until the job is done: it may bring the outcome itself."""

    def wait_accepted(self, job: Pair, timeout: float | None) -> bool:
        """Whether the scheduler has accepted the job within the time."""

    def cancel(self, jobs: Iterable[Pair], timeout: float, *, force: bool) -> list[bool]:
        """Cancel, wait for the answer, and say for each job whether it is cancelled."""


class Source:
    """What the jobs of one prefix and call share: one object for hundreds of jobs.

    Args:
        owner: the connection.
        prefix: of their ids.
        task: name of the task, or of the shipped function; empty if it is not known.
        given: the id that the user chose, of which prefix and counter are only the digest.
        first: counter of the job at place 0: a counter of its own would cost each job an object of 32 bytes.
        spec: what the jobs say; None if it is not known.
    """

    __slots__ = ("_latest", "first", "given", "owner", "prefix", "spec", "task")

    def __init__(
        self, owner: Owner, prefix: bytes, task: str, given: str = "", first: int = 0, spec: Spec | None = None
    ) -> None:
        self.owner = owner
        self.prefix = prefix
        self.task = task
        self.given = given
        self.first = first
        self.spec = spec
        self._latest: Source | None = None

    @property
    def kind(self) -> Kind | None:
        """What the jobs are like; None if it is not known."""
        return None if self.spec is None else (self.task, self.spec)

    def at(self, counter: int) -> "Source":
        """The same for a job of this counter and some of those after it: of the places 0 … RUN - 1."""
        latest = self._latest or self
        if not 0 <= counter - latest.first < RUN:
            latest = self._latest = Source(self.owner, self.prefix, self.task, self.given, counter, self.spec)
        return latest

    def jobs(self, first: int, count: int) -> "list[Job[Any]]":
        """Jobs that follow one another."""
        made: list[Job[Any]] = []
        while len(made) < count:
            source = self.at(first + len(made))
            start = first + len(made) - source.first
            made += [Job(source, place) for place in range(start, min(RUN, start + count - len(made)))]
        return made


class Job(Future[T]):
    """One request to run a function, and its outcome.

    It is a `concurrent.futures.Future`, and it can be awaited.

    Attributes:
        id: 32 hex digits.
    """

    __slots__ = ("_form", "_place", "_source", "_sync", "_value")  # one more is 16 bytes more

    # _form: codec of the value, or the state's word where there is none. None: not over; so it is set last.
    # _value: bytes as they came; once somebody asked, a tuple that holds the value or the exception.

    def __init__(self, source: Source, place: int) -> None:
        self._source = source
        self._place = place
        self._form: str | None = None
        self._value: Any = None
        self._sync: Sync | Stream | None = None

    def feed(self, stream: Stream) -> None:
        """Have the stream get this job when it is over; only before the job is submitted (afterwards: `watch`)."""
        self._sync = stream

    # ------------------------------------------------------------------------------------------ asking

    @property
    def id(self) -> str:
        """32 hex digits."""
        return ids.job_id(*self.pair)

    @property
    def pair(self) -> Pair:
        """The id as (prefix, counter)."""
        source = self._source
        return source.prefix, source.first + self._place

    @property
    def pairs(self) -> Sequence[Pair]:
        """The ids to ask for when all of it is to be cancelled."""
        return (self.pair,)

    @property
    def task(self) -> str:
        """Name of the task, or of the shipped function."""
        return self._source.task

    @property
    def state(self) -> str:
        """The word "submitted" until its end is known here; then "succeeded", "failed", "cancelled" or "aborted".

        A job that has told how far it is (`progress`) is "running" from then on.
        """
        form = self._form
        if form is None:
            self._source.owner.attend()
            return "running" if self.told is not None else "submitted"
        return form if form in END_WORDS else "succeeded"

    @property
    def scheduler(self) -> str:
        """URL of the scheduler that it was given to."""
        return self._source.owner.url

    def done(self) -> bool:
        """Whether it is over and its outcome is here."""
        if self._form is None:
            self._source.owner.attend()
        return self._form is not None

    def _is_over(self) -> bool:
        return self._form is not None

    def running(self) -> bool:
        """Whether it is known to run: only a job that tells how far it is makes itself known."""
        return self._form is None and self.told is not None

    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self._form == CANCELLED_FORM

    def accepted(self, timeout: float | None = None) -> bool:
        """Wait until the scheduler has the job in its journal.

        Args:
            timeout: seconds; None waits as long as it takes.

        Returns:
            True.

        Raises:
            JobTimeout: not within the time-out.
            ZmqTasksError: the scheduler refused the job; the error says why.
        """
        if not self.done() and not self._source.owner.wait_accepted(self.pair, timeout):
            hint = self._source.owner.hint()
            raise JobTimeout(
                f"{self} was not accepted within {timeout:g} s; it is sent as soon as that is possible{hint}"
            )
        if self._form in END_WORDS:
            error = self._decoded()
            if isinstance(error, errors.ZmqTasksError) and not isinstance(error, errors.JobError):
                raise error
        return True

    def result(self, timeout: float | None = None) -> T:
        """Wait for the value that the function returned.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            JobTimeout: the job was not over in time (a TimeoutError, too); it goes on.
            JobCancelled: somebody cancelled it.
            Exception: what the function raised, with the remote traceback as its cause; a RemoteError for what is no
                Exception, such as SystemExit.
            ZmqTasksError: what ended the job instead: WorkerLost, UnknownJob, ResultExpired …
        """
        if self._form is None:
            self._wait(timeout)
        outcome = self._decoded()
        if self._form in END_WORDS:
            try:
                raise outcome
            finally:
                del outcome  # break the cycle exception → traceback → frame → exception
        return outcome  # type: ignore[no-any-return]  # whatever the function returned

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the exception that `result` would raise; None if it would return.

        Raises:
            JobTimeout: see `result`.
            JobCancelled: see `result`.
        """
        if self._form is None:
            self._wait(timeout)
        if self._form not in END_WORDS:
            return None
        error: BaseException = self._decoded()
        if self._form == CANCELLED_FORM:
            raise error
        return error

    def _decoded(self) -> Any:
        """The value, or the exception; decoded once, in the thread that asks first."""
        value = self._value
        if type(value) is tuple:
            return value[0]
        accept = self._source.owner.accept
        if self._form in END_WORDS:
            decoded: Any = self._named(payload.decode_exception(value, accept))
        else:
            try:
                decoded = payload.decoder(self._form or "", accept, result=True)(value)
            except PayloadError:
                raise
            except Exception as error:
                message = f"{self}: its result cannot be decoded here: {type(error).__name__}: {error}"
                raise PayloadError(message) from error
        self._value = (decoded,)  # one write, so that other threads see either form
        return decoded

    def _named(self, error: Exception) -> Exception:
        """The same, told with the id that the user chose: core and scheduler know only its digest."""
        given = self._given
        if given and isinstance(error, errors.ZmqTasksError) and len(error.args) == 1:
            error.args = (str(error.args[0]).replace(self.id, f"{given} ({self.id})"),)
        return error

    @property
    def _given(self) -> str:
        """The id that the user chose; empty if it is the id itself, or there is none."""
        given = self._source.given
        return "" if given.replace("-", "").lower() == self.id else given

    def _wait(self, timeout: float | None) -> None:
        owner = self._source.owner
        end_time = None if timeout is None else time.monotonic() + timeout
        if self._sync is None:
            owner.lead(self._is_over, timeout)
            if self._form is not None:
                return
        else:
            owner.check_usable()
        sync = self._synced()
        bell = threading.Lock()
        bell.acquire()
        with sync.lock:
            if self._form is not None:
                return
            sync.bells.append(bell)
        over = False
        try:
            over = bell.acquire(timeout=-1 if end_time is None else max(0.0, end_time - time.monotonic()))
        finally:
            if not over:  # time is up, or there was a KeyboardInterrupt
                with sync.lock:
                    sync.bells = [one for one in sync.bells if one is not bell]
        if self._form is None:
            hint = self._source.owner.hint([self._source])
            raise JobTimeout(f"{self} was not over within {timeout:g} s; it goes on{hint}")

    def __await__(self) -> Generator[Any, None, T]:
        """The value, or the exception. Giving up waiting does not cancel the job: `cancel()` does."""
        if self._form is None:
            from zmqtasks.submitter import loops  # brings asyncio, which scripts without it need not load

            self._source.owner.check_usable()
            yield from loops.waits().until_over(self)
        return self.result(0)

    # ------------------------------------------------------------------------------------------ how far it is

    @property
    def told(self) -> Told | None:
        """All that the running job told of itself last; None if nothing came yet."""
        sync = self._sync
        return sync.told if type(sync) is Sync else None

    @property
    def progress(self) -> tuple[Number, Number | None] | None:
        """(done, total) as the job told last with `progress(done, total)`; None if it has not told."""
        told = self.told
        return told.progress if told is not None else None

    @property
    def meta(self) -> Any:
        """What the job told last with `update_state(meta=...)`; None if it has not told."""
        told = self.told
        return told.meta if told is not None else None

    def add_progress_callback(self, fn: Callable[["Job[T]"], object]) -> None:
        """Have `fn(job)` called in the callback thread each time the job tells how far it is.

        Only the newest news travel: a job that tells more often than a few times a second is heard less often.
        """
        call_later(None)
        self._check_alive()
        sync = self._synced()
        with sync.lock:
            sync.listeners.append(fn)

    # ------------------------------------------------------------------------------------------ acting

    def cancel(self, force: bool = False, timeout: float = 5.0) -> bool:  # noqa: FBT001, FBT002  (also Future's)
        """Ask the scheduler to cancel the job and wait for its answer.

        Args:
            force: end it even where it runs; its process is killed.
            timeout: seconds to wait for the answer.

        Returns:
            Whether the job is cancelled; False if it runs (and force was not given) or is over already.

        Raises:
            JobTimeout: no answer in time; the request stands and is repeated when the scheduler is back.
        """
        if self._form is not None:
            return self.cancelled()
        return self._source.owner.cancel([self.pair], timeout, force=force)[0]

    def add_done_callback(self, fn: Callable[["Job[T]"], object]) -> None:
        """Have `fn(job)` called when the job is over, in the callback thread; at once, here, if it is over already."""
        call_later(None)  # the thread is started by whoever adds callbacks, never by the I/O thread
        self._check_alive()
        sync = self._synced()
        with sync.lock:
            if self._form is None:
                sync.callbacks.append(fn)
                return
        try:
            fn(self)
        except Exception:  # noqa: BLE001  (callbacks raise anything)
            _log.exception("a callback of %s failed; nothing else is affected", self)

    # ------------------------------------------------------------------------------------------ concurrent.futures

    def _synced(self) -> Sync:
        with Guard.lock:
            sync = self._sync
            if type(sync) is Sync:
                return sync
            made = Sync()
            if sync is not None:
                made.streams.append(sync)  # type: ignore[arg-type]  # mypy does not narrow by type() in a union
            self._sync = made
            return made

    def _check_alive(self) -> None:
        """Raise ClientClosed where no outcome can come any more, instead of waiting for ever: in a forked child."""
        if self._form is None:
            self._source.owner.check_usable()

    @property
    def _state(self) -> str:  # type: ignore[override]  # concurrent.futures.wait and as_completed look at it
        if self._form is None:
            return PENDING
        return CANCELLED_AND_NOTIFIED if self._form == CANCELLED_FORM else FINISHED

    @property
    def _condition(self) -> Any:  # type: ignore[override]  # made on demand; all it is used for is to be locked
        self._check_alive()  # concurrent.futures.wait comes this way
        return self._synced().lock

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._synced().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:
        return self._synced().callbacks

    def set_result(self, result: T) -> NoReturn:
        """Not for a Job: only the scheduler ends it."""
        raise RuntimeError(f"{self}: only the scheduler ends a Job")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Not for a Job: only the scheduler ends it."""
        raise RuntimeError(f"{self}: only the scheduler ends a Job")

    def set_running_or_notify_cancel(self) -> NoReturn:
        """Not for a Job: only the scheduler starts it."""
        raise RuntimeError(f"{self}: only the scheduler starts a Job")

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} {self.state}>"

    def __str__(self) -> str:
        first, *more = [word for word in (self._given, self.id, self.task) if word]
        return f"job {first} ({', '.join(more)})" if more else f"job {first}"

    def __reduce__(self) -> NoReturn:
        message = f"{self} cannot be pickled: pass job.result() to another job, or job.id to another process"
        raise TypeError(message)
