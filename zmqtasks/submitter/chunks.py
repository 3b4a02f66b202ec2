"""`map` in chunks: many short items share a job, and each still succeeds, fails and is tried again by itself.

A chunk is a job that runs its items one after the other and tells of each what came of it. An item that raised is tried
again as a job of its own, if there are retries. A chunk whose process died, or whose results cannot travel together, is
given up, and its items become jobs of their own: so the one that is to blame is found, and charged alone.

With "auto" a chunk takes about 50 ms, as measured. What is decided here needs neither threads nor an event loop:
`ChunkedMap` asks for what is to be done, and the two maps (blocking and asyncio) do it.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any, Final

from zmqtasks import errors, payload
from zmqtasks.submitter.job import Job

TARGET: Final = 0.05  # seconds of work in a chunk
GROWTH: Final = 8  # times the largest chunk that has come back
PARTS: Final = 16  # chunks that the window holds at least, so that all workers have some
PROBES: Final = 32  # items that go out alone at a time until the first one is measured
PATIENCE: Final = 0.005  # seconds for that; an item that takes longer is not short
BYTES: Final = 256 * 1024  # of arguments or values in a chunk, about
CODEC: Final = "cloudpickle"
_GAIN: Final = 0.3  # of a new measurement

Arguments = tuple[Any, ...]
Failed = tuple[int, bytes, bool]  # place, failure, whether it may be tried again
Told = tuple[float, bytes, list[Failed]]  # seconds, encoded values (None where an item failed), what failed


def run_chunk(fn: Callable[..., Any], items: Sequence[Arguments]) -> Told:
    """Runs in the worker: one call per item, in one job. An exception ends its own item only."""
    values: list[Any] = []
    failed: list[Failed] = []
    add = values.append
    begin = perf_counter()
    for args in items:
        try:
            add(fn(*args))
        except BaseException as error:  # noqa: BLE001  (it is raised again where the item's value is asked for)
            failed.append((len(values), payload.encode_exception(error), isinstance(error, Exception)))
            add(None)
    seconds = perf_counter() - begin
    try:
        data = payload.encode_result(CODEC, values, "")
    except errors.PayloadError:
        failed = sorted([*failed, *_leave_out(values, payload.function_name(fn))])
        data = payload.encode_result(CODEC, values, "")
    return seconds, data, failed


def _leave_out(values: list[Any], name: str) -> Iterator[Failed]:
    """Values that cannot travel give way to None."""
    for place, value in enumerate(values):
        try:
            payload.encode_result(CODEC, value, name)
        except errors.PayloadError as error:
            values[place] = None
            yield place, payload.failure("PayloadError", str(error)), False


class Chunked:
    """The function that runs chunks of `fn`, under its name. Raises NotAvailable if that is an async function."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        payload.refuse_async(fn)
        self.fn = fn
        self.__module__ = ""
        self.__qualname__ = f"{payload.function_name(fn)} (chunk)"

    def __call__(self, items: Sequence[Arguments]) -> Told:
        """Run one."""
        return run_chunk(self.fn, items)


# ------------------------------------------------------------------------------------------------ how large


