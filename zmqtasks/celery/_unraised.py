"""Errors and warnings of Celery's that nothing raises here: for ``except``, and for filters of warnings."""

from typing import Any

from zmqtasks.celery._later import NO_OUTCOME
from zmqtasks.errors import NotAvailable
from zmqtasks.errors import ZmqTasksError as CeleryError


class SoftTimeLimitExceeded(CeleryError):
    """For ``except`` only: nothing raises it, since time limits come later."""


class TimeLimitExceeded(CeleryError):
    """For ``except`` only: nothing raises it, since time limits come later."""


class TaskPredicate(CeleryError):
    """For ``except`` only. Raised, it is a NotAvailable, which says what to do instead."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise NotAvailable(f"{type(self).__name__} cannot be raised: {NO_OUTCOME}")


class Ignore(TaskPredicate):
    """For ``except`` only. Raised, it is a NotAvailable, which says what to do instead."""


class Reject(TaskPredicate):
    """For ``except`` only. Raised, it is a NotAvailable, which says what to do instead."""


class AlreadyRegistered(CeleryError):
    """For ``except`` only: two tasks of the same name are a ZmqTasksError that names both."""


class InvalidTaskError(CeleryError):
    """For ``except`` only: what a worker cannot decode is a PayloadError."""


class SecurityError(CeleryError):
    """For ``except`` only: nothing is signed."""


class IncompleteStream(CeleryError):
    """For ``except`` only: a result comes whole."""


class BackendError(CeleryError):
    """For ``except`` only: there is no result backend."""


class BackendGetMetaError(BackendError):
    """For ``except`` only: there is no result backend."""


class BackendStoreError(BackendError):
    """For ``except`` only: there is no result backend."""


class CeleryCommandException(CeleryError):
    """For ``except`` only: the commands of zmqtasks end with an exit code."""


class CeleryWarning(UserWarning):
    """For filters only, as those that are derived from it."""


class AlwaysEagerIgnored(CeleryWarning):
    """For filters only."""


class DuplicateNodenameWarning(CeleryWarning):
    """For filters only."""


class DuplicateTaskNameWarning(CeleryWarning):
    """For filters only."""


class FixupWarning(CeleryWarning):
    """For filters only."""


class NotConfigured(CeleryWarning):
    """For filters only."""


class SecurityWarning(CeleryWarning):
    """For filters only."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """For filters only."""


class CDeprecationWarning(DeprecationWarning):
    """For filters only."""
