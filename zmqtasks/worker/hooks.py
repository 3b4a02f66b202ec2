"""Around the jobs of a task with a class of its own: what that class wants to do before and after them."""

import logging
import os
from collections.abc import Callable
from typing import Any

from zmqtasks import payload
from zmqtasks.errors import PayloadTooLarge, Retry
from zmqtasks.request import ErrorInfo
from zmqtasks.task import CurrentJob, TaskBase
from zmqtasks.worker.failures import Failed

log = logging.getLogger(__name__)


class Hooks:
    """For the jobs of one claim, one after the other: `call`, then `encode`, or else `failed`.

    Args:
        task: whose hooks they are.
        call: runs the function.
        encode: makes bytes of what it returned.
        max_payload: bytes that these may be.
        current: the job that runs.
        wanted: takes what a job asked for by `retry(throw=False)`.
    """

    def __init__(
        self,
        task: TaskBase[..., Any],
        call: Callable[..., Any],
        encode: Callable[[object], bytes],
        max_payload: int,
        current: Callable[[], CurrentJob | None],
        wanted: Callable[[], Retry | None],
    ) -> None:
        self._task = task
        self._call = call
        self._encode = encode
        self._max_payload = max_payload
        self._current = current
        self._wanted = wanted
        self._id = ""
        self._pid = 0
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run a job. Raises whatever it, or `before_start`, raises."""
        self._begin(args, kwargs)
        self._task.before_start(self._id, args, kwargs)
        return self._call(*args, **kwargs)

    def _begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        job = self._current()
        self._id = "" if job is None else job.id
        self._pid = os.getpid()
        self._args, self._kwargs = args, kwargs

    def encode(self, value: object) -> bytes:
        """The result of the job as bytes; then it has succeeded.

        Raises:
            Retry: it asked to be tried again whatever it comes to.
            PayloadTooLarge: the scheduler does not take so many bytes.
            Exception: the value cannot be encoded.
        """
        again = self._wanted()
        if again is not None:
            raise again
        data = self._encode(value)
        if len(data) > self._max_payload:
            raise PayloadTooLarge(too_large(self._task.name, len(data), self._max_payload))
        self._tell("on_success", value, self._id, self._args, self._kwargs)
        self._tell("after_return", "SUCCESS", value, self._id, self._args, self._kwargs, None)
        return data

    def failed(self, failed: Failed, *, given: bool) -> None:
        """The attempt has ended otherwise. `given`: the arguments could be decoded, so `call` was called."""
        if not given:
            self._begin((), {})
        error = failed.error
        info = ErrorInfo(error, payload.read_failure(failed.payload).traceback)
        if failed.again:
            self._tell("on_retry", error, self._id, self._args, self._kwargs, info)
            return
        self._tell("on_failure", error, self._id, self._args, self._kwargs, info)
        self._tell("after_return", "FAILURE", error, self._id, self._args, self._kwargs, info)

    def _tell(self, hook: str, *told: Any) -> None:
        if os.getpid() != self._pid:
            return  # the job forked, and this is the half that is not the job
        try:
            getattr(self._task, hook)(*told)
        except BaseException as error:
            text = " ".join(f"{type(error).__name__}: {payload.message_of(error)}".split())
            log.warning(
                "%s of job %s (%s) raised %s; the job ends as if it had not",
                hook, self._id, self._task.name, text, exc_info=True, extra={"action": "hook-raised"},
            )  # fmt: skip


def too_large(name: str, size: int, most: int) -> str:
    """What is said of a result that the scheduler does not take."""
    return f"{name}: the result has {size} bytes, the scheduler takes {most}"
