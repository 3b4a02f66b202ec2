"""App: a set of named tasks, and the scheduler that their jobs go to."""

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, overload

from zmqtasks import local, payload
from zmqtasks.conf.configured import Configured
from zmqtasks.conf.origin import Layer, Origin, caller
from zmqtasks.config import DEFAULT_QUEUE
from zmqtasks.control import Control
from zmqtasks.errors import AppNotLoaded, BadOption, ZmqTasksError
from zmqtasks.operators import Operator
from zmqtasks.queues import name_of
from zmqtasks.routes import over
from zmqtasks.submitter import broadcast, declaring, options
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.client import LOCAL, Client
from zmqtasks.submitter.eagerresult import EagerResult
from zmqtasks.submitter.keys import KeyOf
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.routing import Plan, Routing
from zmqtasks.submitter.submitting import Item, Prepared, Submitting
from zmqtasks.submitter.tasks import Task
from zmqtasks.task import DEFAULT_RETRY_DELAY, MAX_RETRIES, current_priority

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)

_KEYS: Final = ("rate_key", "concurrency_key")
_NOT_ANNOTATED: Final = frozenset({"base", "bind", "name"})  # what a task is, not what is said about it


class App(Configured):
    """A set of named tasks.

    Args:
        name: for people.
        broker: tcp://HOST:PORT, ipc://PATH or local://; None: the environment's ZMQTASKS_BROKER, `broker` in
            zmqtasks.toml, else local://, a scheduler and workers of this process's own.
        include: modules that hold tasks of this app; workers import them.
        settings: see `zmqtasks.conf.settings.Conf`.

    Attributes:
        tasks: by name.
        conf: the settings; what is changed here holds for all tasks at once, and for connections made later.
        include_origin: where the constructor was given modules to include; None: it was not.

    Raises:
        BadOption: there is no such setting, or it cannot have that value.
    """

    def __init__(self, name: str, broker: str | None = None, include: Iterable[str] = (), **settings: Any) -> None:
        self.name = name
        self.tasks: dict[str, Task[..., Any]] = {}
        self.include = include
        self.include_origin = Origin(Layer.SET, caller()) if self._include else None
        self._declared: dict[str, dict[str, Any]] = {}  # options of tasks, by their names
        self._routing: Routing | None = None  # what the settings say about queues; made on first use
        super().__init__(self._refresh)
        self.conf.update(settings if broker is None else {"broker_url": broker, **settings})
        self._module = sys._getframe(1).f_globals.get("__name__", "__main__")  # noqa: SLF001  (workers import it)
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._local = False

    # ------------------------------------------------------------------------------------------ settings

    @property
    def include(self) -> list[str]:
        """Modules that hold tasks of this app: those given to it, and those of the settings `imports` and `include`."""
        return list(dict.fromkeys((*self._include, *self.conf.imports, *self.conf.include)))

    @include.setter
    def include(self, modules: Iterable[str]) -> None:
        self._include = list(modules)

    def _refresh(self) -> None:
        """The settings have changed: so have the defaults of tasks; of all, or, with an error, of none."""
        before, self._routing = self._routing, None
        try:
            plans = {name: self.routing.plan(name, given) for name, given in self._declared.items()}
            made = {name: (self._serializer(plan.given), self._defaults(plan)) for name, plan in plans.items()}
        except ZmqTasksError:
            self._routing = before
            raise
        for name, (serializer, defaults) in made.items():
            task = self.tasks.get(name)
            if task is not None:
                task.declare(serializer, defaults)
                inherits = self.conf.task_inherit_parent_priority
                task.settle(plans[name], self._keys(task.fn, plans[name].said), inherits=inherits)
                task.eager = self.conf.task_always_eager

    @property
    def routing(self) -> Routing:
        """What the settings say about queues, routes and annotations, ready for use."""
        made = self._routing
        if made is None:
            made = self._routing = Routing(self.conf, _annotated)
        return made

    def plans(self) -> dict[str, Plan]:
        """What becomes of each task of this app: its queue, and why."""
        return {name: self.routing.plan(name, given) for name, given in sorted(self._declared.items())}

    def _serializer(self, given: Mapping[str, Any]) -> str:
        """The codec of a task that declares these options. Raises BadOption if nobody would decode it."""
        codec = str(given.get("serializer", self.conf.task_serializer))
        self.check_codec(codec, "task option")
        return codec

    def check_codec(self, codec: str, what: str = "option") -> None:
        """Raises BadOption if the workers of this app, or its scripts, would refuse what is encoded by it."""
        conf = self.conf
        for setting, accept in (("accept", conf.accept_content), ("result_accept", conf.result_accept_content)):
            if not payload.accepts(codec, accept):
                raise BadOption(
                    f"{what} serializer= is {codec}, and {setting}_content holds only "
                    f"{', '.join(sorted(accept))}: its {'jobs' if setting == 'accept' else 'results'} would be refused"
                )

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
                "json", "pickle", "cloudpickle"), compression and result_compression ("gzip", "zstd": of arguments and
                results), autoretry_for (exceptions), dont_autoretry_for, max_retries (attempts
                after these exceptions and after `self.retry`, 3; None: for ever), retry_backoff (seconds before the
                first, doubling; True is 1 s), retry_backoff_max (600 s), retry_jitter (True: wait for a random share of
                it), default_retry_delay (seconds where there is no retry_backoff; 180 s after `self.retry`), base (a
                class derived from Task), exchange and routing_key (instead of queue, see docs/routing.md),
                crash_budget (3),
                result_ttl (seconds), ignore_result (the scheduler keeps no result once it is delivered), durability
                ("disk", "os" or "memory": what an accepted job outlives), acks_late (False: at most once), priority (0
                to 9, the higher the sooner), expires (seconds after which a job does not start any more), rate_limit
                ("10/m": starts in the whole cluster), burst (of these, at once after a pause), rate_key (name of an
                argument, or a function of all: a rate for each of its values), concurrency_limit (how many run at once
                in the whole cluster), concurrency_key (as rate_key), resources (what a worker must have free for each:
                {"gpu": 1, "mem": "2GiB"}).

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
        kind: type[Task[..., Any]] = given.get("base", Task)
        plan = self.routing.plan(name, given)
        said = plan.given
        task = kind.make(
            self,
            fn,
            name=name,
            bind=given.get("bind", False),
            serializer=self._serializer(said),
            autoretry_for=tuple(said.get("autoretry_for", ())),
            dont_autoretry_for=tuple(said.get("dont_autoretry_for", ())),
            max_retries=said.get("max_retries", MAX_RETRIES),
            default_retry_delay=said.get("default_retry_delay", DEFAULT_RETRY_DELAY),
            defaults=self._defaults(plan),
        )
        task.settle(plan, self._keys(fn, plan.said), inherits=self.conf.task_inherit_parent_priority)
        task.eager = self.conf.task_always_eager
        self.tasks[name] = task
        self._declared[name] = given
        return task

    def _defaults(self, plan: Plan) -> dict[str, Any]:
        """What a task declares, else what its route says, else what the settings say, as options of its jobs."""
        conf, given = self.conf, plan.given
        said = {
            "queue": plan.queue if plan.queue not in {"", DEFAULT_QUEUE} else None,
            **declaring.retry_options(given),
            "crash_budget": given.get("crash_budget", None if conf.task_reject_on_worker_lost else 0),
            "result_ttl": self._result_ttl(given),
            "durability": given.get("durability"),
            "compression": given.get("compression", conf.task_compression),
            "result_compression": given.get("result_compression", conf.result_compression),
            "acks_late": given.get("acks_late", None if conf.task_acks_late else False),
            **self._policy(given),
        }
        own = declaring.TASK_OPTIONS
        routed = {name: value for name, value in given.items() if name not in own or _is_key(name, plan)}
        if said["rate_limit"] is None:
            routed.pop("rate_key", None)
        return options.check({**said, **{name: value for name, value in routed.items() if said.get(name) is None}})

    def _policy(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """When its jobs have their turn; keys are told by the arguments of each job."""
        conf = self.conf
        rate = None if conf.worker_disable_rate_limits else given.get("rate_limit", conf.task_default_rate_limit)
        return {
            "priority": given.get("priority", conf.task_default_priority),
            "expires": given.get("expires"),
            "rate_limit": rate,
            "burst": given.get("burst") if rate else None,
            "concurrency_limit": given.get("concurrency_limit"),
            "resources": given.get("resources"),
        }

    def _keys(self, fn: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, KeyOf]:
        """What tells jobs apart that have limits of their own."""
        bind = given.get("bind", False)
        names = [name for name in _KEYS if given.get(name) is not None]
        if self.conf.worker_disable_rate_limits and "rate_key" in names:
            names.remove("rate_key")
        return {name: KeyOf(fn, given[name], f"task option {name}", bind=bind) for name in names}

    def _result_ttl(self, given: Mapping[str, Any]) -> float | None:
        """A task that says how long its results are kept does not ignore them, whatever the settings say."""
        if given.get("ignore_result", "result_ttl" not in given and self.conf.task_ignore_result):
            return 0.0
        ttl: float | None = given.get("result_ttl", self.conf.result_expires)
        return ttl

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
        kwargs = dict(kwargs or {})
        submitting, prepared = self._by_name(name, args, kwargs, given)
        job = submitting.send_one(prepared, tuple(args), kwargs, submitting.submit_timeout)
        return AsyncResult.of(job, given.get("job_id"))

    def _by_name(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Mapping[str, Any]
    ) -> tuple[Submitting, Prepared]:
        """What submits a job of a task that only the workers know: the settings say of it what they say of any name."""
        plan = self.routing.plan(name, {})
        given = self.routing.addressed(given)
        if plan.asked:
            given = over(given, self.routing.of_job(name, args, kwargs, given, None))
        if plan.error is not None and "queue" not in given:
            raise plan.error
        said = {**self._defaults(plan), **given}
        if self.conf.task_inherit_parent_priority and said.get("priority") is None:
            said["priority"] = current_priority()
        submitting = broadcast.submitting(self, self.client, said)
        if given.get("serializer") is not None:
            self.check_codec(payload.named(given["serializer"]))
        return submitting, submitting.prepare_task(name, self._serializer(plan.given))

    def takers(self, queue: str) -> list[str]:
        """The names of the workers that take from a queue now, as the scheduler says.

        Raises:
            NoWorker: there is none; or one has no queue of its own, or shares its name.
            SchedulerUnreachable: the scheduler does not answer.
        """
        with Operator(self.client.url, self.conf.broker_connection_timeout) as operator:
            return broadcast.takers(operator.status().workers, queue)

    def run_here(
        self,
        task: Task[..., R],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        job_id: str | None = None,
        *,
        retries: int = 0,
        throw: bool | None = None,
    ) -> EagerResult[R]:
        """Run a task here and now, as a worker would; what `delay` does with the setting `task_always_eager`.

        Args:
            task: of this app.
            args: positional arguments.
            kwargs: keyword arguments.
            job_id: that `self.request` has; None: a new one.
            retries: how often it has been tried again before.
            throw: raise what the task raises; None: as the setting `task_eager_propagates` says.

        Raises:
            Exception: what the task raises.
        """
        from zmqtasks import eager  # most apps never need it

        result = eager.run(task, args, kwargs, job_id, retries)
        if self.conf.task_eager_propagates if throw is None else throw:
            result.get()
        return result

    def submit_many(self, task: Task[..., R] | str, calls: Iterable[Item], **given: Any) -> list[Job[R]]:
        """One job per (args, kwargs) pair, as one batch.

        Args:
            task: or its name, which perhaps only the workers know.
            calls: the pairs.
            given: options, as in `Task.options`.
        """
        if isinstance(task, str):
            if task not in self.tasks:
                return self._many_by_name(task, list(calls), given)
            task = self.tasks[task]
        return (task.options(**given) if given else task).submit_many(calls)

    def _many_by_name(self, name: str, calls: list[Item], given: dict[str, Any]) -> list[Job[Any]]:
        if not self.routing.plan(name, {}).asked:
            submitting, prepared = self._by_name(name, (), {}, given)
            return submitting.send_batch(prepared, calls)
        if "job_id" in given:
            raise BadOption("job_id= is for one job; a batch's jobs have ids of their own")
        jobs = []
        for args, kwargs in calls:  # each of them may go elsewhere
            submitting, prepared = self._by_name(name, args, kwargs, given)
            jobs.append(submitting.send_one(prepared, tuple(args), kwargs, submitting.submit_timeout))
        return jobs

    def AsyncResult(self, job_id: str) -> AsyncResult[Any]:  # noqa: N802  (Celery's name)
        """The result of an id, whoever submitted the job."""
        return AsyncResult(job_id, lambda: self.client.job(job_id))

    @property
    def control(self) -> Control:
        """Steer the scheduler of this app, while all runs."""
        return Control(lambda: self.client, self.conf.broker_connection_timeout)

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
                named = conf.broker_url
                url = named or LOCAL
                self._local = url.startswith(LOCAL)
                if self._local:
                    spec = self._spec()
                    url = local.shared(
                        spec,
                        by_default=named is None,
                        workers=conf.worker_concurrency,
                        pool=conf.worker_pool,
                        queues=() if spec else self._queues(),  # its workers cannot ask the script
                        direct=self.routing.direct,
                    ).url
                self._client = Client(
                    url,
                    connect_timeout=conf.broker_connection_timeout,
                    submit_timeout=conf.submit_timeout,
                    accept=conf.result_accept_content,
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

    def _queues(self) -> list[str]:
        """All queues that are known so far."""
        named = (plan.usual for plan in self.plans().values() if plan.usual)
        queues = self.routing.queues
        return list(dict.fromkeys((DEFAULT_QUEUE, queues.default, *queues.names, *named)))

    def close(self) -> None:
        """Close the connection, if there is one; the next job makes a new one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __reduce__(self) -> Any:
        """For tasks that are shipped by value: the same settings, and where the scheduler is now."""
        broker, settings = self.carried()
        broker = self._client.url if self._client is not None else broker
        return _again, (self.name, broker, self._include, settings)

    def __repr__(self) -> str:
        return f"<App {self.name}, {len(self.tasks)} tasks>"


def _again(name: str, broker: str | None, include: Iterable[str], settings: Mapping[str, Any]) -> App:
    """An App that travelled; see `App.__reduce__`."""
    return App(name, broker, include, **settings)


def _declared(given: dict[str, Any]) -> dict[str, Any]:
    """Options of @app.task, and of the class that it names, checked."""
    return _checked(declaring.declared(given))


def _is_key(name: str, plan: Plan) -> bool:
    """Whether it is a key that a route names, which is the key itself: a task names an argument that holds it."""
    return name in _KEYS and name not in plan.own


def _annotated(given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Options that an annotation gives to a task, checked. `what` they are called in errors."""
    return _checked(given, declaring.TASK_OPTIONS - _NOT_ANNOTATED, what)


def _checked(
    given: Mapping[str, Any], known: frozenset[str] = declaring.TASK_OPTIONS, what: str = options.TASK_OPTION
) -> dict[str, Any]:
    if "queue" in given:
        given = {**given, "queue": name_of(given["queue"])}
    return declaring.checked(given, known, what)
