"""AsyncClient: the client for asyncio.

It shares the I/O thread of the blocking client. Nothing here blocks the event loop: a call that finds room is a few
microseconds of encoding; what has to wait is awaited, and the loop is woken once for all results that came together.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Sequence, Sized
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Final, Literal, ParamSpec, Self, TypeVar, overload

from zmqtasks import payload
from zmqtasks.errors import ClientClosed, JobTimeout
from zmqtasks.submitter import loops, mapping
from zmqtasks.submitter.chunks import ChunkedMap, Send, Wait
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.info import ClientInfo
from zmqtasks.submitter.results import Job, check_usable, not_over, unwatch, watch_all
from zmqtasks.submitter.room import room_of
from zmqtasks.submitter.submitting import ChunkSenders, Item, MapSender, Prepared, Submitting

P = ParamSpec("P")
R = TypeVar("R")

_BREATH: Final = 256  # jobs submitted in a row, after which other coroutines get a turn


class AsyncSubmitting:
    """Submit with one set of options. Made by `AsyncClient` and by `options(...)`."""

    def __init__(self, submitting: Submitting | None) -> None:
        self._submitting = submitting
        self._in_a_row = 0

    @property
    def _sync(self) -> Submitting:
        if self._submitting is None:
            raise ClientClosed("this AsyncClient is not open: use it in an `async with` block, or await its open()")
        return self._submitting

    async def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Run ``fn(*args, **kwargs)`` on a worker. Await the Job that this returns for the value.

        It suspends while there is no room, up to the client's submit_timeout.

        Raises:
            PayloadError: the function or an argument cannot be pickled; names it.
            PayloadTooLarge: the arguments are larger than the scheduler takes.
            QueueFull: no room within the client's submit_timeout.
        """
        submitting = self._sync
        await self._breathe()
        room = room_of(submitting.connection.intake)
        return await room.take(lambda: submitting.submit_call(fn, args, kwargs, 0.0), submitting.submit_timeout)

    def submit_nowait(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `submit`, but no coroutine: raises QueueFull at once where there is no room."""
        return self._sync.submit_call(fn, args, kwargs, 0.0)

    async def submit_many(self, fn: Callable[..., R], calls: Iterable[Item]) -> list[Job[R]]:
        """One job per (args, kwargs) pair, as one batch; see `Client.submit_many`. Suspends while there is no room."""
        submitting = self._sync
        room = room_of(submitting.connection.intake)
        jobs: list[Job[R]] = []
        try:
            for put in submitting.parts(submitting.prepare(fn), list(calls)):
                jobs += await room.take(lambda put=put: put(timeout=0.0), submitting.submit_timeout)  # type: ignore[misc]
                await asyncio.sleep(0)  # others get a turn between two parts
        except BaseException:
            submitting.take_back(jobs)
            raise
        return jobs

    async def send_task(
        self, name: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None, *, serializer: str = "msgpack"
    ) -> Job[Any]:
        """Run a registered task that is known here by its name only; see `Client.send_task`."""
        submitting = self._sync
        await self._breathe()
        prepared = submitting.prepare_task(name, serializer)
        return await send(submitting, prepared, tuple(args), kwargs or {})

    def options(self, **given: Any) -> "AsyncSubmitting":
        """The same client with these options for its jobs; see `Client.options`."""
        return AsyncSubmitting(self._sync.options(**given))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        window: int = 10_000,
    ) -> AsyncGenerator[R, None]:
        """The values of ``fn(*items)``, for ``async for``; see `Client.map`.

        The input is read only as far as the window reaches, in the event loop: it should not block.
        Leaving the loop early cancels what has not started, at the latest when the generator is closed.
        """
        _refuse_async(iterables)
        how = mapping.How(chunksize, ordered, window, lively=not all(isinstance(each, Sized) for each in iterables))
        return self._mapped(fn, zip(*iterables, strict=False), how)

    def starmap(
        self,
        fn: Callable[..., R],
        iterable: Iterable[Sequence[Any]],
        *,
        chunksize: int | str = "auto",
        ordered: bool = True,
        window: int = 10_000,
    ) -> AsyncGenerator[R, None]:
        """As `map`, for an iterable of tuples of arguments."""
        _refuse_async((iterable,))
        how = mapping.How(chunksize, ordered, window, lively=not isinstance(iterable, Sized))
        return self._mapped(fn, map(tuple, iterable), how)

    def _mapped(
        self, fn: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], how: mapping.How
    ) -> AsyncGenerator[Any, None]:
        submitting = self._sync
        how = submitting.fit(how)
        if how.alone:
            return _run(MapSender(submitting, submitting.prepare(fn)), arguments, how)
        return _run_chunks(ChunkSenders(submitting, fn), submitting.plan(arguments, how), ordered=how.ordered)

    async def _breathe(self) -> None:
        """A coroutine that submits on and on does not keep all others from running."""
        self._in_a_row += 1
        if self._in_a_row >= _BREATH:
            self._in_a_row = 0
            await asyncio.sleep(0)


class AsyncClient(AsyncSubmitting):
    """A connection to a scheduler, for asyncio. Use it in an ``async with`` block.

    It may be used by coroutines of several event loops, and its Jobs may be awaited in any.

    Args:
        url: see `Client`.
        connect_timeout: see `Client`, as for all that follow.
        submit_timeout: seconds that `submit` is suspended for want of room.
        max_pending: jobs submitted and not accepted, beyond which there is no room.
        accept: codecs that results are decoded from.
        ship: modules that workers cannot import.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        connect_timeout: float = 5.0,
        submit_timeout: float = 30.0,
        max_pending: int = 100_000,
        accept: Collection[str] = payload.ALL_CODECS,
        ship: Iterable[ModuleType] = (),
    ) -> None:
        super().__init__(None)
        self._make = partial(
            Client,
            url,
            connect_timeout=connect_timeout,
            submit_timeout=submit_timeout,
            max_pending=max_pending,
            accept=accept,
            ship=ship,
        )
        self._client: Client | None = None
        self._opening: _Opening | None = None

    async def open(self) -> Self:
        """Connect, unless that is done already; whoever calls it meanwhile waits for the same connection.

        Raises:
            BadUrl: the URL is none.
            SchedulerUnreachable: nobody answered in time.
            ProtocolMismatch: the scheduler speaks another version of the protocol.
            NotAuthorized: the scheduler refused this client.
        """
        if self._client is None:
            if self._opening is None or self._opening.vain:
                self._opening = _Opening(self._make)
            opening = self._opening
            client = await opening.client()
            if self._opening is opening:  # or another coroutine was told before, and may have closed it already
                self._opening = None
                self._client = self._submitting = client
        return self

    async def close(self, timeout: float = 5.0) -> None:
        """Wait until everything submitted is accepted, then leave; see `Client.close`."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.close, timeout)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(5.0 if kind is None else 1.0)

    # ------------------------------------------------------------------------------------------ jobs

    @overload
    async def gather(
        self, jobs: Iterable[Job[R]], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    async def gather(
        self, jobs: Iterable[Job[R]], timeout: float | None = None, *, return_exceptions: bool
    ) -> list[R | Exception]: ...

    async def gather(
        self, jobs: Iterable[Job[Any]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[Any]:
        """The results of these jobs, in their order; cheaper than `asyncio.gather`, which makes a task of each.

        Args:
            jobs: of any client.
            timeout: seconds for all of them together.
            return_exceptions: the exception of a job that failed stands in its place, instead of being raised.

        Raises:
            JobTimeout: they were not all over in time; they go on.
            Exception: what the first failed one raised.
        """
        wanted = list(jobs)
        told: list[Any] = []
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                for job in wanted:
                    try:
                        told.append(await job)
                    except Exception as error:
                        if not return_exceptions or not job.done():
                            raise
                        told.append(error)
        except TimeoutError:
            if not limit.expired():
                raise  # a job's own
            left = sum(not job.done() for job in wanted)
            raise JobTimeout(f"{left} of {len(wanted)} jobs were not over within {timeout:g} s; they go on") from None
        return told

    async def as_completed(self, jobs: Iterable[Job[R]], timeout: float | None = None) -> AsyncGenerator[Job[R], None]:
        """The jobs in the order in which they end, for ``async for``.

        Args:
            jobs: of any client; each is yielded once, however often it is given.
            timeout: seconds for all of them together; None waits as long as it takes.

        Raises:
            JobTimeout: they were not all over in time; they go on.
        """
        completed = loops.Completed()
        pending = dict.fromkeys(jobs)
        count = len(pending)
        end_time = None if timeout is None else time.monotonic() + timeout
        check_usable(pending)
        watch_all(pending, completed)
        try:
            while pending:
                left = None if end_time is None else end_time - time.monotonic()
                if not await completed.until_ready(left):
                    raise not_over(pending, count, timeout)
                job = completed.ready.popleft()
                del pending[job]
                yield job
                del job  # nothing here keeps a job that the caller is done with
        finally:
            for job in pending:
                unwatch(job, completed)

    async def cancel(self, jobs: Iterable[Job[Any]], *, force: bool = False, timeout: float = 5.0) -> list[bool]:
        """Cancel many jobs with one request; see `Job.cancel`. Returns for each whether it is cancelled."""
        wanted = list(jobs)
        left = {job: job.pairs for job in wanted if not job.done()}
        pairs = [pair for some in left.values() for pair in some]
        connection = self._sync.connection
        event = loops.Event()
        waiter = connection.request_cancel(pairs, force=force, event=event)
        if pairs and not await event.wait(timeout):
            raise connection.unanswered(len(pairs), timeout)
        return [(bool(left.get(job)) and waiter.cancelled.issuperset(left[job])) or job.cancelled() for job in wanted]

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted so far is accepted: then it outlives this process.

        Raises:
            JobTimeout: not within `timeout` seconds; says how many are left.
        """
        connection = self._sync.connection
        event = loops.Event()
        waiter = connection.when(connection.settled, event)
        try:
            if not await event.wait(timeout):
                raise connection.unsettled(timeout)
        finally:
            waiter.leave()
        connection.check_usable()

    async def job(self, job_id: str) -> Job[Any]:
        """The Job of an id, whoever submitted it. An id that the scheduler does not know ends as UnknownJob."""
        return await asyncio.to_thread(self._opened.job, job_id)

    def info(self) -> ClientInfo:
        """What this client knows of itself and of its scheduler, without asking anybody."""
        return self._opened.info()

    @property
    def _opened(self) -> Client:
        client = self._sync
        assert isinstance(client, Client)  # noqa: S101  (open() has put it there)
        return client

    @property
    def url(self) -> str:
        """Of the scheduler; known once the client is open."""
        return self._opened.url

    def __repr__(self) -> str:
        return repr(self._client).replace("<Client", "<AsyncClient", 1) if self._client else "<AsyncClient not open>"


