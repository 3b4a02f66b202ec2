"""``zmqtasks inspect``: what workers, queues and jobs there are, in Celery's words."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from zmqtasks.cli._celery_options import INSPECT as CELERY
from zmqtasks.cli._celery_options import Words
from zmqtasks.cli._shared import (
    Example,
    answer_option,
    broker_url,
    connection_options,
    json_option,
    limit_option,
    loglevel_option,
    show_json,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from zmqtasks import wire

JOBS: Final = {"active": "running", "reserved": "assigned", "scheduled": "delayed"}  # Celery's word → state
WORDS: Final = (*JOBS, "registered", "stats", "queues", "workers", "rates")


HELP: Final = """Show which jobs, tasks, queues and workers there are.

\b
active      jobs that run
reserved    jobs that a worker holds and has not started
scheduled   jobs that must not start yet (eta, countdown, retry), the soonest first
registered  the tasks that each worker knows
stats       what each worker did, and what the scheduler counted
queues      queues, the jobs that are ready in them, the workers that take from them
workers     workers with their host, Python and queues
rates       rates that operators have set, since when, and what the tasks themselves declare
"""


@click.command(help=HELP, epilog=Example("zmqtasks inspect active", "zmqtasks inspect scheduled --limit 100 --json"))
@click.argument("what", type=Words(WORDS, CELERY))
@click.option("-Q", "--queue", default="", metavar="NAME", help="Only jobs of this queue.")
@limit_option(20)
@connection_options
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(
    ctx: click.Context, *, what: str, queue: str, limit: int, broker: str | None, timeout: float, as_json: bool
) -> None:
    """See HELP, in which click wraps no line of the list."""
    from zmqtasks.cli import _tables
    from zmqtasks.operators import Operator

    if queue and what not in JOBS:
        raise click.UsageError(f"--queue chooses jobs; inspect {what} shows none", ctx)
    url = broker_url(ctx, broker)
    told: dict[str, Any]
    show: Callable[[], list[RenderableType]]
    with Operator(url, timeout) as operator:
        if what in JOBS:
            jobs = operator.jobs([JOBS[what]], limit, queue)
            told, show = jobs_dict(jobs), partial(_jobs, what, jobs)
        else:
            status = operator.status()
            told, show = _DICTS[what](status), partial(_PARTS[what], status)
    if as_json:
        show_json(told)
        return
    console = _tables.console()
    for part in show():
        console.print(part)


# ------------------------------------------------------------------------------------------------ jobs


def jobs_dict(jobs: "wire.Jobs") -> dict[str, Any]:
    """What --json prints of jobs; a total of null: too many to be counted."""
    from msgspec.structs import asdict

    return {"total": None if jobs.total < 0 else jobs.total, "jobs": [asdict(row) for row in jobs.rows]}


def _jobs(what: str, jobs: "wire.Jobs") -> "list[RenderableType]":
    from rich.text import Text

    from zmqtasks.cli._tables import plain, table
    from zmqtasks.words import plural

    state = JOBS[what]
    if not jobs.rows:
        return [Text(f"No job is {state}.")]
    known = "Many jobs are" if jobs.total < 0 else f"{plural(jobs.total, 'job')} {'is' if jobs.total == 1 else 'are'}"
    out = table(f"{known} {state}")
    out.add_column("id", no_wrap=True)
    out.add_column("task", overflow="fold", min_width=8)
    out.add_column("queue", overflow="fold", min_width=6)
    for title in _COLUMNS[what]:
        out.add_column(title, overflow="fold")
    for row in jobs.rows:
        cells = (row.id, row.task, row.queue, *_CELLS[what](row))
        out.add_row(*map(plain, cells))
    more = jobs.total - len(jobs.rows)
    if more > 0:
        return [out, Text(f"… and {more:,} more (--limit)", "dim")]
    return [out] if jobs.total >= 0 else [out, Text("… and more (--limit)", "dim")]


def _held(row: "wire.JobStatus") -> tuple[str, str]:
    from zmqtasks.cli._tables import ago
    from zmqtasks.words import duration

    return row.worker, duration(ago(row.since)) if row.since else ""


def _due(row: "wire.JobStatus") -> tuple[str, str]:
    from zmqtasks.cli._tables import clock, until
    from zmqtasks.words import duration

    return clock(row.due), f"in {duration(until(row.due))}" + (f", retry {row.retries}" if row.retries else "")


_COLUMNS: Final = {"active": ("worker", "since"), "reserved": ("worker", "since"), "scheduled": ("due", "")}
_CELLS: Final[dict[str, Callable[["wire.JobStatus"], tuple[str, str]]]] = {
    "active": _held,
    "reserved": _held,
    "scheduled": _due,
}


# ------------------------------------------------------------------------------------------------ the others


def registered_dict(status: "wire.Status") -> dict[str, Any]:
    """The tasks of each worker."""
    from zmqtasks.cli._status import by_name

    return {
        "workers": [
            {"name": worker.name, "host": worker.host, "pid": worker.pid, "tasks": sorted(worker.tasks)}
            for worker in by_name(status.workers)
        ]
    }


def _registered(status: "wire.Status") -> "list[RenderableType]":
    """Workers that know the same stand together."""
    from zmqtasks.cli._status import by_name
    from zmqtasks.cli._tables import plain, table

    if not status.workers:
        return _nobody()
    groups: dict[tuple[str, ...], list[str]] = {}
    for worker in by_name(status.workers):
        groups.setdefault(tuple(sorted(worker.tasks)), []).append(worker.name)
    out = table("Tasks")
    out.add_column("workers", overflow="fold", min_width=12)
    out.add_column("know", overflow="fold", min_width=12)
    for tasks, names in groups.items():
        shown = names[:10] + ([f"and {len(names) - 10:,} more"] if len(names) > 10 else [])
        out.add_row(plain(", ".join(shown)), plain("\n".join(tasks), keep="\n") if tasks else plain("no task", "dim"))
    return [out]


def _nobody() -> "list[RenderableType]":
    from rich.text import Text

    return [Text("No worker has joined: start one with zmqtasks worker", "yellow")]


def stats_dict(status: "wire.Status") -> dict[str, Any]:
    """What was counted."""
    from zmqtasks.cli._status import by_name

    keys = ("name", "host", "pid", "state", "slots", "held", "running", "done", "silent")
    return {
        "uptime": status.uptime,
        "workers": [{key: getattr(worker, key) for key in keys} for worker in by_name(status.workers)],
        "jobs": status.jobs,
        "counters": status.counters,
    }


def _stats(status: "wire.Status") -> "list[RenderableType]":
    from rich.text import Text

    from zmqtasks.cli._status import by_name
    from zmqtasks.cli._tables import plain, table
    from zmqtasks.words import duration

    workers = table("Workers")
    workers.add_column("name", overflow="fold", min_width=8)
    for title in ("slots", "running", "held", "done", "last heard"):
        workers.add_column(title, justify="right", no_wrap=True)
    for worker in by_name(status.workers):
        numbers = (worker.slots, worker.running, worker.held, worker.done)
        told = [f"{number:,}" for number in numbers]
        workers.add_row(plain(worker.name), *told, f"{duration(worker.silent)} ago")
    counters = table("Counters")
    since = "over all its lives" if status.durable else "since the scheduler's start"
    counters.add_column(since, overflow="fold")
    counters.add_column("" if status.durable else duration(status.uptime), justify="right", no_wrap=True)
    for name, count in sorted(status.counters.items()):
        counters.add_row(plain(name.replace("_", " ")), f"{count:,}")
    first: list[RenderableType] = [workers] if status.workers else _nobody()
    return [*first, Text(), counters] if status.counters else first


def queues_dict(status: "wire.Status") -> dict[str, Any]:
    """The queues."""
    from msgspec.structs import asdict

    from zmqtasks.cli._status import by_name

    return {"queues": [asdict(queue) for queue in by_name(status.queues)]}


def _queues(status: "wire.Status") -> "list[RenderableType]":
    from rich.text import Text

    from zmqtasks.cli._status import by_name, queues_table

    return [queues_table(by_name(status.queues)) if status.queues else Text("There is no queue yet.")]


def workers_dict(status: "wire.Status") -> dict[str, Any]:
    """The workers."""
    from msgspec.structs import asdict

    from zmqtasks.cli._status import by_name

    return {"workers": [asdict(worker) for worker in by_name(status.workers)]}


def _workers(status: "wire.Status") -> "list[RenderableType]":
    from zmqtasks.cli._status import STYLES, by_name, taken_of
    from zmqtasks.cli._tables import plain, table
    from zmqtasks.words import plural

    if not status.workers:
        return _nobody()
    out = table(plural(len(status.workers), "worker"))
    out.add_column("name", overflow="fold", min_width=8)
    out.add_column("state", no_wrap=True)
    out.add_column("host", overflow="fold", min_width=6)
    out.add_column("pid", justify="right", no_wrap=True)
    out.add_column("slots", justify="right", no_wrap=True)
    out.add_column("python", no_wrap=True)
    out.add_column("queues", overflow="fold", min_width=7)
    counted = any(worker.resources for worker in status.workers)
    if counted:
        out.add_column("resources", overflow="fold", min_width=7)
    for worker in by_name(status.workers):
        state = plain(worker.state, STYLES.get(worker.state, ""))
        out.add_row(
            plain(worker.name), state, plain(worker.host), str(worker.pid), f"{worker.slots:,}",
            plain(worker.python), plain(", ".join(worker.queues)), *([plain(taken_of(worker))] if counted else ()),
        )  # fmt: skip
    return [out]


def rates_dict(status: "wire.Status") -> dict[str, Any]:
    """The rates that operators have set."""
    from zmqtasks.cli import _status

    return {"rates": _status.rates_dict(status)}


def _rates(status: "wire.Status") -> "list[RenderableType]":
    from rich.text import Text

    from zmqtasks.cli._status import rates_table

    return [
        rates_table(status.rates) if status.rates else Text("No rate is set; tasks start as often as they declare.")
    ]


_DICTS: Final[dict[str, Callable[["wire.Status"], dict[str, Any]]]] = {
    "registered": registered_dict,
    "stats": stats_dict,
    "queues": queues_dict,
    "workers": workers_dict,
    "rates": rates_dict,
}
_PARTS: Final[dict[str, Callable[["wire.Status"], "list[RenderableType]"]]] = {
    "registered": _registered,
    "stats": _stats,
    "queues": _queues,
    "workers": _workers,
    "rates": _rates,
}
