"""A scheduler, workers, submitters and an observer on the hosts of a network, each started as a user would."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.hosts.network import NETWORK, NETWORK6, Host

T = TypeVar("T")

HERE = Path(__file__).parent
BOUND = 40.0  # seconds until a wait gives up
PORT = 5555
ZMQTASKS = [sys.executable, "-m", "zmqtasks"]


def until(condition: Callable[[], T | None], what: Callable[[], str] | str, seconds: float = BOUND) -> T:
    """Poll until the condition gives something true, and return that; the time-out tells what is so instead."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)
    return value


class Program:
    """A process on a host, its output in a file."""

    started = 0

    def __init__(self, host: Host, folder: Path, words: list[str]) -> None:
        Program.started += 1
        self.words = words
        self.host = host
        self.log = folder / f"{Program.started}.{host.name}.log"
        with self.log.open("w") as out:
            self.process = host.popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def text(self) -> str:
        """All that it printed and logged so far."""
        return self.log.read_text()

    def told(self) -> str:
        """For the message of a failed test."""
        return f"{' '.join(self.words[1:6])} on {self.host.name} → {self.process.poll()}\n{self.text()[-6000:]}"

    def line(self, pattern: str, seconds: float = BOUND) -> "re.Match[str]":
        """Wait for a line."""

        def found() -> "re.Match[str] | None":
            match = re.search(pattern, self.text(), re.MULTILINE)
            assert match or self.process.poll() is None, self.told()
            return match

        return until(found, lambda: f"a line {pattern!r} of {self.told()}", seconds)

    def logged(self, action: str) -> list[str]:
        """The lines of the log with this key."""
        return [line for line in self.text().splitlines() if f" {action}: " in line]


class Batch(Program):
    """A script that submits a batch and waits for its results."""

    def __init__(self, host: Host, folder: Path, url: str, count: int, seconds: float, *sizes: int) -> None:
        self.count = count
        self.ledger = folder / f"ledger.{Program.started}"
        self.ledger.touch()
        sizes_told = [str(size) for size in sizes]
        script = str(HERE / "batch.py")
        super().__init__(
            host, folder, [sys.executable, script, url, str(self.ledger), str(count), str(seconds), *sizes_told]
        )

    def ran(self) -> Counter[int]:
        """How often each job was begun."""
        return Counter(int(line.split()[0]) for line in self.ledger.read_text().splitlines())

    def ran_on(self, host: Host) -> int:
        """Executions there."""
        return sum(line.split()[1] == host.name for line in self.ledger.read_text().splitlines())

    def begun(self, count: int) -> None:
        """Wait until so many executions have begun."""
        until(lambda: self.ran().total() >= count, lambda: f"{count} executions, {self.ran().total()} of {self.told()}")

    def over(self) -> bool:
        """Whether it told of its results, or ended."""
        return '"results"' in self.text() or self.process.poll() is not None

    def finish(self, seconds: float = BOUND) -> dict[str, Any]:
        """Wait until every result is there and right; returns what the script says of them."""
        told = json.loads(self.line(r'^\{"results".*$', seconds)[0])
        assert told["results"] == self.count
        assert set(self.ran()) == set(range(self.count))
        assert until(lambda: self.process.poll() is not None, self.told)
        assert self.process.returncode == 0, self.told()
        return dict(told)


class Watch(Program):
    """An observer: the scheduler's status every 0.1 s or so, with times."""

    def __init__(self, host: Host, folder: Path, url: str) -> None:
        super().__init__(host, folder, [sys.executable, str(HERE / "watch.py"), url])

    def seen(self) -> list[dict[str, Any]]:
        """What was seen so far, in order: at (monotonic time), code, status."""
        return [json.loads(line) for line in self.text().splitlines(keepends=True) if line.endswith("}\n")]

    def states(self) -> dict[str, str]:
        """The workers' states, last seen."""
        return workers(self.seen()[-1]) if self.seen() else {}

    def when(
        self, condition: Callable[[dict[str, Any]], bool], since: float, what: str, seconds: float = BOUND
    ) -> float:
        """Wait until the status is so; returns the seconds from `since`, a monotonic time, until it was first seen."""

        def first() -> float | None:
            return next((s["at"] for s in self.seen() if s["at"] >= since and s["status"] and condition(s)), None)

        took = until(first, lambda: f"{what}; last seen: {self.text()[-1500:]}", seconds) - since
        print(f"{what} after {took:.2f} s")
        return took

    def lost(self) -> int:
        """Workers that the scheduler declared lost so far, as it says itself; asked now."""
        now = time.monotonic()
        fresh = until(lambda: next((s for s in self.seen() if s["at"] > now and s["status"]), None), "a fresh status")
        return int(fresh["status"]["counters"].get("workers_lost", 0))


def workers(seen: dict[str, Any]) -> dict[str, str]:
    """Worker's name → state, of one look at the status."""
    return {worker["name"]: worker["state"] for worker in (seen["status"] or {"workers": []})["workers"]}


def jobs(seen: dict[str, Any], state: str) -> int:
    """Jobs in a state, of one look at the status."""
    return int(seen["status"]["jobs"].get(state, 0))


class Cluster:
    """What a test starts, in the folder `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def scheduler(self, host: Host, *options: str, ipv6: bool = False) -> tuple[str, Program]:
        """Start a scheduler; returns its URL, too. `options`: of the command line."""
        url = f"tcp://[{host.address6}]:{PORT}" if ipv6 else f"tcp://{host.address}:{PORT}"
        allowed = ["--plaintext", NETWORK, "--plaintext", NETWORK6]
        program = Program(host, self.folder, [*ZMQTASKS, "scheduler", "--bind", url, *allowed, *options])
        program.line(r"^zmqtasks scheduler ready on ")
        return url, program

    def worker(self, host: Host, url: str, slots: int = 2, *, wait: bool = True) -> Program:
        """Start a worker, by default called worker@HOST, and wait until it has joined."""
        program = Program(host, self.folder, [*ZMQTASKS, "worker", "--broker", url, "-c", str(slots)])
        if wait:
            program.line(r"^zmqtasks worker \S+ ready: ")
        return program

    def batch(self, host: Host, url: str, count: int, seconds: float, *sizes: int) -> Batch:
        """Submit `count` jobs of so many seconds, each with a result and an argument of so many bytes."""
        return Batch(host, self.folder, url, count, seconds, *sizes)

    def watch(self, host: Host, url: str) -> Watch:
        """Begin to observe."""
        watch = Watch(host, self.folder, url)
        until(lambda: any(s["status"] for s in watch.seen()), watch.told)
        return watch
