"""How long does one job take there and back on an idle system, beside the standard library's pools and the ceiling?

One job at a time: submit, wait for the value, compare, then the next. The contenders take turns in blocks of rounds,
since the machine drifts. Then the same while another submitter sends 10,000 jobs a second to the same workers.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import _cluster
import _report
import ceiling
from _jobs import add

SLOTS = 2
BLOCK = 250  # rounds of one contender before the next has its turn
WARM_UP = 500  # rounds of each before: memory that is touched for the first time costs a fault
PATIENCE = 60.0  # seconds for one block

OURS = "client.submit(…).result()"
WARM_SECONDS = 2.0  # until the other submitter goes at its pace

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


@contextlib.contextmanager
def loaded(url: str, rate: int) -> Iterator[list[float]]:
    """Keep a scheduler busy with so many jobs a second; the list gets the rate that it came to."""
    command = [sys.executable, str(_cluster.HERE / "_load.py"), url, str(rate)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    reached: list[float] = []
    begin = time.perf_counter()
    try:
        time.sleep(WARM_SECONDS)
        yield reached
    finally:
        told, _ = process.communicate(timeout=PATIENCE)
        reached.append(int(told) / (time.perf_counter() - begin))


def main() -> None:
    """Measure every contender in turn, block after block."""
    given = _report.arguments(__doc__, rounds=2_000, load=10_000).parse_args()
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
            OURS: lambda i: client.submit(add, i, 1).result(),
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
        with loaded(client.url, given.load) as reached:
            beside = trips(calls[OURS], given.rounds)
    table = [_report.spread(name, each) for name, each in taken.items()]
    table.append(_report.spread(f"the same beside {reached[0]:,.0f} jobs/s of another", beside))
    _report.show(f"idle round trip ({given.rounds:,} rounds, {SLOTS} slots)", table, before, given.json)


if __name__ == "__main__":
    main()
