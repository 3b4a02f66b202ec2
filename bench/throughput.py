"""How many no-op jobs a second, in memory and journaled, beside multiprocessing.Pool and the bare ceiling, in one run?

Each row submits `add(0, 1)`, `add(1, 1)`, … to two worker slots and compares every value. The rows run in turn, repeat
after repeat, since the machine drifts: the ratios to Pool and to the ceiling count, jobs/s are reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.pool
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import _cluster
import _report
import ceiling
from _jobs import add, one_more

import zmqtasks

SLOTS = 2
WARM_UP = 2_000  # jobs a row before the first repeat: claims grow as run times become known
PATIENCE = 120.0  # seconds for one repeat of one row
MANY = 20  # times as many calls where they share jobs: else the start is all that is seen
PEERS = 4  # submitters at once
POOL = "Pool, starmap, chunksize 1"
CEILING = "ceiling, 100 a message"
CHUNKS = "client.map, in chunks (calls/s)"
JOURNALED = ", journaled"
POOL_CHUNKS = "Pool, imap, in chunks (calls/s)"

Run = Callable[[int], Iterable[object]]  # submits so many jobs, gives their values in order


def shipped(x: int, y: int) -> int:
    """The no-op job of a script: no worker can import it, so it travels by value."""
    return x + y


def pairs(jobs: int) -> Iterator[tuple[int, int]]:
    """Yield the arguments of every job."""
    return ((i, 1) for i in range(jobs))


def pool_rows(pool: multiprocessing.pool.Pool) -> dict[str, Run]:
    """Pool with one message a job: as one call, streamed, and one call at a time."""

    def lone(jobs: int) -> list[int]:
        waiting = [pool.apply_async(add, each) for each in pairs(jobs)]
        return [each.get() for each in waiting]

    return {
        POOL: lambda jobs: pool.starmap(add, pairs(jobs), chunksize=1),
        "Pool, imap, chunksize 1": lambda jobs: pool.imap(one_more, range(jobs), chunksize=1),
        "Pool, apply_async in a loop": lone,
        POOL_CHUNKS: lambda jobs: pool.imap(one_more, range(jobs), chunksize=625),
    }


def client_rows(client: zmqtasks.Client) -> dict[str, Run]:
    """Functions as a batch and one by one; chunksize 1 is said where calls could share a job otherwise."""

    def batch(function: Callable[[int, int], int], jobs: int) -> list[int]:
        return [job.result() for job in client.submit_many(function, [(each, {}) for each in pairs(jobs)])]

    def lone(jobs: int) -> list[int]:
        submitted = [client.submit(add, *each) for each in pairs(jobs)]
        return [job.result() for job in submitted]

    return {
        "submit_many": partial(batch, add),
        "submit_many, function by value": partial(batch, shipped),
        "client.map, chunksize 1": lambda jobs: client.map(one_more, range(jobs), chunksize=1),
        "client.submit in a loop": lone,
        CHUNKS: lambda jobs: client.map(one_more, range(jobs)),
    }


@contextlib.contextmanager
def peers(url: str) -> Iterator[Run]:
    """Several submitters at once, each a process with its share of the jobs; they compare the values themselves."""
    command = [sys.executable, str(_cluster.HERE / "_peer.py"), url]
    with contextlib.ExitStack() as stack:
        all_of_them = []
        for _ in range(PEERS):
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
            stack.callback(process.communicate, timeout=PATIENCE)
            all_of_them.append(process)
        said = [process.stdout.readline() for process in all_of_them if process.stdout]
        if said != ["ready\n"] * PEERS:
            raise RuntimeError("a submitter did not start")

        def run(jobs: int) -> Iterable[int]:
            for process in all_of_them:
                assert process.stdin is not None
                process.stdin.write(f"{jobs // PEERS}\n")
            for process in all_of_them:
                assert process.stdout is not None
                assert process.stdout.readline() == "done\n"
            return range(1, jobs + 1)

        yield run


@contextlib.contextmanager
def asynchronous(url: str) -> Iterator[Run]:
    """An asyncio submitter: one coroutine submits in a loop, then awaits every job."""
    with asyncio.Runner() as runner:
        client = runner.run(zmqtasks.AsyncClient(url).__aenter__())

        async def lone(jobs: int) -> list[int]:
            submitted = [await client.submit(add, *each) for each in pairs(jobs)]
            return [await job for job in submitted]

        yield lambda jobs: runner.run(lone(jobs))
        runner.run(client.__aexit__(None, None, None))


def task_rows(task: zmqtasks.Task | None = None) -> dict[str, Run]:
    """A registered task as a batch and one by one; by default one whose app has its broker from ZMQTASKS_BROKER."""
    if task is None:
        from _tasks import add as task

    def delayed(jobs: int) -> list[int]:
        submitted = [task.delay(*each) for each in pairs(jobs)]
        return [result.get() for result in submitted]

    return {
        "task.starmap": lambda jobs: [job.result() for job in task.starmap(pairs(jobs))],
        "task.delay in a loop": delayed,
    }


def ways(stack: contextlib.ExitStack, client: zmqtasks.Client, task: zmqtasks.Task | None) -> dict[str, Run]:
    """Every way to submit to one cluster."""
    rows = client_rows(client)
    rows[f"{PEERS} submitters at once, submit_many"] = stack.enter_context(peers(client.url))
    rows["AsyncClient.submit in a loop"] = stack.enter_context(asynchronous(client.url))
    return rows | task_rows(task)


def journaled(stack: contextlib.ExitStack) -> dict[str, Run]:
    """The same ways to a cluster whose scheduler has each acceptance and each result on disk before it tells of it."""
    folder = stack.enter_context(_cluster.folder())
    _, url = stack.enter_context(_cluster.scheduler(folder / "journal"))
    stack.enter_context(_cluster.worker(url, SLOTS))
    client = stack.enter_context(zmqtasks.Client(url))
    task = zmqtasks.App("bench", broker=url).task(name="bench.add")(add)
    return {f"{name}{JOURNALED}": run for name, run in ways(stack, client, task).items()}


def checked(run: Run, jobs: int) -> float:
    """Run the jobs and compare every value; return jobs/s from the first submit to the last comparison."""

    def compare() -> None:
        if list(run(jobs)) != list(range(1, jobs + 1)):
            raise AssertionError("a value is wrong, missing or came twice")

    with _report.limit(PATIENCE):
        return jobs / _report.timed(compare)


def main() -> None:
    """Measure every row in turn, repeat after repeat."""
    given = _report.arguments(__doc__, jobs=20_000, repeat=3).parse_args()
    before = _report.facts()
    _cluster.importable()
    with contextlib.ExitStack() as stack:
        # spawned, so that no pool process holds a copy of a socket or of a lifeline
        pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(SLOTS))
        rows = pool_rows(pool)
        os.environ["ZMQTASKS_BROKER"] = stack.enter_context(_cluster.daemons(SLOTS))
        rows |= ways(stack, stack.enter_context(_cluster.local_client(SLOTS)), None)
        rows |= journaled(stack)
        top = stack.enter_context(ceiling.hops(slots=SLOTS))
        for run in rows.values():
            checked(run, min(WARM_UP, given.jobs))
        runs: dict[str, Callable[[], float]] = {
            name: partial(checked, run, given.jobs * MANY if name.startswith((CHUNKS, POOL_CHUNKS)) else given.jobs)
            for name, run in rows.items()
        }
        runs[CEILING] = lambda: given.jobs / top.run(given.jobs, 100)
        runs["ceiling, one by one"] = lambda: given.jobs / top.run(given.jobs, 1)
        values = _report.interleaved(runs, given.repeat)
    table = _report.rates(values, {POOL: "× Pool", CEILING: "× ceiling"})
    for row in table:
        if row.name.endswith(JOURNALED):
            row.extra["× in memory"] = _report.ratio(row.values, values[row.name.removesuffix(JOURNALED)])
    _report.show(f"throughput ({given.jobs:,} jobs, {SLOTS} slots)", table, before, given.json)


if __name__ == "__main__":
    main()
