"""Task: a registered function, with Celery's signatures."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, ParamSpec, TypeVar, cast

from zmqtasks.celery import _later, _options
from zmqtasks.celery.result import AsyncResult, EagerResult
from zmqtasks.errors import BadOption, MaxRetriesExceeded, Retry, SchedulerUnreachable
from zmqtasks.submitter import tasks
from zmqtasks.task import DEFAULT_RETRY_DELAY

__all__ = ["Task"]

P = ParamSpec("P")
R = TypeVar("R")


class _Option:
    """An option of a task, to read; a class of one's own declares it by an attribute of that name.

    Args:
        of: tells it from the options of the task's jobs.
    """

    def __init__(self, of: Callable[[Mapping[str, Any]], Any] | None = None) -> None:
        self._of = of
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, task: Any, owner: type | None = None) -> Any:
        if task is None:
            return None
        return task.defaults.get(self._name) if self._of is None else self._of(task.defaults)

    def __set__(self, task: Any, value: object) -> None:
        raise BadOption(
            f"{task.name}: write @app.task({self._name}={value!r}), or the setting task_annotations; "
            "app.control changes it while all runs"
        )


@_later.without("task", _later.TASK)
class Task(tasks.Task[P, R]):
    """What `@app.task` makes; the class to derive one's own from."""

    MaxRetriesExceededError = MaxRetriesExceeded
    OperationalError = SchedulerUnreachable

    # Declared, so that it holds for `autoretry_for` without `retry_backoff`, too; natively these are tried at once.
    default_retry_delay = DEFAULT_RETRY_DELAY

    rate_limit: Any = _Option()
    priority: Any = _Option()
    expires: Any = _Option()
    compression: Any = _Option()
    time_limit: Any = _Option()
    soft_time_limit: Any = _Option()
    acks_late: Any = _Option(lambda given: given.get("acks_late", True))
    ignore_result: Any = _Option(lambda given: given.get("result_ttl") == 0.0)

    @property
    def in_main(self) -> bool:
        """Whether it has to be shipped: Celery's tasks of a script go by their name."""
        return super().in_main and self.app.is_local

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Run it on a worker; with the setting `task_always_eager` here and now."""
        if self.eager:
            return cast("AsyncResult[R]", self.app.run_here(self, args, kwargs))
        return AsyncResult.of(self.submit(*args, **kwargs))

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: object = None,
        link_error: object = None,
        task_id: str | None = None,
        retries: int = 0,
        throw: bool | None = None,  # noqa: FBT001  (Celery's signature)
        **given: Any,
    ) -> EagerResult[R]:
        """Run it here and now, as a worker would: with a request, its hooks, and retries that follow at once.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            link, link_error: callbacks come later.
            task_id: that `self.request` has; None: a new one.
            retries: how often it has been tried again before.
            throw: raise what it raises; None: as the setting `task_eager_propagates` says.
            given: options as of `apply_async`; they are checked, and have no meaning here.

        Raises:
            Exception: what it raises.
        """
        self._sending({"link": link, "link_error": link_error, **given})  # only to be checked
        app: Any = self.app
        done: EagerResult[R] = app.run_here(self, args or (), kwargs or {}, task_id, retries=retries or 0, throw=throw)
        return done

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
        sending = self._sending({"job_id": task_id, **given})
        if self.eager:
            return cast("AsyncResult[R]", self.app.run_here(self, args or (), kwargs or {}, task_id))
        return AsyncResult.of(sending.submit(*args or (), **kwargs or {}), task_id)

    def _sending(self, given: Mapping[str, Any]) -> tasks.Sending[..., R]:
        """With these options of Celery's. Raises BadOption and NotAvailable."""
        options = _options.of_job(given, lambda: self._zone)
        return self.options(**options) if options else self

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
        if self.request.is_eager:
            return
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