class Sizer:
    """How many items the next chunk has.

    Args:
        fixed: so many; 0: as measured.
        window: items that may be under way.
    """

    def __init__(self, fixed: int, window: int) -> None:
        self._fixed = min(fixed, window)
        self._most = max(1, window // PARTS)
        self._seconds = 0.0  # of an item; 0: nothing is known yet
        self._largest = 1  # chunk that has come back
        self._bytes = 1.0  # of an item's arguments or value, whichever is more

    @property
    def known(self) -> bool:
        """Whether anything has been measured, or need not be."""
        return bool(self._fixed or self._seconds)

    @property
    def size(self) -> int:
        """Items of the next chunk."""
        if self._fixed:
            return self._fixed
        if not self._seconds:
            return 1
        most = min(self._most, int(BYTES / self._bytes))
        return max(1, min(int(TARGET / self._seconds), self._largest * GROWTH, most))

    def carried(self, items: int, size: int) -> None:
        """So many bytes stand for so many items, there or back."""
        mean = size / items
        self._bytes = max(mean, self._bytes + _GAIN * (mean - self._bytes))

    def measured(self, items: int, seconds: float, size: int) -> None:
        """A chunk has come back, with so many bytes of values."""
        self.carried(items, size)
        mean = max(seconds, 1e-9) / items
        self._seconds = mean if not self._seconds else self._seconds + _GAIN * (mean - self._seconds)
        self._largest = max(self._largest, items)


# ------------------------------------------------------------------------------------------------ what to do next


@dataclass(slots=True)
class Send:
    """Submit jobs; the reply is the jobs.

    Attributes:
        calls: arguments of each.
        how: "chunk": each call's arguments are a list of items; "alone": one item each; "again": as "alone", but one
            of the retries is spent.
    """

    calls: list[Arguments]
    how: str = "chunk"


@dataclass(slots=True)
class Wait:
    """Wait until a job is over, or any if it is None; the reply is such a job, None after `timeout` seconds."""

    job: Job[Any] | None
    timeout: float | None = None


Step = Send | Wait | list[Any]  # values, in order
Steps = Generator[Step, Any, None]


class ChunkedMap:
    """What a map in chunks does, step by step.

    Args:
        arguments: of the items; read only as far as the window reaches.
        sizer: knows how large chunks are; told by whoever submits them how many bytes they have.
        window: items submitted and not yet yielded, at most.
        retries: of an item that raises.
        ordered: values in the order of the items, else as they come.
        once: an item must not run twice: nothing of a chunk that was lost is done again.
    """

    def __init__(
        self, arguments: Iterator[Arguments], sizer: Sizer, window: int, *, retries: int, ordered: bool, once: bool
    ) -> None:
        self._arguments = arguments
        self.sizer = sizer
        self._window = window
        self._retries = retries
        self._once = once
        self._exhausted = False
        self._under_way = 0  # items
        self._line: deque[Job[Any]] = deque()
        self._items: dict[Job[Any], list[Arguments]] = {}  # of each chunk
        self._alone: dict[Job[Any], None] = {}
        self.steps: Callable[[], Steps] = self._in_order if ordered else self._as_they_end

    def rest(self) -> list[Job[Any]]:
        """Jobs that nobody has waited for."""
        return [*self._items, *self._alone]

    # -------------------------------------------------------------------------------------------- going out

    def _fill(self) -> Steps:
        """Submit what the window allows; of items that nobody has measured a few at a time."""
        while not self._exhausted:
            chunks: list[Arguments] = []
            size, most = self.sizer.size, PARTS if self.sizer.known else PROBES
            while len(chunks) < most and self._window - self._under_way >= size:  # no crumbs
                items = list(islice(self._arguments, size))
                if not items:
                    self._exhausted = True
                    break
                self._under_way += len(items)
                chunks.append((items,))
            if not chunks:
                return
            jobs = yield Send(chunks)
            for job, (items,) in zip(jobs, chunks, strict=True):
                self._items[job] = items
            self._line.extend(jobs)
            if not self.sizer.known:
                over = yield Wait(self._line[0], PATIENCE)
                if over is not None:
                    return

    # -------------------------------------------------------------------------------------------- coming in

    def _in_order(self) -> Steps:
        while True:
            yield from self._fill()
            if not self._line:
                return
            job = self._line.popleft()
            yield Wait(job)
            items = self._items.pop(job)
            told = self._read(job, items)
            if told is None:
                yield from self._each(items)
            else:
                yield from self._values(told, items)
            self._under_way -= len(items)

    def _each(self, items: list[Arguments]) -> Steps:
        """The items of a chunk that was given up, as jobs of their own."""
        jobs = yield Send(list(items), "alone")
        self._alone.update(dict.fromkeys(jobs))
        for job in jobs:
            yield Wait(job)
            del self._alone[job]
            yield [job.result(0)]

    def _values(self, told: Told, items: list[Arguments]) -> Steps:
        """The values of a chunk; those of its items that are tried again come in their places."""
        _, data, failed = told
        values: list[Any] = payload.decoder(CODEC)(data)
        again = [failure for failure in failed if self._retries and failure[2]]
        jobs: list[Job[Any]] = []
        if again:
            jobs = yield Send([items[place] for place, _, _ in again], "again")
            self._alone.update(dict.fromkeys(jobs))
        tried = {place: job for (place, _, _), job in zip(again, jobs, strict=True)}
        start = 0
        for place, failure, _ in failed:
            yield values[start:place]
            start = place + 1
            if place not in tried:
                raise payload.decode_exception(failure)
            yield Wait(tried[place])
            del self._alone[tried[place]]
            yield [tried[place].result(0)]
        yield values[start:] if start else values

    def _as_they_end(self) -> Steps:
        while True:
            yield from self._fill()
            if not self._items and not self._alone:
                return
            job = yield Wait(None)
            if job in self._alone:
                del self._alone[job]
                yield [job.result(0)]
                self._under_way -= 1
                continue
            items = self._items.pop(job)
            self._line.remove(job)
            told = self._read(job, items)
            if told is None:
                jobs = yield Send(list(items), "alone")
                self._alone.update(dict.fromkeys(jobs))
                continue
            yield from self._good(told, items)

    def _good(self, told: Told, items: list[Arguments]) -> Steps:
        """The values of a chunk without those of items that are tried again: these end as jobs of their own."""
        _, data, failed = told
        values: list[Any] = payload.decoder(CODEC)(data)
        again = [place for place, _, may in failed if self._retries and may]
        if again:
            jobs = yield Send([items[place] for place in again], "again")
            self._alone.update(dict.fromkeys(jobs))
        bad = {place for place, _, _ in failed}
        yield [value for place, value in enumerate(values) if place not in bad] if bad else values
        self._under_way -= len(items) - len(again)
        for place, failure, _ in failed:
            if place not in again:
                raise payload.decode_exception(failure)

    def _read(self, job: Job[Any], items: list[Arguments]) -> Told | None:
        """What a chunk tells; None: it is given up, and each of its items is to be a job of its own.

        Raises:
            Exception: what ended the whole chunk, and would end its items, too.
        """
        try:
            told: Told = job.result(0)
        except (errors.WorkerLost, errors.PayloadTooLarge, errors.PayloadLost):
            if self._once:
                raise
            return None
        self.sizer.measured(len(items), told[0], len(told[1]))
        return told
