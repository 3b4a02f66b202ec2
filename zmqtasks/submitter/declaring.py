"""What `@app.task` declares, by options or by a class of one's own, and how often and when a job is tried again."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from zmqtasks.errors import BadOption
from zmqtasks.submitter import options
from zmqtasks.submitter.tasks import Task
from zmqtasks.task import FOREVER, MAX_RETRIES

FIRST_BACKOFF: Final = 1.0  # seconds, with retry_backoff=True

# What @app.task takes: what only a task can say, and what a task and a call say alike.
TASK_OPTIONS: Final = (options.KNOWN - options.OF_CALLS) | {
    "base", "bind", "name", "exchange", "routing_key", "max_retries", "default_retry_delay", "autoretry_for",
    "dont_autoretry_for", "retry_backoff", "retry_backoff_max", "retry_jitter", "ignore_result",
}  # fmt: skip

_RESULTS: Final = frozenset({"ignore_result", "result_ttl"})  # together they say how long a result is kept
_NO_ATTRIBUTES: Final = frozenset({"base", "bind", "name"})  # of a task, never of a class of tasks


def of_class(base: object, known: Collection[str]) -> dict[str, Any]:
    """Options that a class of tasks declares by attributes of that name.

    Args:
        base: what somebody gave as base=; None: nothing.
        known: names of task options.

    Raises:
        BadOption: it is no class that is derived from Task.
    """
    if base is None:
        return {}
    if not isinstance(base, type) or not issubclass(base, Task):
        raise BadOption(f"task option base= is a class derived from zmqtasks.Task, not {base!r}")
    found: dict[str, Any] = {}
    for kind in reversed(base.__mro__):
        if kind not in Task.__mro__:
            found.update((name, value) for name, value in vars(kind).items() if name in known)
    return {name: value for name, value in found.items() if name not in _NO_ATTRIBUTES and not _is_code(value)}


def _is_code(value: object) -> bool:
    """Whether it is a method or a property: something else by the name of an option."""
    return callable(value) or hasattr(value, "__get__")


def declared(given: Mapping[str, Any]) -> dict[str, Any]:
    """What @app.task is told, and below it what the class that it names declares. Raises as `of_class`."""
    found = of_class(given.get("base"), TASK_OPTIONS | options.LATER)
    if not _RESULTS.isdisjoint(given):
        found = {name: value for name, value in found.items() if name not in _RESULTS}
    return {**found, **given}


def checked(given: Mapping[str, Any], known: frozenset[str], what: str) -> dict[str, Any]:
    """Options of a task, without those that are None and say nothing by it.

    Args:
        given: as `@app.task`, a class or an annotation says them.
        known: names of those that there may be.
        what: they are called in errors.

    Raises:
        BadOption: one does not exist or has an impossible value, or two contradict each other.
        NotAvailable: one is planned, but not built yet.
    """
    _check_flags(given, what)
    found = {**options.check(given, known, what), **checked_retries(given, what)}
    _check_backoff(found, what)
    for name in ("autoretry_for", "dont_autoretry_for"):
        kinds = found.get(name, ())
        if not isinstance(kinds, (tuple, list)) or not all(
            isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds
        ):
            raise BadOption(f"{what} {name}= is a tuple of exceptions, not {kinds!r}")
    if found.get("ignore_result") and found.get("result_ttl"):
        raise BadOption(
            f"{what} ignore_result=True keeps no result, and result_ttl={found['result_ttl']!r} does: say one of them"
        )
    return found


def _check_flags(given: Mapping[str, Any], what: str) -> None:
    for name in ("bind", "ignore_result", "retry_jitter"):
        if not isinstance(given.get(name), bool | None):
            raise BadOption(f"{what} {name}= is True or False, not {given[name]!r}")


def _check_backoff(found: Mapping[str, Any], what: str) -> None:
    """In the words of tasks: what a call is told is checked in those of calls."""
    for name, kinds in (("retry_backoff", "True, or "), ("retry_backoff_max", "")):
        value = found.get(name, False)
        fits = value is False or (kinds and value is True)
        if not fits and (isinstance(value, bool) or not _is_time(value)):
            raise BadOption(f"{what} {name}= is {kinds}a number of seconds, 0 or more, not {value!r}")
    first, most = _first_backoff(found), found.get("retry_backoff_max", options.BACKOFF_MAX)
    if first > most:
        by_default = "" if "retry_backoff_max" in found else ", which is the default"
        raise BadOption(
            f"{what} retry_backoff={found['retry_backoff']!r} is more than retry_backoff_max={most!r}{by_default}"
        )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= options.MOST_SECONDS


def _first_backoff(given: Mapping[str, Any]) -> float:
    """Seconds before the first retry; 0: the task has not said."""
    backoff: bool | float = given.get("retry_backoff", False)
    return FIRST_BACKOFF if backoff is True else backoff or 0.0


def checked_retries(given: Mapping[str, Any], what: str = options.TASK_OPTION) -> dict[str, Any]:
    """Of the options of a task, max_retries and default_retry_delay, as far as they are given.

    Raises:
        BadOption: one of them cannot have that value.
    """
    found: dict[str, Any] = {}
    if "max_retries" in given:
        retries = found["max_retries"] = given["max_retries"]
        if retries is not None and (type(retries) is not int or retries < 0):
            raise BadOption(
                f"{what} max_retries= is a number of attempts, 0 or more, or None for ever, not {retries!r}"
            )
    delay = given.get("default_retry_delay")
    if delay is not None:
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < float("inf"):
            raise BadOption(f"{what} default_retry_delay= is a number of seconds, 0 or more, not {delay!r}")
        found["default_retry_delay"] = float(delay)
    return found


def retry_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """How a task wants its exceptions tried again, as options of its jobs; None: as if it had not said.

    Raises:
        BadOption: what it declares and what annotations say contradict each other.
    """
    _check_backoff(given, options.TASK_OPTION)
    backoff = _first_backoff(given)
    found: dict[str, Any] = {
        "retries": _retries(given) if given.get("autoretry_for") else None,
        "backoff": backoff or None,
        "backoff_max": given.get("retry_backoff_max"),
        "jitter": bool(given.get("retry_jitter", True)) if backoff else None,
    }
    if not backoff and "default_retry_delay" in given:  # always the same
        found["backoff"] = found["backoff_max"] = given["default_retry_delay"]
    return found


def _retries(given: Mapping[str, Any]) -> int:
    most = given.get("max_retries", MAX_RETRIES)
    return FOREVER if most is None else most
