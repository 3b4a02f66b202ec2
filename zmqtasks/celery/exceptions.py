"""Celery's names for the errors of `zmqtasks.errors`."""

from zmqtasks.celery._later import EXCEPTIONS, getter
from zmqtasks.celery._unraised import (
    AlreadyRegistered,
    AlwaysEagerIgnored,
    BackendError,
    BackendGetMetaError,
    BackendStoreError,
    CDeprecationWarning,
    CeleryCommandException,
    CeleryWarning,
    CPendingDeprecationWarning,
    DuplicateNodenameWarning,
    DuplicateTaskNameWarning,
    FixupWarning,
    Ignore,
    IncompleteStream,
    InvalidTaskError,
    NotConfigured,
    Reject,
    SecurityError,
    SecurityWarning,
    SoftTimeLimitExceeded,
    TaskPredicate,
    TimeLimitExceeded,
)
from zmqtasks.errors import BadOption as ImproperlyConfigured
from zmqtasks.errors import BadOption as QueueNotFound
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
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "WorkerLostError",
]

__getattr__ = getter(__name__, EXCEPTIONS)
