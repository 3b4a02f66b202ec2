"""Where the jobs of an app go, and with which options: its queues, routes and annotations, made ready for use.

The order is Celery's: what a call says, what the task says (annotations before its own declaration), what a route says,
what the settings say. Queue, exchange and routing key count together: who names one of them has named the destination.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zmqtasks.conf.settings import Conf
from zmqtasks.errors import ZmqTasksError
from zmqtasks.queues import Binding, Queues, name_of, read
from zmqtasks.routes import DESTINATION, Found, Options, Routes, over
from zmqtasks.submitter import options

Check = Callable[[Mapping[str, Any], str], dict[str, Any]]  # options of a task and what they are called in errors

_MAY_BE_NONE = frozenset({"max_retries", "rate_limit", "priority", "expires", "result_ttl"})  # whatever settings say
EVERY = "*"  # the name of annotations of all tasks


class Plan(NamedTuple):
    """What the settings make of a task.

    Attributes:
        given: options, of its own and of its route.
        own: names of those that go before any route.
        annotated: names of those that annotations say.
        queue: where its jobs go; if functions are asked, those for which these name no other.
        usual: the same; if functions are asked, where those go of which they say nothing; empty: nowhere.
        why: it goes to the usual one, for people.
        asked: a function is asked for each job.
        error: why its jobs can go nowhere.
    """

    given: dict[str, Any]
    own: frozenset[str]
    annotated: frozenset[str]
    queue: str
    usual: str
    why: str
    asked: bool = False
    error: ZmqTasksError | None = None

    @property
    def said(self) -> dict[str, Any]:
        """The options without those of the route."""
        return {name: value for name, value in self.given.items() if name in self.own}


class Routing:
    """The settings of an app about this.

    Args:
        conf: the settings.
        check: looks at options of a task, see `zmqtasks.app`.

    Raises:
        BadOption: an annotation cannot be.
        NotAvailable: an annotation is planned, but not built yet.
    """

    def __init__(self, conf: Conf, check: Check) -> None:
        default = conf.task_default_queue
        self.queues = Queues(
            None if conf.task_queues is None else read(conf.task_queues),
            default,
            Binding(
                conf.task_default_exchange or default,
                conf.task_default_exchange_type,
                conf.task_default_routing_key or default,
            ),
            conf.task_create_missing_queues,
        )
        self.direct: bool = conf.worker_direct or self.queues.fanout  # each worker has a queue of its own, too
        self._routes = Routes(conf.task_routes)
        self._check = check
        self._annotations = [
            {name: _annotation(check, name, table[name]) for name in table} for table in _tables(conf.task_annotations)
        ]

    @property
    def named(self) -> list[tuple[str, str]]:
        """The tasks that settings speak of by their whole name: (setting, task)."""
        annotated = {name: None for table in self._annotations for name in table if name != EVERY}
        return [("task_routes", name) for name in self._routes.named] + [("task_annotations", n) for n in annotated]

    def annotated(self, name: str, given: Mapping[str, Any]) -> tuple[dict[str, Any], str, frozenset[str]]:
        """What a task declares, with what annotations say instead; which one names its destination; what they say."""
        found, why, names = dict(given), "", set[str]()
        for key in (EVERY, name):  # what is said of the task itself counts more
            for table in reversed(self._annotations):  # the first one that says it counts
                said = table.get(key, {})
                if any(said.get(one) is not None for one in DESTINATION):
                    why = f"task_annotations, {key}"
                names.update(said)
                found = over(said, {one: value for one, value in found.items() if one not in said})
        kept = {one: value for one, value in found.items() if value is not None or one in _MAY_BE_NONE}
        return kept, why, frozenset(names)

    def plan(self, name: str, given: Mapping[str, Any]) -> Plan:
        """What holds for a task of this name that declares these options.

        Raises:
            BadOption: its route has an option that there is not, or that cannot have that value.
            NotAvailable: its route has an option that is planned, but not built yet.
        """
        own, why, annotated = self.annotated(name, given)
        names = frozenset(own)
        found = self._routes.of_task(name)
        merged = over(own, self._checked(found))
        place: Options = {one: merged[one] for one in DESTINATION if one in merged}
        if place and not any(one in own for one in DESTINATION):
            why = found.why
        elif place:
            why = why or "the task itself"
        told = why or "task_default_queue"
        try:
            queue = self.resolve(place) if place else self.queues.find(self.queues.default)
        except ZmqTasksError as error:
            return Plan(
                merged, names, annotated, "", "", told, found.asked, type(error)(f"task {name} ({told}): {error}")
            )
        usual = queue
        if found.asked and not any(one in own for one in DESTINATION):
            usual, other = self._usual(found.otherwise, queue, told)
            told = f"{found.why}; else {other}"
        return Plan(merged, names, annotated, queue, usual, told, found.asked)

    def _usual(self, found: Found | None, queue: str, told: str) -> tuple[str, str]:
        """Where jobs go of which no function says anything, and why; this queue if no route says so."""
        place: Options = {one: found.options[one] for one in DESTINATION if one in found.options} if found else {}
        if found is None or not place:
            return queue, told
        try:
            return self.resolve(place), found.why
        except ZmqTasksError as error:
            return "", f"{found.why}: {error}"

    def of_job(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], given: Mapping[str, Any], task: object
    ) -> dict[str, Any]:
        """What the routes say of one job, with its queue. Raises as `plan`, and what a routing function raises."""
        found = self._routes.of_job(name, args, kwargs, given, task)
        route = self._checked(found)
        try:
            return self.addressed(route)
        except ZmqTasksError as error:
            raise type(error)(f"task {name} ({found.why}): {error}") from None

    def addressed(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Options in which the queue stands in place of an exchange and a key.

        Raises:
            BadOption: there is no such queue, or no queue takes this.
        """
        place: Options = {one: given[one] for one in DESTINATION if given.get(one) is not None}
        rest = {one: value for one, value in given.items() if one not in DESTINATION}
        return {**rest, "queue": self.resolve(place)} if place else rest

    def resolve(self, place: Options) -> str:
        """The queue of a destination. Raises as `addressed`."""
        queue = name_of(place.get("queue"))
        if queue is not None:
            options.check({"queue": queue})
            return self.queues.find(queue)
        return self.queues.reach(name_of(place.get("exchange")), place.get("routing_key"))

    def _checked(self, found: Found) -> dict[str, Any]:
        place = {one: value for one, value in found.options.items() if one in DESTINATION}
        rest = {one: value for one, value in found.options.items() if one not in DESTINATION}
        return {**place, **options.check(rest, what=f"{found.why}: option")} if rest else place


def _tables(given: Any) -> list[Mapping[str, Any]]:
    return [] if given is None else [given] if isinstance(given, Mapping) else list(given)


def _annotation(check: Check, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """One annotation, checked. None in it takes back what the task declares."""
    taken_back = {one: None for one, value in given.items() if value is None}
    return {**taken_back, **check(given, f"task_annotations, {name}: option")}
