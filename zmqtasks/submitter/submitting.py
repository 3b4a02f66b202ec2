"""Submitting functions: what `Client` and `client.options(...)` share."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence, Sized
from dataclasses import replace
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from zmqtasks import payload, rates
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.errors import BadOption, PayloadTooLarge, ZmqTasksError
from zmqtasks.ids import given_id
from zmqtasks.submitter import mapping, options
from zmqtasks.submitter.chunks import Chunked, ChunkedMap
from zmqtasks.submitter.connection import Connection
from zmqtasks.submitter.functions import Shipped
from zmqtasks.submitter.ledger import Call
from zmqtasks.submitter.results import Job, Source, Stream, watch

P = ParamSpec("P")
R = TypeVar("R")

SHIPPED_CODEC: Final = "cloudpickle"
_MAX_CALLS = 256  # functions whose bytes are remembered

Encode = Callable[[object], bytes]
Put = partial[list[Job[Any]]]  # submits one part; still wants timeout=
Item = tuple[Sequence[Any], dict[str, Any]]


class Prepared:
    """What every job of one function with one set of options shares."""

    __slots__ = ("call", "encode", "shipped", "source")

    def __init__(self, call: Call, source: Source, shipped: Shipped | None) -> None:
        self.call = call
        self.source = source
        self.shipped = shipped
        self.encode: Encode = payload.encoder(call.codec)


class Submit:
    """`client.submit`: call it, or give options first: ``client.submit.options(queue="high")(fn, 1)``."""

    __slots__ = ("_submitting",)

    def __init__(self, submitting: "Submitting") -> None:
        self._submitting = submitting

    def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Run ``fn(*args, **kwargs)`` on a worker.

        Raises:
            PayloadError: the function or an argument cannot be pickled; names it.
            PayloadTooLarge: the arguments are larger than the scheduler takes.
            NotAvailable: it is an async function.
            QueueFull: no room within the client's submit_timeout.
        """
        submitting = self._submitting
        return submitting.submit_call(fn, args, kwargs, submitting.submit_timeout)

    def options(self, **given: Any) -> "Submitting":
        """See `Client.options`."""
        return self._submitting.options(**given)


