"""What the value of a setting may be, in words and as a check."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import urlsplit

from zmqtasks import compression, payload, queues, rates
from zmqtasks.conf.pools import MAX_CONCURRENCY, POOL_ALIASES, POOLS, POOLS_LATER
from zmqtasks.config import DEFAULT_PORT
from zmqtasks.errors import BadOption, PayloadError
from zmqtasks.routes import Routes

In = TypeVar("In")
Out = TypeVar("Out")

# Codecs of Celery that there are not here can do no harm in an accept list.
_ELSEWHERE: Final = (
    "yaml", "application/x-yaml", "raw", "binary", "text", "application/data", "application/text", "text/plain",
    "auth",
)  # fmt: skip
_BROKERS: Final = ("amqp", "pyamqp", "librabbitmq", "redis", "sentinel", "sqs", "kafka", "gcpubsub", "memory")
_SCHEMES: Final = ("tcp://", "ipc://", "local://")


class Refused(ValueError):
    """A value that a setting cannot have. Its text, if there is one, stands in place of the kind's `allowed`."""


@dataclass(frozen=True)  # slots and Generic do not go together in Python 3.11
class Kind(Generic[In, Out]):
    """What a setting may be: `In` is what people may give, `Out` what the rest of zmqtasks reads.

    Attributes:
        allowed: what may be given, in words that go on after "is".
        read: the value as it is kept; raises Refused.
    """

    allowed: str
    read: Callable[[Any], Out]


def optional(kind: Kind[In, Out], otherwise: str = "") -> Kind[In | None, Out | None]:
    """The same kind, or None, which means `otherwise`."""

    def read(value: Any) -> Out | None:
        return None if value is None else kind.read(value)

    meaning = f" ({otherwise})" if otherwise else ""
    return Kind(f"{kind.allowed}, or None{meaning}", read)


def or_default(kind: Kind[In, Out], otherwise: str) -> Kind[In | None, Out]:
    """The same kind, or None, which is kept, and read as the setting's default."""
    return cast("Kind[In | None, Out]", optional(kind, otherwise))


# ------------------------------------------------------------------------------------------------ plain ones


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise Refused
    return value


def _queue(value: Any) -> str:
    name = _text(value)
    if wrong := queues.flaw(name):
        raise Refused(f"the name of a queue, and this one {wrong}")
    return name


def _anything(value: Any) -> Any:
    return value


def whole(what: str, least: int, most: int | None = None) -> Kind[int, int]:
    """A whole number within bounds.

    Args:
        what: is counted, for the message.
        least: the smallest.
        most: the largest; None: there is none.
    """

    def read(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int)
            or value < least
            or (most is not None and value > most)
        ):
            raise Refused
        return value

    return Kind(f"{what}, {least} or more" if most is None else f"{what}, {least} to {most}", read)


def _seconds(value: Any) -> float:
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise Refused
    return float(number)


def _exchange_type(value: Any) -> str:
    if value not in queues.TYPES:
        raise Refused
    return str(value)


def _expiry(value: Any) -> float:
    if not isinstance(value, bool) and value == 0:
        raise Refused(
            "a number of seconds above 0: Celery's 0 (results that never expire) there is not, and "
            "task_ignore_result=True keeps none"
        )
    return _seconds(value)


FLAG: Final = Kind[bool, bool]("True or False", _flag)
TEXT: Final = Kind[str, str]("a text", _text)
ANYTHING: Final = Kind[Any, Any]("anything", _anything)
QUEUE: Final = Kind[str, str]("the name of a queue", _queue)
EXCHANGE_TYPE: Final = Kind[str, str](f"one of {', '.join(queues.TYPES)}", _exchange_type)
SECONDS: Final = Kind[float | timedelta, float]("a number of seconds above 0, or a timedelta", _seconds)
EXPIRY: Final = Kind[float | timedelta, float]("a number of seconds above 0, or a timedelta", _expiry)
CONCURRENCY: Final = whole("a number of jobs", 1, MAX_CONCURRENCY)


# ------------------------------------------------------------------------------------------------ words


def _url(value: Any) -> str:
    if not isinstance(value, str):
        raise Refused
    if not value.startswith(_SCHEMES):
        if "://" in value:
            raise Refused(f"the URL of a zmqtasks scheduler, tcp://HOST:PORT, ipc://PATH or local://{_meant(value)}")
        raise Refused
    return value


