"""The state of a scheduler, as ``status`` and ``inspect`` show it."""

import sys
from typing import TYPE_CHECKING, Any, Final

from zmqtasks.words import amount, duration, plural

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from zmqtasks import wire

ROWS: Final = 30  # of workers and of queues, unless --all is given
WARNINGS: Final = 5
MUCH: Final = 1_000_000  # bytes that the journal has yet to write: worth a word
QUEUES: Final = 24  # characters of a worker's queues, unless --all is given
STYLES: Final = {"up": "green", "suspect": "red", "draining": "yellow"}


def as_dict(url: str, status: "wire.Status") -> dict[str, Any]:
    """What --json prints. Keys are only ever added; times in seconds."""
    from msgspec.structs import asdict

    out = {"url": url, **asdict(status)}
    out["workers"] = [asdict(worker) for worker in by_name(status.workers)]
    out["queues"] = [asdict(queue) for queue in by_name(status.queues)]
    out["rates"] = rates_dict(status)
    out["journal"] = asdict(status.journal) if status.journal is not None else None
    return out


def by_name(items: Any) -> list[Any]:
    """Workers or queues in the order in which people look for them: w2 before w10."""
    import re

    def key(item: Any) -> list[tuple[bool, int, str]]:
        parts = re.split(r"(\d{1,15})", item.name)
        return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]

    return sorted(items, key=key)


def tables(url: str, status: "wire.Status", *, everything: bool = False) -> "list[RenderableType]":
    """What people see, in parts that fit a terminal of 80 columns."""
    from rich.text import Text

    parts: list[RenderableType] = [*_scheduler(url, status), *_warnings(status, everything=everything), Text()]
    if status.workers:
        shown = by_name(status.workers)[: None if everything else ROWS]
        parts += [workers_table(shown, everything=everything), *_rest(len(status.workers) - len(shown), "worker")]
    else:
        parts.append(Text("No worker has joined: start one with zmqtasks worker", "yellow"))
    if status.queues:
        queues = _chosen(status.queues, everything=everything)
        parts += [Text(), queues_table(queues), *_rest(len(status.queues) - len(queues), "queue")]
    if status.rates:
        rates = status.rates[: None if everything else ROWS]
        parts += [Text(), rates_table(rates), *_rest(len(status.rates) - len(rates), "rate")]
    return parts


def _warnings(status: "wire.Status", *, everything: bool) -> "list[RenderableType]":
    """The last ones, above all tables: a screen may be cut below."""
    from zmqtasks.cli._tables import plain

    warnings = status.warnings[0 if everything else -WARNINGS :]
    told: list[RenderableType] = [plain(f"Warning: {warning}", "yellow") for warning in warnings]
    return told + _rest(len(status.warnings) - len(warnings), "warning")


def _scheduler(url: str, status: "wire.Status") -> "list[RenderableType]":
    from rich.text import Text

    facts = (
        f"up {duration(status.uptime)}",
        f"pid {status.pid}",
        f"zmqtasks {status.release}",
        _kept(status),
        plural(status.submitters, "submitter"),
    )
    return [Text.assemble(("scheduler ", "bold"), url), Text(" · ".join(facts) + "\n"), _jobs(status.jobs)]


def _kept(status: "wire.Status") -> str:
    """Where accepted jobs are."""
    journal = status.journal
    if journal is None:
        return "journaled" if status.durable else "in memory only"
    late = f", {amount(journal.pending)} to be written" if journal.pending > MUCH else ""
    return f"journal of {amount(journal.size)}{late}"


def _rest(more: int, noun: str) -> "list[RenderableType]":
    from rich.text import Text

    return [Text(f"… and {plural(more, 'more ' + noun)} (--all)", "dim")] if more > 0 else []


def _chosen(queues: "list[wire.QueueStatus]", *, everything: bool) -> "list[wire.QueueStatus]":
    """By name; where they are many, those in which most jobs stand."""
    if everything or len(queues) <= ROWS:
        return by_name(queues)
    return by_name(sorted(queues, key=lambda queue: -queue.ready)[:ROWS])


