"""What the benchmarks share: the machine's facts, the median of repeats, a table and a JSON file."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import rich.box
import rich.console
import rich.table
import zmq

HERE = Path(__file__).resolve().parent


@dataclass(slots=True)
class Row:
    """One line of a table: a name, its figures in every repeat, and numbers that were derived from them."""

    name: str
    unit: str
    values: list[float]
    extra: dict[str, float | str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def positive(text: str) -> int:
    """Parse a count from the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count of at least 1")
    return value


def arguments(doc: str | None, **defaults: int) -> argparse.ArgumentParser:
    """Make the parser that the benchmarks share: a --name for each default, and --json."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n\n")[0])
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=positive, default=default, metavar="N", help=f"default {default}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the machine's facts and the rows")
    # SIGTERM unwinds like an exit, so that every process that was started is stopped.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return parser


def interleaved(runs: Mapping[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Call every run once, then all again: A B C A B C. The machine drifts, and so it drifts for all of them."""
    values: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            values[name].append(run())
    return values


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def facts() -> dict[str, object]:
    """Return what a reader must know to judge the figures: machine, versions, commit, load and date."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "libzmq": zmq.zmq_version(),
        **{name: _version(name) for name in ("pyzmq", "msgspec", "zmqtasks")},
        "commit": _commit(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def show(title: str, rows: Sequence[Row], before: Mapping[str, object], target: Path | None) -> None:
    """Print the rows as a table under the facts taken `before` the run; write both to `target` if given."""
    console = rich.console.Console()
    if not console.is_terminal:
        console = rich.console.Console(width=140)  # a file or a pipe has no width: let nothing be cut
    keys = list(dict.fromkeys(key for row in rows for key in row.extra))
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("median", "min", "max", "unit", *keys):
        table.add_column(heading, justify="left" if heading == "unit" else "right", no_wrap=True)
    for row in rows:
        figures = (row.median, min(row.values), max(row.values))
        table.add_row(row.name, *map(_number, figures), row.unit, *(_number(row.extra.get(key, "")) for key in keys))
    console.print(table)
    console.print(" · ".join(f"{key} {value}" for key, value in before.items()), style="dim", highlight=False)
    if target is not None:
        lines = [_line(row) for row in rows]
        document = {"title": title, "facts": {**before, "load_after": list(os.getloadavg())}, "rows": lines}
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        console.print(f"written to {target}", style="dim", highlight=False)


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread if the block takes longer: a lost job must not hang a benchmark.

    By a thread, not by an alarm: a client hands its jobs to another thread where such a handler could interrupt it.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if late.is_set():
            raise TimeoutError(f"not done within {seconds:.0f} s") from None
        raise
    finally:
        timer.cancel()


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios repeat by repeat: both sides of each were taken in the same seconds."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def rates(values: Mapping[str, list[float]], against: Mapping[str, str]) -> list[Row]:
    """Make rows of jobs/s, each with its ratio to the rows named in `against` ({row: heading})."""
    return [
        Row(name, "jobs/s", each, {heading: ratio(each, values[other]) for other, heading in against.items()})
        for name, each in values.items()
    ]


def spread(name: str, milliseconds: Sequence[float]) -> Row:
    """Make a row of round trips: the median with p90 and p99 beside it (min and max are columns already)."""
    ordered = sorted(milliseconds)
    marks = {f"p{share:.0%}".rstrip("%"): quantile(ordered, share) for share in (0.5, 0.9, 0.99)}
    return Row(name, "ms", list(ordered), dict(marks))


def _line(row: Row) -> dict[str, object]:
    """Return the row for the file; thousands of round trips are kept as their quantiles alone."""
    line = {**asdict(row), "median": row.median, "min": min(row.values), "max": max(row.values), "n": len(row.values)}
    return line if len(row.values) <= 100 else {key: value for key, value in line.items() if key != "values"}


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the commit, marked if the checkout differs from it: figures of a changed tree are not the commit's."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return found.stdout.strip() or "unknown"
