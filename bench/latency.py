"""How long does one job take there and back on an idle system, beside the standard library's pools and the ceiling?

One job at a time: submit, wait for the value, compare, then the next. The contenders take turns in blocks of rounds,
since the machine drifts.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import _cluster
import _report
import ceiling
from _jobs import add

SLOTS = 2
BLOCK = 250  # rounds of one contender before the next has its turn
WARM_UP = 100
PATIENCE = 60.0  # seconds for one block

Call = Callable[[int], object]  # gives `add(i, 1)`


def trips(call: Call, rounds: int) -> list[float]:
    """Return the milliseconds of each round trip; every value is compared."""
    taken: list[float] = []
    with _report.limit(PATIENCE):
        for i in range(rounds):
            begin = time.perf_counter()
            value = call(i)
            taken.append((time.perf_counter() - begin) * 1000)
            if value != i + 1:
                raise AssertionError(f"add({i}, 1) gave {value!r}")
    return taken


def main() -> None:
    """Measure every contender in turn, block after block."""
    given = _report.arguments(__doc__, rounds=2_000).parse_args()
    before = _report.facts()
    _cluster.importable()
    with contextlib.ExitStack() as stack:
        # spawned, so that no pool process holds a copy of a socket or of a lifeline
        spawn = multiprocessing.get_context("spawn")
        pool = stack.enter_context(spawn.Pool(SLOTS))
        executor = stack.enter_context(ProcessPoolExecutor(SLOTS, mp_context=spawn))
        client = stack.enter_context(_cluster.local_client(SLOTS))
        top = stack.enter_context(ceiling.hops(slots=SLOTS))
        calls: dict[str, Call] = {
            "client.submit(…).result()": lambda i: client.submit(add, i, 1).result(),
            "Pool.apply": lambda i: pool.apply(add, (i, 1)),
            "ProcessPoolExecutor.submit(…).result()": lambda i: executor.submit(add, i, 1).result(),
        }
        runs: dict[str, Callable[[int], list[float]]] = {name: partial(trips, call) for name, call in calls.items()}
        runs["ceiling"] = lambda rounds: [second * 1000 for second in top.round_trips(rounds)]
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run(WARM_UP)
        for done in range(0, given.rounds, BLOCK):
            for name, run in runs.items():
                taken[name] += run(min(BLOCK, given.rounds - done))
    table = [_report.spread(name, each) for name, each in taken.items()]
    _report.show(f"idle round trip ({given.rounds:,} rounds, {SLOTS} slots)", table, before, given.json)


if __name__ == "__main__":
    main()
