"""AsyncResult: a job with Celery's names and meanings."""

from collections.abc import Callable, Generator
from typing import Any, Final, Generic, Literal, Self, TypeVar, overload

from zmqtasks.errors import JobExpired, RemoteTraceback
from zmqtasks.submitter.results import Job

R = TypeVar("R")

_CELERY_STATES: Final = {"submitted": "PENDING", "succeeded": "SUCCESS", "failed": "FAILURE", "cancelled": "REVOKED"}


class _Named(Generic[R]):
    """A job by its id, found when somebody asks for more than that."""

    __slots__ = ("_find", "_found", "id")

    def __init__(self, job_id: str, find: Callable[[], Job[R]]) -> None:
        self.id = job_id
        self._find = find
        self._found: Job[R] | None = None

    def job(self) -> Job[R]:
        if self._found is None:
            self._found = self._find()
        return self._found


class AsyncResult(Generic[R]):
    """The outcome of a job, under its id.

    Args:
        job_id: 32 hex digits, or the task_id that was given.
        find: makes the Job, when somebody asks for more than the id.
    """

    __slots__ = ("__weakref__", "_behind")  # scripts hold a million of them: one more is 16 bytes more

    _behind: Job[R] | _Named[R]

    def __init__(self, job_id: str, find: Callable[[], Job[R]]) -> None:
        self._behind = _Named(job_id, find)

    @classmethod
    def of(cls, job: Job[R], job_id: str | None = None) -> Self:
        """The AsyncResult of a job at hand.

        Args:
            job: any.
            job_id: its id, as the user gave it; None: he gave none.
        """
        made = cls.__new__(cls)
        made._behind = job if job_id is None else _Named(job_id, lambda: job)  # noqa: SLF001  (its own)
        return made

    @property
    def id(self) -> str:
        """32 hex digits, or the task_id that was given."""
        return self._behind.id

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.id

    @property
    def job(self) -> Job[R]:
        """The Job behind it."""
        behind = self._behind
        return behind if isinstance(behind, Job) else behind.job()

    @overload
    def get(self, timeout: float | None = None, *, propagate: Literal[True] = True) -> R: ...
    @overload
    def get(self, timeout: float | None = None, *, propagate: bool) -> R | BaseException: ...

    def get(self, timeout: float | None = None, *, propagate: bool = True) -> R | BaseException:
        """Wait for the result.

        Args:
            timeout: seconds; None waits as long as it takes.
            propagate: raise what the task raised; else return it.

        Raises:
            JobTimeout: not over in time; it goes on.
            Exception: what the task raised.
        """
        if propagate:
            return self.job.result(timeout)
        self.wait(timeout)
        outcome: R | BaseException = self.result  # type: ignore[assignment]  # it is over
        return outcome

    def __await__(self) -> Generator[Any, None, R]:
        """The value, or the exception, as awaiting the Job gives it."""
        return self.job.__await__()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is over, however it ends. Raises JobTimeout."""
        if not self.job.cancelled():
            try:
                self.job.exception(timeout)
            except Exception:
                if not self.job.done():
                    raise

    @property
    def state(self) -> str:
        """PENDING (not over, as far as is known here), SUCCESS, FAILURE or REVOKED.

        While the task runs, the word of its last `update_state`, or PROGRESS if it told `progress(done, total)`.
        """
        job = self.job
        told = job.told
        if told is not None and not job.done():
            return told.state or "PROGRESS"
        if job.state == "aborted":
            return "REVOKED" if isinstance(job.exception(0), JobExpired) else "FAILURE"
        return _CELERY_STATES[job.state]

    status = state

    @property
    def result(self) -> R | BaseException | None:
        """The value, or the exception; None while it is not over."""
        job = self.job
        if not job.done():
            return None
        try:
            return job.result(0)
        except Exception as error:  # noqa: BLE001  (whatever the task raised is the result)
            return error

    @property
    def info(self) -> Any:
        """The value, or the exception; while the task runs, the meta of its last `update_state`.

        What was told with `progress(done, total)` is here as {"done": ..., "total": ...}.
        """
        job = self.job
        told = job.told
        if job.done() or told is None:
            return self.result
        if told.meta is None and told.progress is not None:
            return dict(zip(("done", "total"), told.progress, strict=True))
        return told.meta

    @property
    def traceback(self) -> str | None:
        """The remote traceback of a failed task, as text."""
        result = self.result
        cause = result.__cause__ if isinstance(result, BaseException) and self.failed() else None
        return cause.text if isinstance(cause, RemoteTraceback) else None

    def ready(self) -> bool:
        """Whether it is over."""
        return self.job.done()

    def successful(self) -> bool:
        """Whether it ended with a value."""
        return self.job.state == "succeeded"

    def failed(self) -> bool:
        """Whether the task raised, or the system gave the job up."""
        return self.job.state in {"failed", "aborted"}

    def revoke(self, *, terminate: bool = False, timeout: float = 5.0) -> bool:
        """Cancel it.

        Args:
            terminate: even if it runs; its process is killed.
            timeout: seconds to wait for the scheduler's answer.

        Returns:
            Whether it is cancelled.
        """
        return self.job.cancel(force=terminate, timeout=timeout)

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"

    def __str__(self) -> str:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> Any:
        message = f"{self!r} cannot be pickled: pass its id, and make app.AsyncResult(id) where it is needed"
        raise TypeError(message)
