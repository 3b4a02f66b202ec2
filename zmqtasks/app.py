"""App: a set of named tasks, and the scheduler that their jobs go to."""

import difflib
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, overload

from zmqtasks import local, payload
from zmqtasks.config import DEFAULT_QUEUE
from zmqtasks.errors import AppNotLoaded, BadOption, ZmqTasksError
from zmqtasks.submitter import options
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.client import LOCAL, Client, named_broker
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.submitting import Item
from zmqtasks.submitter.tasks import Task

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

_TASK_OPTIONS: Final = frozenset({
    "name", "bind", "queue", "serializer", "max_retries", "autoretry_for", "dont_autoretry_for", "retry_backoff",
    "retry_backoff_max", "retry_jitter", "crash_budget", "result_ttl", "ignore_result", "acks_late",
    "durability",
})  # fmt: skip
_FIRST_BACKOFF = 1.0  # seconds, with retry_backoff=True


@dataclass(slots=True)
class Conf:
    """Settings of an app.

    Attributes:
        broker_url: tcp://, ipc:// or local://; None: ZMQTASKS_BROKER, zmqtasks.toml, else local://.
        serializer: codec of tasks that name none.
        accept: codecs that results are decoded from.
        default_queue: queue of tasks that name none.
        connect_timeout: seconds until the scheduler must have answered.
        submit_timeout: seconds that submitting waits for room.
    """

    broker_url: str | None = None
    serializer: str = "msgpack"
    accept: Collection[str] = payload.ALL_CODECS
    default_queue: str = DEFAULT_QUEUE
    connect_timeout: float = 5.0
    submit_timeout: float = 30.0

    def update(self, **given: Any) -> None:
        """Change several settings. Raises BadOption for one that does not exist."""
        known = [field.name for field in fields(self)]
        for name, value in given.items():
            if name not in known:
                raise BadOption(f"there is no setting {name}{_near(name, known)} (there are: {', '.join(known)})")
            setattr(self, name, value)


