"""Every error that zmqtasks raises, under one root. An error's docstring tells people what it means."""

from concurrent.futures import CancelledError
from datetime import datetime
from typing import Final

_NO_TIME: Final = 1e12  # seconds: 30,000 years, as infinity and what is no number at all


class ZmqTasksError(Exception):
    """The root of all errors of zmqtasks."""


class SchedulerUnreachable(ZmqTasksError):
    """No scheduler answered at the given URL within the time-out."""


class ProtocolMismatch(ZmqTasksError):
    """Scheduler and peer speak different versions of the protocol; the message names both."""


class NotAuthorized(ZmqTasksError):
    """The scheduler refused this peer."""


class BadUrl(ZmqTasksError, ValueError):
    """A URL that is none of tcp://HOST:PORT, ipc://PATH, local://."""


class AddressInUse(ZmqTasksError):
    """Another process listens on the address that the scheduler was told to bind."""


class AppNotLoaded(ZmqTasksError):
    """The module given with -A (or one that it includes) cannot be imported, or holds no App."""


class QueueFull(ZmqTasksError):
    """There was no room for the job within the time allowed."""


class JobConflict(ZmqTasksError):
    """A job of this id exists already, with other content."""


class UnknownJob(ZmqTasksError):
    """The scheduler knows no job of this id."""


class ResultExpired(ZmqTasksError):
    """The job ended, but its result was kept no longer than its result_ttl."""


class TaskNotRegistered(ZmqTasksError):
    """No worker of the queue knows a task of this name."""


class NoWorker(ZmqTasksError):
    """A job was to go to each worker that takes from a queue, and there is none, or not every one can be told apart."""


class PayloadError(ZmqTasksError):
    """An argument, function or result that its codec refuses; the message names it."""


class PayloadTooLarge(PayloadError):
    """The arguments or the result of a job are larger than the scheduler allows."""


class BadOption(ZmqTasksError, TypeError):
    """An option of a task or job that does not exist, or a value that it cannot have; the message lists what can be."""


class NotAvailable(ZmqTasksError, NotImplementedError):
    """An option that is planned and that this version cannot honour yet; it is refused rather than ignored."""


class ClientClosed(ZmqTasksError):
    """The client was closed, or its process forked: it takes no jobs and brings no results any more."""


class JournalError(ZmqTasksError):
    """The scheduler's journal cannot be used as it is; the message says why, and what can be done."""


class JournalInUse(JournalError):
    """Another scheduler works on this journal."""


class JournalDamaged(JournalError):
    """The journal does not hold what it once held; the message names the records. `zmqtasks repair` shows more."""


class JournalTooNew(JournalError):
    """A later release of zmqtasks wrote this journal."""


class JournalUnavailable(JournalError):
    """The scheduler cannot write to its journal now (a full disk, …), so it takes no new jobs; submit again later."""


class NotDurable(ZmqTasksError):
    """A job was to outlive the scheduler, which keeps everything in memory."""


class NoCurrentJob(ZmqTasksError, RuntimeError):
    """Something that only a running job can do was tried where none runs, or by a job that is over."""


class JobError(ZmqTasksError):
    """The root of the errors that end one job."""


class JobCancelled(JobError, CancelledError):
    """Somebody cancelled the job."""


class JobAborted(JobError):
    """The system ended the job without running it."""


class JobExpired(JobAborted):
    """The job was not started before its expiry."""


class WorkerLost(JobError):
    """The job's workers or children died more often than its crash budget allows; the message holds the evidence.

    Or it was for one worker only, which is gone.
    """


class MaxRetriesExceeded(JobError):
    """The job asked to be tried again, and has been tried as often as it may; there was no other error to tell."""


class PayloadLost(JobError):
    """The stored bytes of the job's arguments or result are damaged or gone."""


class JobTimeout(ZmqTasksError, TimeoutError):
    """The job was not over within the time-out given by the caller; it goes on."""


class RemoteError(JobError):
    """The task raised an exception that cannot be decoded here.

    Attributes:
        type_name: dotted name of the exception's type.
        text: the exception's message.
        traceback: the remote traceback as text.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class RemoteTraceback(Exception):
    """The traceback of the task's own exception, as text; that exception's ``__cause__``, no failure of its own."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class Retry(ZmqTasksError):
    """The job is to be tried again later: what `self.retry(…)` raises; by hand, `raise Retry(countdown=5)`.

    Args:
        message: for people.
        exc: what went wrong; the job ends with it when no retry is left.
        countdown: seconds until then; None: the task's default_retry_delay.
        eta: the point in time instead, as Unix time or a datetime with its time zone.
        max_retries: how often the job may have been tried again; None: as the task says.

    Raises:
        BadOption: one of them cannot have that value.
    """

    def __init__(
        self,
        message: str = "",
        exc: BaseException | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | float | None = None,
        max_retries: int | None = None,
    ) -> None:
        super().__init__(message)
        if exc is not None and not isinstance(exc, BaseException):
            raise BadOption(f"exc= is an exception, not {exc!r}")
        if countdown is not None and not _is_seconds(countdown):
            raise BadOption(f"countdown= is a number of seconds, not {countdown!r}")
        if isinstance(eta, datetime) and eta.tzinfo is None:
            raise BadOption(f"eta= is a datetime with its time zone, and {eta!r} has none")
        if eta is not None and not isinstance(eta, datetime) and not _is_seconds(eta):
            raise BadOption(f"eta= is a datetime with its time zone, or Unix time, not {eta!r}")
        if countdown is not None and eta is not None:
            raise BadOption("give eta= or countdown=, not both")
        if max_retries is not None and (type(max_retries) is not int or max_retries < 0):
            raise BadOption(f"max_retries= is a number of retries, 0 or more, not {max_retries!r}")
        self.exc = exc
        self.countdown = countdown
        self.eta = eta
        self.max_retries = max_retries

    def __str__(self) -> str:
        told = super().__str__() or "the job is to be tried again"
        return told if self.exc is None else f"{told}: {self.exc!r}"


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _NO_TIME


class PeerError(ZmqTasksError):
    """The other side broke the protocol: not our fault."""
