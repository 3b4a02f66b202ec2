"""Routes: which options, the queue above all, the jobs of a task get by its name. What the setting `task_routes` holds.

First match wins. Names and patterns are looked up once for a task; functions are asked for each job.
"""

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from zmqtasks.errors import BadOption
from zmqtasks.queues import flaw, name_of

DESTINATION: Final = ("queue", "exchange", "routing_key")  # options that say together where a job goes
_IDLE: Final = frozenset({"exchange_type", "binding_key", "delivery_mode", "immediate", "mandatory"})  # of AMQP alone

Options = Mapping[str, Any]


class Found(NamedTuple):
    """What the routes say about a task, or a job.

    Attributes:
        options: of its jobs.
        why: the route, for people; empty: there is none.
        asked: functions stand before any match, so each job must be asked for.
        otherwise: what holds for jobs of which the functions say nothing.
    """

    options: dict[str, Any]
    why: str = ""
    asked: bool = False
    otherwise: "Found | None" = None


NONE: Final = Found({})


class Table:
    """Routes by name: exact ones first, then patterns in their order, as in Celery.

    Args:
        given: a dict, or pairs; names, globs (``*`` is any text of one letter or more) or compiled expressions, with
            the name of a queue or a dict of options each.

    Raises:
        BadOption: one is none of these.
    """

    def __init__(self, given: Any) -> None:
        self._exact: dict[str, tuple[str, Options]] = {}
        self._patterns: list[tuple[re.Pattern[str], str, Options]] = []
        for key, route in given.items() if isinstance(given, Mapping) else given:
            options = _options(route, f"the route of {getattr(key, 'pattern', key)!r}")
            if isinstance(key, re.Pattern):
                self._patterns.append((key, f"task_routes, expression {key.pattern}", options))
            elif isinstance(key, str) and "*" in key:
                self._patterns.append((_glob(key), f"task_routes, {key}", options))
            elif isinstance(key, str) and key:
                self._exact.setdefault(key, (f"task_routes, {key}", options))
            else:
                raise BadOption(f"a route is for the name of a task, a glob or a compiled expression, not for {key!r}")

    @property
    def named(self) -> list[str]:
        """The exact ones."""
        return list(self._exact)

    def find(self, name: str) -> tuple[str, Options] | None:
        """What it says about a task of this name, and where."""
        found = self._exact.get(name)
        if found is not None:
            return found
        return next(((why, options) for regex, why, options in self._patterns if regex.match(name)), None)


class Router:
    """A function that is asked for each job: ``route(name, args, kwargs, options, task=None, **kw)``.

    Args:
        given: the function, or the dotted path of it. An object with `route_for_task`, as of Celery 3, will do.
    """

    def __init__(self, given: Any) -> None:
        self._given = given
        self._ask: Callable[..., Any] | None = None

    def ask(self, name: str, args: Sequence[Any], kwargs: Options, options: Options, task: object) -> Options | None:
        """Its answer for one job.

        Raises:
            BadOption: it cannot be imported, or it answers something else than a queue or options.
            Exception: what the function raises, with a note of where.
        """
        ask = self._ask
        if ask is None:
            ask = self._ask = self._found()
        try:
            route = ask(name, tuple(args), dict(kwargs), dict(options), task=task)
        except Exception as error:
            error.add_note(f"({self.why}, asked for a job of {name})")
            raise
        return None if route is None else _options(route, f"what {self.why} says of {name}")

    @property
    def why(self) -> str:
        """It, for people."""
        named = self._given if isinstance(self._given, str) else getattr(self._given, "__qualname__", repr(self._given))
        return f"task_routes, function {named}"

    def _found(self) -> Callable[..., Any]:
        router = _imported(self._given) if isinstance(self._given, str) else self._given
        if isinstance(router, type):
            router = router()
        old = getattr(router, "route_for_task", None)
        if old is not None:
            return lambda name, args, kwargs, _options, **_more: old(name, args, kwargs)
        if not callable(router):
            raise BadOption(f"task_routes: {self._given!r} is no function")
        return router  # type: ignore[no-any-return]  # whatever it answers is looked at


