"""How soon is the first result there, and what do a scheduler and its workers cost while nothing happens?

Start: `import zmqtasks`; a LocalCluster and its first result; scheduler and worker by the command line and theirs.
Idle: the processor time of scheduler and worker in a quiet while; then that of a scheduler with many connected workers,
each a connection and a worker's core of its own, all in one process.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable

import _cluster
import _cpu
import _report
from _jobs import add

import zmqtasks
from zmqtasks import clock, descriptors, wire
from zmqtasks.config import WorkerSettings
from zmqtasks.transport import Change, Context, Link, wait
from zmqtasks.worker.core import WorkerCore
from zmqtasks.worker.effects import Effects, Identity

SLOTS = 2
SETTLE = 3.0  # seconds until what a start has left to be done is done
PATIENCE = 60.0
PER_CONTEXT = 250  # connections; zmq allows 1,023 sockets in a context, and each has its monitor


def imported() -> float:
    """Return the ms of `import zmqtasks` in a fresh interpreter."""
    code = "import time; begin = time.perf_counter(); import zmqtasks; print(time.perf_counter() - begin)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)
    return float(done.stdout) * 1000


def cluster() -> float:
    """Return the seconds from LocalCluster() to the first result."""
    begin = time.perf_counter()
    with zmqtasks.LocalCluster(workers=SLOTS) as made, made.client() as client:
        assert client.submit(add, 1, 1).result(PATIENCE) == 2
        return time.perf_counter() - begin


def daemons() -> float:
    """Return the seconds from the first of two commands to the first result."""
    begin = time.perf_counter()
    with _cluster.daemons(SLOTS) as url, zmqtasks.Client(url) as client:
        assert client.submit(add, 1, 1).result(PATIENCE) == 2
        return time.perf_counter() - begin


def idle(seconds: float) -> tuple[float, float]:
    """Return what a scheduler and a worker with its children use, in % of a core."""
    with _cluster.scheduler() as (scheduler, url), _cluster.worker(url, SLOTS) as agent:
        with zmqtasks.Client(url) as client:
            client.submit(add, 1, 1).result(PATIENCE)
        time.sleep(SETTLE)

        def one() -> float:
            return sum(_cpu.of_daemon("x", scheduler.pid).values())

        def other() -> float:
            return sum({**_cpu.of_daemon("x", agent.pid), **_cpu.of_children(agent.pid)}.values())

        begin, first, second = time.perf_counter(), one(), other()
        time.sleep(seconds)
        whole = time.perf_counter() - begin
        return (one() - first) / whole * 100, (other() - second) / whole * 100


class Crowd:
    """Workers without children: a connection and a core each, driven by one loop."""

    def __init__(self, url: str, count: int) -> None:
        descriptors.raise_limit()
        self._contexts = [Context() for _ in range(-(-count // PER_CONTEXT))]
        self._links = [Link(self._contexts[i // PER_CONTEXT], url, random.random()) for i in range(count)]
        self._cores = [
            WorkerCore(
                WorkerSettings(SLOTS, 100),
                Identity("0", "3.11", "crowd", i, f"w{i}", os.urandom(16), ("default",), ()),
            )
            for i in range(count)
        ]

    def turn(self) -> None:
        """Let all of them do what is due."""
        now = clock.now()
        for link, core in zip(self._links, self._cores, strict=True):
            fx = Effects()
            for change in link.service(now.mono):
                if change is Change.CONNECTED:
                    core.on_connected(now, fx)
            while (data := link.receive()) is not None:
                core.handle(wire.decode_to_worker(data), now, fx)
            core.tick(now, fx)
            if fx.look:
                core.on_running([(0, 0)] * SLOTS, now, fx)
            for message in fx.sends:
                link.send(wire.encode(message))

    @property
    def welcomed(self) -> int:
        """How many the scheduler knows."""
        return sum(core.welcomed for core in self._cores)

    def close(self) -> None:
        """Leave."""
        for link in self._links:
            link.close()
        for context in self._contexts:
            context.close()


def crowded(count: int, seconds: float) -> float:
    """Return what a scheduler uses with so many idle workers, in % of a core."""
    with _cluster.scheduler() as (scheduler, url):
        crowd = Crowd(url, count)
        try:
            deadline = time.monotonic() + PATIENCE
            while crowd.welcomed < count:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{crowd.welcomed} of {count} workers are connected")
                crowd.turn()

            def look() -> float:
                return sum(_cpu.of_daemon("x", scheduler.pid).values())

            for quiet in (SETTLE, seconds):
                before, begin = look(), time.perf_counter()
                while time.perf_counter() < begin + quiet:
                    crowd.turn()
                    wait([], 0.02)
                used = (look() - before) / (time.perf_counter() - begin) * 100
            return used
        finally:
            crowd.close()


def main() -> None:
    """Measure one after the other."""
    given = _report.arguments(__doc__, repeat=5, seconds=10, workers=1_000).parse_args()
    before = _report.facts()
    _cluster.importable()
    starts: dict[str, Callable[[], float]] = {"import": imported, "cluster": cluster, "daemons": daemons}
    taken = _report.interleaved(starts, given.repeat)
    scheduler, worker = idle(given.seconds)
    rows = [
        _report.Row("import zmqtasks", "ms", taken["import"]),
        _report.Row("LocalCluster() → first result", "s", taken["cluster"]),
        _report.Row("two commands → first result", "s", taken["daemons"]),
        _report.Row("idle: scheduler", "% of a core", [scheduler]),
        _report.Row("idle: worker with its children", "% of a core", [worker]),
        _report.Row(
            f"idle: scheduler with {given.workers:,} workers", "% of a core", [crowded(given.workers, given.seconds)]
        ),
    ]
    _report.show("start and idle", rows, before, given.json)


if __name__ == "__main__":
    main()
