"""Task: what `@app.task` makes. Call it to run it here; submit it to run it on a worker."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from zmqtasks.errors import TaskNotRegistered
from zmqtasks.submitter import options
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.functions import Shipped
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.submitting import Item, Prepared, Submitting
from zmqtasks.task import TaskBase

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


class Sending(Generic[P, R]):
    """Submit one task with one set of options. `Task` is one, and `task.options(...)` makes others."""

    _task: "Task[P, R]"
    _given: dict[str, Any]

    def _start(self, task: "Task[P, R]", given: dict[str, Any]) -> None:
        self._task = task
        self._given = given
        self._ready: tuple[Submitting, Prepared] | None = None

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Run the task on a worker.

        Raises:
            PayloadError: an argument cannot be encoded with the task's serializer; names it.
            QueueFull: no room within the app's submit_timeout.
            TaskNotRegistered: the task is written in the script itself, and the workers are not this script's own.
        """
        submitting, prepared = self.prepared()
        return submitting.send_one(prepared, args, kwargs, submitting.submit_timeout)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `submit`, without blocking the event loop; await the Job that it returns for the value."""
        import asyncio

        from zmqtasks.submitter import aio

        if self._ready is None or not self._ready[0].connection.usable:
            await asyncio.to_thread(self.prepared)  # connects, which may take seconds
        submitting, prepared = self.prepared()
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
        """As `submit`, with Celery's kind of result."""
        submitting, prepared = self.prepared()
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
        submitting, prepared = sending.prepared()
        job = submitting.send_one(prepared, tuple(args), dict(kwargs or {}), submitting.submit_timeout)
        return AsyncResult.of(job)

    def options(self, **given: Any) -> "Sending[P, R]":
        """The same task with these options for its jobs; see `Client.options`."""
        made: Sending[P, R] = Sending()
        made._start(self._task, options.check({**self._given, **given}))
        return made

    def _many(self, calls: list[Item]) -> list[Job[R]]:
        submitting, prepared = self.prepared()
        return submitting.send_batch(prepared, calls)

    def prepared(self) -> tuple[Submitting, Prepared]:
        """What all jobs share, made once per connection."""
        task, ready = self._task, self._ready
        client = task.app.client
        if ready is not None and ready[0].connection is client.connection:
            shipped = ready[1].shipped
            if not ready[0].timed and (shipped is None or (shipped.lasting and shipped.fresh())):
                return ready
        submitting = client.options(**self._given)
        prepared = submitting.prepare_task(task.name, task.serializer, self._shipped(task, client))
        self._ready = submitting, prepared
        return self._ready

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
        whole = task.bind or task.autoretry_for or task.dont_autoretry_for
        return Shipped(task if whole else task.fn)


class Task(TaskBase[P, R], Sending[P, R]):
    """A registered function. Made by `@app.task`.

    Args:
        app: where it is registered.
        fn: the function.
        declared: see `zmqtasks.task.TaskBase`.
    """

    def __init__(self, app: TaskApp, fn: Callable[P, R], **declared: Any) -> None:
        super().__init__(fn, **declared)
        self.app = app
        self._start(self, self.defaults)

    def __reduce__(self) -> Any:
        told = super().__reduce__()
        if isinstance(told, tuple):
            told[2]["_ready"] = None  # it belongs to a connection
        return told