class App:
    """A set of named tasks.

    Args:
        name: for people.
        broker: tcp://HOST:PORT, ipc://PATH or local://; None: the environment's ZMQTASKS_BROKER, `broker` in
            zmqtasks.toml, else local://, a scheduler and workers of this process's own.
        include: modules that hold tasks of this app; workers import them.
        settings: see Conf.

    Attributes:
        tasks: by name.
        conf: see Conf.
    """

    def __init__(self, name: str, broker: str | None = None, include: Iterable[str] = (), **settings: Any) -> None:
        self.name = name
        self.include = list(include)
        self.tasks: dict[str, Task[..., Any]] = {}
        self.conf = Conf(broker_url=broker)
        self.conf.update(**settings)
        self._module = sys._getframe(1).f_globals.get("__name__", "__main__")  # noqa: SLF001  (workers import it)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._local = False

    # ------------------------------------------------------------------------------------------ tasks

    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, /, *, bind: Literal[True], **declared: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
    @overload
    def task(self, /, **declared: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, fn: Callable[..., Any] | None = None, /, **declared: Any) -> Any:
        """Register a function as a task; with or without options.

        Args:
            fn: the function.
            declared: name (else module.function), bind (pass the task as first argument), queue, serializer ("msgpack",
                "json", "pickle", "cloudpickle"), autoretry_for (exceptions), dont_autoretry_for, max_retries (attempts
                after these exceptions, 3), retry_backoff (seconds before the first, doubling; True is 1 s),
                retry_backoff_max (600 s), retry_jitter (True: wait for a random share of it), crash_budget (3),
                result_ttl (seconds), ignore_result (the scheduler keeps no result once it is delivered), durability
                ("disk", "os" or "memory": what an accepted job outlives), acks_late (False: at most once).

        Raises:
            BadOption: there is no such option, or it cannot have that value.
            NotAvailable: the option is planned, but not built yet; or the function is an async one.
            ZmqTasksError: another task has that name.
        """
        if fn is not None:
            return self._register(fn, {})
        given = _declared(declared)
        return lambda function: self._register(function, given)

    def _register(self, fn: Callable[..., Any], given: dict[str, Any]) -> Task[..., Any]:
        if not callable(fn):
            raise BadOption(f"@app.task makes a task of a function, not of {fn!r}")
        payload.refuse_async(fn)
        name = given.get("name") or payload.function_name(fn)
        known = self.tasks.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (fn.__module__, fn.__qualname__):
            raise ZmqTasksError(
                f"two tasks are called {name!r}: {payload.function_name(known.fn)} and {payload.function_name(fn)}; "
                f"give one of them a name: @app.task(name=…)"
            )
        task: Task[..., Any] = Task(
            self,
            fn,
            name=name,
            bind=given.get("bind", False),
            serializer=_codec(given.get("serializer", self.conf.serializer)),
            autoretry_for=tuple(given.get("autoretry_for", ())),
            dont_autoretry_for=tuple(given.get("dont_autoretry_for", ())),
            defaults=self._defaults(given),
        )
        self.tasks[name] = task
        return task

    def _defaults(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What a task declares, as options of its jobs."""
        backoff = given.get("retry_backoff", False)
        queue = given.get("queue", self.conf.default_queue)
        return options.check({
            "queue": queue if queue != DEFAULT_QUEUE else None,
            "retries": given.get("max_retries", 3) if given.get("autoretry_for") else None,
            "backoff": _FIRST_BACKOFF if backoff is True else backoff or None,
            "backoff_max": given.get("retry_backoff_max"),
            "jitter": bool(given.get("retry_jitter", True)) if backoff else None,
            "crash_budget": given.get("crash_budget"),
            "result_ttl": 0.0 if given.get("ignore_result") else given.get("result_ttl"),
            "durability": given.get("durability"),
            "acks_late": given.get("acks_late"),
        })  # fmt: skip

    def load(self) -> None:
        """Import what the app includes.

        Raises:
            AppNotLoaded: a module cannot be imported; names it and the innermost cause.
        """
        for module in self.include:
            try:
                importlib.import_module(module)
            except Exception as error:
                root: BaseException = error
                while (inner := root.__cause__ or root.__context__) is not None:
                    root = inner
                raise AppNotLoaded(
                    f"app {self.name!r} includes {module}, which cannot be imported: {type(root).__name__}: {root}"
                ) from error

    # ------------------------------------------------------------------------------------------ jobs

    def send_task(
        self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **given: Any
    ) -> AsyncResult[Any]:
        """Run a task by its name, known to this app or only to its workers; options as in `Task.apply_async`."""
        task = self.tasks.get(name)
        if task is not None:
            return task.apply_async(args, kwargs, **given)
        if "task_id" in given:
            given["job_id"] = given.pop("task_id")
        serializer = given.pop("serializer", self.conf.serializer)
        sending = self.client.options(**given)
        return AsyncResult.of(sending.send_task(name, args, dict(kwargs or {}), serializer=serializer))

    def submit_many(self, task: Task[..., R], calls: Iterable[Item]) -> list[Job[R]]:
        """One job per (args, kwargs) pair, as one batch."""
        return task.submit_many(calls)

    def AsyncResult(self, job_id: str) -> AsyncResult[Any]:  # noqa: N802  (Celery's name)
        """The result of an id, whoever submitted the job."""
        return AsyncResult(job_id, lambda: self.client.job(job_id))

    # ------------------------------------------------------------------------------------------ the connection

    @property
    def client(self) -> Client:
        """The connection of this process; made on first use.

        Raises:
            SchedulerUnreachable: nobody answers at the broker's URL.
        """
        client = self._client
        return client if client is not None and client.connection.usable else self._connect()

    @property
    def is_local(self) -> bool:
        """Whether the workers are this process's own (``local://``)."""
        return self._local

    def _connect(self) -> Client:
        with self._lock:
            if self._client is None or not self._client.connection.usable:
                conf = self.conf
                named = named_broker(conf.broker_url)
                url = named or LOCAL
                self._local = url.startswith(LOCAL)
                if self._local:
                    url = local.shared(self._spec(), by_default=named is None).url
                self._client = Client(
                    url, connect_timeout=conf.connect_timeout, submit_timeout=conf.submit_timeout, accept=conf.accept
                )
                self._client.is_local = self._local
            return self._client

    def _spec(self) -> str | None:
        """MODULE:ATTRIBUTE that a worker imports this app by; None if it lives in the script itself."""
        module = sys.modules.get(self._module)
        if module is None or self._module == "__main__":
            return None
        names = [name for name, value in vars(module).items() if value is self]
        return f"{self._module}:{names[0]}" if names else None

    def close(self) -> None:
        """Close the connection, if there is one; the next job makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __reduce__(self) -> Any:
        """For tasks that are shipped by value: the same settings, and where the scheduler is now."""
        broker = self._client.url if self._client is not None else self.conf.broker_url
        return App, (self.name, broker, self.include)

    def __repr__(self) -> str:
        return f"<App {self.name}, {len(self.tasks)} tasks>"


def _declared(given: dict[str, Any]) -> dict[str, Any]:
    """Options of @app.task, checked."""
    found = options.check(given, _TASK_OPTIONS, "task option")
    for name in ("autoretry_for", "dont_autoretry_for"):
        kinds = found.get(name, ())
        if not isinstance(kinds, (tuple, list)) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
        ):
            raise BadOption(f"task option {name}= is a tuple of exceptions, not {kinds!r}")
    retries = found.get("max_retries", 0)
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise BadOption(f"task option max_retries= is a number of attempts, 0 or more, not {retries!r}")
    return found


def _codec(name: str) -> str:
    try:
        payload.encoder(name)
    except ZmqTasksError as error:
        raise BadOption(f"task option serializer=: {error}") from None
    return name


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
