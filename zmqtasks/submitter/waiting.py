"""How threads and event loops watch jobs: the few locks there are, and streams of jobs that are over.

A Job makes its lock when somebody waits for it, so what is here is shared by `job` and `results`.
"""

# ruff: noqa: SLF001  (these functions are the Job's friends)

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from zmqtasks.submitter.progress import Told


class Guard:
    """The one lock that guards which jobs have a `_sync`: held shortly, never while user code runs."""

    lock = threading.Lock()


def _renew_lock() -> None:
    Guard.lock = threading.Lock()  # another thread may have held it at the fork


os.register_at_fork(after_in_child=_renew_lock)


class Stream:
    """Jobs in order of completion, fed in batches: one wake-up per batch, no lock per job."""

    __slots__ = ("_changed", "ready")

    def __init__(self) -> None:
        self.ready: deque[Any] = deque()
        self._changed = threading.Condition(threading.Lock())

    def wake(self) -> None:
        """Something is in `ready`."""
        with self._changed:
            self._changed.notify_all()

    def wait(self, timeout: float | None) -> bool:
        """Sleep until something is in `ready`; whether it is. `timeout` in seconds, None is for ever."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.ready), timeout)


class Sync:
    """The lock and the lists of a job that somebody waits for, or that tells how far it is.

    Attributes:
        bells: locks of threads that wait, to be released when it is over. (A Condition does the same with twice as many
            calls, while a lone job's caller waits for each of them.)
        told: what the running job told of itself last.
        listeners: called when it tells more.
    """

    __slots__ = ("bells", "callbacks", "listeners", "lock", "streams", "told", "waiters")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.bells: list[threading.Lock] = []
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[[Any], object]] = []
        self.listeners: list[Callable[[Any], object]] = []
        self.streams: list[Stream] = []
        self.told: Told | None = None


def watch(job: Any, stream: Stream) -> None:
    """Have the stream get this job when it is over; at once if it is."""
    watch_all((job,), stream)


def watch_all(jobs: Iterable[Any], stream: Stream) -> None:
    """Have the stream get each of these jobs when it is over; at once if it is."""
    synced: list[tuple[Any, Sync]] = []
    others: list[Any] = []
    with Guard.lock:
        for job in jobs:
            sync = job._sync
            if type(sync) is Sync:
                synced.append((job, sync))
            elif job._form is not None:
                stream.ready.append(job)
            elif sync is None:
                job._sync = stream
            else:
                others.append(job)  # another stream gets it, too
    synced += [(job, job._synced()) for job in others]
    for job, sync in synced:
        with sync.lock:
            if job._form is None:
                sync.streams.append(stream)
                continue
        stream.ready.append(job)


def unwatch(job: Any, stream: Stream) -> None:
    """Undo `watch`."""
    with Guard.lock:
        if job._sync is stream:
            job._sync = None
            return
        sync = job._sync
    if type(sync) is Sync:
        with sync.lock:
            if stream in sync.streams:
                sync.streams.remove(stream)
