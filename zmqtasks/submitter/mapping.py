"""`map`: items in, values out, with so many jobs between them and no more, however long the input is."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.errors import BadOption, JobCancelled, JobTimeout
from zmqtasks.submitter.chunks import ChunkedMap, Send, Sizer, Wait
from zmqtasks.submitter.results import Job, Stream

_SLOW: Final = 0.001  # seconds; an input that takes longer for its next items is slow

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]
_NO_KWARGS: Final[dict[str, Any]] = {}


class Sender(Protocol):
    """What `run` needs: how some jobs are submitted, and how what is not wanted any more is cancelled."""

    size: int  # bytes of the arguments that were sent last

    def send(self, calls: Calls, stream: Stream | None) -> Sequence[Job[Any]]: ...

    def drop(self, jobs: Iterable[Job[Any]]) -> None: ...


@dataclass(slots=True, frozen=True)
class How:
    """How a map runs.

    Attributes:
        chunksize: items per job; "auto": as many as take about 50 ms, of a lively input one.
        ordered: yield in the order of the arguments, else in the order in which the jobs end.
        window: items submitted and not yet yielded, at most.
        lively: the input is no finished collection and may make us wait: each item is submitted before the next one is
            pulled.
    """

    chunksize: int | str
    ordered: bool
    window: int
    lively: bool

    def check(self) -> None:
        """Raise BadOption for what cannot be."""
        size = self.chunksize
        if size != "auto" and (not isinstance(size, int) or size < 1):
            raise BadOption(f'chunksize= is "auto" or a number of items, 1 or more, not {size!r}')
        if self.window < 1:
            raise BadOption(f"window= is a number of items, 1 or more, not {self.window!r}")

    @property
    def alone(self) -> bool:
        """Whether each item is a job of its own, without more ado."""
        return self.chunksize == 1 or (self.chunksize == "auto" and self.lively)

    def plan(self, arguments: Iterator[tuple[Any, ...]], retries: int, *, once: bool) -> ChunkedMap:
        """How it is done in chunks; `retries`, `once`: see ChunkedMap."""
        sizer = Sizer(0 if self.chunksize == "auto" else int(self.chunksize), self.window)
        return ChunkedMap(arguments, sizer, self.window, retries=retries, ordered=self.ordered, once=once)


def run(sender: Sender, arguments: Iterator[tuple[Any, ...]], how: How) -> Generator[Any, None, None]:
    """Submit one job per tuple of arguments and yield the values.

    Args:
        sender: see Sender.
        arguments: pulled only as far as the window reaches.
        how: see How; its window counts jobs here.

    Raises:
        Exception: what a job raised, at its place. The generator then ends and cancels what has not started.
    """
    jobs = Ordered() if how.ordered else AsTheyEnd(Stream())
    flow = Flow(jobs, how)
    try:
        while True:
            while count := flow.wanted():
                if calls := flow.pull(arguments, count):
                    jobs.add(sender.send(calls, jobs.stream))
            if not jobs.count:
                return
            if jobs.stream is not None:
                jobs.stream.wait(None)
            job = jobs.pop()
            value = job.result()
            del job  # only the caller keeps what it keeps
            yield value
            del value
    finally:
        sender.drop(jobs.rest())


class Flow:
    """How far a map reads its input: what `run` and its twin for asyncio decide alike.

    Args:
        jobs: where the jobs stand that are not yielded yet.
        how: see How.
    """

    def __init__(self, jobs: "Ordered | AsTheyEnd", how: How) -> None:
        self.jobs = jobs
        self._window = how.window
        self._most = 1 if how.lively else MAX_JOBS_PER_MESSAGE
        self._exhausted = self._slow = self._ready = False

    def wanted(self) -> int:
        """How many items to pull now; 0: take a value first.

        A value that is there leaves at once where the input is slow, else after one more piece of it.
        """
        count = self.jobs.count
        if not (self._exhausted or self._ready or count >= self._window):
            self._ready = count > 0 and self.jobs.ready()
            if not self._ready or not (self._slow or count + self._most > self._window):
                return min(self._most, self._window - count)
        self._ready = False
        return 0

    def pull(self, arguments: Iterator[tuple[Any, ...]], count: int) -> Calls:
        """The calls of the next items of the input; none at its end."""
        begin = time.monotonic()
        calls: Calls = [(args, _NO_KWARGS) for args in islice(arguments, count)]
        self._slow = time.monotonic() - begin > _SLOW
        self._exhausted = not calls
        return calls


class Ordered:
    """Jobs in the order of the input."""

    stream: Stream | None = None

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()

    @property
    def count(self) -> int:
        return len(self._jobs)

    def ready(self) -> bool:
        return self._jobs[0].done()

    def add(self, jobs: Sequence[Job[Any]]) -> None:
        self._jobs.extend(jobs)

    def pop(self) -> Job[Any]:
        """The next one, over or not."""
        return self._jobs.popleft()

    def rest(self) -> Iterable[Job[Any]]:
        return self._jobs


class AsTheyEnd:
    """Jobs in the order in which they end, as a stream tells it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._jobs: set[Job[Any]] = set()

    @property
    def count(self) -> int:
        return len(self._jobs)

    def ready(self) -> bool:
        return bool(self.stream.ready)

    def add(self, jobs: Sequence[Job[Any]]) -> None:
        self._jobs.update(jobs)

    def pop(self) -> Job[Any]:
        """One that is over; the stream has one."""
        job: Job[Any] = self.stream.ready.popleft()
        self._jobs.remove(job)
        return job

    def rest(self) -> Iterable[Job[Any]]:
        return self._jobs


# ------------------------------------------------------------------------------------------------ in chunks


class Senders(Protocol):
    """What `run_chunks` needs: somebody for each way of `chunks.Send`."""

    def of(self, how: str) -> Sender: ...

    def drop(self, jobs: Iterable[Job[Any]]) -> None: ...


def run_chunks(senders: Senders, plan: ChunkedMap, *, ordered: bool) -> Generator[Any, None, None]:
    """Carry out a plan, blocking, and yield the values.

    Raises:
        Exception: what an item raised, at its place. The generator then ends and cancels what has not started.
    """
    stream = None if ordered else Stream()
    steps = plan.steps()
    reply: Any = None
    try:
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return
            if type(step) is list:
                yield from step
                reply = None
            elif type(step) is Send:
                sender = senders.of(step.how)
                reply = sender.send([(call, _NO_KWARGS) for call in step.calls], stream)
                note_bytes(plan, step, sender.size)
            else:
                reply = _waited(step, stream)  # type: ignore[arg-type]  # mypy does not narrow by type() in a union
    finally:
        steps.close()
        senders.drop(plan.rest())


def note_bytes(plan: ChunkedMap, step: Send, size: int) -> None:
    """Tell a plan how large the chunks were that it had sent."""
    if step.how == "chunk":
        plan.sizer.carried(sum(len(items) for (items,) in step.calls), size)


def _waited(step: Wait, stream: Stream | None) -> Job[Any] | None:
    if step.job is None:
        assert stream is not None  # noqa: S101  (only a plan without an order waits for any)
        stream.wait(None)
        job: Job[Any] = stream.ready.popleft()
        return job
    try:
        step.job.exception(step.timeout)
    except JobTimeout:
        return None
    except JobCancelled:
        pass
    return step.job
