"""Celery's names for the errors of `zmqtasks.errors`."""

from typing import Any

from zmqtasks.celery._later import EXCEPTIONS, NO_OUTCOME, getter
from zmqtasks.errors import BadOption as ImproperlyConfigured
from zmqtasks.errors import JobCancelled as TaskRevokedError
from zmqtasks.errors import JobError as TaskError
from zmqtasks.errors import JobTimeout as TimeoutError  # noqa: A004  (Celery's name)
from zmqtasks.errors import MaxRetriesExceeded as MaxRetriesExceededError
from zmqtasks.errors import NotAvailable, Retry
from zmqtasks.errors import SchedulerUnreachable as OperationalError
from zmqtasks.errors import TaskNotRegistered as NotRegistered
from zmqtasks.errors import WorkerLost as WorkerLostError
from zmqtasks.errors import ZmqTasksError as CeleryError

__all__ = [
    "CeleryError",
    "Ignore",
    "ImproperlyConfigured",
    "MaxRetriesExceededError",
    "NotRegistered",
    "OperationalError",
    "Reject",
    "Retry",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
]


class SoftTimeLimitExceeded(CeleryError):
    """For ``except`` only: nothing raises it, since time limits come later."""


class TimeLimitExceeded(CeleryError):
    """For ``except`` only: nothing raises it, since time limits come later."""


class _Predicate(CeleryError):
    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise NotAvailable(f"{type(self).__name__} cannot be raised: {NO_OUTCOME}")


class Ignore(_Predicate):
    """For ``except`` only. Raised, it is a NotAvailable, which says what to do instead."""


class Reject(_Predicate):
    """For ``except`` only. Raised, it is a NotAvailable, which says what to do instead."""


__getattr__ = getter(__name__, EXCEPTIONS)
