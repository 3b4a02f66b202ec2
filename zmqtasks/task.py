"""A task: a registered function and what is declared about it. And the job that runs it now.

This module knows neither sockets nor clients: workers read it, and the submitter's `Task` builds on it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from operator import index
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from zmqtasks import payload
from zmqtasks.config import MAX_PROGRESS
from zmqtasks.errors import NoCurrentJob

P = ParamSpec("P")
R = TypeVar("R")


class TaskBase(Generic[P, R]):
    """A function that is known by a name on submitters and workers.

    Attributes:
        name: unique in its app.
        fn: the plain function.
        bind: the task itself is passed as the first argument.
        serializer: codec of arguments and results.
        queue: where its jobs stand unless an option says otherwise; None: the default one.
        autoretry_for: exceptions after which the job is tried again.
        dont_autoretry_for: of these, those after which it is not.
        defaults: options of its jobs.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str,
        bind: bool = False,
        serializer: str = "msgpack",
        autoretry_for: tuple[type[BaseException], ...] = (),
        dont_autoretry_for: tuple[type[BaseException], ...] = (),
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.name = name
        self.bind = bind
        self.serializer = serializer
        self.autoretry_for = autoretry_for
        self.dont_autoretry_for = dont_autoretry_for
        self.defaults = defaults or {}
        self.queue: str | None = self.defaults.get("queue")
        self.__name__ = getattr(fn, "__name__", name)
        self.__qualname__ = getattr(fn, "__qualname__", name)
        self.__module__ = getattr(fn, "__module__", "")
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without any scheduler."""
        if self.bind:
            return cast("Callable[Concatenate[object, P], R]", self.fn)(self, *args, **kwargs)
        return self.fn(*args, **kwargs)

    def update_state(self, state: str = "PROGRESS", meta: object = None) -> None:
        """For a bound task that is running as a job: see `CurrentJob.update_state`."""
        _here().update_state(state, meta)

    @property
    def in_main(self) -> bool:
        """Whether it was written in the script itself, where no worker can import it."""
        return self.__module__ == "__main__"

    def __reduce__(self) -> Any:
        """By name where it can be imported, else by value."""
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self and not self.in_main:
            return self.__qualname__
        return _bare, (type(self),), self.__dict__.copy()

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def _bare(kind: type[TaskBase[..., Any]]) -> TaskBase[..., Any]:
    """An empty task, to be filled by the unpickler."""
    return kind.__new__(kind)


# ------------------------------------------------------------------------------------------------ the running job


@dataclass(slots=True, frozen=True)
class CurrentJob:
    """The job that runs now, in this thread of a worker.

    Attributes:
        id: 32 hex digits.
        attempt: number of this attempt; higher at each next one.
        task: name of the task, or of the shipped function.
        worker: name of the worker.
        retries: how many attempts ended in an exception and were followed by another.
        deadline: Unix time at which it will be stopped; None: it has no limit.
        host: name of the machine.
    """

    id: str
    attempt: int
    task: str
    worker: str
    retries: int = 0
    deadline: float | None = None
    host: str = ""

    def progress(self, done: float, total: float | None = None) -> None:
        """Tell the submitter how far the job has come; only the newest counts, and it may be lost.

        It may be called as often as one likes: at most 20 a second are sent, the last one always, and
        ``done == total`` at once.

        Args:
            done: how much is done, in units of your choice.
            total: how much there is to do; None: unknown.

        Raises:
            NoCurrentJob: the job is over.
            TypeError: these are no numbers.
        """
        value = {"done": _number(done), "total": None if total is None else _number(total)}
        _tell(self, value, at_once=done == total)

    def update_state(self, state: str = "PROGRESS", meta: object = None) -> None:
        """Tell the submitter where the job stands, in Celery's manner.

        Args:
            state: a word of your choice.
            meta: plain data that says more.

        Raises:
            NoCurrentJob: the job is over.
            PayloadError: `meta` is no plain data.
            ValueError: it is longer than MAX_PROGRESS bytes.
        """
        _tell(self, {"state": state, "meta": meta}, at_once=False)


Tell = Callable[[CurrentJob, bytes, bool], None]  # job, value, whether to send it at once

_running: Callable[[], CurrentJob | None] | None = None
_teller: Tell | None = None


def set_current(running: Callable[[], CurrentJob | None] | None, teller: Tell | None = None) -> None:
    """For workers: how to find out what runs now, and how to tell of it. Asked when a job asks, not before."""
    global _running, _teller
    _running, _teller = running, teller


def current_job() -> CurrentJob | None:
    """The job that is running in this thread; None outside of a worker.

    Where a worker's slots are processes, it is the job in the threads that the job has started, too; where they are
    threads, hand it to these.
    """
    return _running() if _running is not None else None


def progress(done: float, total: float | None = None) -> None:
    """Tell how far the job that is running here has come: see `CurrentJob.progress`.

    Raises:
        NoCurrentJob: no job is running here.
    """
    _here().progress(done, total)


def _here() -> CurrentJob:
    job = current_job()
    if job is None:
        raise NoCurrentJob("no job is running here: only a job on a worker can tell how far it has come")
    return job


def _tell(job: CurrentJob, value: object, *, at_once: bool) -> None:
    if _teller is None:
        raise NoCurrentJob(f"job {job.id} does not run here: only a job on a worker can tell how far it has come")
    data = payload.encode_progress(value, job.task)
    if len(data) > MAX_PROGRESS:
        raise ValueError(f"{job.task}: progress of {len(data)} bytes; it may have {MAX_PROGRESS}")
    _teller(job, data, at_once)


def _number(value: object) -> int | float:
    """As plain data: numpy's numbers are none."""
    if isinstance(value, int | float):
        return value
    if hasattr(value, "__index__"):
        return index(value)
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(f"progress is told in numbers, not in {type(value).__name__}")
