"""What does the journal cost: throughput, one round trip, and the restart with a million jobs in it?

Schedulers with a journal on disk (every acceptance and every result waits for its fsync), in memory, and in memory with
a bare fsync before each result (what a journal costs at least) take turns, since the machine drifts. Then jobs are
journaled that nobody runs, the scheduler is killed with -9 and started again on what it has left.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _cluster
import _report
import psutil
from _jobs import add
from latency import trips

import zmqtasks

SLOTS = 2
WARM_UP = 2_000
BLOCK = 250  # round trips of one before the other has its turn
REST = 0.001  # seconds; a disk that is kept busy answers sooner
PATIENCE = 300.0  # seconds for one repeat
PART = 50_000  # jobs that are submitted at once before the restart
MEMORY, JOURNAL, FLOOR = "in memory", "journaled", "in memory, a bare fsync each"


def batch(client: zmqtasks.Client, jobs: int) -> float:
    """Return jobs/s from the first submit to the last compared value."""

    def run() -> None:
        submitted = client.submit_many(add, [((i, 1), {}) for i in range(jobs)])
        if [job.result() for job in submitted] != list(range(1, jobs + 1)):
            raise AssertionError("a value is wrong, missing or came twice")

    with _report.limit(PATIENCE):
        return jobs / _report.timed(run)


def syncs(folder: Path, count: int) -> list[float]:
    """Return the milliseconds of lone appends of 4 KiB with an fsync each, with rest between them as between trips."""
    taken: list[float] = []
    with (folder / "syncs").open("ab", buffering=0) as file:
        for _ in range(count):
            begin = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - begin) * 1000)
            time.sleep(REST)
    return taken


def compared(folder: Path, jobs: int, repeat: int, rounds: int) -> tuple[list[_report.Row], list[_report.Row]]:
    """Throughput and round trips of both, in turn."""
    with contextlib.ExitStack() as stack:
        clients: dict[str, zmqtasks.Client] = {}
        synced = (str(_cluster.HERE / "_synced.py"), str(folder / "synced"))
        for name, data, program in ((MEMORY, None, ()), (JOURNAL, folder / "journal", ()), (FLOOR, None, synced)):
            _, broker = stack.enter_context(_cluster.scheduler(data, *program))
            stack.enter_context(_cluster.worker(broker, SLOTS))
            clients[name] = stack.enter_context(zmqtasks.Client(broker))
        for client in clients.values():
            batch(client, min(WARM_UP, jobs))
        runs: dict[str, Callable[[], float]] = {name: partial(batch, clients[name], jobs) for name in (MEMORY, JOURNAL)}
        rates = _report.rates(_report.interleaved(runs, repeat), {MEMORY: "× in memory"})
        taken: dict[str, list[float]] = {name: [] for name in (*clients, "one fsync")}
        for done in range(0, rounds, BLOCK):
            count = min(BLOCK, rounds - done)
            for name, client in clients.items():
                taken[name] += trips(lambda i, client=client: client.submit(add, i, 1).result(), count)  # type: ignore[misc]
            taken["one fsync"] += syncs(folder, count)
    trip = [_report.spread(name, each) for name, each in taken.items()]
    for row in trip[1 : len(clients)]:
        row.extra["p50 above memory"] = row.extra["p50"] - trip[0].extra["p50"]
    return rates, trip


def started(data: Path, url: str) -> tuple[subprocess.Popen[str], float]:
    """Start a scheduler; return it, and the seconds until it said that it is ready."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "zmqtasks", "scheduler", "--bind", url, "--data", str(data), "-l", "warning"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if " ready" not in process.stdout.readline():
        raise RuntimeError("the scheduler did not start")
    return process, time.perf_counter() - begin


def restart(folder: Path, jobs: int) -> list[_report.Row]:
    """Journal so many jobs, kill the scheduler, start it again."""
    url = f"ipc://{folder}/restart"
    process, empty = started(folder / "many", url)
    try:
        with zmqtasks.Client(url) as client:
            begin = time.perf_counter()
            for first in range(0, jobs, PART):
                client.submit_many(add, [((i, 1), {}) for i in range(first, min(jobs, first + PART))])
                client.flush(PATIENCE)
            accepted = jobs / (time.perf_counter() - begin)
            process.kill()
            process.wait()
            size = sum(file.stat().st_size for file in (folder / "many").rglob("*") if file.is_file())
            process, full = started(folder / "many", url)
            memory = psutil.Process(process.pid).memory_info().rss
    finally:
        process.kill()
        process.wait()
    return [
        _report.Row("accepted before, on disk", "jobs/s", [accepted]),
        _report.Row("start with nothing", "s", [empty]),
        _report.Row(f"start with {jobs:,} jobs", "s", [full]),
        _report.Row("read", "jobs/s", [jobs / max(full - empty, 1e-9)]),
        _report.Row("journal on disk", "bytes/job", [size / jobs]),
        _report.Row("memory afterwards", "bytes/job", [memory / jobs]),
    ]


def main() -> None:
    """Measure one after the other."""
    parser = _report.arguments(__doc__, jobs=30_000, repeat=5, rounds=2_000, restart=1_000_000)
    parser.add_argument("--dir", type=Path, default=_cluster.DISK, help="a directory on the disk to be measured")
    given = parser.parse_args()
    before = _report.facts()
    _cluster.importable()
    with _cluster.folder(given.dir) as folder:
        rates, trip = compared(folder, given.jobs, given.repeat, given.rounds)
        rows = [*rates, *trip, *restart(folder, given.restart)]
    title = f"journal ({given.jobs:,} jobs, {given.rounds:,} round trips, {given.restart:,} jobs restored)"
    _report.show(title, rows, before, given.json)


if __name__ == "__main__":
    main()