class Routes:
    """The routes of an app, in their order.

    Args:
        given: what `task_routes` may be; None: no routes.

    Raises:
        BadOption: it is something else.
    """

    def __init__(self, given: Any = None) -> None:
        many = given if isinstance(given, list | tuple) else () if given is None else (given,)
        self._routers = [_router(one) for one in many]

    @property
    def named(self) -> list[str]:
        """The tasks that have a route by their whole name."""
        return [name for router in self._routers if isinstance(router, Table) for name in router.named]

    def of_task(self, name: str) -> Found:
        """What is sure for all jobs of a task."""
        sure, asked = NONE, ""
        for router in self._routers:
            if isinstance(router, Router):
                asked = asked or router.why
            elif (found := router.find(name)) is not None:
                sure = Found(dict(found[1]), found[0])
                break
        return Found({}, asked, asked=True, otherwise=sure) if asked else sure

    def of_job(self, name: str, args: Sequence[Any], kwargs: Options, options: Options, task: object) -> Found:
        """What holds for one job. Raises as `Router.ask`."""
        for router in self._routers:
            if isinstance(router, Router):
                answer = router.ask(name, args, kwargs, options, task)
                if answer is not None:
                    return Found(dict(answer), router.why)
            else:
                found = router.find(name)
                if found is not None:
                    return Found(dict(found[1]), found[0])
        return NONE


def over(upper: Options, lower: Options) -> dict[str, Any]:
    """Options of two levels: those of the upper one count more, and its destination replaces the other's as a whole."""
    said = {name: value for name, value in upper.items() if value is not None}
    if any(name in said for name in DESTINATION):
        lower = {name: value for name, value in lower.items() if name not in DESTINATION}
    return {**upper, **lower, **said}


def _router(given: Any) -> Table | Router:
    if isinstance(given, str) or callable(given) or hasattr(given, "route_for_task"):
        return Router(given)
    if isinstance(given, Mapping):
        return Table(given)
    if isinstance(given, list | tuple):
        pair = len(given) == 2 and isinstance(given[0], str | re.Pattern)
        pairs = [given] if pair else given
        if all(isinstance(one, list | tuple) and len(one) == 2 for one in pairs):
            return Table(pairs)
    raise BadOption(f"a route is a dict, a pair of a name and a queue, or a function, not {given!r:.100}")


def _options(route: Any, what: str) -> Options:
    if isinstance(route, str) and route:
        route = {"queue": route}
    if not isinstance(route, Mapping) or not all(isinstance(name, str) for name in route):
        raise BadOption(f"{what} is the name of a queue, or a dict of options, not {route!r:.100}")
    found = {name: value for name, value in route.items() if name not in _IDLE and value is not None}
    if "queue" in found:
        found["queue"] = name_of(found["queue"])
    if isinstance(found.get("queue"), str) and (wrong := flaw(found["queue"])):
        raise BadOption(f"{what}: queue {found['queue']!r:.100} {wrong}")
    for name in DESTINATION:
        if not isinstance(found.get(name, ""), str) and (name != "exchange" or not hasattr(found[name], "name")):
            raise BadOption(f"{what}: {name} is a text, not {found[name]!r}")
    return found


def _glob(text: str) -> re.Pattern[str]:
    return re.compile("".join(".+" if part == "*" else re.escape(part) for part in re.split(r"(\*)", text)) + r"\Z")


def _imported(path: str) -> Any:
    """What a dotted path, MODULE.NAME or MODULE:NAME, leads to."""
    module, _, name = path.rpartition(":" if ":" in path else ".")
    try:
        found = importlib.import_module(module) if module else None
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise BadOption(f"task_routes: {path!r} is to name a function, and cannot be imported ({told})") from error
    return found