def _jobs(jobs: dict[str, int]) -> "Text":
    from rich.text import Text

    # A line and no table: nine states with large numbers are wider than 80 columns, and a line wraps.
    space = "\N{NO-BREAK SPACE}" if sys.stdout.isatty() else " "  # in a pipe somebody looks for "3 running"
    told = [f"{count:,}{space}{state}" for state, count in jobs.items() if count]
    return Text.assemble(("Jobs: ", "bold"), " · ".join(told) or "none yet")


def some_queues(names: "list[str]") -> str:
    """A worker's queues in so few characters that its row needs no second line: default, high, +1."""
    shown: list[str] = []
    for name in names:
        if shown and len(", ".join([*shown, name])) > QUEUES:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join([*shown, f"+{more:,}"] if more else shown)


def workers_table(workers: "list[wire.WorkerStatus]", *, everything: bool = False) -> "Table":
    """Workers with what they do."""
    from zmqtasks.cli._tables import plain, table

    out = table("Workers")
    out.add_column("name", overflow="fold", min_width=8)
    out.add_column("state", no_wrap=True)
    for title in ("pid", "slots", "running", "held", "done"):
        out.add_column(title, justify="right", no_wrap=True)
    out.add_column("queues", overflow="fold", min_width=7)
    counted = any(worker.resources for worker in workers)
    if counted:
        out.add_column("resources", overflow="fold", min_width=7)
    for worker in workers:
        told = worker.state if worker.state != "suspect" else f"suspect {duration(worker.silent)}"
        numbers = (worker.slots, worker.running, worker.held, worker.done)
        out.add_row(
            plain(worker.name),
            plain(told, STYLES.get(worker.state, "")),
            str(worker.pid),
            *(f"{number:,}" for number in numbers),
            plain(", ".join(worker.queues) if everything else some_queues(worker.queues)),
            *([plain(taken_of(worker))] if counted else ()),
        )
    return out


def taken_of(worker: "wire.WorkerStatus") -> str:
    """How much of its resources its jobs take: gpu 1 of 2, mem 0 of 64 GiB."""
    from zmqtasks.resources import UNIT, show_amount

    told = ((name, worker.taken.get(name, 0.0), total) for name, total in worker.resources.items())
    return ", ".join(f"{name} {show_amount(round(a * UNIT))} of {show_amount(round(b * UNIT))}" for name, a, b in told)


def queues_table(queues: "list[wire.QueueStatus]") -> "Table":
    """Queues; those in which jobs stand that nobody takes, in yellow."""
    from zmqtasks.cli._tables import plain, table

    out = table("Queues")
    out.add_column("name", overflow="fold")
    out.add_column("ready", justify="right", no_wrap=True)
    out.add_column("workers", justify="right", no_wrap=True)
    out.add_column("durability", no_wrap=True)
    out.add_column("set", no_wrap=True)
    for queue in queues:
        style = "yellow" if queue.paused or (queue.ready and not queue.workers) else ""
        numbers = f"{queue.ready:,}", f"{queue.workers:,}"
        out.add_row(plain(queue.name, style), *numbers, queue.durability, _set_for(queue))
    return out


def rates_dict(status: "wire.Status") -> list[dict[str, Any]]:
    """What --json prints of the rates that operators have set; starts per second, Unix time."""
    from msgspec.structs import asdict

    return [asdict(rate) for rate in status.rates]


def rates_table(rates: "list[wire.RateStatus]") -> "Table":
    """Rates that operators have set, beside what would hold without that."""
    from zmqtasks.cli._tables import ago, plain, table

    out = table("Rates set by operators")
    out.add_column("task", overflow="fold", min_width=8)
    out.add_column("set", no_wrap=True)
    out.add_column("since", no_wrap=True)
    out.add_column("declared", no_wrap=True)
    for rate in rates:
        since = f"{duration(ago(rate.since))} ago" if rate.since else "unknown"
        declared = "" if rate.declared is None else _rate(rate.declared, rate.declared_burst)
        out.add_row(plain(rate.task), _rate(rate.rate, rate.burst), since, declared)
    return out


def _rate(rate: float, burst: int) -> str:
    from zmqtasks.rates import show

    return show(rate) + (f", burst {burst:,}" if rate and burst > 1 else "")


def _set_for(queue: "wire.QueueStatus") -> str:
    """What an operator set for it."""
    weight = f"weight {queue.weight:g}" if queue.weight != 1.0 else ""
    return ", ".join(filter(None, ("paused" if queue.paused else "", weight)))
