"""Outcomes: the loop ends jobs, thousands at a time; threads watch them and take them as they end."""

# ruff: noqa: SLF001  (these functions are the Job's friends)

import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, TypeVar

from zmqtasks.errors import JobTimeout
from zmqtasks.submitter.callbacks import call_later, tell_later
from zmqtasks.submitter.job import CANCELLED_FORM, END_WORDS, ENDS, Job, Owner, Pair, Source
from zmqtasks.submitter.progress import read
from zmqtasks.submitter.waiting import Guard, Stream, Sync, unwatch, watch, watch_all

__all__ = ["Job", "Pair", "Source", "Stream", "as_completed", "end", "finish", "tell", "unwatch", "watch", "watch_all"]

T = TypeVar("T")

# ------------------------------------------------------------------------------------------------ the loop


def finish(jobs: Iterable[Job[Any]], values: Iterable[bytes], codec: str) -> None:
    """Give these jobs their values. Called by the I/O thread: one lock and one wake-up for all of them."""
    synced: list[tuple[Job[Any], Sync]] = []
    streams: dict[Stream, None] = {}
    with Guard.lock:
        for job, value in zip(jobs, values, strict=True):
            job._value = value
            sync = job._sync
            if sync is None:
                job._form = codec
            elif type(sync) is Sync:
                synced.append((job, sync))
            else:
                job._form = codec
                sync.ready.append(job)  # type: ignore[union-attr]  # mypy does not narrow by type() in a union
                streams[sync] = None  # type: ignore[index]
    for job, sync_ in synced:
        _tell(job, sync_, codec, streams)
    for stream in streams:
        stream.wake()


def end(job: Job[Any], state: int, data: bytes) -> None:
    """End a job without a value. `state`: FAILED, CANCELLED or ABORTED; `data`: a Failure."""
    streams: dict[Stream, None] = {}
    word = ENDS[state]
    with Guard.lock:
        job._value = data
        sync = job._sync
        if type(sync) is not Sync:
            job._form = word
            if isinstance(sync, Stream):
                sync.ready.append(job)
                streams[sync] = None
    if type(sync) is Sync:
        _tell(job, sync, word, streams)
    for stream in streams:
        stream.wake()


def tell(job: Job[Any], value: bytes) -> None:
    """A running job told how far it is; `value`: MessagePack, as the worker made it. Called by the I/O thread."""
    if job._form is not None:
        return
    sync = job._synced()
    told = read(value, sync.told)
    if told is None:
        return
    sync.told = told
    if sync.listeners:
        tell_later(job, sync.listeners)


def _tell(job: Job[Any], sync: Sync, form: str, streams: dict[Stream, None]) -> None:
    """End a job that somebody waits for, and wake them."""
    with sync.lock:
        job._form = form
        for waiter in sync.waiters:
            if form not in END_WORDS:
                waiter.add_result(job)
            elif form == CANCELLED_FORM:
                waiter.add_cancelled(job)
            else:
                waiter.add_exception(job)
        callbacks, sync.callbacks = sync.callbacks, []
        bells, sync.bells = sync.bells, []
    for stream in sync.streams:
        stream.ready.append(job)
        streams[stream] = None
    for callback in callbacks:
        call_later((callback, job))
    for bell in bells:
        bell.release()


# ------------------------------------------------------------------------------------------------ threads


def check_usable(jobs: Iterable[Job[Any]]) -> None:
    """Raise ClientClosed if from a connection that these jobs came from no outcome can come: in a forked child."""
    for owner in {job._source.owner: None for job in jobs}:
        owner.check_usable()


def not_over(late: Collection[Job[Any]], count: int, timeout: float | None) -> JobTimeout:
    """The error for those of so many jobs that were not over in time."""
    sources: dict[Owner, dict[Source, None]] = {}
    for job in late:
        sources.setdefault(job._source.owner, {})[job._source] = None
    hint = "".join(owner.hint(own) for owner, own in sources.items())
    return JobTimeout(f"{len(late)} of {count} jobs were not over within {timeout:g} s; they go on{hint}")


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
        check_usable(pending)
        watch_all(pending, stream)
        while pending:
            left = None if end_time is None else end_time - time.monotonic()
            if not stream.ready and not stream.wait(left):
                raise not_over(pending, count, timeout)
            while stream.ready:
                job = stream.ready.popleft()
                del pending[job]
                yield job
                del job  # nothing here keeps a job that the caller is done with
    finally:
        for job in pending:
            unwatch(job, stream)
