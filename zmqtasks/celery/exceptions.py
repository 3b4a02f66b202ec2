"""Celery's names for the errors of `zmqtasks.errors`."""

from zmqtasks.celery._later import EXCEPTIONS, getter
from zmqtasks.errors import BadOption as ImproperlyConfigured
from zmqtasks.errors import JobCancelled as TaskRevokedError
from zmqtasks.errors import JobError as TaskError
from zmqtasks.errors import JobTimeout as TimeoutError  # noqa: A004  (Celery's name)
from zmqtasks.errors import MaxRetriesExceeded as MaxRetriesExceededError
from zmqtasks.errors import Retry
from zmqtasks.errors import SchedulerUnreachable as OperationalError
from zmqtasks.errors import TaskNotRegistered as NotRegistered
from zmqtasks.errors import WorkerLost as WorkerLostError
from zmqtasks.errors import ZmqTasksError as CeleryError

__all__ = [
    "CeleryError",
    "ImproperlyConfigured",
    "MaxRetriesExceededError",
    "NotRegistered",
    "OperationalError",
    "Retry",
    "TaskError",
    "TaskRevokedError",
    "TimeoutError",
    "WorkerLostError",
]

__getattr__ = getter(__name__, EXCEPTIONS)
