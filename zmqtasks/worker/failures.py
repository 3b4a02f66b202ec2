"""What becomes of a job that did not give a result: it fails, or is to be tried again, when, and how often."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import time
from types import TracebackType
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.errors import MaxRetriesExceeded, PayloadError, PayloadTooLarge, Retry
from zmqtasks.ids import job_id
from zmqtasks.request import Request
from zmqtasks.task import TaskBase, no_more
from zmqtasks.wire import FAILED, RETRYABLE, UNLIMITED, End
from zmqtasks.words import duration
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.functions import Exceptions
from zmqtasks.worker.loading import innermost

MISSING: Final = object()  # in place of arguments that could not be decoded, and of a value that never came
_OURS: Final = frozenset({"zmqtasks.eager", "zmqtasks.task", "zmqtasks.worker.hooks", "zmqtasks.worker.running"})


@dataclass(slots=True)
class Failed:
    """How one attempt ended.

    Attributes:
        kind: of the End.
        payload: of the End: what the submitter sees when the job is not tried again.
        error: the same, for the hooks of the task.
        delay, limit: of the End.
        again: it will be tried again, as far as is known here.
    """

    kind: int
    payload: bytes
    error: BaseException
    delay: float = -1.0
    limit: int = -1
    again: bool = False

    def end(self, number: int, took: float) -> End:
        """As it is reported; `took`: seconds."""
        return End(number, self.kind, self.payload, took, self.delay, self.limit)


@dataclass(slots=True)  # not frozen: one is made per claim, and that would cost three times as much
class Rules:
    """What a claim's jobs have in common when they fail.

    Attributes:
        claim: whose they are.
        call: the function.
        retry: exceptions that may be tried again.
        never: of these, those that may not.
        task: what declares them; None: nothing does, it is a plain function.
    """

    claim: Claim
    call: Callable[..., Any]
    retry: Exceptions
    never: Exceptions
    task: TaskBase[..., Any] | None

    def failed(
        self, number: int, error: BaseException, given: object, value: object, request: Request | None
    ) -> Failed:
        """What became of a job.

        Args:
            number: of the job.
            error: what it raised.
            given: its arguments; MISSING: they cannot be decoded.
            value: what it returned; MISSING: nothing.
            request: its own, if it asked for one.
        """
        claim = self.claim
        if given is MISSING:
            return _ours(f"{claim.name}: the arguments cannot be decoded as {claim.codec}: {innermost(error)}")
        if issubclass(type(error), Retry):  # not isinstance: that asks the error, which may do anything
            return self.asked(number, error)  # type: ignore[arg-type]  # it is one
        if value is not MISSING:
            if type(error) is PayloadTooLarge:  # found out before the hooks were called
                return Failed(FAILED, payload.failure("PayloadTooLarge", str(error)), error)
            try:
                payload.encode_result(claim.codec, value, claim.name)
            except PayloadError as told:
                return _ours(str(told))
            except BaseException:  # noqa: BLE001, S110  (it fails in yet another way: the first one is told)
                pass
        return self._raised(number, error, request)

    def _raised(self, number: int, error: BaseException, request: Request | None) -> Failed:
        frames = _without_ours(error.__traceback__)
        if frames is None and type(error) is TypeError:  # Python's own; others may be anything
            self._tell_place(error)
        told = _encoded(error, frames)
        if request is not None and error is request.given_up:
            return Failed(FAILED, told, error)  # `retry` has raised it because no retry is left
        try:
            again = isinstance(error, self.retry) and not isinstance(error, self.never)
        except BaseException:  # noqa: BLE001  (a class can override anything, and do anything there)
            again = False
        return Failed(RETRYABLE if again else FAILED, told, error, again=again and self._has_more(number))

    def _has_more(self, number: int) -> bool:
        """Whether a retry is left for an exception; the scheduler, which knows the job's options, decides."""
        task = self.task
        if task is None or not task.autoretry_for:
            return False
        return task.max_retries is None or self.retries(number) < task.max_retries

    def _tell_place(self, error: TypeError) -> None:
        """Where arguments do not fit, the submitter may have another version of the task: say which the worker has."""
        code = getattr(self.call if self.task is None else self.task.fn, "__code__", None)
        if code is not None:
            error.add_note(f"the worker runs {code.co_filename}, line {code.co_firstlineno}")

    # -------------------------------------------------------------------------------------------- asked for

    def asked(self, number: int, again: Retry) -> Failed:
        """A job asked to be tried again."""
        limit, delay = self._limit(again), self._delay(again)
        name = self.claim.name
        counted = self.retries(number)
        left = limit < 0 or counted < limit
        error = again.exc
        if error is None:
            text = no_more(self._id(number), name, None if limit < 0 else counted)
            if self.task is None:
                text += "; a function has as many as the option retries= gives it"
            error = MaxRetriesExceeded(text)
            told = payload.failure("MaxRetriesExceeded", text)
        else:
            told = _encoded(error, error.__traceback__)
        if not left:
            return Failed(FAILED, told, error)
        return Failed(RETRYABLE, told, again if again.exc is None else error, delay, limit, again=True)

    def _limit(self, again: Retry) -> int:
        """Retries that it may have; below 0 as in an End."""
        if again.max_retries is not None:
            return again.max_retries
        if self.task is None:
            return -1
        return UNLIMITED if self.task.max_retries is None else self.task.max_retries

    def _delay(self, again: Retry) -> float:
        """Seconds until then; below 0: as the Spec says."""
        if again.eta is not None:
            eta = again.eta.timestamp() if isinstance(again.eta, datetime) else again.eta
            return max(0.0, eta - time())
        if again.countdown is not None:
            return max(0.0, float(again.countdown))
        return -1.0 if self.task is None else max(0.0, float(self.task.default_retry_delay))

    def retries(self, number: int) -> int:
        """How often the job was tried again before."""
        return self.claim.retried.get(number, 0)

    def _id(self, number: int) -> str:
        for piece in self.claim.pieces:
            if 0 <= number - piece.first < len(piece.args):
                return job_id(piece.prefix, piece.counters[number - piece.first])
        return f"number {number}"


def _ours(text: str) -> Failed:
    return Failed(FAILED, payload.failure("PayloadError", text), PayloadError(text))


def _encoded(error: BaseException, trace: TracebackType | None) -> bytes:
    """An exception as it travels, with this traceback."""
    try:
        BaseException.with_traceback(error, trace)
        return payload.encode_exception(error)
    except BaseException as broken:  # noqa: BLE001  (a class can override anything, and do anything there)
        text = f"{payload.message_of(error)} (and telling of it failed: {payload.message_of(broken)})"
        return payload.failure(type(error).__name__, text)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from where the user's code begins; None: it does not come that far."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") in _OURS:
        trace = trace.tb_next
    return trace


def told(end: End) -> str:
    """One that did not succeed, in one line for a log."""
    text = payload.told(end.payload)
    if end.delay < 0.0:
        return text
    when = f"to be tried again in {duration(end.delay)}"
    return f"asks {when}" if text.startswith(f"{MaxRetriesExceeded.__name__}: ") else f"{text} ({when})"
