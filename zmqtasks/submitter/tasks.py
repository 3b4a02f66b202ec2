"""Task: what `@app.task` makes. Call it to run it here; submit it to run it on a worker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from zmqtasks.errors import BadOption, TaskNotRegistered, ZmqTasksError
from zmqtasks.routes import DESTINATION
from zmqtasks.submitter import broadcast, options
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.functions import Shipped
from zmqtasks.submitter.keys import KeyOf
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.routing import Plan, Routing
from zmqtasks.submitter.submitting import Item, Prepared, Submitting
from zmqtasks.task import TaskBase, current_priority

_OF_WORKERS = frozenset({"max_retries", "default_retry_delay", "autoretry_for", "dont_autoretry_for"})
_MAX_KEYS = 1_000  # keys of limits for which what their jobs share is remembered

P = ParamSpec("P")
R = TypeVar("R")


class TaskApp(Protocol):
    """What a task needs of its App."""

    @property
    def client(self) -> Client:
        """Connected, this process's own."""

    @property
    def is_local(self) -> bool:
        """Whether the workers are this script's own, so that its functions may be shipped to them."""

    @property
    def routing(self) -> Routing:
        """Where its jobs go."""

    def check_codec(self, codec: str) -> None:
        """Raises BadOption if nobody would decode it."""

    def takers(self, queue: str) -> list[str]:
        """The workers that take from a queue."""

    def run_here(
        self, task: "Task[..., Any]", args: Sequence[Any], kwargs: Mapping[str, Any], job_id: str | None = None
    ) -> AsyncResult[Any]:
        """Run a task here and now."""


