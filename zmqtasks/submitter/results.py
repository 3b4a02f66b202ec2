"""Job: a `concurrent.futures.Future` that costs next to nothing until somebody waits for it.

A stock Future makes a lock and three lists at once (7.4 µs, 1.7 kB). A Job makes them on the first wait, keeps its
result encoded, and decodes it in the thread that asks: the I/O thread never unpickles what users wrote.
"""

# ruff: noqa: SLF001  (the functions of this module are a Job's friends: they end thousands at a time)

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, PENDING
from typing import Any, Final, NoReturn, Protocol, TypeVar

from zmqtasks import errors, ids, payload, states
from zmqtasks.errors import JobTimeout, PayloadError
from zmqtasks.submitter.callbacks import call_later

T = TypeVar("T")
Pair = tuple[bytes, int]  # prefix and counter

_log = logging.getLogger(__name__)

# Guards which jobs have a `_sync`: held shortly, never while user code runs.
_lock = threading.Lock()

CANCELLED_FORM: Final = states.name(states.CANCELLED)
_ENDS: Final = {state: states.name(state) for state in states.FINAL - {states.SUCCEEDED}}
_END_WORDS: Final = frozenset(_ENDS.values())


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603  (another thread may have held it at the fork)
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


class Owner(Protocol):
    """What a Job needs of the connection that it came from."""

    accept: Collection[str]

    def check_usable(self) -> None:
        """Raise if no result can come any more: in a forked child."""

    def wait_accepted(self, job: Pair, timeout: float | None) -> bool:
        """Whether the scheduler has accepted the job within the time."""

    def cancel(self, jobs: Iterable[Pair], timeout: float, *, force: bool) -> list[bool]:
        """Cancel, wait for the answer, and say for each job whether it is cancelled."""


class Source:
    """What the jobs of one prefix and call share: one object for thousands of jobs."""

    __slots__ = ("owner", "prefix", "task")

    def __init__(self, owner: Owner, prefix: bytes, task: str) -> None:
        self.owner = owner
        self.prefix = prefix
        self.task = task


class _Sync:
    """The lock and the lists of a job that somebody waits for."""

    __slots__ = ("callbacks", "condition", "streams", "waiters")

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], object]] = []
        self.streams: list[Stream] = []


