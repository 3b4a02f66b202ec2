"""Do memory, disk and latency stay flat while jobs go through by the million?

A scheduler with a journal, two slots, and a script that keeps some thousand no-op jobs under way and compares every
value. At each of 30 marks: the scheduler's memory and open files, the journal's directory and its WAL, and round trips
of lone jobs of another process beside the load. The last third is set against the first.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _cluster
import _report
import psutil
from _jobs import one_more

import zmqtasks

SLOTS = 2
MARKS = 30
MIB = 1024 * 1024


@dataclass(slots=True)
class Mark:
    """What was seen at one moment; sizes in MiB, round trips in ms."""

    jobs: int
    rate: float
    memory: float
    disk: float
    wal: float
    files: int
    trips: list[float]


@contextlib.contextmanager
def probing(url: str) -> Iterator[list[float]]:
    """Lone jobs of another process beside the load; yields their round trips in ms, as they come."""
    command = [sys.executable, str(_cluster.HERE / "_probe.py"), url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    taken: list[float] = []
    reader = threading.Thread(target=lambda out=process.stdout: taken.extend(map(float, out)))
    reader.start()
    try:
        yield taken
    finally:
        assert process.stdin is not None
        process.stdin.close()
        reader.join()
        process.stdout.close()
        if process.wait():
            raise AssertionError("the round trips beside the load ended with an error")


def megabytes(folder: Path, name: str = "*") -> float:
    """Return what the files take on the disk."""
    total = 0
    for file in folder.rglob(name):
        with contextlib.suppress(FileNotFoundError):  # a payload that went meanwhile
            total += file.stat().st_blocks * 512
    return total / MIB


def soak(folder: Path, jobs: int) -> list[Mark]:
    """Run the jobs, look at each mark, print what was seen."""
    marks: list[Mark] = []
    with (
        _cluster.scheduler(folder / "journal") as (process, url),
        _cluster.worker(url, SLOTS),
        zmqtasks.Client(url) as client,
        probing(url) as trips,
    ):
        seen = psutil.Process(process.pid)
        step = max(1, jobs // MARKS)
        began, last = time.perf_counter(), 0.0
        for index, value in enumerate(client.map(one_more, range(jobs), chunksize=1)):
            if value != index + 1:
                raise AssertionError(f"job {index} gave {value!r}")
            if (index + 1) % step:
                continue
            now = time.perf_counter() - began
            latest, trips[:] = sorted(trips), []
            data = folder / "journal"
            mark = Mark(
                index + 1, step / (now - last), seen.memory_info().rss / MIB,
                megabytes(data), megabytes(data, "*-wal"), seen.num_fds(), latest or [0.0],
            )  # fmt: skip
            last = now
            marks.append(mark)
            print(told(mark), flush=True)
    return marks


def told(mark: Mark) -> str:
    """Return a mark as a line."""
    return (
        f"{mark.jobs:>12,} jobs  {mark.rate:>8,.0f}/s  memory {mark.memory:6.1f} MiB  disk {mark.disk:6.1f} MiB"
        f"  WAL {mark.wal:4.1f} MiB  {mark.files} files  p50 {_report.quantile(mark.trips, 0.5):6.2f} ms"
        f"  p99 {_report.quantile(mark.trips, 0.99):6.2f} ms"
    )


def rows(marks: list[Mark]) -> list[_report.Row]:
    """Each figure, and what it is in the last third against the first that is not the warming up."""
    third = len(marks) // 3
    early, late = marks[third : 2 * third], marks[-third:]

    def row(name: str, unit: str, values: list[float], before: list[float], after: list[float]) -> _report.Row:
        grown = statistics.median(after) / max(statistics.median(before), 1e-9)
        return _report.Row(name, unit, values, {"last third ÷ second": grown})

    found = []
    for name, unit in (("rate", "jobs/s"), ("memory", "MiB"), ("disk", "MiB"), ("wal", "MiB"), ("files", "")):
        values, before, after = ([float(getattr(mark, name)) for mark in some] for some in (marks, early, late))
        found.append(row(name, unit, values, before, after))
    for share in (0.5, 0.99):
        values, before, after = ([_report.quantile(m.trips, share) for m in some] for some in (marks, early, late))
        found.append(row(f"round trip beside it, p{share * 100:.0f}", "ms", values, before, after))
    return found


def main() -> None:
    """Run it."""
    parser = _report.arguments(__doc__, jobs=10_000_000)
    parser.add_argument("--dir", type=Path, default=_cluster.DISK, help="a directory on the disk to be measured")
    given = parser.parse_args()
    before = _report.facts()
    _cluster.importable()
    with _cluster.folder(given.dir) as folder:
        marks = soak(folder, given.jobs)
    _report.show(f"soak ({given.jobs:,} jobs)", rows(marks), before, given.json)


if __name__ == "__main__":
    main()
