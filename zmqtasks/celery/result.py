"""AsyncResult: the outcome of a job, with Celery's signatures."""

from contextlib import suppress
from typing import Any, Generic, Literal, TypeVar, cast, overload

from zmqtasks.celery import _state, states
from zmqtasks.celery._later import RESULT, RESULTS, getter, without
from zmqtasks.errors import JobTimeout, NotAvailable
from zmqtasks.operators import Operator
from zmqtasks.states import FINAL, RUNNING
from zmqtasks.states import name as word_of
from zmqtasks.submitter import asyncresult, eagerresult

__all__ = ["AsyncResult", "EagerResult"]

R = TypeVar("R")

_OVER = frozenset(map(word_of, FINAL))
_ARRIVES = 5.0  # seconds within which a result should have come from the scheduler
_IDLE = frozenset({"interval", "no_ack", "follow_parents", "disable_sync_subtasks"})  # nothing polls, nothing blocks


@without("result", RESULT)
class AsyncResult(asyncresult.AsyncResult[R], Generic[R]):
    """The outcome of a job, by its id.

    Args:
        id: 32 hex digits, or the task_id that was given.
        backend: not needed.
        task_name: not needed.
        app: whose scheduler has it; None: the current app's.
        parent: not needed.
    """

    __slots__ = ()

    TimeoutError = JobTimeout
    parent = None

    def __init__(
        self,
        id: str,  # noqa: A002  (Celery's name)
        backend: object = None,
        task_name: str | None = None,
        app: Any = None,
        parent: object = None,
    ) -> None:
        super().__init__(id, lambda: (app or _state.get_current()).client.job(id))

    @property
    def state(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE or REVOKED; or the word of the task's last `update_state`.

        The scheduler is asked while it is not over. It knows what runs from its workers, up to a second later.

        Raises:
            SchedulerUnreachable: it does not answer.
        """
        told = super().state
        if told != states.PENDING:
            return told
        with Operator(self.job.scheduler) as operator:
            report = operator.job(self.job.pair).job
        if report is not None and report.state in _OVER:  # and what came of it is on its way
            with suppress(JobTimeout):
                super().wait(_ARRIVES)
            return super().state
        if report is not None and report.state == word_of(RUNNING):
            return states.STARTED
        return states.RETRY if report is not None and report.retries else states.PENDING

    status = state

    @overload
    def get(self, timeout: float | None = None, propagate: Literal[True] = True, **celery: Any) -> R: ...  # noqa: FBT002  (Celery's signature)
    @overload
    def get(self, timeout: float | None = None, propagate: bool = True, **celery: Any) -> R | BaseException: ...  # noqa: FBT001, FBT002  (as above)

    def get(self, timeout: float | None = None, propagate: bool = True, **celery: Any) -> R | BaseException:  # noqa: FBT001, FBT002  (Celery's signature)
        """Wait for the result.

        Args:
            timeout: seconds; None waits as long as it takes.
            propagate: raise what the task raised; else return it.
            celery: interval and the like, which are not needed.

        Raises:
            JobTimeout: not over in time (`zmqtasks.celery.exceptions.TimeoutError`); it goes on.
            NotAvailable: a callback was given.
            Exception: what the task raised.
        """
        for name in celery.keys() - _IDLE:
            if celery[name] is not None:
                raise NotAvailable(
                    f"option {name}= of get() is not available; use result.job.add_done_callback(fn), or for what "
                    "update_state tells, add_progress_callback(fn)"
                )
        if propagate:
            return self.job.result(timeout)
        super().wait(timeout)
        return cast("R | BaseException", self.result)  # it is over

    wait = get  # type: ignore[assignment]  # it returns the value, as in Celery

    def maybe_throw(self, propagate: bool = True, callback: object = None) -> Any:  # noqa: FBT001, FBT002  (as above)
        """The value, or raise what the task raised; None while it is not over."""
        return self.get(0, propagate, callback=callback) if self.ready() else None

    maybe_reraise = maybe_throw

    def revoke(
        self,
        connection: object = None,
        terminate: bool = False,  # noqa: FBT001, FBT002  (Celery's signature)
        signal: object = None,
        wait: bool = False,  # noqa: FBT001, FBT002  (as above)
        timeout: float | None = None,
    ) -> bool:
        """Cancel it, and wait for the scheduler's answer.

        Args:
            connection: not needed.
            terminate: even if it runs; its process is killed.
            signal: not needed.
            wait: not needed: the answer is always waited for.
            timeout: seconds to wait for it; None: 5.

        Returns:
            Whether it is cancelled.
        """
        return super().revoke(terminate=terminate, timeout=5.0 if timeout is None else timeout)

    def forget(self) -> None:
        """Not needed: the scheduler drops a result when its time is over, see the setting `result_expires`."""


class EagerResult(eagerresult.EagerResult[R], AsyncResult[R], Generic[R]):
    """The outcome of a task that ran where it was called; see `zmqtasks.submitter.eagerresult`."""

    __slots__ = ()


__getattr__ = getter(__name__, RESULTS)
