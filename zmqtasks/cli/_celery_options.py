"""What Celery's command line has and this one has not: options without a meaning here are said, the rest is refused."""

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import click

from zmqtasks.cli._shared import say

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice  # not generic before click 8.2

F = TypeVar("F", bound=Callable[..., Any])

_IDLE: Final = "zmqtasks.cli.not_needed"  # in a context's meta: why → names of options that were given

_EVENTS: Final = "events come later"
_ALIVE: Final = "the scheduler knows at once which workers there are"
_PREFETCH: Final = "how many jobs a worker holds in advance follows from how long they take"
_SCHEDULE: Final = "the scheduler will keep the schedule"
_PLAIN: Final = "there are no colours and no banner to leave out"

# Names → why it is not needed.
NOT_NEEDED: Final[dict[tuple[str, ...], str]] = {
    ("-E", "--task-events", "--events"): _EVENTS,
    ("--without-gossip",): _ALIVE,
    ("--without-mingle",): _ALIVE,
    ("--without-heartbeat",): _ALIVE,
    ("--heartbeat-interval",): _ALIVE,
    ("-O", "--optimization"): _PREFETCH,
    ("--prefetch-multiplier",): _PREFETCH,
    ("--disable-prefetch",): _PREFETCH,
    ("-S", "--statedb"): "the scheduler's journal keeps what a worker must know",
    ("-s", "--schedule-filename", "--schedule"): _SCHEDULE,
    ("--scheduler",): _SCHEDULE,
    ("--pool-start-method",): "children are forked where that is safe, else started anew",
    ("--result-backend",): "there is no result backend: the scheduler keeps the results",
    ("--no-color",): _PLAIN,
    ("--quiet",): _PLAIN,
}

# Names → what to do instead.
REFUSED: Final[dict[tuple[str, ...], str]] = {
    ("-B", "--beat"): "periodic tasks come later; until then have cron call zmqtasks submit",
    ("-D", "--detach"): "a worker stays in the foreground: have systemd or a container start it, or nohup … &",
    ("--pidfile",): "a worker writes none: systemd and containers know their processes",
    ("--uid",): "start the worker as the user that it is to run as",
    ("--gid",): "start the worker as the user that it is to run as",
    ("--umask",): "set the umask before the worker is started",
    ("--workdir",): "start the worker in that folder",
    ("--executable",): "start the worker with that Python: PYTHON -m zmqtasks worker",
    ("-I", "--include"): "name the modules in include= of the app",
    ("--purge", "--discard"): "zmqtasks purge QUEUE does it",
    ("--autoscale",): "workers that grow and shrink come later; -c says how many slots this one has",
    ("--time-limit",): "time limits come later",
    ("--soft-time-limit",): "time limits come later",
    ("--max-tasks-per-child",): "recycled children come later",
    ("--max-memory-per-child",): "recycled children come later",
}

# Commands of Celery → what to do instead.
COMMANDS: Final = {
    "amqp": "there is no broker; zmqtasks inspect queues shows the queues",
    "beat": "periodic tasks come later; until then have cron call zmqtasks submit",
    "call": "zmqtasks submit TASK --args JSON sends a job",
    "events": "zmqtasks status --watch and zmqtasks story ID show what happens",
    "flower": "zmqtasks status --watch and zmqtasks story ID show what happens",
    "list": "zmqtasks inspect queues shows the queues",
    "multi": "have systemd or containers start the workers: zmqtasks worker",
    "report": "zmqtasks version and zmqtasks check show versions and settings",
    "shell": "start python and import the app",
}

# What `celery inspect` and `celery control` know besides → what to do instead.
INSPECT: Final = {
    "ping": "zmqtasks inspect workers shows who is there",
    "active_queues": "zmqtasks inspect queues shows who takes from which",
    "query_task": "zmqtasks explain ID tells where a job is",
    "revoked": "zmqtasks explain ID tells whether a job was cancelled",
    "conf": "zmqtasks check -A APP shows the settings",
    "report": "zmqtasks version and zmqtasks check show versions and settings",
}
CONTROL: Final = {
    "ping": "zmqtasks inspect workers shows who is there",
    "revoke": "zmqtasks revoke ID cancels a job",
    "terminate": "zmqtasks revoke --force ID ends a job that runs, too",
    "shutdown": "stop a worker by Ctrl-C or SIGTERM; it finishes what runs first",
}

_FLAGS: Final = frozenset({
    "-E", "--without-gossip", "--without-mingle", "--without-heartbeat", "--disable-prefetch", "--no-color", "--quiet",
    "-B", "-D", "--purge",
})  # fmt: skip


class Words(_Choice):
    """One of these words; of Celery's others it says what to do instead.

    Args:
        words: those that there are.
        instead: Celery's → what to do.
    """

    def __init__(self, words: Iterable[str], instead: Mapping[str, str]) -> None:
        super().__init__(tuple(words))
        self._instead = instead

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self._instead:
            raise click.UsageError(f"{value} of Celery is not available: {self._instead[value]}", ctx)
        return super().convert(value, param, ctx)


def celery_options(function: F) -> F:
    """Give a command these options; it is not told of them, and its help does not show them."""

    @wraps(function)
    def saying(*args: Any, **kwargs: Any) -> Any:
        idle: dict[str, list[str]] = click.get_current_context().meta.get(_IDLE, {})
        if idle:
            say("not needed: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in idle.items()))
        return function(*args, **kwargs)

    command: Any = saying
    for names, why in NOT_NEEDED.items():
        command = _hidden(names, _note(names[0], why))(command)
    for names, why in REFUSED.items():
        command = _hidden(names, _refuse(why))(command)
    return cast("F", command)


def _hidden(names: tuple[str, ...], callback: Callable[..., None]) -> Callable[[Any], Any]:
    return click.option(
        *names, is_flag=names[0] in _FLAGS, default=None, hidden=True, expose_value=False, callback=callback
    )


def _note(name: str, why: str) -> Callable[..., None]:
    def note(ctx: click.Context, _param: click.Parameter, value: object) -> None:
        if value:
            ctx.meta.setdefault(_IDLE, {}).setdefault(why, []).append(name)

    return note


def _refuse(why: str) -> Callable[..., None]:
    def refuse(ctx: click.Context, param: click.Parameter, value: object) -> None:
        if value:
            raise click.UsageError(f"option {' / '.join(param.opts)} of Celery's worker is not available: {why}", ctx)

    return refuse
