"""How close to the best possible plan do jobs of very different lengths end, over several workers?

Jobs sleep for log-normal times on four workers of two slots each. No plan ends before the sum of all run times is
spread evenly over the slots, or before the longest job: that is the lower bound, of the times as the children measured
them. Then 1 ms jobs are submitted while 10 s jobs hold most slots: none of them may wait behind a long one.
"""

from __future__ import annotations

import contextlib
import random
import time

import _cluster
import _report
from _jobs import nap

import zmqtasks

WORKERS = 4
SLOTS = 2  # of each
MEDIAN = 0.004  # seconds
SIGMA = 1.2  # of the logarithm: the mean is twice the median, one in a hundred takes 16 times as long
PATIENCE = 600.0
LONG, SHORT = 2.0, 0.001  # seconds


def lengths(jobs: int, seed: int) -> list[float]:
    """The times of the jobs, the same for the same seed."""
    chance = random.Random(seed)
    return [MEDIAN * chance.lognormvariate(0.0, SIGMA) for _ in range(jobs)]


def makespan(client: zmqtasks.Client, jobs: int, seed: int) -> float:
    """Return how many times the lower bound it took."""
    wanted = lengths(jobs, seed)
    begin = time.perf_counter()
    with _report.limit(PATIENCE):
        submitted = client.submit_many(nap, [((length,), {}) for length in wanted])
        taken = [job.result() for job in submitted]
    whole = time.perf_counter() - begin
    if any(took < length for took, length in zip(taken, wanted, strict=True)):
        raise AssertionError("a job did not sleep as long as it was told to")
    return whole / max(sum(taken) / (WORKERS * SLOTS), *taken)


def beside_long(client: zmqtasks.Client, jobs: int) -> list[float]:
    """Return the ms that each short job took, submitted in waves, while all slots but two run long jobs."""
    taken: list[float] = []
    with _report.limit(PATIENCE):
        long = client.submit_many(nap, [((LONG,), {})] * (WORKERS * SLOTS - 2))
        while not all(job.done() for job in long):
            begin = time.perf_counter()
            short = client.submit_many(nap, [((SHORT,), {})] * jobs)
            for job in short:
                job.result()
            taken.append((time.perf_counter() - begin) * 1000)
        for job in long:
            job.result()
    return taken


def main() -> None:
    """Measure both."""
    given = _report.arguments(__doc__, jobs=10_000, repeat=3).parse_args()
    before = _report.facts()
    _cluster.importable()
    with contextlib.ExitStack() as stack:
        _, url = stack.enter_context(_cluster.scheduler())
        for _ in range(WORKERS):
            stack.enter_context(_cluster.worker(url, SLOTS))
        client = stack.enter_context(zmqtasks.Client(url))
        makespan(client, 200, 0)
        spans = [makespan(client, given.jobs, seed) for seed in range(1, given.repeat + 1)]
        waves = beside_long(client, 20)
    best = 20 / 2 * SHORT * 1000
    rows = [
        _report.Row(f"{given.jobs:,} log-normal jobs, whole time", "× bound", spans),
        _report.Row("20 jobs of 1 ms on 2 free slots beside long jobs", "ms", waves, {"best possible": best}),
    ]
    _report.show(f"mix ({WORKERS} workers of {SLOTS} slots)", rows, before, given.json)


if __name__ == "__main__":
    main()