class Submitting:
    """Submit with one set of options. Made by `Client` and by `options(...)`.

    Args:
        connection: of the client.
        given: checked options.
        submit_timeout: seconds to wait for room.
    """

    def __init__(self, connection: Connection, given: dict[str, Any], submit_timeout: float) -> None:
        self.connection = connection
        self.submit_timeout = submit_timeout
        self.submit = Submit(self)
        self._given = given
        self.timed = options.timed(given)
        self._prepared: dict[int, Prepared] = {}

    def __call__(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """The same as `submit`."""
        return self.submit_call(fn, args, kwargs, self.submit_timeout)

    def options(self, **given: Any) -> "Submitting":
        """The same client with these options for its jobs.

        Args:
            given: queue (name), retries (attempts after an exception), backoff and backoff_max (seconds before them),
                jitter (wait for a random share of these), crash_budget (deaths of its process that a job may be running
                in), result_ttl (seconds that the result is kept), eta (Unix time, or a datetime with its time zone) or
                countdown (seconds) before which it does not start, job_id (an id of your own, for one job), on_unknown
                ("wait" or "fail" if no worker knows the task), durability (what it outlives once it is accepted:
                "disk", the loss of power; "os", the scheduler's process; "memory", neither), acks_late (False: whatever
                dies, it runs once or ends as WorkerLost), priority (0 to 9, the higher the sooner), expires (seconds
                from now, or a datetime with its time zone, after which it does not start any more), rate_limit ("10/m":
                how often jobs of this function start, in the whole cluster), burst (starts at once after a pause, 1),
                rate_key (a text: jobs with another one have a rate of their own), concurrency_limit (how many of them
                run at once), concurrency_key (as rate_key), serializer ("msgpack", "json", "pickle" or "cloudpickle"),
                compression and result_compression ("gzip", "zstd" or "none": of the arguments, of the results),
                resources (what its worker must have free for it: {"gpu": 1, "mem": "2GiB"}; fractions are exact to
                1/10,000).

        Raises:
            BadOption: there is no such option, or it cannot have that value.
            NotAvailable: the option is planned, but not built yet.
        """
        return Submitting(self.connection, options.check({**self._given, **given}), self.submit_timeout)

    def submit_nowait(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `submit`, but raises QueueFull at once where there is no room."""
        return self.submit_call(fn, args, kwargs, 0.0)

    def submit_many(self, fn: Callable[..., R], calls: Iterable[Item]) -> list[Job[R]]:
        """One job per (args, kwargs) pair, as one batch.

        The jobs go out while later ones are still being encoded. If one cannot be encoded, those that went out are
        cancelled, and the error names the item.

        Raises:
            PayloadError: see `submit`.
            QueueFull: see `submit`.
            TypeError: an item is no (args, kwargs) pair.
        """
        return self.send_batch(self.prepare(fn), list(calls))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        chunksize: int | str = "auto",
        ordered: bool = True,
        progress: bool = False,
        window: int = 10_000,
    ) -> Generator[R, None, None]:
        """The values of ``fn(*items)``, as the builtin map gives them, computed on workers.

        The input is read only as far as the window reaches, so that it may be endless. Closing the generator, or an
        exception that it raised, cancels what has not started.

        Args:
            fn: the function.
            iterables: read in parallel; the shortest ends it.
            chunksize: items per job. "auto": as many as take about 50 ms, or one where the input is no collection but
                comes bit by bit, or where the jobs have a rate_limit or concurrency_limit. The items of a chunk share a
                job, its id and its attempt; each succeeds, fails and is tried again by itself.
            ordered: values in the order of the input, else as they come.
            progress: draw a progress bar on stderr.
            window: items submitted and not yet yielded, at most.

        Raises:
            PayloadError: as soon as it is called, if the function cannot be pickled.
            BadOption: as soon as it is called: several items would count as one start of a rate_limit.
            Exception: what the function raised, at its place.
        """
        sized = [len(each) for each in iterables if isinstance(each, Sized)]
        how = mapping.How(chunksize, ordered, window, lively=len(sized) < len(iterables))
        values = self._mapped(fn, zip(*iterables, strict=False), how)
        return _with_progress(values, payload.function_name(fn), min(sized, default=None)) if progress else values

    def starmap(
        self,
        fn: Callable[..., R],
        iterable: Iterable[Sequence[Any]],
        *,
        chunksize: int | str = "auto",
        ordered: bool = True,
        progress: bool = False,
        window: int = 10_000,
    ) -> Generator[R, None, None]:
        """As `map`, for an iterable of tuples of arguments."""
        total = len(iterable) if isinstance(iterable, Sized) else None
        how = mapping.How(chunksize, ordered, window, lively=total is None)
        values = self._mapped(fn, map(tuple, iterable), how)
        return _with_progress(values, payload.function_name(fn), total) if progress else values

    def _mapped(
        self, fn: Callable[..., Any], arguments: Iterator[tuple[Any, ...]], how: mapping.How
    ) -> Generator[Any, None, None]:
        how = self.fit(how)
        if how.alone:
            return mapping.run(MapSender(self, self.prepare(fn)), arguments, how)
        return mapping.run_chunks(ChunkSenders(self, fn), self.plan(arguments, how), ordered=how.ordered)

    def fit(self, how: mapping.How) -> mapping.How:
        """How a map runs with these options: limits count jobs, so where there is one each item is a job of its own.

        Raises:
            BadOption: it cannot run like this; or several items of a job would count as one start.
        """
        how.check()
        rated = bool(rates.parse(self._given.get("rate_limit")))
        if rated and how.chunksize not in {"auto", 1}:
            raise BadOption(
                f"chunksize={how.chunksize} puts {how.chunksize} items into each job, and rate_limit= counts jobs as "
                f"they start; leave chunksize= away: then each item is a job of its own"
            )
        limited = rated or bool(self._given.get("concurrency_limit"))
        return replace(how, chunksize=1) if limited and how.chunksize == "auto" else how

    def plan(self, arguments: Iterator[tuple[Any, ...]], how: mapping.How) -> ChunkedMap:
        """What a map in chunks does with these options."""
        return how.plan(arguments, self._given.get("retries", 0), once=not self._given.get("acks_late", True))

    def again(self) -> "Submitting":
        """The same for items of which one attempt has failed: a retry less, after the pause for it."""
        given = self._given
        pause = min(given.get("backoff", 0.0), given.get("backoff_max", 600.0))
        more = {"backoff": 2 * pause, "countdown": pause} if pause else {}
        return Submitting(
            self.connection, {**given, "retries": given.get("retries", 1) - 1, **more}, self.submit_timeout
        )

    def of_chunks(self) -> "Submitting":
        """The same for chunks: what goes wrong is set right item by item, so they are given up at the first death."""
        given = {name: value for name, value in self._given.items() if name != "serializer"}  # of items, not of chunks
        return Submitting(self.connection, {**given, "retries": 0, "crash_budget": 0}, self.submit_timeout)

    def send_task(
        self, name: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None, *, serializer: str = "msgpack"
    ) -> Job[Any]:
        """Run a registered task that is known here by its name only.

        Args:
            name: of the task, as its workers know it.
            args: positional arguments.
            kwargs: keyword arguments.
            serializer: codec of the arguments.

        Raises:
            PayloadError: an argument cannot be encoded; names it.
            QueueFull: no room within the client's submit_timeout.
        """
        return self.send_one(self.prepare_task(name, serializer), tuple(args), kwargs or {}, self.submit_timeout)

    # ------------------------------------------------------------------------------------------ parts

    def submit_call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float
    ) -> Job[Any]:
        """One job of a function; the hot path."""
        prepared = self._prepared.get(id(fn))
        if prepared is None or self.timed or not prepared.shipped or not prepared.shipped.fresh():
            prepared = self.prepare(fn)
        return self.send_one(prepared, args, kwargs, timeout)

    def send_one(self, prepared: Prepared, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> Job[Any]:
        """One job of a prepared call."""
        try:
            data = prepared.encode((args, kwargs))
        except Exception:  # noqa: BLE001  (told properly by the next line)
            data = payload.encode_call(prepared.call.codec, args, kwargs, prepared.call.task)
        if len(data) > self.connection.max_payload:
            self._too_large(prepared, len(data), "")
        if "job_id" not in self._given:
            return self.connection.intake.submit_one(prepared.source, prepared.call, data, timeout)
        prefix, counter = given_id(self._given["job_id"])
        source = Source(self.connection, prefix, prepared.call.task, self._given["job_id"], counter, prepared.call.spec)
        return self.connection.intake.submit_part(source, prepared.call, [data], timeout=timeout, first=counter)[0]

    def send_batch(self, prepared: Prepared, items: list[Item]) -> list[Job[Any]]:
        """One job per item, as one batch, in parts as large as a message."""
        jobs: list[Job[Any]] = []
        try:
            for put in self.parts(prepared, items):
                jobs += put(timeout=self.submit_timeout)
        except BaseException:
            self.take_back(jobs)
            raise
        return jobs

    def parts(self, prepared: Prepared, items: list[Item]) -> Iterator[Put]:
        """A batch in parts as large as a message, each encoded and ready to be submitted."""
        if "job_id" in self._given:
            raise BadOption("job_id= is for one job; a batch's jobs have ids of their own")
        _check_items(items)
        intake = self.connection.intake
        first = intake.reserve(len(items))
        for start in range(0, len(items), MAX_JOBS_PER_MESSAGE):
            data = self.encode_part(prepared, items[start : start + MAX_JOBS_PER_MESSAGE], start)
            yield partial(intake.submit_part, prepared.source, prepared.call, data, batch=first, first=first + start)

    def take_back(self, jobs: Iterable[Job[Any]]) -> None:
        """Cancel, without waiting, those of some jobs that are not over: nobody wants them any more."""
        left = [pair for job in jobs if not job.done() for pair in job.pairs]
        if left:
            try:
                self.connection.request_cancel(left, force=False)
            except ZmqTasksError:
                pass  # the client is closed: nothing more can be told

    def encode_part(self, prepared: Prepared, items: Sequence[Item], start: int) -> list[bytes]:
        """The arguments of some items of a batch; `start`: number of the first, for the message of an error."""
        encode = prepared.encode
        try:
            data = [encode(item) for item in items]
        except Exception:
            for number, (args, kwargs) in enumerate(items, start):
                what = f"{prepared.call.task}, item {number}"
                payload.encode_call(prepared.call.codec, tuple(args), kwargs, what)
            raise
        largest = max(map(len, data))
        if largest > self.connection.max_payload:
            number = start + [len(one) for one in data].index(largest)
            self._too_large(prepared, largest, f", item {number}")
        return data

    def _too_large(self, prepared: Prepared, size: int, where: str) -> None:
        raise PayloadTooLarge(
            f"{prepared.call.task}{where}: its arguments take {size:,} bytes, and the scheduler takes at most "
            f"{self.connection.max_payload:,}; pass large data by a file or an address"
        )

    def prepare_task(self, name: str, codec: str, shipped: Shipped | None = None) -> Prepared:
        """What the jobs of a task share; `shipped`: the function goes along, for workers that cannot import it."""
        python = payload.python_version() if shipped else ""
        spec = options.spec(self._given, python=python, wall=time.time())
        call = Call(name, shipped.function if shipped else None, options.codec(self._given, codec), spec)
        return Prepared(call, Source(self.connection, self.connection.prefix, name, spec=spec), shipped)

    def prepare(self, fn: Callable[..., Any]) -> Prepared:
        """Pickle a function, or find the bytes that still hold."""
        known = self._prepared.get(id(fn))
        if known is not None and known.shipped and known.shipped.fresh() and not self.timed:
            return known
        shipped = known.shipped if known is not None and known.shipped and known.shipped.fresh() else Shipped(fn)
        if len(shipped.function.blob) > self.connection.max_payload:
            raise PayloadTooLarge(
                f"function {shipped.function.name} takes {len(shipped.function.blob):,} bytes with what it captures, "
                f"and the scheduler takes at most {self.connection.max_payload:,}; pass large data as an argument"
            )
        spec = options.spec(self._given, python=payload.python_version(), wall=time.time())
        call = Call(shipped.function.name, shipped.function, options.codec(self._given, SHIPPED_CODEC), spec)
        prepared = Prepared(call, Source(self.connection, self.connection.prefix, call.task, spec=spec), shipped)
        if shipped.lasting:
            if len(self._prepared) >= _MAX_CALLS:
                self._prepared.clear()
            self._prepared[id(fn)] = prepared  # holds fn, so that its id() stays its own
        return prepared


class ChunkSenders:
    """Submits what a map in chunks asks for: chunks, single items, items once more."""

    def __init__(self, submitting: Submitting, fn: Callable[..., Any]) -> None:
        self._submitting = submitting
        self._fn = fn
        chunks = submitting.of_chunks()
        self._senders = {"chunk": MapSender(chunks, chunks.prepare(Chunked(fn)))}

    def of(self, how: str) -> "MapSender":
        """Whoever submits in this way."""
        sender = self._senders.get(how)
        if sender is None or how == "again":  # its pause begins anew
            submitting = self._submitting.again() if how == "again" else self._submitting
            sender = self._senders[how] = MapSender(submitting, submitting.prepare(self._fn))
        return sender

    def drop(self, jobs: Iterable[Job[Any]]) -> None:
        """Nobody wants these any more."""
        self._submitting.take_back(jobs)


class MapSender:
    """Submits the items of one `map`: pieces of a collection as one batch, those of a lively input one by one.

    Attributes:
        size: bytes of the arguments that were sent last.
    """

    def __init__(self, submitting: Submitting, prepared: Prepared) -> None:
        self.submitting = submitting
        self._prepared = prepared
        self._batch: int | None = None
        self._sent = 0
        self.size = 0

    def send(self, calls: mapping.Calls, stream: Stream | None) -> Sequence[Job[Any]]:
        """Some calls that follow those before."""
        return self.part(calls, stream)(timeout=self.submitting.submit_timeout)

    def part(self, calls: mapping.Calls, stream: Stream | None) -> partial[Sequence[Job[Any]]]:
        """The same, encoded and ready to be submitted with timeout=."""
        data = self.submitting.encode_part(self._prepared, calls, self._sent)
        self._sent += len(calls)
        self.size = sum(map(len, data))
        return partial(self._put, data, stream)

    def _put(self, data: list[bytes], stream: Stream | None, timeout: float) -> Sequence[Job[Any]]:
        prepared = self._prepared
        intake = self.submitting.connection.intake
        if len(data) == 1 and self._batch is None:
            job = intake.submit_one(prepared.source, prepared.call, data[0], timeout)
            if stream is not None:
                watch(job, stream)
            return (job,)
        jobs = intake.submit_part(
            prepared.source, prepared.call, data, timeout=timeout, batch=self._batch, stream=stream
        )
        if self._batch is None:
            self._batch = jobs[0].pair[1]
        return jobs

    def drop(self, jobs: Iterable[Job[Any]]) -> None:
        """Nobody wants these any more."""
        self.submitting.take_back(jobs)


def _check_items(items: Sequence[Any]) -> None:
    for number, item in enumerate(items):
        if type(item) is tuple and len(item) == 2 and type(item[1]) is dict and type(item[0]) in {tuple, list}:
            continue
        message = f"item {number} of the batch is {item!r:.100}; give (args, kwargs) pairs: ((1, 2), {{}})"
        raise TypeError(message)


def _with_progress(values: Generator[Any, None, None], name: str, total: int | None) -> Generator[Any, None, None]:
    from rich.console import Console
    from rich.progress import Progress

    try:
        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task(name, total=total)
            for value in values:
                bar.advance(task)
                yield value
    finally:
        values.close()
