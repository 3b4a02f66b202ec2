"""What do priorities, weighted queues, rates and caps cost the jobs that are given out under them?

The same no-op jobs, taking turns in one run: as they are; with ten priorities; over four queues of different weights;
beside 100 tasks whose rates are used up and 100 jobs whose keys are at their cap; with all of that. Then one task under
a rate: how much of it is used; and how long a job of priority 9 takes while 1 ms jobs of priority 0 fill all slots.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial

import _cluster
import _report
from _jobs import add, nap
from latency import trips

import zmqtasks
from zmqtasks import wire
from zmqtasks.operators import Operator

SLOTS = 2
WEIGHTS = {"q0": 1.0, "q1": 2.0, "q2": 3.0, "q3": 4.0}
LIMITED = 100  # tasks under a rate, and keys under a cap
RATE = 200  # starts per second
RATED = 600  # jobs under it
BACKLOG = 4_000  # jobs of 1 ms that the urgent ones overtake
PATIENCE = 300.0

Part = tuple[dict[str, object], int]  # options, jobs


def parts(jobs: int, *, priorities: bool, queues: bool) -> list[Part]:
    """Return how the jobs are submitted: options and how many, in 40 parts."""
    made: list[Part] = []
    for i in range(40):
        given: dict[str, object] = {}
        if priorities:
            given["priority"] = i % 10
        if queues:
            given["queue"] = f"q{i % 4}"
        made.append((given, jobs // 40))
    return made


def batch(client: zmqtasks.Client, made: list[Part]) -> float:
    """Return jobs/s from the first submit to the last compared value."""

    def run() -> None:
        submitted = [
            (client.options(**given).submit_many(add, [((i, 1), {}) for i in range(count)]), count)
            for given, count in made
        ]
        for some, count in submitted:
            if [job.result() for job in some] != list(range(1, count + 1)):
                raise AssertionError("a value is wrong, missing or came twice")

    with _report.limit(PATIENCE):
        return sum(count for _, count in made) / _report.timed(run)


def limited(client: zmqtasks.Client) -> list[zmqtasks.Job[int]]:
    """Jobs that wait for their limits all the time."""
    waiting: list[zmqtasks.Job[int]] = []
    for i in range(LIMITED):
        slow = client.options(rate_limit="1/h", rate_key=str(i), queue="q0")
        waiting += slow.submit_many(add, [((i, 1), {})] * 3)
    return waiting


def used(client: zmqtasks.Client) -> float:
    """Return which share of a rate is used where there is work."""
    with _report.limit(PATIENCE):
        rated = client.options(rate_limit=f"{RATE}/s", rate_key="used")
        taken = _report.timed(lambda: client.gather(rated.submit_many(add, [((i, 1), {}) for i in range(RATED)])))
    return (RATED - 1) / RATE / taken


def urgent(client: zmqtasks.Client, rounds: int) -> list[float]:
    """Return the ms of round trips of priority 9 while jobs of 1 ms wait."""
    fill = client.submit_many(nap, [((0.001,), {})] * BACKLOG)
    time.sleep(0.2)
    first = client.options(priority=9)
    taken: list[float] = []
    for i in range(rounds):
        if fill[-1].done():
            break
        taken += trips(lambda _, i=i: first.submit(add, i, 1).result() - i, 1)  # type: ignore[misc]
    client.cancel(fill)
    return taken


def main() -> None:
    """Measure one after the other."""
    parser = _report.arguments(__doc__, jobs=20_000, repeat=5, rounds=200)
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="X", help="fail if all of it is slower than this"
    )
    given = parser.parse_args()
    before = _report.facts()
    _cluster.importable()
    with contextlib.ExitStack() as stack:
        clients: dict[str, zmqtasks.Client] = {}
        for name in ("plain", "limited"):
            _, url = stack.enter_context(_cluster.scheduler())
            stack.enter_context(_cluster.worker(url, SLOTS, queues=("default", *WEIGHTS)))
            clients[name] = stack.enter_context(zmqtasks.Client(url))
            with Operator(url) as operator:
                for queue, weight in WEIGHTS.items():
                    operator.control(wire.SetQueue(queue, weight=weight))
        plain, beside = clients["plain"], clients["limited"]
        for client in clients.values():
            batch(client, parts(2_000, priorities=False, queues=False))
        waiting = limited(beside)
        plan = partial(parts, given.jobs)
        runs: dict[str, Callable[[], float]] = {
            "as they are": partial(batch, plain, plan(priorities=False, queues=False)),
            "ten priorities": partial(batch, plain, plan(priorities=True, queues=False)),
            "four weighted queues": partial(batch, plain, plan(priorities=False, queues=True)),
            "beside limits that are reached": partial(batch, beside, plan(priorities=False, queues=False)),
            "all of it": partial(batch, beside, plan(priorities=True, queues=True)),
        }
        rows = _report.rates(_report.interleaved(runs, given.repeat), {"as they are": "× as they are"})
        beside.cancel(waiting)
        rows.append(_report.Row(f"use of a rate of {RATE}/s", "×", [used(plain) for _ in range(given.repeat)]))
        rows.append(_report.spread("priority 9 beside a backlog of 1 ms jobs", urgent(plain, given.rounds)))
    _report.show(f"policy ({given.jobs:,} jobs, {SLOTS} slots)", rows, before, given.json)
    share = next(float(row.extra["× as they are"]) for row in rows if row.name == "all of it")
    if share < given.at_least:
        sys.exit(
            f"worse: with all of it on, {share:.2f} times as many jobs a second; at least {given.at_least:g} it must be"
        )


if __name__ == "__main__":
    main()
