"""A task: a registered function and what is declared about it. And the job that runs it now.

This module knows neither sockets nor clients: workers read it, and the submitter's `Task` builds on it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from zmqtasks.ids import job_id

P = ParamSpec("P")
R = TypeVar("R")

Running = tuple[bytes, int, int, str, str]  # prefix, counter, attempt, task, worker


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
    """The job that this process runs now.

    Attributes:
        id: 32 hex digits.
        attempt: number of this attempt; higher at each next one.
        task: name of the task, or of the shipped function.
        worker: name of the worker.
    """

    id: str
    attempt: int
    task: str
    worker: str


_running: Callable[[], Running | None] | None = None


def set_current(running: Callable[[], Running | None] | None) -> None:
    """For workers: how to find out what runs now. Asked only when the job asks, so that a job costs nothing."""
    global _running  # noqa: PLW0603  (one process runs one pool child)
    _running = running


def current_job() -> CurrentJob | None:
    """The job that is running in this process; None outside of a worker."""
    running = _running() if _running is not None else None
    if running is None:
        return None
    prefix, counter, attempt, task, worker = running
    return CurrentJob(job_id(prefix, counter), attempt, task, worker)
