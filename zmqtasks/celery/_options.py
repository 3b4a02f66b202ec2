"""Celery's options of tasks and of jobs in the words of zmqtasks."""

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, Final

from zmqtasks.celery._later import CALLBACKS
from zmqtasks.errors import BadOption, NotAvailable

_log = logging.getLogger(__name__)

_RECORDED = "the scheduler knows each job's state, and a failure always reaches whoever waits"
_RESENT = "a client sends a job again until the scheduler has accepted it"
_CONNECTED = "an app has one connection of its own"

# Why → options that are taken and mean nothing here.
_TASK_NOT_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    _RECORDED: (
        "trail", "track_started", "send_events", "store_errors_even_if_ignored", "throws", "resultrepr_maxsize",
    ),
    "durability= says what a job outlives": ("delivery_mode",),
    "a job that raises is over; autoretry_for says what is tried again": (
        "acks_on_failure", "acks_on_failure_or_timeout", "acks_on_timeout",
    ),
    "crash_budget= says how often a job runs again when its process dies": ("retry_on_worker_lost",),
    "there is no result backend: the scheduler keeps the results": ("backend",),
    "arguments are checked where the task runs": ("typing",),
    "": ("shared", "lazy"),
}  # fmt: skip
_JOB_NOT_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    _RESENT: ("retry", "retry_policy"),
    _CONNECTED: ("producer", "publisher", "connection", "router", "result_cls", "reply_to"),
    "durability= says what a job outlives": ("delivery_mode",),
    "there is no broker that could return it": ("mandatory", "immediate"),
    _RECORDED: ("shadow", "add_to_parent", "root_id", "parent_id", "argsrepr", "kwargsrepr"),
}
TASK_NOT_NEEDED: Final = {name: why for why, names in _TASK_NOT_NEEDED.items() for name in names}
JOB_NOT_NEEDED: Final = {name: why for why, names in _JOB_NOT_NEEDED.items() for name in names}
_REFUSED: Final = {"headers", "stamped_headers", "group_id", "chord", "chain"}

_said: set[str] = set()


def of_task(given: Mapping[str, Any], base: type) -> dict[str, Any]:
    """Options of @app.task.

    Args:
        given: as Celery has them.
        base: the class of the task; what it says by attributes counts where the options say nothing.

    Raises:
        BadOption: retry_kwargs has something else than max_retries and countdown.
    """
    found = _needed(given, TASK_NOT_NEEDED, "task option")
    retry = found.pop("retry_kwargs", None)
    for name, value in _retry(getattr(base, "retry_kwargs", None) if retry is None else retry).items():
        found.setdefault(name, value)
    lost = found.pop("reject_on_worker_lost", getattr(base, "reject_on_worker_lost", None))
    if lost is False:
        found.setdefault("crash_budget", 0)
    return {name: value for name, value in found.items() if value is not None or name in {"max_retries", "base"}}


def of_job(given: Mapping[str, Any], zone: Callable[[], tzinfo]) -> dict[str, Any]:
    """Options of apply_async and send_task.

    Args:
        given: as Celery has them.
        zone: tells the time zone of times without one.

    Raises:
        NotAvailable: one cannot be honoured, and must not be forgotten.
    """
    found = {name: value for name, value in given.items() if value is not None}
    for name in ("link", "link_error"):
        if found.pop(name, None):
            raise NotAvailable(f"option {name}= is not available: {CALLBACKS}")
    for name in sorted(found.keys() & _REFUSED):
        raise NotAvailable(f"option {name}= of Celery is not available: a job carries its arguments and nothing else")
    found = _needed(found, JOB_NOT_NEEDED, "option")
    if found.pop("ignore_result", False):
        found["result_ttl"] = 0.0
    for name in found.keys() & {"eta", "expires"}:
        found[name] = aware(found[name], zone)
    return found


def aware(time: Any, zone: Callable[[], tzinfo]) -> Any:
    """A datetime without a time zone in that of the app, as in Celery; anything else as it is."""
    if isinstance(time, datetime) and time.tzinfo is None:
        return time.replace(tzinfo=zone())
    return time


def _retry(given: Any) -> dict[str, Any]:
    """What `retry_kwargs` says about every retry, as options of the task."""
    if given is None:
        return {}
    names = {"max_retries": "max_retries", "countdown": "default_retry_delay"}
    if not isinstance(given, Mapping) or not given.keys() <= names.keys():
        raise BadOption(f"task option retry_kwargs= is a dict with max_retries and countdown, not {given!r}")
    return {names[name]: value for name, value in given.items()}


def _needed(given: Mapping[str, Any], idle: Mapping[str, str], what: str) -> dict[str, Any]:
    """Without those that mean nothing here, which is said once for each."""
    for name in given.keys() & idle.keys():
        if idle[name] and name not in _said:
            _said.add(name)
            _log.warning(
                "not needed: %s %s= (%s)", what, name, idle[name], extra={"action": "option-not-needed"}
            )  # fmt: skip
    return {name: value for name, value in given.items() if name not in idle}
