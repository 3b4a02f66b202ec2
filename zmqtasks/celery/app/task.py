"""Task: a registered function, with Celery's signatures."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from zmqtasks.celery import _later, _options
from zmqtasks.celery.result import AsyncResult
from zmqtasks.errors import BadOption, MaxRetriesExceeded, Retry, SchedulerUnreachable
from zmqtasks.submitter import tasks
from zmqtasks.task import DEFAULT_RETRY_DELAY

__all__ = ["Task"]

P = ParamSpec("P")
R = TypeVar("R")


@_later.without("task", _later.TASK)
class Task(tasks.Task[P, R]):
    """What `@app.task` makes; the class to derive one's own from."""

    MaxRetriesExceededError = MaxRetriesExceeded
    OperationalError = SchedulerUnreachable

    # Declared, so that it holds for `autoretry_for` without `retry_backoff`, too; natively these are tried at once.
    default_retry_delay = DEFAULT_RETRY_DELAY

    @property
    def in_main(self) -> bool:
        """Whether it has to be shipped: Celery's tasks of a script go by their name."""
        return super().in_main and self.app.is_local

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Run it on a worker."""
        return AsyncResult.of(self.submit(*args, **kwargs))

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        **given: Any,
    ) -> AsyncResult[R]:
        """Run it on a worker, with options.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            task_id: an id of your own.
            given: countdown, eta, expires, queue, priority, … A time without a time zone is in that of the app.
        """
        options = _options.of_job({"job_id": task_id, **given}, lambda: self._zone)
        sending: tasks.Sending[..., R] = self.options(**options) if options else self
        return AsyncResult.of(sending.submit(*args or (), **kwargs or {}))

    def AsyncResult(self, task_id: str, **celery: Any) -> AsyncResult[R]:  # noqa: N802  (Celery's name)
        """The result of one of its jobs, by its id."""
        return AsyncResult(task_id, app=self.app)

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002  (Celery's signature)
        eta: datetime | float | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **given: Any,
    ) -> Retry:
        """Have the job tried again later; see `zmqtasks.task.TaskBase.retry`.

        Raises:
            BadOption: other options, too; a job is tried again with its own.
        """
        if more := [name for name, value in given.items() if value is not None]:
            raise BadOption(f"{self.name}: a job is tried again with its own options; retry() takes no {more[0]}=")
        eta = _options.aware(eta, lambda: self._zone)
        return super().retry(args, kwargs, exc, throw, eta, countdown, max_retries)

    def update_state(  # type: ignore[override]  # Celery's signature
        self, task_id: str | None = None, state: str | None = None, meta: object = None, **celery: Any
    ) -> None:
        """Tell the submitter where the running job stands.

        Raises:
            BadOption: `task_id` is not its own.
        """
        if task_id is not None and task_id != self.request.id:
            raise BadOption(
                f"{self.name}: a job tells of itself, and not of job {task_id}: update_state(state=…, meta=…)"
            )
        super().update_state(state or "PROGRESS", meta)

    @property
    def _zone(self) -> Any:
        """The time zone of the app: `zmqtasks.celery.app.base.Celery.timezone`."""
        app: Any = self.app
        return app.timezone
