"""``zmqtasks status``: how the scheduler is, for people and for machines."""

from typing import TYPE_CHECKING, Any

import click

from zmqtasks.cli._shared import Example, broker_option, broker_url, json_option, loglevel_option, show_json

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from zmqtasks import wire

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@click.command(epilog=Example("zmqtasks status --broker tcp://head:5555"))
@broker_option
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the scheduler.",
)
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, broker: str | None, timeout: float, as_json: bool) -> None:
    """Show the scheduler, its workers, its queues and how many jobs are in which state."""
    from zmqtasks.cli._operator import ask_status

    url = broker_url(ctx, broker)
    status = ask_status(url, timeout)
    if as_json:
        show_json(as_dict(url, status))
    else:
        from rich.console import Console

        console = Console(highlight=False)
        for part in tables(url, status):
            console.print(part)


def as_dict(url: str, status: "wire.Status") -> dict[str, Any]:
    """What --json prints. Keys are only ever added; times in seconds."""
    from msgspec.structs import asdict

    out = {"url": url, **asdict(status)}
    out["workers"] = [asdict(worker) for worker in sorted(status.workers, key=_by_name)]
    out["queues"] = [asdict(queue) for queue in sorted(status.queues, key=_by_name)]
    return out


def _by_name(item: "wire.WorkerStatus | wire.QueueStatus") -> str:
    return item.name


def tables(url: str, status: "wire.Status") -> "list[RenderableType]":
    """What people see, in parts that fit a terminal of 80 columns."""
    from rich.text import Text

    kept = "journaled" if status.durable else "in memory only"
    facts = (
        f"up {duration(status.uptime)}",
        f"pid {status.pid}",
        f"zmqtasks {status.release}",
        kept,
        plural(status.submitters, "submitter"),
    )
    parts: list[RenderableType] = [
        Text.assemble(("scheduler ", "bold"), url),
        Text(" · ".join(facts) + "\n"),
        _jobs(status.jobs),
        Text(),
        _workers(status) if status.workers else Text("No worker has joined: start one with zmqtasks worker", "yellow"),
    ]
    if status.queues:
        parts += [Text(), _queues(status)]
    if status.warnings:
        parts.append(Text())
    parts += [Text(f"Warning: {warning}", "yellow") for warning in status.warnings]
    return parts


def _jobs(jobs: dict[str, int]) -> "Text":
    from rich.text import Text

    # A line and no table: nine states with large numbers are wider than 80 columns, and a line wraps.
    told = [f"{count:,}\N{NO-BREAK SPACE}{state}" for state, count in jobs.items() if count]
    return Text.assemble(("Jobs: ", "bold"), " · ".join(told) or "none yet")


def _workers(status: "wire.Status") -> "Table":
    table = _table("Workers")
    table.add_column("name", overflow="fold", min_width=8)
    table.add_column("state", no_wrap=True)
    for title in ("pid", "slots", "running", "held", "done"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("queues", overflow="fold", min_width=7)
    styles = {"up": "green", "suspect": "red", "draining": "yellow"}
    for worker in sorted(status.workers, key=_by_name):
        told = worker.state if worker.state != "suspect" else f"suspect {duration(worker.silent)}"
        numbers = (worker.slots, worker.running, worker.held, worker.done)
        table.add_row(
            _plain(worker.name),
            _plain(told, styles.get(worker.state, "")),
            str(worker.pid),
            *(f"{number:,}" for number in numbers),
            _plain(", ".join(worker.queues)),
        )
    return table


def _queues(status: "wire.Status") -> "Table":
    table = _table("Queues")
    table.add_column("name", overflow="fold")
    table.add_column("ready", justify="right")
    table.add_column("workers", justify="right")
    for queue in sorted(status.queues, key=_by_name):
        style = "yellow" if queue.ready and not queue.workers else ""
        table.add_row(_plain(queue.name, style), f"{queue.ready:,}", str(queue.workers))
    return table


def _table(title: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )


def _plain(text: str, style: str = "") -> Any:
    """Text of other people, in which square brackets are no markup."""
    from rich.text import Text

    return Text(text, style)


def plural(count: int, noun: str) -> str:
    """A number with its noun: 1 job, 2 jobs."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """A length of time as people say it: 1.2 s, 12 s, 3 min, 2 h 5 min, 4 d 1 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    rest = int(seconds)
    words = []
    for size, unit in UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2])