class Stream:
    """Jobs in order of completion, fed in batches: one wake-up per batch, no lock per job."""

    __slots__ = ("_changed", "ready")

    def __init__(self) -> None:
        self.ready: deque[Job[Any]] = deque()
        self._changed = threading.Condition(threading.Lock())

    def wake(self) -> None:
        """Something is in `ready`."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Sleep until something is in `ready`; whether it is. `timeout` in seconds, None is for ever."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.ready), timeout)


class Job(Future[T]):
    """One request to run a function, and its outcome.

    It is a `concurrent.futures.Future`, and it can be awaited.

    Attributes:
        id: 32 hex digits.
    """

    __slots__ = ("_counter", "_form", "_source", "_state", "_sync", "_value")

    # _form: codec of the value, or the state's word where there is none. None: not over.
    # _value: bytes as they came; once somebody asked, a tuple that holds the value or the exception.

    def __init__(self, source: Source, counter: int) -> None:
        self._source = source
        self._counter = counter
        self._state = PENDING
        self._form: str | None = None
        self._value: Any = None
        self._sync: _Sync | Stream | None = None

    def feed(self, stream: Stream) -> None:
        """Have the stream get this job when it is over; only before the job is submitted (afterwards: `watch`)."""
        self._sync = stream

    # ------------------------------------------------------------------------------------------ asking

    @property
    def id(self) -> str:
        """32 hex digits."""
        return ids.job_id(self._source.prefix, self._counter)

    @property
    def pair(self) -> Pair:
        """The id as (prefix, counter)."""
        return self._source.prefix, self._counter

    @property
    def task(self) -> str:
        """Name of the task, or of the shipped function."""
        return self._source.task

    @property
    def state(self) -> str:
        """The word "queued" until its end is known here; then "succeeded", "failed", "cancelled" or "aborted"."""
        if self._state is PENDING:
            return "queued"
        return self._form if self._form in _END_WORDS else "succeeded"

    def done(self) -> bool:
        """Whether it is over and its outcome is here."""
        return self._state is not PENDING

    def running(self) -> bool:
        """Whether it is known to run: never, the scheduler does not tell."""
        return False

    def cancelled(self) -> bool:
        """Whether somebody cancelled it."""
        return self._state is CANCELLED_AND_NOTIFIED

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
            raise JobTimeout(f"{self} was not accepted within {timeout:g} s; it is sent as soon as that is possible")
        if self._form in _END_WORDS:
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
            Exception: what the function raised, with the remote traceback as its cause.
            ZmqTasksError: what ended the job instead: WorkerLost, UnknownJob, ResultExpired …
        """
        if self._state is PENDING:
            self._wait(timeout)
        outcome = self._decoded()
        if self._form in _END_WORDS:
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
        if self._state is PENDING:
            self._wait(timeout)
        if self._form not in _END_WORDS:
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
        if self._form in _END_WORDS:
            decoded: Any = payload.decode_exception(value, accept)
        else:
            try:
                decoded = payload.decoder(self._form or "", accept)(value)
            except PayloadError:
                raise
            except Exception as error:
                message = f"{self}: its result cannot be decoded here: {type(error).__name__}: {error}"
                raise PayloadError(message) from error
        self._value = (decoded,)  # one write, so that other threads see either form
        return decoded

    def _wait(self, timeout: float | None) -> None:
        self._source.owner.check_usable()
        sync = self._synced()
        with sync.condition:
            if not sync.condition.wait_for(self.done, timeout):
                raise JobTimeout(f"{self} was not over within {timeout:g} s; it goes on")

    def __await__(self) -> Generator[Any, None, T]:
        """The value, or the exception. Giving up waiting does not cancel the job: `cancel()` does."""
        if self._state is PENDING:
            import asyncio

            loop = asyncio.get_running_loop()
            ended = loop.create_future()

            def tell() -> None:
                if not ended.done():
                    ended.set_result(None)

            def done(_: Future[T]) -> None:
                try:
                    loop.call_soon_threadsafe(tell)
                except RuntimeError:
                    pass  # the loop is closed: nobody waits any more

            self.add_done_callback(done)
            yield from ended
        return self.result(0)

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
        if self._state is not PENDING:
            return self.cancelled()
        return self._source.owner.cancel([self.pair], timeout, force=force)[0]

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have `fn(job)` called when the job is over, in the callback thread; at once, here, if it is over already."""
        call_later(None)  # the thread is started by whoever adds callbacks, never by the I/O thread
        sync = self._synced()
        with sync.condition:
            if self._state is PENDING:
                sync.callbacks.append(fn)
                return
        try:
            fn(self)
        except Exception:  # noqa: BLE001  (callbacks raise anything)
            _log.exception("a callback of %s failed; nothing else is affected", self)

    # ------------------------------------------------------------------------------------------ concurrent.futures

    def _synced(self) -> _Sync:
        with _lock:
            sync = self._sync
            if type(sync) is _Sync:
                return sync
            made = _Sync()
            if type(sync) is Stream:
                made.streams.append(sync)
            self._sync = made
            return made

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # made on demand
        return self._synced().condition

    @property
    def _waiters(self) -> list[Any]:
        return self._synced().waiters

    @property
    def _done_callbacks(self) -> list[Callable[[Any], object]]:  # type: ignore[override]
        return self._synced().callbacks

    def set_result(self, result: T) -> NoReturn:
        """Not for a Job: only the scheduler ends it."""
        raise RuntimeError(f"{self}: only the scheduler ends a Job")

    def set_exception(self, exception: BaseException | None) -> NoReturn:
        """Not for a Job: only the scheduler ends it."""
        raise RuntimeError(f"{self}: only the scheduler ends a Job")

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.task} {self.state}>"

    def __str__(self) -> str:
        return f"job {self.id} ({self.task})" if self.task else f"job {self.id}"

    def __reduce__(self) -> NoReturn:
        message = f"{self} cannot be pickled: pass job.result() to another job, or job.id to another process"
        raise TypeError(message)


# ------------------------------------------------------------------------------------------------ ending jobs


def finish(jobs: Iterable[Job[Any]], values: Iterable[bytes], codec: str) -> None:
    """Give these jobs their values. Called by the I/O thread: one lock and one wake-up for all of them."""
    synced: list[tuple[Job[Any], _Sync]] = []
    streams: dict[Stream, None] = {}
    with _lock:
        for job, value in zip(jobs, values, strict=True):
            job._value = value
            job._form = codec
            sync = job._sync
            if sync is None:
                job._state = FINISHED
            elif type(sync) is Stream:
                job._state = FINISHED
                sync.ready.append(job)
                streams[sync] = None
            else:
                synced.append((job, sync))  # type: ignore[arg-type]  # mypy does not narrow by type() in a union
    for job, sync_ in synced:
        _tell(job, sync_, FINISHED, streams)
    for stream in streams:
        stream.wake()


def end(job: Job[Any], state: int, data: bytes) -> None:
    """End a job without a value. `state`: FAILED, CANCELLED or ABORTED; `data`: a Failure."""
    streams: dict[Stream, None] = {}
    word = CANCELLED_AND_NOTIFIED if state == states.CANCELLED else FINISHED
    with _lock:
        job._value = data
        job._form = _ENDS[state]
        sync = job._sync
        if type(sync) is not _Sync:
            job._state = word
            if type(sync) is Stream:
                sync.ready.append(job)
                streams[sync] = None
    if type(sync) is _Sync:
        _tell(job, sync, word, streams)
    for stream in streams:
        stream.wake()


def _tell(job: Job[Any], sync: _Sync, word: str, streams: dict[Stream, None]) -> None:
    """Set the state of a job that somebody waits for, and wake them."""
    with sync.condition:
        job._state = word
        for waiter in sync.waiters:
            if job._form not in _END_WORDS:
                waiter.add_result(job)
            elif word is CANCELLED_AND_NOTIFIED:
                waiter.add_cancelled(job)
            else:
                waiter.add_exception(job)
        sync.condition.notify_all()
        callbacks, sync.callbacks = sync.callbacks, []
    for stream in sync.streams:
        stream.ready.append(job)
        streams[stream] = None
    for callback in callbacks:
        call_later((callback, job))


def watch(job: Job[Any], stream: Stream) -> None:
    """Have the stream get this job when it is over; at once if it is."""
    watch_all((job,), stream)


def watch_all(jobs: Iterable[Job[Any]], stream: Stream) -> None:
    """Have the stream get each of these jobs when it is over; at once if it is."""
    synced: list[tuple[Job[Any], _Sync]] = []
    others: list[Job[Any]] = []
    with _lock:
        for job in jobs:
            sync = job._sync
            if type(sync) is _Sync:
                synced.append((job, sync))
            elif job._state is not PENDING:
                stream.ready.append(job)
            elif sync is None:
                job._sync = stream
            else:
                others.append(job)  # another stream gets it, too
    synced += [(job, job._synced()) for job in others]
    for job, sync in synced:
        with sync.condition:
            if job._state is PENDING:
                sync.streams.append(stream)
                continue
        stream.ready.append(job)


def unwatch(job: Job[Any], stream: Stream) -> None:
    """Undo `watch`."""
    with _lock:
        if job._sync is stream:
            job._sync = None
            return
        sync = job._sync
    if type(sync) is _Sync:
        with sync.condition:
            if stream in sync.streams:
                sync.streams.remove(stream)


def as_completed(jobs: Iterable[Job[T]], timeout: float | None = None) -> Iterator[Job[T]]:
    """The jobs in the order in which they end.

    Args:
        jobs: each is yielded once, however often it is given.
        timeout: seconds for all of them together; None waits as long as it takes.

    Raises:
        JobTimeout: they were not all over in time; they go on.
    """
    stream = Stream()
    pending = dict.fromkeys(jobs)
    count = len(pending)
    end_time = None if timeout is None else time.monotonic() + timeout
    try:
        for owner in {job._source.owner: None for job in pending}:
            owner.check_usable()
        watch_all(pending, stream)
        while pending:
            left = None if end_time is None else end_time - time.monotonic()
            if not stream.ready and not stream.wait(left):
                raise JobTimeout(f"{len(pending)} of {count} jobs were not over within {timeout:g} s; they go on")
            while stream.ready:
                job = stream.ready.popleft()
                del pending[job]
                yield job
                del job  # nothing here keeps a job that the caller is done with
    finally:
        for job in pending:
            unwatch(job, stream)
