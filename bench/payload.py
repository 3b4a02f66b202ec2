"""How many MB/s do large arguments and results make, each way, and does a small job wait behind them?

Every row sends as many jobs of one size as `--mib` holds (one at least) to two worker slots: first with large arguments
and a small result, then the other way round. The last rows are round trips of a no-op job, idle and while 64 MiB
arguments and results are under way all the time. Every value is compared, by length and both ends, or as a whole.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial

import _cluster
import _report
from _jobs import add

import zmqtasks

SLOTS = 2
KIB = 1024
MIB = 1024 * KIB
SIZES = (KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)
ENVELOPE = KIB  # the largest payload is 64 MiB with the pickle around it
PATIENCE = 120.0  # seconds for one repeat of one row
MARK = 16  # bytes at both ends that are compared
MANY = 2_000  # jobs in one repeat of a row, at most


def length(data: bytes) -> tuple[int, bytes, bytes]:
    """Take much, give little."""
    return len(data), data[:16], data[-16:]


def make(size: int) -> bytes:
    """Take little, give much; the same bytes every time, so that making them costs nothing."""
    made: dict[int, bytes] = make.__dict__
    if size not in made:
        made[size] = bytes(range(256)) * (size // 256 + 1)
    return made[size][:size]


def named(size: int) -> str:
    """Name a size for people."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


def arguments(client: zmqtasks.Client, data: bytes, jobs: int) -> float:
    """Return MB/s of arguments, from the first submit to the last result."""
    want = (len(data), data[:MARK], data[-MARK:])

    def run() -> None:
        submitted = [client.submit(length, data) for _ in range(jobs)]
        if any(job.result() != want for job in submitted):
            raise AssertionError("an argument is wrong")

    with _report.limit(PATIENCE):
        return jobs * len(data) / _report.timed(run) / 1e6


def results(client: zmqtasks.Client, size: int, jobs: int) -> float:
    """Return MB/s of results."""
    want = (bytes(range(256)) * (size // 256 + 1))[:size]

    def run() -> None:
        submitted = [client.submit(make, size) for _ in range(jobs)]
        if any(job.result() != want for job in submitted):
            raise AssertionError("a result is wrong")

    with _report.limit(PATIENCE):
        return jobs * size / _report.timed(run) / 1e6


def trips(client: zmqtasks.Client, rounds: int) -> list[float]:
    """Return the milliseconds of round trips of a no-op job."""
    taken: list[float] = []
    with _report.limit(PATIENCE):
        for i in range(rounds):
            begin = time.perf_counter()
            value = client.submit(add, i, 1).result()
            taken.append((time.perf_counter() - begin) * 1000)
            if value != i + 1:
                raise AssertionError(f"add({i}, 1) gave {value!r}")
    return taken


def crowded(client: zmqtasks.Client, other: zmqtasks.Client, rounds: int) -> list[float]:
    """Return the same while another client keeps one 64 MiB argument and one 64 MiB result under way."""
    size = 64 * MIB - ENVELOPE
    data = os.urandom(MIB) * 64
    data = data[:size]
    under_way: list[zmqtasks.Job] = []
    taken: list[float] = []
    while len(taken) < rounds:
        under_way = [job for job in under_way if not job.done()]
        if len(under_way) < 2:
            under_way += [other.submit(length, data), other.submit(make, size)]
        taken += trips(client, 1)
    for job in under_way:
        job.result()
    return taken


def main() -> None:
    """Measure every size in turn, repeat after repeat."""
    given = _report.arguments(__doc__, mib=64, repeat=3, rounds=100).parse_args()
    before = _report.facts()
    _cluster.importable()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_cluster.local_client(SLOTS))
        runs: dict[str, Callable[[], float]] = {}
        for size in SIZES:
            jobs = max(1, min(MANY, given.mib * MIB // size))
            exact = min(size, 64 * MIB - ENVELOPE)
            data = (os.urandom(MIB) * (size // MIB + 1))[:exact]
            runs[f"argument {named(size)}"] = partial(arguments, client, data, jobs)
            runs[f"result {named(size)}"] = partial(results, client, exact, jobs)
        for run in runs.values():
            run()  # warm: connections stand, functions are known
        values = _report.interleaved(runs, given.repeat)
        idle = trips(client, given.rounds)
    with zmqtasks.LocalCluster(workers=SLOTS + 1) as cluster, cluster.client() as one, cluster.client() as two:
        trips(one, given.rounds)
        busy = crowded(one, two, given.rounds)
    table = [_report.Row(name, "MB/s", each) for name, each in values.items()]
    table += [_report.spread("no-op, idle", idle), _report.spread("no-op beside 64 MiB both ways", busy)]
    _report.show(f"payloads ({SLOTS} slots, {given.mib} MiB a repeat)", table, before, given.json)


if __name__ == "__main__":
    main()
