"""How many bytes of resident memory does a queued no-op job take, in the scheduler and in the submitter?

A real scheduler without workers, and a real submitter in a process of its own, for each way to submit. Then a worker
comes, all results are consumed, and what stays is measured.

With --many N jobs are queued until the scheduler holds N, by sessions that submit and leave, beside a worker of another
queue: what do they take, and are `status` and a lone job of that other queue as quick as before? Then they are all run.
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
from collections.abc import Callable, Iterator
from pathlib import Path

import _cluster
import _report
from _jobs import add, one_more
from latency import trips

import zmqtasks
from zmqtasks.operators import Operator

WARM_UP = 2_000  # jobs before the first look, so that what is made once is there
PIECE = 50_000  # calls given to one submit_many: their list is the caller's, and gone when we look
PATIENCE = 900.0  # seconds for one way
WAYS = ("submit_many", "client.submit in a loop", "client.map", "task.delay in a loop")
GOALS = {"scheduler": 700, "submitter": 300}  # bytes a queued job

SESSION = 1_000_000  # jobs of one session with --many
ASIDE = "aside"  # the queue of the lone jobs
ROUNDS = 500  # lone jobs, and questions, at each mark
MARKS = 4  # at which both are measured, on the way


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
        # In chunks of its own choice a map would wait for the first one before it goes on.
        values = client.map(one_more, range(jobs), chunksize=1, window=jobs)
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
    with zmqtasks.Client(os.environ["ZMQTASKS_BROKER"]) as client:
        for handle in submitted(client, "submit_many", WARM_UP):
            handle.result()
        stage()
        way_ = held(client, way, jobs)
        next(way_)
        stage()
        next(way_)
        stage()


def stage() -> None:
    """Say that this far all is done, and wait for a line."""
    gc.collect()
    print("ready", flush=True)
    sys.stdin.readline()


# ------------------------------------------------------------------------------------------------ the bench


def until(what: str, reached: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not reached():
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
            ready(child)
        before = look()
        go(child)
        if way != "client.map":  # its submitter waits in a thread
            ready(child)
        until("all jobs are queued", lambda: queued(broker) >= jobs)
        if way == "client.map":
            ready(child)
        full = look()
        with _cluster.worker(broker):
            go(child)
            ready(child)
        time.sleep(1.0)  # the last acknowledgements
        after = look()
        go(child)
        child.wait(_cluster.STOP)
    told = {f"{name}, queued": (full[name] - before[name]) / jobs for name in pids}
    return told | {f"{name}, after": (after[name] - before[name]) / jobs for name in pids}


def ready(child: subprocess.Popen[str]) -> None:
    """Wait until the child has reached a stage."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line == "ready\n", f"the submitter said {line!r}"


def go(child: subprocess.Popen[str]) -> None:
    """Let the child go on."""
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def ways(jobs: int, repeat: int) -> list[_report.Row]:
    """Every way to submit, in turn."""
    rows = []
    for way in WAYS:
        told = [measure(way, jobs) for _ in range(repeat)]
        for name in told[0]:
            row = _report.Row(f"{way}: {name}", "bytes/job", [each[name] for each in told])
            goal = GOALS[name.partition(",")[0]]
            row.extra["goal"] = f"≤ {goal:,}" if name.endswith("queued") else ""
            rows.append(row)
    return rows


# ------------------------------------------------------------------------------------------------ very many


def session(broker: str, jobs: int) -> float:
    """Submit so many jobs and leave as soon as they are accepted; return the seconds."""
    begin = time.perf_counter()
    with zmqtasks.Client(broker, submit_timeout=PATIENCE) as client:
        for start in range(0, jobs, PIECE):
            client.submit_many(add, [((i, 1), {}) for i in range(start, min(jobs, start + PIECE))])
        client.flush(PATIENCE)
    return time.perf_counter() - begin


def very_many(jobs: int) -> list[_report.Row]:
    """Queue until the scheduler holds so many; look at memory, `status` and a lone job; run them all."""
    rows: list[_report.Row] = []
    with contextlib.ExitStack() as stack:
        scheduler, broker = stack.enter_context(_cluster.scheduler())
        stack.enter_context(aside(broker))
        operator = stack.enter_context(Operator(broker, PATIENCE))
        lone = stack.enter_context(zmqtasks.Client(broker)).options(queue=ASIDE)

        def look(name: str, held: int) -> None:
            """Measure both kinds of round trips, with so many jobs queued."""
            taken = []
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                found = operator.status().jobs["ready"]
                taken.append((time.perf_counter() - begin) * 1000)
                assert found == held, f"{found:,} jobs are queued, not {held:,}"
            lone_trips = trips(lambda i: lone.submit(add, i, 1).result(PATIENCE), ROUNDS)
            rows.append(_report.spread(f"{name}: status", taken))
            rows.append(_report.spread(f"{name}: a lone job of another queue", lone_trips))

        trips(lambda i: lone.submit(add, i, 1).result(PATIENCE), WARM_UP)
        look("nothing queued", 0)
        before, held, seconds = resident(scheduler.pid), 0, 0.0
        for mark in range(1, MARKS + 1):
            while held < jobs * mark // MARKS:
                count = min(SESSION, jobs * mark // MARKS - held)
                seconds += session(broker, count)
                held += count
            took = (resident(scheduler.pid) - before) / held
            name = f"{held:,} queued"
            rows.append(_report.Row(f"{name}: scheduler", "bytes/job", [took], {"goal": f"≤ {GOALS['scheduler']}"}))
            look(name, held)
        rows.append(_report.Row("submitting them", "jobs/s", [jobs / seconds]))
        ended = operator.status().counters["succeeded"] + jobs
        begin = time.perf_counter()
        with _cluster.worker(broker):
            until("all jobs have run", lambda: operator.status().counters["succeeded"] == ended)
            rows.append(_report.Row("running them", "jobs/s", [jobs / (time.perf_counter() - begin)]))
        look("all over", 0)
    return rows


@contextlib.contextmanager
def aside(broker: str) -> Iterator[None]:
    """A worker of the queue of the lone jobs."""
    command = ("-m", "zmqtasks", "worker", "-A", "_tasks", "-Q", ASIDE, "-c", "1", "-l", "warning")
    with process(*command, broker=broker) as worker:
        try:
            yield
        finally:
            worker.terminate()
            worker.wait(_cluster.STOP)


def main() -> None:
    """Measure every way in turn, or very many jobs."""
    parser = _report.arguments(__doc__, jobs=1_000_000, repeat=1)
    parser.add_argument("--way", choices=WAYS, help="be the submitter (used by this script itself)")
    parser.add_argument(
        "--many", type=_report.positive, metavar="N", help="fill a scheduler with N; 10,000,000 is full"
    )
    given = parser.parse_args()
    _cluster.importable()
    if given.way:
        submitter(given.way, given.jobs)
        return
    before = _report.facts()
    if given.many:
        rows = very_many(given.many - 1)  # a full one would have no room for the lone job
        _report.show(f"a scheduler that holds {given.many:,} jobs", rows, before, given.json)
    else:
        _report.show(f"memory ({given.jobs:,} jobs)", ways(given.jobs, given.repeat), before, given.json)


if __name__ == "__main__":
    main()
