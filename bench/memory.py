"""How many bytes of resident memory does a queued no-op job take, in the scheduler and in the submitter?

A real scheduler without workers, and a real submitter in a process of its own, for each way to submit. Then a worker
comes, all results are consumed, and what stays is measured.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import _cluster
import _report
from _jobs import add, one_more

import zmqtasks

WARM_UP = 2_000  # jobs before the first look, so that what is made once is there
PIECE = 50_000  # calls given to one submit_many: their list is the caller's, and gone when we look
PATIENCE = 900.0  # seconds for one way
WAYS = ("submit_many", "client.submit in a loop", "client.map", "task.delay in a loop")
GOALS = {"scheduler": 1_000, "submitter": 500}  # bytes a queued job


def resident(pid: int) -> int:
    """Return the resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


# ------------------------------------------------------------------------------------------------ the submitter


def submitted(client: zmqtasks.Client, way: str, jobs: int) -> list[zmqtasks.Job[int]]:
    """Submit so many jobs one way; return their handles."""
    if way == "submit_many":
        made: list[zmqtasks.Job[int]] = []
        for start in range(0, jobs, PIECE):
            calls = [((i, 1), {}) for i in range(start, min(jobs, start + PIECE))]
            made += client.submit_many(add, calls)
        return made
    return [client.submit(add, i, 1) for i in range(jobs)]


def held(client: zmqtasks.Client, way: str, jobs: int) -> Iterator[None]:
    """Submit, stop while all are queued, then consume every result and compare it."""
    if way == "client.map":
        values = client.map(one_more, range(jobs), window=jobs)
        got: list[int] = [0]

        def consume() -> None:
            got[0] = sum(1 for i, value in enumerate(values, 1) if value == i)

        thread = threading.Thread(target=consume)
        thread.start()
        yield
        thread.join()
        assert got[0] == jobs, "a value is wrong or missing"
    elif way == "task.delay in a loop":
        from _tasks import add as task

        results = [task.delay(i, 1) for i in range(jobs)]
        yield
        results.reverse()
        for i in range(jobs):
            assert results.pop().get() == i + 1
    else:
        handles = submitted(client, way, jobs)
        client.flush()
        yield
        handles.reverse()
        for i in range(jobs):
            assert handles.pop().result() == i + 1
    yield


def submitter(way: str, jobs: int) -> None:
    """Be the submitter: tell when a stage is reached, go on when a line comes."""

    def stage() -> None:
        gc.collect()
        print("ready", flush=True)
        sys.stdin.readline()

    with zmqtasks.Client(os.environ["ZMQTASKS_BROKER"]) as client:
        for handle in submitted(client, "submit_many", WARM_UP):
            handle.result()
        stage()
        way_ = held(client, way, jobs)
        next(way_)
        stage()
        next(way_)
        stage()


# ------------------------------------------------------------------------------------------------ the bench


def until(what: str, reached: object, seconds: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)


def queued(broker: str) -> int:
    """Return how many jobs the scheduler holds ready."""
    command = [sys.executable, "-m", "zmqtasks", "status", "--json", "--broker", broker]
    told = subprocess.run(command, capture_output=True, check=True, text=True)
    return sum(queue["ready"] for queue in json.loads(told.stdout)["queues"])


@contextlib.contextmanager
def process(*arguments: str, broker: str) -> Iterator[subprocess.Popen[str]]:
    """Start a Python process with pipes; it is killed at the end if it has not ended."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=_cluster.HERE,
        env={**os.environ, "ZMQTASKS_BROKER": broker},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def measure(way: str, jobs: int) -> dict[str, float]:
    """Return bytes a job in both processes, while all are queued and after all were consumed."""
    with contextlib.ExitStack() as stack:
        scheduler, broker = stack.enter_context(_cluster.scheduler())
        child = stack.enter_context(process(__file__, "--way", way, "--jobs", str(jobs), broker=broker))
        pids = {"scheduler": scheduler.pid, "submitter": child.pid}

        def look() -> dict[str, int]:
            return {name: resident(pid) for name, pid in pids.items()}

        with _cluster.worker(broker):
            _ready(child.stdout)
        before = look()
        _go(child.stdin)
        if way != "client.map":  # its submitter waits in a thread
            _ready(child.stdout)
        until("all jobs are queued", lambda: queued(broker) >= jobs)
        if way == "client.map":
            _ready(child.stdout)
        full = look()
        with _cluster.worker(broker):
            _go(child.stdin)
            _ready(child.stdout)
        time.sleep(1.0)  # the last acknowledgements
        after = look()
        _go(child.stdin)
        child.wait(_cluster.STOP)
    told = {f"{name}, queued": (full[name] - before[name]) / jobs for name in pids}
    return told | {f"{name}, after": (after[name] - before[name]) / jobs for name in pids}


def _ready(stream: IO[str] | None) -> None:
    assert stream is not None
    line = stream.readline()
    assert line == "ready\n", f"the submitter said {line!r}"


def _go(stream: IO[str] | None) -> None:
    assert stream is not None
    stream.write("\n")
    stream.flush()


def main() -> None:
    """Measure every way in turn."""
    parser = _report.arguments(__doc__, jobs=1_000_000, repeat=1)
    parser.add_argument("--way", choices=WAYS, help="be the submitter (used by this script itself)")
    given = parser.parse_args()
    _cluster.importable()
    if given.way:
        submitter(given.way, given.jobs)
        return
    before = _report.facts()
    rows = []
    for way in WAYS:
        told = [measure(way, given.jobs) for _ in range(given.repeat)]
        for name in told[0]:
            row = _report.Row(f"{way}: {name}", "bytes/job", [each[name] for each in told])
            goal = GOALS[name.partition(",")[0]]
            row.extra["goal"] = f"≤ {goal:,}" if name.endswith("queued") else ""
            rows.append(row)
    _report.show(f"memory ({given.jobs:,} jobs)", rows, before, given.json)


if __name__ == "__main__":
    main()
