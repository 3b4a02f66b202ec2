"""Options of a job: which there are, what they may be, and the Spec that they become."""

import difflib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from zmqtasks import compression, payload, queues, rates, resources
from zmqtasks.config import DEFAULT_QUEUE, MAX_NAME, MAX_PRIORITY
from zmqtasks.errors import BadOption, NotAvailable, PayloadError
from zmqtasks.wire import Spec

KNOWN: Final = frozenset({
    "queue", "retries", "backoff", "backoff_max", "jitter", "crash_budget", "result_ttl", "eta", "countdown", "job_id",
    "on_unknown", "durability", "acks_late", "priority", "expires", "rate_limit", "burst", "rate_key",
    "concurrency_limit", "concurrency_key", "serializer", "compression", "result_compression", "resources",
})  # fmt: skip
OF_CALLS: Final = frozenset({  # of these, those that only a call can say: a task says them otherwise, or not at all
    "retries", "backoff", "backoff_max", "jitter", "eta", "countdown", "job_id", "on_unknown",
})  # fmt: skip
LATER: Final = frozenset({
    "time_limit", "soft_time_limit", "key", "lease", "confirm",
    "link", "link_error", "name",
})  # fmt: skip

TASK_OPTION: Final = "task option"  # in errors: it was declared by @app.task
MOST: Final = 2**31 - 1  # of attempts, jobs, starts: what stands for no limit, see `zmqtasks.task.FOREVER`
MOST_SECONDS: Final = 10**12  # since 1970, or from now; neither NaN nor infinity is as small
BACKOFF_MAX: Final = 600.0  # seconds, where nobody says it
DURABILITIES: Final = ("disk", "os", "memory")

Options = Mapping[str, Any]


def check(options: Options, known: frozenset[str] = KNOWN, what: str = "option") -> dict[str, Any]:
    """These options, without those that are None.

    Raises:
        BadOption: one does not exist or has an impossible value.
        NotAvailable: one is planned, but not built yet.
    """
    found = {}
    for name, value in options.items():
        if name in known:
            if value is not None:
                found[name] = value
        elif name in LATER:
            if value is not None:
                raise NotAvailable(f"{what} {name}= is not available yet")
        else:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}=?" if near else ""
            place, colon, kind = what.rpartition(": ")
            there = ", ".join(sorted(known))
            raise BadOption(f"{place}{colon}there is no {kind} {name}={meant} (there are: {there})")
    _check_values(found, what)
    _check_ranges(found, what)
    _check_limits(found, what)
    _name_codecs(found, what)
    if "eta" in found and "countdown" in found:
        raise BadOption("give eta= or countdown=, not both")
    _check_times(found, what)
    return found


def _check_values(found: Options, what: str) -> None:
    for name in found.keys() & _CHECKS.keys():
        kinds, positive, said = _CHECKS[name]
        value = found[name]
        if isinstance(value, bool) or not isinstance(value, kinds) or (positive and value < 0):
            raise BadOption(f"{what} {name}= is {said}, not {value!r}")
        if isinstance(value, int | float) and not abs(value) <= (most := MOST_SECONDS if float in kinds else MOST):
            raise BadOption(f"{what} {name}= is {said}, {most:,} at most, not {value!r}")
    for name in ("jitter", "acks_late"):
        if not isinstance(found.get(name, False), bool):
            raise BadOption(f"{what} {name}= is True or False, not {found[name]!r}")
    if found.get("durability") not in {None, *DURABILITIES}:
        raise BadOption(f'{what} durability= is "disk", "os" or "memory", not {found["durability"]!r}')
    if not 0 <= found.get("priority", 0) <= MAX_PRIORITY:
        raise BadOption(f"{what} priority= is a number from 0 to {MAX_PRIORITY}, not {found['priority']!r}")
    if found.get("on_unknown") not in {None, "wait", "fail"}:
        raise BadOption(f'{what} on_unknown= is "wait" or "fail", not {found["on_unknown"]!r}')


def _check_ranges(found: Options, what: str) -> None:
    """Values that would be taken for something else, or for nothing."""
    if "queue" in found and (wrong := queues.flaw(found["queue"])):
        raise BadOption(f"{what} queue=: queue {found['queue']!r:.100} {wrong}")
    if not 0 < len(found.get("job_id", "-")) <= MAX_NAME:
        raise BadOption(f"{what} job_id= is a text of 1 to {MAX_NAME:,} characters, not of {len(found['job_id']):,}")
    if found.get("burst") == 0:
        raise BadOption(f"{what} burst= is {_CHECKS['burst'][2]}, not 0")
    expires = found.get("expires")
    if isinstance(expires, int | float) and expires <= 0:
        raise BadOption(f"{what} expires={expires!r} is over before the job may start: it would never run")
    most = found.get("backoff_max", BACKOFF_MAX)
    if found.get("backoff", 0) > most:
        by_default = "" if "backoff_max" in found else ", which is the default"
        raise BadOption(f"{what} backoff={found['backoff']!r} is more than backoff_max={most!r}{by_default}")