async def send(submitting: Submitting, prepared: Prepared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[Any]:
    """One job of a prepared call; suspends while there is no room. Raises QueueFull after the submit_timeout."""
    room = room_of(submitting.connection.intake)
    return await room.take(lambda: submitting.send_one(prepared, args, kwargs, 0.0), submitting.submit_timeout)


async def _run(sender: MapSender, arguments: Iterator[tuple[Any, ...]], how: mapping.How) -> AsyncGenerator[Any, None]:
    """`mapping.run` for asyncio."""
    completed = None if how.ordered else loops.Completed()
    jobs = mapping.Ordered() if completed is None else mapping.AsTheyEnd(completed)
    flow = mapping.Flow(jobs, how)
    try:
        while True:
            while count := flow.wanted():
                if calls := flow.pull(arguments, count):
                    jobs.add(await _put(sender, calls, completed))
                    await asyncio.sleep(0)  # others get a turn between two parts
            if not jobs.count:
                return
            if completed is not None:
                await completed.until_ready()
            yield await _value(sender, jobs.pop())
    finally:
        sender.drop(jobs.rest())


async def _put(sender: MapSender, calls: mapping.Calls, stream: loops.Completed | None) -> Sequence[Job[Any]]:
    put = sender.part(calls, stream)
    submitting = sender.submitting
    return await room_of(submitting.connection.intake).take(lambda: put(timeout=0.0), submitting.submit_timeout)


async def _value(sender: MapSender, job: Job[Any]) -> Any:
    """The value of a job; nobody else waits for it if this coroutine is cancelled."""
    try:
        return await job
    except BaseException:
        sender.drop([job])
        raise


async def _run_chunks(senders: ChunkSenders, plan: ChunkedMap, *, ordered: bool) -> AsyncGenerator[Any, None]:
    """`mapping.run_chunks` for asyncio."""
    completed = None if ordered else loops.Completed()
    steps = plan.steps()
    reply: Any = None
    try:
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(step, list):
                for value in step:
                    yield value
            elif isinstance(step, Send):
                sender = senders.of(step.how)
                reply = await _put(sender, [(call, {}) for call in step.calls], completed)
                mapping.note_bytes(plan, step, sender.size)
                await asyncio.sleep(0)  # others get a turn between two parts
            elif completed is not None and step.job is None:
                await completed.until_ready()
                reply = completed.ready.popleft()
            else:
                reply = await _over(step)
    finally:
        steps.close()
        senders.drop(plan.rest())


async def _over(step: Wait) -> Job[Any] | None:
    """The job, when it is over; None: it is not, in this time."""
    job = step.job
    assert job is not None  # noqa: S101  (a plan with an order knows for which it waits)
    try:
        async with asyncio.timeout(step.timeout):
            await _until_over(job)
    except TimeoutError:
        return None
    return job


async def _until_over(job: Job[Any]) -> None:
    """Whatever came of it."""
    try:
        await job
    except asyncio.CancelledError:
        if not job.done():  # it is this coroutine that was cancelled
            raise
    except Exception:  # noqa: BLE001, S110  (the plan looks at it)
        pass


def _refuse_async(iterables: Iterable[Any]) -> None:
    for each in iterables:
        if not hasattr(each, "__iter__") and hasattr(each, "__aiter__"):
            raise TypeError(f"map reads ordinary iterables, not {type(each).__name__}: submit its items as they come")


class _Opening:
    """One attempt to connect, which all who call `open` meanwhile wait for."""

    def __init__(self, make: Callable[[], Client]) -> None:
        # A thread makes it, for that may take seconds.
        self._making = asyncio.ensure_future(asyncio.to_thread(make))
        self._wanted = 0  # coroutines that wait for the client, or have it

    async def client(self) -> Client:
        """The client. When all who waited have given up, no connection is left behind."""
        self._wanted += 1
        try:
            return await asyncio.shield(self._making)
        except asyncio.CancelledError:
            self._wanted -= 1
            if not self._wanted:
                self._making.add_done_callback(_close_made)
            raise

    @property
    def vain(self) -> bool:
        """Whether whoever comes now has to make another attempt."""
        making = self._making
        failed = making.done() and (making.cancelled() or making.exception() is not None)
        return failed or not self._wanted


def _close_made(making: "asyncio.Future[Client]") -> None:
    """Nobody waits for this client any more."""
    if not making.cancelled() and making.exception() is None:
        making.get_loop().run_in_executor(None, making.result().close)
