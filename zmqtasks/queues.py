"""Queues and exchanges as apps declare them, and the queue that an exchange and a routing key lead to.

The scheduler knows queues and nothing else. What Celery's users say in terms of AMQP, exchanges of three types to which
queues are bound by keys, is resolved here to the name of a queue, before a job is sent.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from zmqtasks.config import MAX_NAME
from zmqtasks.errors import BadOption

TYPES: Final = ("direct", "topic", "fanout")
_PLAIN: Final = re.compile(r"[^\s,]+")
_DIRECT: Final = ".dq2"  # what the name of a worker's own queue ends with, as in Celery


class Exchange:
    """Where a message is sent to by a routing key, which the queues that are bound to it take or not.

    Args:
        name: empty: the app's default one, `task_default_exchange`.
        type: direct (the key is equal), topic (the key's words match: ``*`` is one, ``#`` any number) or fanout.
        others: what kombu's Exchange takes besides; it has no meaning here.
    """

    def __init__(self, name: str = "", type: str | None = "direct", **others: Any) -> None:  # noqa: A002  (kombu's name)
        self.name = name
        self.type: str = type or "direct"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exchange) and (self.name, self.type) == (other.name, other.type)

    def __hash__(self) -> int:
        return hash((self.name, self.type))

    def __repr__(self) -> str:
        return f"<Exchange {self.name} ({self.type})>"


class Queue:
    """A queue that an app declares.

    Args:
        name: of the queue.
        exchange: to which it is bound, or its name; None: the app's default one.
        routing_key: by which it is bound; empty: its name.
        others: what kombu's Queue takes besides; it has no meaning here.
    """

    def __init__(
        self, name: str, exchange: "Exchange | str | None" = None, routing_key: str | None = "", **others: Any
    ) -> None:
        self.name = _name(name)
        self.exchange = Exchange(exchange) if isinstance(exchange, str) else exchange
        self.routing_key: str = routing_key or ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Queue) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.name, self.routing_key))

    def __repr__(self) -> str:
        bound = f", bound to {self.exchange.name} by {self.routing_key or self.name}" if self.exchange else ""
        return f"<Queue {self.name}{bound}>"


class Broadcast(Queue):
    """A queue of a fanout exchange: each worker that takes from it gets a copy of what is sent to it.

    Args:
        name: of the queue, and of its exchange.
        queue, others: what kombu's Broadcast takes besides; they have no meaning here.
    """

    def __init__(self, name: str, queue: str | None = None, **others: Any) -> None:
        super().__init__(name, Exchange(_name(name), type="fanout"))


def flaw(name: str) -> str:
    """What is wrong with the name of a queue, to go on after "queue …"; empty: nothing."""
    if not name:
        return "has an empty name"
    if len(name) > MAX_NAME:
        return f"has a name of {len(name):,} characters, and {MAX_NAME:,} are the most"
    if _PLAIN.fullmatch(name) and name.isprintable():  # as nearly all; calls with options look at each name
        return ""
    wrong = next(char for char in name if not _PLAIN.fullmatch(char) or not char.isprintable())
    return f"has {wrong!r} in its name, where no comma, space or control character can be"


def direct(worker: str) -> str:
    """The name of the queue that only the worker of this name takes from."""
    return worker + _DIRECT


def owner(queue: str) -> str:
    """The name of the worker whose own queue this is; empty: it is none."""
    return queue.removesuffix(_DIRECT) if queue.endswith(_DIRECT) else ""


class Binding(NamedTuple):
    """A queue hangs on an exchange. An empty name is the default exchange, an empty key the queue's name."""

    exchange: str = ""
    type: str = "direct"
    key: str = ""

    def takes(self, key: str) -> bool:
        """Whether a message with this routing key comes to the queue."""
        return self.type == "fanout" or (topic_matches(self.key, key) if self.type == "topic" else self.key == key)


Bindings = Mapping[str, tuple[Binding, ...]]  # by the names of queues


def topic_matches(pattern: str, key: str) -> bool:
    """Whether the words of a key match those of a pattern, in which ``*`` is one word and ``#`` any number."""
    words = key.split(".") if key else []
    reached = {0}  # so many words are used up
    for part in pattern.split(".") if pattern else []:
        if part == "#":
            reached = set(range(min(reached), len(words) + 1)) if reached else reached
        else:
            reached = {at + 1 for at in reached if at < len(words) and part in ("*", words[at])}
    return len(words) in reached


# ------------------------------------------------------------------------------------------------ what is declared


def read(given: Any) -> Bindings:
    """The queues of a setting `task_queues`.

    Args:
        given: a list of queues (ours, kombu's, or what looks like them), of names, of dicts with a name; or a dict by
            names, of dicts with exchange, exchange_type and routing_key, or of queues.

    Raises:
        BadOption: it is none of these, or an exchange is of a type that there is not, or of two.
    """
    if isinstance(given, Mapping):
        entries = [(name, queue if queue is not None else {}) for name, queue in given.items()]
    elif isinstance(given, Iterable) and not isinstance(given, str | bytes):
        entries = [(_declared_name(queue), {} if isinstance(queue, str) else queue) for queue in given]
    else:
        raise BadOption(f"{given!r:.100} is no list of queues")
    found: dict[str, tuple[Binding, ...]] = {}
    for name, queue in entries:
        _name(name)
        if name in found:
            raise BadOption(f"queue {name!r} is declared twice")
        found[name] = _bindings(name, queue)
    _check_types(found)
    return found


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise BadOption(f"a queue has a name, a text, not {name!r:.100}")
    if wrong := flaw(name):
        raise BadOption(f"queue {name!r:.100} {wrong}")
    return name


def _declared_name(queue: Any) -> Any:
    if isinstance(queue, Mapping):
        return queue.get("name")
    return queue if isinstance(queue, str) else name_of(queue) if hasattr(queue, "name") else None


def _bindings(name: str, queue: Any) -> tuple[Binding, ...]:
    if isinstance(queue, Mapping):
        exchange = queue.get("exchange")
        key = queue.get("routing_key") or queue.get("binding_key")
        return (_binding(name, exchange, key, queue.get("exchange_type")),)
    if isinstance(queue, str | int | float) or not isinstance(getattr(queue, "name", None), str):
        raise BadOption(f"queue {name!r} is declared by a queue or a dict, not by {queue!r:.100}")
    exchange, key = getattr(queue, "exchange", None), getattr(queue, "routing_key", "")
    called: Any = exchange if exchange is None or isinstance(exchange, str) else getattr(exchange, "name", "")
    many = () if called else tuple(getattr(queue, "bindings", ()))
    if many:  # kombu's queues that are bound more than once, which is a set there
        return tuple(sorted(_binding(name, one.exchange, one.routing_key, None) for one in many))
    return (_binding(name, exchange, key, None),)


def _binding(queue: str, exchange: Any, key: Any, kind: Any) -> Binding:
    called = exchange if isinstance(exchange, str) else getattr(exchange, "name", "") or ""
    kind = kind or getattr(exchange, "type", None) or "direct"
    if kind not in TYPES:
        raise BadOption(f"queue {queue!r}: there are exchanges of type {', '.join(TYPES)}, and none of type {kind!r}")
    if not isinstance(called, str) or not isinstance(key or "", str):
        raise BadOption(f"queue {queue!r}: exchange and routing_key are texts, not {exchange!r} and {key!r}")
    return Binding(called, kind, key or "")


def _check_types(found: Bindings) -> None:
    types: dict[str, str] = {}
    for bindings in found.values():
        for binding in bindings:
            before = types.setdefault(binding.exchange, binding.type)
            if binding.exchange and before != binding.type:
                raise BadOption(f"exchange {binding.exchange!r} is declared as {before} and as {binding.type}")


def name_of(queue: Any) -> Any:
    """The name of a queue that was given as such or as its name; other things as they are.

    kombu's Broadcast has a name of its own in each process, and one that all know it by, its alias.
    """
    return queue if isinstance(queue, str) else getattr(queue, "alias", None) or getattr(queue, "name", queue)


# ------------------------------------------------------------------------------------------------ where things go


@dataclass(frozen=True, slots=True)
class Queues:
    """The queues of an app.

    Attributes:
        declared: those of `task_queues`; None: there is no such setting.
        default: the queue of what is not sent elsewhere.
        default_binding: of the default queue, and of what names no exchange.
        create_missing: other queues may be used, too.
    """

    declared: Bindings | None = None
    default: str = "default"
    default_binding: Binding = Binding()  # noqa: RUF009  (it cannot be changed)
    create_missing: bool = True

    @property
    def names(self) -> list[str]:
        """Those that workers take by default where they are declared."""
        return list(self.declared or ())

    @property
    def closed(self) -> frozenset[str] | None:
        """All that there are; None: any may be used."""
        if self.create_missing:
            return None
        return frozenset(self.declared if self.declared is not None else {self.default})

    def fans_out(self, name: str) -> bool:
        """Whether every worker that takes from this queue gets a copy of what is sent to it."""
        implied = (self.default_binding,) if name == self.default else ()
        bindings = (self.declared or {}).get(name, implied)
        return any(self._bound(name, one).type == "fanout" for one in bindings)

    def binding(self, name: str) -> Binding:
        """How a queue is bound, the first time if it is more than once, without gaps."""
        implied = (self.default_binding,) if name == self.default else (Binding(),)
        return self._bound(name, (self.declared or {}).get(name, implied)[0])

    @property
    def fanout(self) -> bool:
        """Whether there is such a queue."""
        return any(map(self.fans_out, (self.default, *self.names)))

    def find(self, name: str) -> str:
        """A queue by its name; that of a single worker need not be declared.

        Raises:
            BadOption: it is not declared, and others must not be used.
        """
        closed = self.closed
        if closed is not None and name not in closed and not owner(name):
            near = get_close_matches(name, closed, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(sorted(closed)) or 'none'}"
            raise BadOption(
                f"queue {name!r} is not declared in task_queues, and task_create_missing_queues is False; {hint}"
            )
        return name

    def reach(self, exchange: str | None, key: str | None) -> str:
        """The queue that takes what is sent to an exchange with a routing key.

        Args:
            exchange: its name; None: the default one; empty: AMQP's own, in which a key is the name of a queue.
            key: None: that of the default queue; or of the only queue there is.

        Raises:
            BadOption: no queue takes it, or more than one.
        """
        name, _type, own_key = self._bound(self.default, self.default_binding)
        bound = self._all()
        exchange = name if exchange is None else exchange
        if not exchange:
            return self.find(key or self.default)
        there = {queue: [one for one in many if one.exchange == exchange] for queue, many in bound.items()}
        there = {queue: many for queue, many in there.items() if many}
        if key is None and len(there) == 1:
            return next(iter(there))
        key = own_key if key is None else key
        takers = [queue for queue, many in there.items() if any(one.takes(key) for one in many)]
        if len(takers) == 1:
            return takers[0]
        if not there and self.create_missing and exchange == key:
            return exchange  # as Celery's own queues: exchange and key have the queue's name
        raise BadOption(_nowhere(exchange, key, takers, there, bound))

    def _all(self) -> dict[str, list[Binding]]:
        queues = dict(self.declared or {})
        if self.declared is None or self.create_missing:
            queues.setdefault(self.default, (self.default_binding,))
        return {name: [self._bound(name, one) for one in many] for name, many in queues.items()}

    def _bound(self, name: str, one: Binding) -> Binding:
        """A binding without gaps."""
        default = self.default_binding
        key = one.key or (default.key if name == self.default else "") or name
        if one.exchange:
            return Binding(one.exchange, one.type, key)
        return Binding(default.exchange or self.default, default.type, key)


def _nowhere(
    exchange: str, key: str, takers: list[str], there: Mapping[str, list[Binding]], bound: Mapping[str, list[Binding]]
) -> str:
    if takers:
        return (
            f"exchange {exchange!r} with routing key {key!r} leads to several queues ({', '.join(takers)}), and a job "
            "goes to one: name it by queue="
        )
    if there:
        keys = ", ".join(f"{queue} by {one.key!r}" for queue, many in there.items() for one in many)
        return f"no queue takes routing key {key!r} of exchange {exchange!r} (bound to it: {keys})"
    known = ", ".join(sorted({one.exchange for many in bound.values() for one in many}))
    return f"no queue is bound to exchange {exchange!r} (there are: {known})"
