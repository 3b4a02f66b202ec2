"""`map`: items in, values out, with so many jobs between them and no more, however long the input is."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

from zmqtasks import payload
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.submitter.results import Job, Stream

_SLOW: Final = 0.001  # seconds; an input that takes longer for its next items is slow

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]
_NO_KWARGS: Final[dict[str, Any]] = {}


class Sender(Protocol):
    """What `run` needs: how some jobs are submitted, and how what is not wanted any more is cancelled."""

    def send(self, calls: Calls, stream: Stream | None) -> Sequence[Job[Any]]: ...

    def drop(self, jobs: Iterable[Job[Any]]) -> None: ...


def run(
    sender: Sender, arguments: Iterator[tuple[Any, ...]], *, window: int, ordered: bool, lively: bool
) -> Generator[Any, None, None]:
    """Submit one job per tuple of arguments and yield the values.

    Args:
        sender: see Sender.
        arguments: pulled only as far as the window reaches.
        window: jobs submitted and not yet yielded, at most.
        ordered: yield in the order of the arguments, else in the order in which the jobs end.
        lively: the input may make us wait: each item is submitted before the next one is pulled.

    Raises:
        Exception: what a job raised, at its place. The generator then ends and cancels what has not started.
    """
    flow = _Ordered() if ordered else _AsTheyEnd()
    most = 1 if lively else MAX_JOBS_PER_MESSAGE
    exhausted = slow = False
    try:
        while True:
            # A value that is there leaves at once where the input is slow, else after one more piece of it.
            ready = False
            while not (exhausted or ready or flow.count >= window):
                ready = flow.count > 0 and flow.ready()
                if ready and (slow or flow.count + most > window):
                    break
                begin = time.monotonic()
                calls: Calls = [(args, _NO_KWARGS) for args in islice(arguments, min(most, window - flow.count))]
                slow = time.monotonic() - begin > _SLOW
                exhausted = not calls
                if calls:
                    flow.add(sender.send(calls, flow.stream))
            if not flow.count:
                return
            job = flow.pop()
            value = job.result()
            del job  # only the caller keeps what it keeps
            yield value
            del value
    finally:
        sender.drop(flow.rest())


class _Ordered:
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
        return self._jobs.popleft()

    def rest(self) -> Iterable[Job[Any]]:
        return self._jobs


class _AsTheyEnd:
    """Jobs in the order in which they end."""

    def __init__(self) -> None:
        self.stream = Stream()
        self._jobs: set[Job[Any]] = set()

    @property
    def count(self) -> int:
        return len(self._jobs)

    def ready(self) -> bool:
        return bool(self.stream.ready)

    def add(self, jobs: Sequence[Job[Any]]) -> None:
        self._jobs.update(jobs)

    def pop(self) -> Job[Any]:
        self.stream.wait(None)
        job = self.stream.ready.popleft()
        self._jobs.remove(job)
        return job

    def rest(self) -> Iterable[Job[Any]]:
        return self._jobs


# ------------------------------------------------------------------------------------------------ chunks

Told = tuple[bool, Any]  # (True, value) or (False, encoded exception)


def run_chunk(fn: Callable[..., Any], items: Sequence[tuple[Any, ...]]) -> list[Told]:
    """Runs in the worker: one call per item, in one job. An exception ends its own item only."""
    told: list[Told] = []
    for args in items:
        try:
            told.append((True, fn(*args)))
        except BaseException as error:  # noqa: BLE001  (it is raised again where the item's value is asked for)
            told.append((False, payload.encode_exception(error)))
    return told


def chunked(fn: Callable[..., Any]) -> Callable[..., list[Told]]:
    """The function that runs chunks of `fn`. Raises NotAvailable if that is an async function."""
    payload.refuse_async(fn)
    return partial(run_chunk, fn)


def chunks(arguments: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[list[tuple[Any, ...]]]]:
    """The arguments of the jobs that run `size` items each."""
    while piece := list(islice(arguments, size)):
        yield (piece,)


def items_of(lists: Generator[list[Told], None, None]) -> Generator[Any, None, None]:
    """The values of the items, each exception at its place."""
    try:
        for told in lists:
            for good, value in told:
                if not good:
                    raise payload.decode_exception(value)
                yield value
    finally:
        lists.close()