def _check_limits(found: Options, what: str) -> None:
    for name in found.keys() & {"rate_key", "concurrency_key"}:
        if not isinstance(found[name], str) and not (what == TASK_OPTION and callable(found[name])):
            said = "the name of an argument, or a function of all" if what == TASK_OPTION else "a text"
            raise BadOption(f"{what} {name}= is {said}, not {found[name]!r}")
    if "rate_limit" in found:
        try:
            rates.parse(found["rate_limit"])
        except BadOption as error:
            raise BadOption(f"{what} rate_limit=: {error}") from None
    if "resources" in found:
        try:
            resources.parse(found["resources"])
        except BadOption as error:
            raise BadOption(f"{what} resources=: {error}") from None
    for key, limit in (("rate_key", "rate_limit"), ("burst", "rate_limit"), ("concurrency_key", "concurrency_limit")):
        if key in found and not found.get(limit):
            raise BadOption(f"{what} {key}= needs {limit}=")


def _check_times(found: Options, what: str) -> None:
    """Times are on somebody's clock; and a job that is too late before it may start would never run."""
    for name in found.keys() & {"eta", "expires"}:
        when = found[name]
        if isinstance(when, datetime) and when.tzinfo is None:
            raise BadOption(
                f"{what} {name}= is a datetime with its time zone, and {when!r} has none: whose clock does it mean? "
                f"Write {name}=when.astimezone() for this machine's, when.replace(tzinfo=UTC) for UTC"
            )
    expires = found.get("expires")
    start = found.get("countdown" if isinstance(expires, int | float) else "eta")
    if expires is None or start is None:
        return
    first, last = (one.timestamp() if isinstance(one, datetime) else one for one in (start, expires))
    if last <= first:
        raise BadOption(f"{what} expires={expires!r} is over before the job may start: it would never run")


def _name_codecs(found: dict[str, Any], what: str) -> None:
    """Codecs and compressions by their own names, whatever they were called."""
    for name, named in _CODECS.items():
        if name in found:
            try:
                found[name] = named(found[name])
            except (BadOption, PayloadError) as error:
                raise BadOption(f"{what} {name}=: {error}") from None
            except TypeError:
                raise BadOption(f"{what} {name}= is a text, not {found[name]!r}") from None


def codec(options: Options, serializer: str) -> str:
    """The codec of jobs with these options. `serializer`: unless they name one."""
    given = options.get("compression"), options.get("result_compression")
    return payload.joined(options.get("serializer", serializer), *given)


_CODECS: Final[dict[str, Callable[[Any], str]]] = {
    "serializer": payload.named,
    "compression": compression.named,
    "result_compression": compression.named,
}
_CHECKS: Final[dict[str, tuple[Any, bool, str]]] = {
    "queue": ((str,), False, "the name of a queue"),
    "job_id": ((str,), False, "a text"),
    "retries": ((int,), True, "a number of attempts, 0 or more"),
    "backoff": ((int, float), True, "a number of seconds, 0 or more"),
    "backoff_max": ((int, float), True, "a number of seconds, 0 or more"),
    "crash_budget": ((int,), True, "a number of crashes, 0 or more"),
    "result_ttl": ((int, float), True, "a number of seconds, 0 or more"),
    "countdown": ((int, float), False, "a number of seconds"),
    "eta": ((int, float, datetime), False, "a datetime with its time zone, or Unix time in seconds"),
    "priority": ((int,), True, f"a number from 0 to {MAX_PRIORITY}"),
    "burst": ((int,), True, "a number of starts at once, 1 or more"),
    "concurrency_limit": ((int,), True, "a number of jobs that may run at once, 0 for any"),
    "expires": ((int, float, datetime), False, "a number of seconds from now, or a datetime with its time zone"),
}


def timed(options: Options) -> bool:
    """Whether the Spec depends on when it is made."""
    return "countdown" in options or isinstance(options.get("expires"), int | float)


def spec(options: Options, *, python: str, wall: float) -> Spec:
    """The Spec of checked options.

    Args:
        options: from `check`.
        python: major.minor that a shipped function needs; empty for a registered task.
        wall: Unix time that a countdown begins at.
    """
    not_before = 0.0
    eta = options.get("eta")
    if isinstance(eta, datetime):
        not_before = eta.timestamp()
    elif eta is not None:
        not_before = float(eta)
    elif "countdown" in options:
        not_before = wall + float(options["countdown"])
    return Spec(
        queue=options.get("queue", DEFAULT_QUEUE),
        python=python,
        retries=options.get("retries", 0),
        backoff=float(options.get("backoff", 0.0)),
        backoff_max=float(options.get("backoff_max", BACKOFF_MAX)),
        crash_budget=options.get("crash_budget", 3),
        result_ttl=float(options.get("result_ttl", -1.0)),
        not_before=not_before,
        fail_unknown=options.get("on_unknown") == "fail",
        jitter=bool(options.get("jitter", False)),
        durability=options.get("durability", ""),
        acks_late=options.get("acks_late", True),
        priority=options.get("priority", 0),
        expires=_expiry(options.get("expires"), wall),
        rate=rates.parse(options.get("rate_limit")),
        burst=max(1, options.get("burst", 1)),
        rate_key=options.get("rate_key", ""),
        cap=options.get("concurrency_limit", 0),
        cap_key=options.get("concurrency_key", ""),
        resources=resources.parse(options.get("resources", {})),
    )


def _expiry(expires: float | datetime | None, wall: float) -> float:
    if expires is None:
        return 0.0
    return expires.timestamp() if isinstance(expires, datetime) else wall + float(expires)
