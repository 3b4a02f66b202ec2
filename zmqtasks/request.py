"""What a task sees of the call that it is in: `self.request`, in Celery's words. And what went wrong, for its hooks.

A job of a worker is one kind of call, a task that is called as a function the other: there is no job to try again then,
wherever that happens. Nothing here is made before somebody asks for it.
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from zmqtasks.errors import Retry

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_DELIVERY: Final = ("exchange", "routing_key", "priority", "redelivered")


class Request:
    """The call that a task is in.

    Attributes:
        id: of the job, 32 hex digits; None: called directly.
        task: name of the task.
        called_directly: as a function, not by a worker.
        retries: how often the job was tried again before.
        attempt: number of this attempt, higher at each next one; no count: no two attempts have the same.
        hostname: name of the worker.
        given_up: what `Task.retry` raised because no retry was left; nothing tries the job again after it.
        delivery_info: where the job came from: see `delivery_info`; of a direct call all is None.
        is_eager: it is no job of a worker, but runs where it was called; see `zmqtasks.eager`.
        eta, expires, timelimit, parent_id, group, headers, …: for code that was written for Celery. The worker does not
            know them, or there is no such thing here.
    """

    eta: None = None
    expires: None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: None = None
    is_eager: bool = False
    timelimit: tuple[float | None, float | None] = (None, None)
    headers = properties = reply_to = origin = shadow = callbacks = errbacks = chain = chord = None
    loglevel = logfile = None
    utc: bool = True

    def __init__(
        self,
        *,
        id: str | None = None,  # noqa: A002  (Celery's name)
        task: str | None = None,
        retries: int = 0,
        attempt: int | None = None,
        hostname: str | None = None,
        arguments: Callable[[], Arguments] | None = None,
        retry_later: Callable[[Retry], None] | None = None,
        delivery_info: dict[str, Any] | None = None,
    ) -> None:
        self.id = id
        self.task = task
        self.called_directly = id is None
        self.retries = retries
        self.attempt = attempt
        self.hostname = hostname
        self.given_up: BaseException | None = None
        self.delivery_info: dict[str, Any] = delivery_info or dict.fromkeys(_DELIVERY)
        self.retry_later = retry_later
        self._arguments = arguments
        self._loaded: Arguments | None = None

    @property
    def root_id(self) -> str | None:
        """The same as `id`: no job is part of another one."""
        return self.id

    @property
    def correlation_id(self) -> str | None:
        """The same as `id`, which is what answers are known by."""
        return self.id

    @property
    def args(self) -> tuple[Any, ...] | None:
        """Positional arguments as they came, without the task itself; None: in no call. Decoded when asked for."""
        return None if self._arguments is None else self._load()[0]

    @property
    def kwargs(self) -> dict[str, Any] | None:
        """Keyword arguments as they came; None: in no call."""
        return None if self._arguments is None else self._load()[1]

    def _load(self) -> Arguments:
        if self._loaded is None:
            assert self._arguments is not None  # noqa: S101  (those who call this have looked)
            args, kwargs = self._arguments()
            self._loaded = tuple(args), kwargs
        return self._loaded

    def get(self, name: str, default: object = None) -> Any:
        """An attribute by its name, or the default."""
        return getattr(self, name, default)

    def has_arguments(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> bool:
        """Whether these are the job's own; None stands for them."""
        try:
            return bool((args is None or tuple(args) == self.args) and (kwargs is None or dict(kwargs) == self.kwargs))
        except Exception:  # noqa: BLE001  (user objects compare as they like; arrays have no single answer)
            return False

    def __repr__(self) -> str:
        return f"<request of {self.task}, {'called directly' if self.called_directly else f'job {self.id}'}>"


def delivery_info(queue: str, priority: int, *, redelivered: bool) -> dict[str, Any]:
    """Where a job came from, in Celery's words: AMQP's own exchange, in which a key is the name of a queue.

    Args:
        queue: that it stood in.
        priority: that it had when it left, 0 to 9.
        redelivered: a process has died in which it was running, or may have been.
    """
    return dict(zip(_DELIVERY, ("", queue, priority, redelivered), strict=True))


class ErrorInfo:
    """What went wrong in an attempt, for the hooks of a task.

    Attributes:
        exception: what was raised.
        type: its class.
        traceback: as Python prints it.
    """

    __slots__ = ("exception", "traceback", "type")

    def __init__(self, exception: BaseException, traceback: str) -> None:
        self.exception = exception
        self.type: Final = type(exception)
        self.traceback = traceback

    def __str__(self) -> str:
        return self.traceback

    def __repr__(self) -> str:
        return f"<ErrorInfo {self.exception!r}>"


class Call:
    """A task that runs in this thread because something here called it, or, `job`, because its class wraps the job.

    Attributes:
        task: the task itself.
        outer: the call around it.
        job: it is the job's own call, on its way through the `__call__` of a custom base class.
    """

    __slots__ = ("_args", "_kwargs", "_request", "entered", "job", "outer", "task")

    def __init__(self, task: object, args: tuple[Any, ...], kwargs: dict[str, Any], *, job: bool = False) -> None:
        self.task = task
        self.outer = calls.get()
        self.job = job
        self.entered = False
        self._args, self._kwargs = args, kwargs
        self._request: Request | None = None

    def enter(self, task: object) -> bool:
        """Whether the task is called, for the first time, by what its class has put around the job."""
        first = self.job and self.task is task and not self.entered
        self.entered |= first
        return first

    def request(self, name: str) -> Request:
        """Of a direct call; always the same one."""
        if self._request is None:
            self._request = Request(task=name, arguments=lambda: (self._args, self._kwargs))
        return self._request


calls: Final[ContextVar[Call | None]] = ContextVar("zmqtasks calls", default=None)  # the innermost one of this thread


def call_of(task: object) -> Call | None:
    """The innermost call of a task in this thread; None: nothing here has called it."""
    call = calls.get()
    while call is not None and call.task is not task:
        call = call.outer
    return call