class Sending(Generic[P, R]):
    """Submit one task with one set of options. `Task` is one, and `task.options(...)` makes others."""

    _task: "Task[P, R]"
    _given: dict[str, Any]

    def _start(self, task: "Task[P, R]", given: dict[str, Any], said: frozenset[str] = frozenset()) -> None:
        self._task = task
        self._given = given
        self._said = said  # names of options that go before any route
        self._ready: tuple[Submitting, Prepared] | None = None
        self._by_keys: dict[tuple[Any, ...], Sending[P, R]] = {}

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Run the task on a worker.

        Raises:
            PayloadError: an argument cannot be encoded with the task's serializer; names it.
            QueueFull: no room within the app's submit_timeout.
            TaskNotRegistered: the task is written in the script itself, and the workers are not this script's own.
        """
        submitting, prepared = self.keyed(args, kwargs).prepared()
        return submitting.send_one(prepared, args, kwargs, submitting.submit_timeout)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `submit`, without blocking the event loop; await the Job that it returns for the value."""
        import asyncio

        from zmqtasks.submitter import aio

        sending = self.keyed(args, kwargs)
        if not sending.connected:
            await asyncio.to_thread(sending.prepared)
        submitting, prepared = sending.prepared()
        if isinstance(submitting, broadcast.Broadcasting):  # the scheduler has to answer first
            return await asyncio.to_thread(submitting.send_one, prepared, args, kwargs, submitting.submit_timeout)
        return await aio.send(submitting, prepared, args, kwargs)

    def map(self, items: Iterable[Any]) -> list[Job[R]]:
        """One job per item, each with the item as its only argument, as one batch."""
        return self._many([((item,), {}) for item in items])

    def starmap(self, items: Iterable[Sequence[Any]]) -> list[Job[R]]:
        """One job per tuple of arguments, as one batch."""
        return self._many([(tuple(item), {}) for item in items])

    def submit_many(self, calls: Iterable[Item]) -> list[Job[R]]:
        """One job per (args, kwargs) pair, as one batch."""
        return self._many(list(calls))

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `submit`, with Celery's kind of result; with the setting `task_always_eager` it runs here and now."""
        if self._task.eager:
            return self._task.app.run_here(self._task, args, kwargs)
        submitting, prepared = self.keyed(args, kwargs).prepared()
        return AsyncResult.of(submitting.send_one(prepared, args, kwargs, submitting.submit_timeout))

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        **given: Any,
    ) -> AsyncResult[R]:
        """As `delay`, with options.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            task_id: an id of your own.
            given: countdown, eta, queue, retries and the other options of `options(...)`.
        """
        sending = self.options(job_id=task_id, **given) if task_id is not None or given else self
        if self._task.eager:
            return self._task.app.run_here(self._task, args, kwargs or {}, task_id)
        submitting, prepared = sending.keyed(args, kwargs or {}).prepared()
        job = submitting.send_one(prepared, tuple(args), dict(kwargs or {}), submitting.submit_timeout)
        return AsyncResult.of(job, task_id)

    def options(self, **given: Any) -> "Sending[P, R]":
        """The same task with these options for its jobs; see `Client.options`."""
        made: Sending[P, R] = Sending()
        given = self._task.app.routing.addressed(given)
        said = self._said.union(name for name, value in given.items() if value is not None)
        checked = options.check({**self._given, **given})
        if given.get("serializer") is not None:
            self._task.app.check_codec(checked["serializer"])
        made._start(self._task, checked, said)
        return made

    def _many(self, calls: list[Item]) -> list[Job[R]]:
        if self._task.by_arguments:
            return self._many_keyed(calls)
        submitting, prepared = self.prepared()
        return submitting.send_batch(prepared, calls)

    def _many_keyed(self, calls: list[Item]) -> list[Job[R]]:
        """A batch for each of the keys that these calls have."""
        places: dict[Sending[P, R], list[int]] = {}
        for place, (args, kwargs) in enumerate(calls):
            places.setdefault(self.keyed(args, kwargs), []).append(place)
        jobs: dict[int, Job[R]] = {}
        for sending, some in places.items():
            submitting, prepared = sending.prepared()
            jobs.update(zip(some, submitting.send_batch(prepared, [calls[place] for place in some]), strict=True))
        return [jobs[place] for place in range(len(calls))]

    def keyed(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "Sending[P, R]":
        """Itself; or, where limits have keys or functions route, the one with the options for these arguments."""
        task = self._task
        if not task.by_arguments:
            return self
        own: dict[str, Any] = {
            option: key(args, kwargs) for option, key in task.keys.items() if option not in self._given
        }
        if task.asked:
            own = {**self._route(args, kwargs), **own}
        if task.inherits and "priority" not in self._given and (priority := current_priority()) is not None:
            own.setdefault("priority", priority)
        if not own:
            return self
        found = tuple(sorted(own.items()))
        try:
            sending = self._by_keys.get(found)
        except TypeError:  # a value that cannot be hashed
            return self.options(**own)
        if sending is None:
            if len(self._by_keys) >= _MAX_KEYS:
                self._by_keys.clear()
            sending = self._by_keys[found] = self.options(**own)
        return sending

    def _route(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What routing functions say of these arguments, as far as neither the task nor the call says it."""
        task = self._task
        found = task.app.routing.of_job(task.name, args, kwargs, self._given, task)
        return {name: value for name, value in found.items() if name not in self._said | task.own}

    def prepared(self) -> tuple[Submitting, Prepared]:
        """What all jobs share, made once per connection."""
        task, ready = self._task, self._ready
        if ready is None and task.nowhere is not None and "queue" not in self._given:
            raise task.nowhere
        client = task.app.client
        if ready is not None and ready[0].connection is client.connection:
            shipped = ready[1].shipped
            if not ready[0].timed and (shipped is None or (shipped.lasting and shipped.fresh())):
                return ready
        submitting = broadcast.submitting(task.app, client, self._given)
        prepared = submitting.prepare_task(task.name, task.serializer, self._shipped(task, client))
        self._ready = submitting, prepared
        return self._ready

    @property
    def connected(self) -> bool:
        """Whether the next job needs no connecting, which may take seconds."""
        return self._ready is not None and self._ready[0].connection.usable

    @staticmethod
    def _shipped(task: "Task[P, R]", client: Client) -> Shipped | None:
        """Tasks of the script itself go by value to the workers that are its own."""
        if not task.in_main:
            return None
        if not task.app.is_local:
            raise TaskNotRegistered(
                f"task {task.name} is written in the script itself, which the workers of {client.url} cannot import: "
                f"move it to a module and start the workers with -A MODULE, or ship the function: client.submit(fn)"
            )
        # The task object knows what to retry and whether it wants itself; a plain function is cheaper to check.
        whole = task.bind or task.autoretry_for or task.dont_autoretry_for or type(task) is not Task
        return Shipped(task if whole or _speaks_of_retries(task.fn) else task.fn)


class Task(TaskBase[P, R], Sending[P, R]):
    """A registered function. Made by `@app.task`; with ``base=`` of a class that is derived from this one.

    Args:
        app: where it is registered.
        fn: the function.
        declared: see `zmqtasks.task.TaskBase`.
    """

    def __init__(self, app: TaskApp | None = None, fn: Callable[P, R] | None = None, **declared: Any) -> None:
        if app is None or fn is None:
            if "fn" not in vars(self):
                raise BadOption("a task is made by @app.task")
            return  # the __init__ of a class of one's own calls this one: all is in place
        super().__init__(fn, **declared)
        self.app = app
        self.keys: Mapping[str, KeyOf] = {}  # of its limits, by their options
        self.asked = self.by_arguments = self.eager = self.inherits = False
        self.own: frozenset[str] = frozenset()
        self.nowhere: ZmqTasksError | None = None
        self._start(self, self.defaults)

    def declare(self, serializer: str, defaults: dict[str, Any]) -> None:
        """Give it another codec and other options of its jobs, from the next one on."""
        self.serializer = serializer
        self.defaults = self._given = defaults
        self.queue = defaults.get("queue")
        self._ready = None
        self._by_keys.clear()

    def settle(self, plan: Plan, keys: Mapping[str, KeyOf], *, inherits: bool) -> None:
        """Tell it what the settings make of it, and what tells its jobs apart."""
        self.keys = keys
        self.asked = plan.asked and not plan.own.issuperset({"queue", "priority"})
        self.inherits = inherits  # the priority of the job that submits
        self.by_arguments = bool(keys) or self.asked or inherits
        self.own = plan.own if plan.own.isdisjoint(DESTINATION) else plan.own.union({"queue"})
        self.nowhere = plan.error
        for name in plan.annotated & _OF_WORKERS & plan.given.keys():
            setattr(self, name, tuple(plan.given[name]) if name.endswith("_for") else plan.given[name])

    @classmethod
    def make(cls, app: TaskApp, fn: Callable[P, R], **declared: Any) -> "Task[P, R]":
        """A task of this class. Its own `__init__`, if it has one, takes nothing and comes last, as in Celery."""
        made = cls.__new__(cls)
        Task.__init__(made, app, fn, **declared)
        if cls.__init__ is not Task.__init__:
            cast("Callable[[Task[P, R]], None]", cls.__init__)(made)
        return made

    def __reduce__(self) -> Any:
        told = super().__reduce__()
        if isinstance(told, tuple):
            told[2].update(_ready=None, _by_keys={}, keys={}, by_arguments=self.asked)  # they belong to a connection
        return told


def _speaks_of_retries(fn: Callable[..., Any]) -> bool:
    """Whether a function may ask to be tried again, which is counted by what its task says."""
    code: CodeType | None = getattr(fn, "__code__", None)
    return code is not None and not {"Retry", "retry"}.isdisjoint(code.co_names)
