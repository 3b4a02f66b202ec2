"""Job lines: what ``zmqtasks submit --jobs`` reads. One JSON object a line, checked before anything is sent."""

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from zmqtasks import resources
from zmqtasks.config import MAX_NAME, MAX_PRIORITY, MIB
from zmqtasks.errors import BadOption, ZmqTasksError
from zmqtasks.submitter.options import LATER, check

MAX_LINE: Final = 128 * MIB  # bytes; a payload of 64 MiB is the most that a scheduler takes

Count = Annotated[int, Meta(ge=0)]
Priority = Annotated[int, Meta(ge=0, le=MAX_PRIORITY)]
Seconds = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
JobId = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]


class JobLine(Struct, forbid_unknown_fields=True):
    """One line as it stands in the file. Times in seconds; `eta` is Unix time or ISO 8601."""

    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    task: Name | None = None
    id: JobId | None = None
    queue: Name | UnsetType = UNSET
    retries: Count | UnsetType = UNSET
    backoff: Seconds | UnsetType = UNSET
    backoff_max: Seconds | UnsetType = UNSET
    jitter: bool | UnsetType = UNSET
    crash_budget: Count | UnsetType = UNSET
    result_ttl: Seconds | UnsetType = UNSET
    eta: Seconds | datetime | UnsetType = UNSET
    countdown: Seconds | UnsetType = UNSET
    on_unknown: str | UnsetType = UNSET
    durability: str | UnsetType = UNSET
    acks_late: bool | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    expires: Seconds | datetime | UnsetType = UNSET
    rate_limit: float | str | UnsetType = UNSET
    burst: Count | UnsetType = UNSET
    rate_key: str | UnsetType = UNSET
    concurrency_limit: Count | UnsetType = UNSET
    concurrency_key: str | UnsetType = UNSET
    serializer: Name | UnsetType = UNSET
    compression: Name | UnsetType = UNSET
    result_compression: Name | UnsetType = UNSET
    resources: dict[str, float | str] | UnsetType = UNSET


OPTIONS: Final = tuple(name for name in JobLine.__struct_fields__ if name not in {"args", "kwargs", "task", "id"})


class BadLine(ZmqTasksError):
    """A line of a jobs file that is no job; the message names the file, the line and what is wrong."""


@dataclass(slots=True)
class JobRequest:
    """One job to submit."""

    line: int
    target: str  # MODULE:FUNCTION or the name of a task
    args: list[Any]
    kwargs: dict[str, Any]
    id: str | None
    options: dict[str, Any]  # those of OPTIONS that are given


_STARTS: Final = frozenset({"eta", "countdown"})
_decoder = msgspec.json.Decoder(JobLine)
_PLACE = re.compile(r" - at `\$\.?(?P<place>[^`]*)`")
_FIELDS = JobLine.__struct_fields__


class JobLines:
    """Makes jobs of lines.

    Args:
        name: of the file, for messages.
        target: what lines without a "task" run; None: every line needs one.
        options: those of every line that does not say otherwise.
        check_target: called with each new target; raises ZmqTasksError if it cannot be one.
    """

    def __init__(
        self, name: str, target: str | None, options: dict[str, Any], check_target: Callable[[str], object]
    ) -> None:
        self.name = name
        self._target = target
        self._options = options
        self._check_target = check_target
        self._checked: set[str] = set()

    def parse(self, number: int, raw: bytes) -> JobRequest:
        """The job in one line. Raises BadLine."""
        if len(raw) > MAX_LINE:
            raise self._bad(number, f"is longer than {MAX_LINE // MIB} MiB")
        try:
            line = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._bad(number, explain(error, raw)) from None
        target = line.task or self._target
        if target is None:
            raise self._bad(number, 'has no "task", and no TASK or MODULE:FUNCTION was given for all lines')
        if target not in self._checked:
            self._check(number, target)
        options = self._options
        given = {name: value for name in OPTIONS if (value := getattr(line, name)) is not UNSET}
        if given:
            if not _STARTS.isdisjoint(given):  # together they say when the job may start
                options = {name: value for name, value in options.items() if name not in _STARTS}
            options = {**options, **given}
            self._check_options(number, given, options)
        return JobRequest(number, target, line.args, line.kwargs, line.id, options)

    def _check(self, number: int, target: str) -> None:
        try:
            self._check_target(target)
        except ZmqTasksError as error:
            raise self._bad(number, str(error)) from None
        self._checked.add(target)

    def _check_options(self, number: int, given: dict[str, Any], options: dict[str, Any]) -> None:
        if given.get("on_unknown", "fail") not in ("wait", "fail"):
            raise self._bad(number, f'"on_unknown" is "wait" or "fail", not {given["on_unknown"]!r}')
        if "eta" in given and "countdown" in given:
            raise self._bad(number, 'has both "eta" and "countdown"; one of them is enough')
        try:
            resources.parse(given.get("resources", {}))
        except BadOption as error:
            raise self._bad(number, f'"resources": {error}') from None
        try:
            check(options)
        except BadOption as error:
            raise self._bad(number, str(error)) from None

    def _bad(self, number: int, what: str) -> BadLine:
        return BadLine(f"{self.name} line {number}: {what}")


def explain(error: Exception, raw: bytes) -> str:
    """What is wrong with a line, in the words of people who write such files."""
    text = str(error)
    unknown = re.match(r"Object contains unknown field `(.*)`$", text)
    if unknown:
        return _unknown_field(unknown[1])
    if isinstance(error, msgspec.ValidationError):
        found = _PLACE.search(text)
        place = f'"{found["place"]}": ' if found and found["place"] else ""
        words = _PLACE.sub("", text).replace("`", "")
        return f"{place}{words[:1].lower()}{words[1:]}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return f"is not UTF-8 (byte {wrong.start})"
    start = raw[:40].decode(errors="replace").strip()
    dots = "…" if len(raw.strip()) > 40 else ""
    reason = text.removeprefix("JSON is malformed: ")
    return f"is no JSON: {reason[:1].lower()}{reason[1:]}: {start}{dots}"


def _unknown_field(name: str) -> str:
    if name in LATER:
        return f"the option {name!r} is not available yet"
    near = difflib.get_close_matches(name, _FIELDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(_FIELDS)}"
    return f"no field is called {name!r}; {hint}"
