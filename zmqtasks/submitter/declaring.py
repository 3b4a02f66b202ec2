"""What `@app.task` declares, by options or by a class of one's own, and how often and when a job is tried again."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from zmqtasks.errors import BadOption
from zmqtasks.submitter.tasks import Task
from zmqtasks.task import FOREVER, MAX_RETRIES

FIRST_BACKOFF: Final = 1.0  # seconds, with retry_backoff=True

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


def checked_retries(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of a task, max_retries and default_retry_delay, as far as they are given.

    Raises:
        BadOption: one of them cannot have that value.
    """
    found: dict[str, Any] = {}
    if "max_retries" in given:
        retries = found["max_retries"] = given["max_retries"]
        if retries is not None and (type(retries) is not int or retries < 0):
            raise BadOption(
                f"task option max_retries= is a number of attempts, 0 or more, or None for ever, not {retries!r}"
            )
    delay = given.get("default_retry_delay")
    if delay is not None:
        if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < float("inf"):
            raise BadOption(f"task option default_retry_delay= is a number of seconds, 0 or more, not {delay!r}")
        found["default_retry_delay"] = float(delay)
    return found


def retry_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """How a task wants its exceptions tried again, as options of its jobs; None: as if it had not said."""
    backoff = given.get("retry_backoff", False)
    options: dict[str, Any] = {
        "retries": _retries(given) if given.get("autoretry_for") else None,
        "backoff": FIRST_BACKOFF if backoff is True else backoff or None,
        "backoff_max": given.get("retry_backoff_max"),
        "jitter": bool(given.get("retry_jitter", True)) if backoff else None,
    }
    if not backoff and "default_retry_delay" in given:  # always the same
        options["backoff"] = options["backoff_max"] = given["default_retry_delay"]
    return options


def _retries(given: Mapping[str, Any]) -> int:
    most = given.get("max_retries", MAX_RETRIES)
    return FOREVER if most is None else most
