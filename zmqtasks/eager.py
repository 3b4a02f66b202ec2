"""Running a task where it is called, as a worker would: with a request, its hooks and its retries, but no scheduler.

Nothing is encoded: the task gets the very arguments, and the caller the very value. Retries follow at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import uuid4

from zmqtasks import payload
from zmqtasks.errors import Retry
from zmqtasks.ids import given_id
from zmqtasks.request import Call, Request, calls
from zmqtasks.submitter.eagerresult import EagerResult
from zmqtasks.task import CurrentJob, TaskBase
from zmqtasks.worker import hostinfo
from zmqtasks.worker.claims import Claim, Piece
from zmqtasks.worker.failures import MISSING, Failed, Rules
from zmqtasks.worker.hooks import Hooks

MOST_RETRIES: Final = 1_000  # of a task that wants to be tried again for ever, which would hang its caller
_NUMBER: Final = 1  # of the only job of a claim

R = TypeVar("R")


def run(
    task: TaskBase[..., R],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    job_id: str | None = None,
    retries: int = 0,
) -> EagerResult[R]:
    """Run a task here and now.

    Args:
        task: of any app.
        args: positional arguments.
        kwargs: keyword arguments.
        job_id: that `self.request` has; None: a new one.
        retries: how often it has been tried again before.

    Returns:
        What it came to, after its last retry. What is no Exception (KeyboardInterrupt, SystemExit) is raised.
    """
    name = job_id or uuid4().hex
    given = tuple(args), dict(kwargs)
    while True:
        attempt = _Attempt(task, given, name, retries)
        failed = attempt.run()
        if failed is None:
            return EagerResult(name, attempt.value, "SUCCESS", None, task.name)
        if not failed.again or retries >= MOST_RETRIES:
            told = payload.read_failure(failed.payload).traceback
            return EagerResult(name, failed.error, "FAILURE", told, task.name)
        retries += 1


class _Attempt:
    """One try. `value`: what the function returned; MISSING: nothing."""

    def __init__(
        self, task: TaskBase[..., Any], given: tuple[tuple[Any, ...], dict[str, Any]], job_id: str, retries: int
    ) -> None:
        self.value: Any = MISSING
        self._task = task
        self._given = given
        self._wanted: list[Retry] = []
        host = hostinfo.host()
        self._request = Request(
            id=job_id,
            task=task.name,
            retries=retries,
            hostname=host,
            arguments=lambda: given,
            retry_later=self._wanted.append,
        )
        self._request.is_eager = True
        self._request.delivery_info["is_eager"] = True
        prefix, counter = given_id(job_id)
        claim = Claim(0, task.name, b"", b"", task.serializer, 0, [Piece(_NUMBER, 0, prefix, [counter], [b""])])
        claim.retried = {_NUMBER: retries}
        self._rules = _Rules(claim, task, task.autoretry_for or (Exception,), task.dont_autoretry_for, task)
        job = CurrentJob(job_id, 0, task.name, host, retries, host=host)
        self._hooks = Hooks(task, self._call, lambda _: b"", 0, lambda: job, self._take_wanted)

    def run(self) -> Failed | None:
        """None: it has succeeded."""
        args, kwargs = self._given
        token = calls.set(_Here(self._task, args, kwargs, self._request))
        try:
            self._hooks.call(*args, **kwargs)
            self._hooks.encode(self.value)
        except Exception as error:  # noqa: BLE001  (a task may raise anything)
            failed = self._rules.failed(
                _NUMBER, self._take_wanted() or error, self._given, self.value, self._request
            )  # fmt: skip
            self._hooks.failed(failed, given=True)
            return failed
        finally:
            calls.reset(token)
        return None

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        self.value = self._task(*args, **kwargs)
        return self.value

    def _take_wanted(self) -> Retry | None:
        return self._wanted.pop() if self._wanted else None


class _Rules(Rules):
    """As on a worker, but submitter and worker cannot have different versions of a task."""

    def _tell_place(self, error: TypeError) -> None:
        pass


class _Here(Call):
    """The call of a task that is to believe that it is a job, with this request."""

    __slots__ = ()

    def __init__(self, task: object, args: tuple[Any, ...], kwargs: dict[str, Any], request: Request) -> None:
        super().__init__(task, args, kwargs)
        self._request = request

    def enter(self, task: object) -> bool:
        first = self.task is task and not self.entered
        self.entered |= first
        return first