def _meant(url: str) -> str:
    """What to write instead of the URL of a broker of Celery's; empty: it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if not parts.scheme.startswith(_BROKERS):
        return ""
    host = parts.hostname or "HOST"
    return f" (there is no broker: start `zmqtasks scheduler` on {host} and write tcp://{host}:{DEFAULT_PORT})"


def _codec(value: Any) -> str:
    try:
        return payload.named(value)
    except (PayloadError, TypeError):  # it may not even be hashable
        raise Refused from None


def _compression(value: Any) -> str:
    try:
        return compression.named(value)
    except BadOption as error:
        raise Refused(f"{_COMPRESSIONS} ({error})") from None


def _codecs(value: Any) -> frozenset[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Iterable) or isinstance(names, Mapping | bytes):
        raise Refused
    found = frozenset(_codec(name) for name in names if name not in _ELSEWHERE)
    if not found:
        raise Refused
    return found


def _pool(value: Any) -> str:
    if value in POOLS_LATER:
        raise Refused(f"{' or '.join(POOLS[:2])} (pool {value} comes later)")
    name = POOL_ALIASES.get(value, value) if isinstance(value, str) else value
    if name not in POOLS:
        raise Refused
    return str(name)


def _modules(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Iterable) or isinstance(names, Mapping | bytes):
        raise Refused
    return tuple(_text(name) for name in names)


def _rate(value: Any) -> float | str:
    try:
        rates.parse(value)
    except BadOption:
        raise Refused from None
    return value  # type: ignore[no-any-return]  # it is a number or a text


def _zone(value: Any) -> str | tzinfo:
    if isinstance(value, tzinfo):
        return value
    name = _text(value)
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):  # unknown; no key of a zone at all; a folder
        if _knows_zones():
            raise Refused from None
    return name


def _knows_zones() -> bool:
    """Whether this system has a database of time zones; where there is none, no name can be called wrong."""
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo("UTC")
    except LookupError:
        return False
    return True


_COMPRESSIONS: Final = f"one of {', '.join(compression.METHODS)}, {compression.NONE}"
_CODECS: Final = ", ".join(sorted(payload.ALL_CODECS))

URL: Final = Kind[str, str]("tcp://HOST:PORT, ipc://PATH or local://", _url)
COMPRESSION: Final = Kind[str, str](_COMPRESSIONS, _compression)
CODEC: Final = Kind[str, str](f"one of {_CODECS}, or its MIME type", _codec)
CODECS: Final = Kind[str | Iterable[str], frozenset[str]](f"a list of some of {_CODECS}, or their MIME types", _codecs)
POOL: Final = Kind[str, str](f"one of {', '.join(POOLS)}", _pool)
MODULES: Final = Kind[str | Iterable[str], tuple[str, ...]]("a list of names of modules", _modules)
RATE: Final = Kind[float | str, float | str]("a number of jobs a second, or a text like 10/s, 100/m, 1000/h", _rate)
ZONE: Final = Kind[str | tzinfo, str | tzinfo]("the name of a time zone, like Europe/Berlin, or a tzinfo", _zone)


# ------------------------------------------------------------------------------------------------ structures


_ROUTES: Final = "a dict of routes, a function, or a list of these"
_QUEUES: Final = "a list of queues or of their names, or a dict of queues"
_ANNOTATIONS: Final = "a dict of options by names of tasks, or a list of these"


def _is_many(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def _routes(value: Any) -> Any:
    if isinstance(value, Mapping | str | list | tuple) or callable(value) or hasattr(value, "route_for_task"):
        try:
            Routes(value)
        except BadOption as error:
            raise Refused(f"{_ROUTES} ({error})") from None
        return value
    raise Refused


def _queues(value: Any) -> Any:
    if not isinstance(value, Mapping) and not _is_many(value):
        raise Refused
    try:
        queues.read(value)
    except BadOption as error:
        raise Refused(f"{_QUEUES} ({error})") from None
    return value


def _annotations(value: Any) -> Any:
    if not isinstance(value, Mapping) and not _is_many(value):
        raise Refused
    for table in (value,) if isinstance(value, Mapping) else value:
        if not isinstance(table, Mapping):
            raise Refused
        for name, options in table.items():
            _annotation(name, options)
    return value


def _annotation(name: Any, options: Any) -> None:
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise Refused(f"{_ANNOTATIONS} ({name!r} has {options!r})")
    for option, said in options.items():
        is_queue = option == "queue" and isinstance(queues.name_of(said), str)  # kombu's can be called
        if (callable(said) and not is_queue) or str(option).startswith("@"):
            raise Refused(
                f"{_ANNOTATIONS} ({name!r} has code for {option}: annotations are plain options here; "
                "write a class of tasks for code, @app.task(base=…))"
            )
    if options.get("rate_limit") is not None:
        try:
            rates.parse(options["rate_limit"])
        except BadOption as error:
            raise Refused(f"{_ANNOTATIONS} ({name!r}: {error})") from None


def _schedule(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise Refused
    for name, entry in value.items():
        if not isinstance(entry, Mapping) or not {"task", "schedule"} <= entry.keys():
            raise Refused(f'a dict of entries, each a dict with "task" and "schedule" ({name!r} is none)')
    return value


ROUTES: Final = Kind[Any, Any](_ROUTES, _routes)
QUEUES: Final = Kind[Any, Any](_QUEUES, _queues)
ANNOTATIONS: Final = Kind[Any, Any](_ANNOTATIONS, _annotations)
SCHEDULE: Final = Kind[Mapping[str, Any], dict[str, Any]](
    'a dict of entries, each a dict with "task" and "schedule"', _schedule
)
