"""What does a job cost each stage of its way, in µs of processor time, beside the bare ceiling in the same run?

Submitter (the caller's thread, the client's I/O thread, zmq's), scheduler (loop, zmq), agent and children:
what Linux has accounted to each of their threads while no-op jobs went through, as a batch, one by one, and each after
the other.
Processor time drifts less than jobs/s do, but it drifts. `--beside FILE` shows beside each stage's share of what the
ceiling costs in the same run that of a recorded run. The same code has given shares that differ by 175 %, on cores that
others use: it is for people to judge, and `calls.py` compares what does not drift.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import _cluster
import _cpu
import _report
import ceiling
import throughput
from _jobs import add

import zmqtasks

SLOTS = 2
WARM_UP = 5_000
TRIPS = 10  # jobs of a repeat for one that goes alone
LEAST = 0.15  # µs a job: what is less is noise, and not compared
BASE = "ceiling: all"
BATCH, LOOP, LONE = "submit_many", "submit in a loop", "one at a time"


class Bench:
    """A cluster, and what its threads have used so far."""

    def __init__(self, stack: contextlib.ExitStack, data: Path | None) -> None:
        scheduler, url = stack.enter_context(_cluster.scheduler(data, options=("--busy-poll", "0")))
        agent = stack.enter_context(_cluster.worker(url, SLOTS))
        self.pids = scheduler.pid, agent.pid
        self.client = stack.enter_context(zmqtasks.Client(url))

    def look(self) -> _cpu.Usage:
        """All stages."""
        scheduler, agent = self.pids
        daemons = {**_cpu.of_daemon("scheduler", scheduler), **_cpu.of_daemon("agent", agent)}
        return {**_cpu.of_this(), **daemons, **_cpu.of_children(agent)}

    def lone(self, jobs: int) -> list[int]:
        """Each job waits for the one before."""
        return [self.client.submit(add, i, 1).result() for i in range(jobs)]


def stages(bench: Bench, jobs: int) -> dict[str, Callable[[], dict[str, float]]]:
    """For each way of submitting: a run, which gives µs of processor time a job by stage."""
    rows = throughput.client_rows(bench.client)
    ways: dict[str, tuple[Callable[[int], Any], int]] = {
        BATCH: (rows["submit_many"], jobs),
        LOOP: (rows["client.submit in a loop"], jobs),
        LONE: (bench.lone, max(1, jobs // TRIPS)),
    }

    def run(way: Callable[[int], Any], count: int) -> dict[str, float]:
        used = _cpu.spent(lambda: throughput.checked(way, count), bench.look)
        return {stage: seconds * 1e6 / count for stage, seconds in used.items()}

    for way, count in ways.values():
        throughput.checked(way, min(WARM_UP, count))
    return {name: partial(run, *way) for name, way in ways.items()}


def bare(top: ceiling.Submitter, pids: list[int], jobs: int) -> dict[str, float]:
    """What the ceiling costs, all its processes together, this one's part included."""

    def look() -> _cpu.Usage:
        ours = sum(_cpu.of_this().values())
        return {"all": ours + sum(sum(_cpu.of_daemon("x", pid).values()) for pid in pids)}

    used = _cpu.spent(lambda: top.run(jobs, 100), look)
    return {"all": used["all"] * 1e6 / jobs}


def measured(jobs: int, repeat: int, data: Path | None) -> dict[str, list[float]]:
    """µs a job of every stage of every way, in each repeat; "way: all" is their sum."""
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        top = stack.enter_context(ceiling.hops(slots=SLOTS))
        bench = Bench(stack, data)
        pids = _cpu.descendants(but=bench.pids)
        runs = {"ceiling": partial(bare, top, pids, jobs), **stages(bench, jobs)}
        for _ in range(repeat):
            for way, run in runs.items():
                for stage, cost in run().items():
                    found.setdefault(f"{way}: {stage}", []).append(cost)
    for way in (BATCH, LOOP, LONE):
        parts = [each for name, each in found.items() if name.startswith(f"{way}: ")]
        found[f"{way}: all"] = [sum(costs) for costs in zip(*parts, strict=True)]
    return found


def beside(rows: list[_report.Row], recorded: Path) -> None:
    """Show what the shares were, and the quotient."""
    before = {row["name"]: row["extra"]["× ceiling"] for row in json.loads(recorded.read_text("utf-8"))["rows"]}
    for row in rows:
        was, now = before.get(row.name), float(row.extra["× ceiling"])
        if was is not None and row.median > LEAST:
            row.extra |= {"recorded": was, "× recorded": now / was}


def main() -> None:
    """Measure."""
    parser = _report.arguments(__doc__, jobs=30_000, repeat=5)
    parser.add_argument("--journal", action="store_true", help="the scheduler keeps a journal")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="a recorded run to be shown, too")
    given = parser.parse_args()
    before = _report.facts()
    _cluster.importable()
    with _cluster.folder() as folder:
        values = measured(given.jobs, given.repeat, folder / "journal" if given.journal else None)
    shares = {name: _report.ratio(each, values[BASE]) for name, each in values.items()}
    rows = [_report.Row(name, "µs/job", each, {"× ceiling": shares[name]}) for name, each in values.items()]
    if given.beside:
        beside(rows, given.beside)
    kept = "journaled" if given.journal else "in memory"
    _report.show(f"stages ({given.jobs:,} jobs, {SLOTS} slots, {kept})", rows, before, given.json)


if __name__ == "__main__":
    main()
