"""A task: a registered function and what is declared about it. And the job that runs it now.

This module knows neither sockets nor clients: workers read it, and the submitter's `Task` builds on it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import index
from typing import Any, ClassVar, Concatenate, Final, Generic, ParamSpec, TypeVar, cast

from zmqtasks import payload
from zmqtasks.config import MAX_PROGRESS
from zmqtasks.errors import BadOption, MaxRetriesExceeded, NoCurrentJob, Retry
from zmqtasks.request import Call, ErrorInfo, Request, call_of, calls
from zmqtasks.words import plural

P = ParamSpec("P")
R = TypeVar("R")

MAX_RETRIES: Final = 3  # as in Celery
DEFAULT_RETRY_DELAY: Final = 180.0  # seconds, as in Celery
FOREVER: Final = 2**31 - 1  # retries of a Spec whose task is tried again without limit
HOOKS: Final = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


class TaskBase(Generic[P, R]):
    """A function that is known by a name on submitters and workers.

    A class of one's own (``@app.task(base=…)``) may override `before_start`, `on_success`, `on_failure`, `on_retry` and
    `after_return`, which run in the worker, in the process of the job, and `__call__`, which then is around the job.

    Attributes:
        name: unique in its app.
        fn: the plain function.
        bind: the task itself is passed as the first argument.
        serializer: codec of arguments and results.
        queue: where its jobs stand unless an option says otherwise; None: the default one.
        autoretry_for: exceptions after which the job is tried again.
        dont_autoretry_for: of these, those after which it is not.
        max_retries: how often a job is tried again because it asks for it (`retry`); None: without limit.
        default_retry_delay: seconds until then, where the job does not say.
        defaults: options of its jobs.
        hooked: its class wants to be called around its jobs.
    """

    hooked: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.hooked = any(getattr(cls, name) is not getattr(TaskBase, name) for name in HOOKS)

    def __init__(
        self,
        fn: Callable[P, R],
        *,
        name: str,
        bind: bool = False,
        serializer: str = "msgpack",
        autoretry_for: tuple[type[BaseException], ...] = (),
        dont_autoretry_for: tuple[type[BaseException], ...] = (),
        max_retries: int | None = MAX_RETRIES,
        default_retry_delay: float = DEFAULT_RETRY_DELAY,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        self.fn = fn
        self.name = name
        self.bind = bind
        self.serializer = serializer
        self.autoretry_for = autoretry_for
        self.dont_autoretry_for = dont_autoretry_for
        self.max_retries = max_retries
        self.default_retry_delay = default_retry_delay
        self.defaults = defaults or {}
        self.queue: str | None = self.defaults.get("queue")
        self.__name__ = getattr(fn, "__name__", name)
        self.__qualname__ = getattr(fn, "__qualname__", name)
        self.__module__ = getattr(fn, "__module__", "")
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now, without any scheduler."""
        outer = calls.get()
        if outer is not None and outer.enter(self):
            return self.run(*args, **kwargs)
        token = calls.set(Call(self, args, kwargs))
        try:
            return self.run(*args, **kwargs)
        finally:
            calls.reset(token)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The function itself; for a `__call__` of one's own."""
        if self.bind:
            return cast("Callable[Concatenate[object, P], R]", self.fn)(self, *args, **kwargs)
        return self.fn(*args, **kwargs)

    def run_as_job(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """For workers, where a class has a `__call__` of its own: that is around the job, and the job is no other."""
        token = calls.set(Call(self, args, kwargs, job=True))
        try:
            return self(*args, **kwargs)
        finally:
            calls.reset(token)

    # -------------------------------------------------------------------------------------------- for the function

    @property
    def request(self) -> Request:
        """The job that this task runs as, in this thread; or the direct call of it; or, in neither, an empty one."""
        call = call_of(self)
        if call is not None and not call.job:
            return call.request(self.name)
        running = _requested() if _requested is not None else None
        return running if running is not None and running.task == self.name else Request(task=self.name)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002  (Celery's signature)
        eta: datetime | float | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Have the job that this task runs as tried again later, with the same arguments.

        The job waits in the scheduler, on its disk. When the task was called as a function there is no job: it raises
        `exc`, or Retry where there is none.

        Args:
            args: positional arguments: the job's own, which is what None stands for. Others cannot be given.
            kwargs: keyword arguments: the same.
            exc: what went wrong, and what the job ends with when no retry is left; None: the exception that is being
                handled, if there is one.
            throw: False: return the Retry instead of raising it. The job goes on to its end, and is tried again
                whatever it comes to.
            eta: when, as Unix time or a datetime with its time zone, instead of `countdown`.
            countdown: seconds until then; None: the task's default_retry_delay.
            max_retries: how often the job may have been tried again; None: as the task says.

        Raises:
            Retry: it will be tried again.
            MaxRetriesExceeded: no retry is left, and there is no exception to tell; else that one is raised.
            BadOption: other arguments, or an option that cannot have that value.
        """
        request = self.request
        handled = sys.exc_info()[1]
        if isinstance(handled, Retry):
            handled = handled.exc
        if request.called_directly:
            told = f"{self.name} was called directly, so there is no job of it to try again"
            raise Retry(told, countdown=countdown, eta=eta) if exc is None else exc
        if not request.has_arguments(args, kwargs):
            raise BadOption(
                f"{self.name}: a job is tried again with its own arguments; submit another one for other arguments"
            )
        again = Retry(exc=handled if exc is None else exc, countdown=countdown, eta=eta, max_retries=max_retries)
        limit = self.max_retries if max_retries is None else max_retries
        if limit is not None and request.retries >= limit:
            last = again.exc
            if last is None:
                last = MaxRetriesExceeded(no_more(request.id, self.name, request.retries))
            request.given_up = last
            raise last
        if throw:
            raise again
        if request.retry_later is not None:
            request.retry_later(again)
        return again

    def update_state(self, state: str = "PROGRESS", meta: object = None) -> None:
        """For a bound task that is running as a job: see `CurrentJob.update_state`. Of an eager one nobody is told."""
        if not self.request.is_eager:
            _here().update_state(state, meta)

    # -------------------------------------------------------------------------------------------- around the job

    def before_start(self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        """Before the function runs; what this raises is the job's own error."""

    def on_success(self, retval: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
        """The function has returned, and its result can travel. What this raises is logged."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], einfo: ErrorInfo
    ) -> object:
        """The job has failed for good, as far as the worker knows. What this raises is logged."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], einfo: ErrorInfo
    ) -> object:
        """The attempt has failed and the job will be tried again. What this raises is logged."""

    def after_return(
        self,
        status: str,
        retval: Any,
        task_id: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        einfo: ErrorInfo | None,
    ) -> object:
        """After `on_success` or `on_failure`; not after `on_retry`. What this raises is logged.

        Args:
            status: "SUCCESS" or "FAILURE".
            retval: what the function returned, or the exception.
            task_id: the job's id.
            args: positional arguments.
            kwargs: keyword arguments.
            einfo: what went wrong; None: nothing.
        """

    # -------------------------------------------------------------------------------------------- on its way

    @property
    def in_main(self) -> bool:
        """Whether it was written in the script itself, where no worker can import it."""
        return self.__module__ == "__main__"

    def __reduce__(self) -> Any:
        """By name where it can be imported, else by value."""
        found: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is self and self.__module__ != "__main__":
            return self.__qualname__
        return _bare, (type(self),), self.__dict__.copy()

    def __repr__(self) -> str:
        return f"<task {self.name}>"


def no_more(job_id: str | None, name: str, retries: int | None) -> str:
    """What is said where a job asks for one more retry than there are. `retries`: it has had; None: not known here."""
    told = "" if retries is None else f": it was tried again {plural(retries, 'time')}"
    return f"job {job_id} ({name}) asks to be tried again, and no retry is left{told}"


def _bare(kind: type[TaskBase[..., Any]]) -> TaskBase[..., Any]:
    """An empty task, to be filled by the unpickler."""
    return kind.__new__(kind)


# ------------------------------------------------------------------------------------------------ the running job


@dataclass(slots=True, frozen=True)
class CurrentJob:
    """The job that runs now, in this thread of a worker.

    Attributes:
        id: 32 hex digits.
        attempt: number of this attempt, higher at each next one; no count: no two attempts have the same.
        task: name of the task, or of the shipped function.
        worker: name of the worker.
        retries: how many attempts ended in an exception and were followed by another.
        deadline: Unix time at which it will be stopped; None: it has no limit.
        host: name of the machine.
        resources: what it has while it runs, as it asked for it: amounts by name.
        devices: of these, the names of its GPUs, as in CUDA_VISIBLE_DEVICES.
    """

    id: str
    attempt: int
    task: str
    worker: str
    retries: int = 0
    deadline: float | None = None
    host: str = ""
    resources: Mapping[str, float] = field(default_factory=dict)
    devices: tuple[str, ...] = ()

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

# Called by workers before the outcomes of jobs are told: clients that a process has opened put themselves here.
before_outcomes: Final[list[Callable[[], None]]] = []

_running: Callable[[], CurrentJob | None] | None = None
_teller: Tell | None = None
_requested: Callable[[], Request | None] | None = None


def set_current(
    running: Callable[[], CurrentJob | None] | None,
    teller: Tell | None = None,
    requested: Callable[[], Request | None] | None = None,
) -> None:
    """For workers: how to find out what runs now, and how to tell of it. Asked when a job asks, not before."""
    global _running, _teller, _requested
    _running, _teller, _requested = running, teller, requested


def current_job() -> CurrentJob | None:
    """The job that is running in this thread; None outside of a worker.

    Where a worker's slots are processes, it is the job in the threads that the job has started, too; where they are
    threads, hand it to these.
    """
    return _running() if _running is not None else None


def current_priority() -> int | None:
    """The priority of the job that is running in this thread; None outside of a worker."""
    request = _requested() if _requested is not None else None
    priority: int | None = None if request is None else request.delivery_info.get("priority")
    return priority


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
