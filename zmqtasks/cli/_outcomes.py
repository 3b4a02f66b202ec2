"""What became of the jobs of ``zmqtasks submit``: one JSON object a line, and the sum at the end."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from zmqtasks.errors import RemoteError, ZmqTasksError

MAX_REPR: Final = 64 * 1024  # characters of the repr of a result that JSON cannot hold
FIRST_ERRORS: Final = 5


class EndedJob(Protocol):
    """What is asked of a job that is over."""

    @property
    def id(self) -> str: ...

    @property
    def state(self) -> str: ...

    def exception(self, timeout: float | None = None) -> BaseException | None: ...

    def result(self, timeout: float | None = None) -> Any: ...


class Output(Protocol):
    """Where lines go."""

    def write(self, data: bytes, /) -> object: ...

    def flush(self) -> object: ...


class OutputError(ZmqTasksError):
    """The results cannot be written where --output says."""


def outcome(line: int, job: EndedJob) -> dict[str, Any]:
    """The object that --output gets for a job that is over."""
    told: dict[str, Any] = {"line": line, "id": job.id, "state": job.state}
    if job.state == "cancelled":
        return told
    error: BaseException | None
    try:
        error = job.exception(0)
        if error is None:
            return {**told, "result": job.result(0)}
    except Exception as unreadable:  # noqa: BLE001  (a result whose classes do not exist here raises anything)
        error = unreadable
        told["state"] = "failed" if job.state == "succeeded" else job.state
    return {**told, "error": describe(error)}


def describe(error: BaseException) -> dict[str, str]:
    """An exception as JSON: type, message, and the traceback of the worker where there is one."""
    if isinstance(error, RemoteError):
        return {"type": error.type_name, "message": error.text, "traceback": error.traceback}
    kind = type(error)
    plain = kind.__module__ in ("builtins", "zmqtasks.errors")
    name = kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
    return {"type": name, "message": _text(error), "traceback": getattr(error.__cause__, "text", "")}


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  (a broken __str__ must not hide the failure)
        return f"<{type(error).__name__} whose __str__ fails>"


_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ascii_encoder = json.JSONEncoder(allow_nan=False)


def encode(told: dict[str, Any]) -> bytes:
    """One outcome as a line; a result that JSON cannot hold becomes ``{"repr": "…"}``."""
    try:
        return _encoder.encode(told).encode() + b"\n"
    except UnicodeEncodeError:  # lone surrogates: only escaped can they stand in UTF-8
        return _ascii_encoder.encode(told).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        return encode({**told, "result": {"repr": _repr(told["result"])}})


def value_text(value: Any) -> str:
    """A result alone, for people: JSON if it can be, else as Python shows it."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return _repr(value)


def _repr(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (objects of users raise anything)
        return f"<{type(value).__name__} whose __repr__ fails>"
    return text if len(text) <= MAX_REPR else f"{text[:MAX_REPR]}…"


class Tally:
    """Counts outcomes, keeps the first few errors, and writes each outcome as a line.

    Attributes:
        states: how many jobs ended in which state.
        first_errors: of jobs that failed, for people.
        unregistered: what was said about a task that no worker knows; empty if nothing was.

    Args:
        output: where the lines go; None: nowhere.
        name: of the output, for messages.
        lines: whether the jobs are lines of a file, which errors then name.
    """

    def __init__(self, output: Output | None, name: str, *, lines: bool = True) -> None:
        self.states: Counter[str] = Counter()
        self.first_errors: list[str] = []
        self.unregistered = ""
        self._output = output
        self._name = name
        self._lines = lines

    def add(self, line: int, job: EndedJob) -> None:
        """Take in a job that is over. Raises OutputError."""
        told = outcome(line, job)
        self.states[told["state"]] += 1
        if "error" in told:
            self._note(line, told["error"], job.id)
        if self._output is not None:
            self._do(partial(self._output.write, encode(told)))

    def _note(self, line: int, error: dict[str, str], job_id: str) -> None:
        """Keep an error for people, if it is one of the first."""
        if error["type"] == "TaskNotRegistered":
            self.unregistered = self.unregistered or error["message"]
        if len(self.first_errors) < FIRST_ERRORS:
            where = f"line {line}: " if self._lines else ""
            self.first_errors.append(f"{where}{error['type']}: {error['message']} (job {job_id})")

    def flush(self) -> None:
        """Have everything so far in the file, for those who watch it grow. Raises OutputError."""
        if self._output is not None:
            self._do(self._output.flush)

    def _do(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BrokenPipeError:
            raise  # whoever read our stdout has ended: `main` knows what that means
        except OSError as error:
            raise OutputError(f"cannot write {self._name}: {error.strerror or error}") from None

    @property
    def ended(self) -> int:
        """Jobs that are over."""
        return self.states.total()

    @property
    def cancelled(self) -> int:
        """Jobs that somebody cancelled."""
        return self.states["cancelled"]

    @property
    def failed(self) -> int:
        """Jobs that failed, or that the system ended."""
        return self.bad - self.cancelled

    @property
    def bad(self) -> int:
        """Jobs that are over and did not succeed."""
        return self.ended - self.states["succeeded"]
