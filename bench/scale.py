"""What does a job cost the scheduler's core among 10 or 10,000 workers, before 1,000 or 1,000,000 queued jobs?

The real core without sockets; the workers and submitters around it are simulated and say the same in every turn,
whatever the sizes: ten Dones, as many jobs submitted, their results acknowledged. Only the tables differ. So the ratio
to the smallest case of each group is what size alone costs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import _report
from _crowd import RESULTS, Crowd, Shape

WARM_UP = 2 * RESULTS  # jobs: then outcomes are dropped as fast as they come
BEAT = 1_000  # turns, of 1 ms, between heartbeats

SMALL = Shape()
LONE = Shape(a_done=1)
HALF = Shape(half=True, queued=0)
MANY = Shape(submitters=100, queues=10, queued=100_000)
TASKS = Shape(tasks=10, queued=10_000)

GROUPS: dict[str, dict[str, Shape]] = {
    "short jobs, 10 a message": {
        "10 workers, 1,000 queued": SMALL,
        "100 workers": replace(SMALL, workers=100),
        "1,000 workers": replace(SMALL, workers=1_000),
        "10,000 workers": replace(SMALL, workers=10_000),
        "10,000 queued": replace(SMALL, queued=10_000),
        "100,000 queued": replace(SMALL, queued=100_000),
        "1,000,000 queued": replace(SMALL, queued=1_000_000),
        "10,000 workers, 1,000,000 queued": replace(SMALL, workers=10_000, queued=1_000_000),
    },
    "long jobs, one a message": {
        "10 workers, 1,000 queued": LONE,
        "1,000 workers": replace(LONE, workers=1_000),
        "10,000 workers": replace(LONE, workers=10_000),
        "10,000 workers, 1,000,000 queued": replace(LONE, workers=10_000, queued=1_000_000),
    },
    "nothing queued, all workers have room": {
        "10 workers": HALF,
        "1,000 workers": replace(HALF, workers=1_000),
        "10,000 workers": replace(HALF, workers=10_000),
    },
    "100 submitters × 10 queues": {
        "10 workers, 100,000 queued": MANY,
        "1,000 workers": replace(MANY, workers=1_000),
        "10,000 workers, 1,000,000 queued": replace(MANY, workers=10_000, queued=1_000_000),
    },
    "many tasks of one submitter": {
        "10 tasks": TASKS,
        "1,000 tasks": replace(TASKS, tasks=1_000, queued=200_000),
    },
    "a queue of its own for each worker besides": {
        "10 workers": replace(SMALL, own_queues=True),
        "1,000 workers": replace(SMALL, own_queues=True, workers=1_000),
    },
}


def measure(shape: Shape, jobs: int) -> dict[str, float]:
    """Run one case; return microseconds: a job, a heartbeat, a turn without anything due, a joining worker."""
    crowd = Crowd(shape)
    crowd.fill()
    gc.freeze()
    warm = done = turns = 0
    while warm < WARM_UP or turns < shape.workers // 10:  # every worker has had its turn
        warm += crowd.work()
        turns += 1
    beats = [crowd.heartbeats()]
    crowd.spent = 0.0
    for turn in range(1, 1_000_000):
        done += crowd.work()
        if done >= jobs:
            break
        if turn % BEAT == 0:
            beats.append(crowd.heartbeats())
            crowd.spent -= beats[-1]
    cost = crowd.spent / done
    crowd.mono += 0.1  # the acknowledgements that waited go out
    idle = min(crowd.turn([]) for _ in range(20))
    crowd.core.check()
    expected = 0 if shape.half else shape.queued
    assert abs(crowd.waiting - expected) <= max(1_000, expected // 10), (crowd.waiting, expected)
    scale = 1e6
    return {
        "job": cost * scale,
        "heartbeat": min(beats) / shape.workers * scale,
        "idle": idle * scale,
        "join": crowd.joined / shape.workers * scale,
    }


def group(cases: dict[str, Shape], jobs: int, repeat: int) -> list[_report.Row]:
    """Measure the cases of one group in turn, repeat after repeat; each row has its ratio to the first."""
    told: dict[str, list[dict[str, float]]] = {name: [] for name in cases}

    def run(name: str, shape: Shape) -> float:
        gc.collect()
        figures = measure(shape, jobs)
        gc.unfreeze()
        told[name].append(figures)
        return figures["job"]

    runs: dict[str, Callable[[], float]] = {name: partial(run, name, shape) for name, shape in cases.items()}
    values = _report.interleaved(runs, repeat)
    base = values[next(iter(cases))]
    rows = []
    for name, each in values.items():
        extra: dict[str, float | str] = {"× first": _report.ratio(each, base)}
        for key, heading in (("heartbeat", "µs/heartbeat"), ("idle", "µs/idle turn"), ("join", "µs/join")):
            extra[heading] = min(figures[key] for figures in told[name])
        rows.append(_report.Row(name, "µs/job", each, extra))
    return rows


def main() -> None:
    """Measure group by group."""
    parser = _report.arguments(__doc__, jobs=50_000, repeat=3)
    parser.add_argument("--only", metavar="TEXT", default="", help="groups whose name holds this")
    given = parser.parse_args()
    before = _report.facts()
    gc.disable()  # as in the daemon
    everything: list[_report.Row] = []
    for title, cases in GROUPS.items():
        if given.only in title:
            rows = group(cases, given.jobs, given.repeat)
            _report.show(title, rows, before, None)
            everything += [replace(row, name=f"{title}: {row.name}") for row in rows]
    if given.json:
        _report.show(f"scale ({given.jobs:,} jobs a case)", everything, before, given.json)


if __name__ == "__main__":
    main()
