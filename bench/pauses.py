"""Does the scheduler ever keep its peers waiting, while a million jobs are queued and run?

A probe asks for the status every few ms; the loop answers that by itself in the turn in which it reads it. On shared
cores most slow answers only waited for a processor. How long, Linux knows of each thread
(/proc/PID/task/TID/schedstat): of the loop and the journal's, and of those that carry question and answer, zmq's on
both sides and the probe's own. A pause is what is left: more than 20 ms between question and answer in which nobody
waited and the scheduler ran.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import _cluster
import _report
from _jobs import add
from memory import PATIENCE, PIECE, go, process, ready, stage

import zmqtasks
from zmqtasks import wire
from zmqtasks.operators import Operator

SLOTS = 2
EVERY = 0.002  # seconds between an answer and the next question
BOUND = 20.0  # ms that no pause should take
QUIET = 3.0  # seconds of the phases in which nothing happens
COMPACTION = 5.0  # seconds from the beginning of one, which is counted; when it is over nobody says
PAD = 40  # bytes in an argument, so that the journal of a million jobs outgrows its limit and is compacted
MODES = ("in memory", "journaled")
PHASES = ("idle", "submission", "queued", "running", "the end", "compaction")


@dataclass(slots=True)
class Answer:
    """One round trip; all in ms.

    Attributes:
        trip: how long it took.
        ran: how long the scheduler's loop and its journal ran meanwhile.
        waited: how long they waited for a processor.
        carried: how long those waited for one who carry question and answer.
    """

    phase: str
    trip: float
    ran: float
    waited: float
    carried: float

    @property
    def held(self) -> float:
        """How long the scheduler itself held the answer up, at most."""
        return max(0.0, min(self.ran, self.trip - self.waited - self.carried))

    def __str__(self) -> str:
        ran, waited, carried = f"{self.ran:.1f}", f"{self.waited:.1f}", f"{self.carried:.1f}"
        what = f"the scheduler ran {ran} and waited {waited}, messengers waited {carried}"
        return f"{self.phase}: {self.trip:.1f} ms; {what}: held up {self.held:.1f}"


class Accounts:
    """Linux's account of the threads of a scheduler and of those that carry messages between it and the probe."""

    def __init__(self, pid: int) -> None:
        self._own = _threads(pid, zmqs=False)
        probe = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._messengers = [probe, *_threads(pid, zmqs=True), *_threads(os.getpid(), zmqs=True)]

    def read(self) -> tuple[float, float, float]:
        """The ms that the scheduler has run and waited for a processor, and that the messengers have waited."""
        own = [_account(path) for path in self._own]
        return (
            sum(ran for ran, _ in own),
            sum(waited for _, waited in own),
            sum(_account(p)[1] for p in self._messengers),
        )


@dataclass(slots=True)
class Probe:
    """Asks and takes the time, in a thread of its own.

    Attributes:
        phase: what is going on, as the answers are filed under; while the journal is compacted they go to that.
        answers: so far.
        status: the last one.
    """

    url: str
    pid: int
    phase: str = PHASES[0]
    answers: list[Answer] = field(default_factory=list)
    status: wire.Status | None = None
    _compactions: int = 0
    _compacted: float = -COMPACTION  # when the last one began
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Until `stop`."""
        with Operator(self.url, PATIENCE) as operator:
            operator.status()  # connects
            accounts = Accounts(self.pid)
            while not self._over.wait(EVERY):
                phase = self.phase
                before, asked = accounts.read(), time.perf_counter()
                self.status = operator.status()
                came, after = time.perf_counter(), accounts.read()
                compactions = self.status.counters.get("compactions", 0)
                if compactions != self._compactions:
                    self._compactions, self._compacted = compactions, came
                if came < self._compacted + COMPACTION:
                    phase = PHASES[-1]
                spent = [new - old for new, old in zip(after, before, strict=True)]
                self.answers.append(Answer(phase, (came - asked) * 1000, *spent))

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()


def _threads(pid: int, *, zmqs: bool) -> list[Path]:
    """The accounts of the threads of a process that are zmq's, or of the others."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [t / "schedstat" for t in threads if (t / "comm").read_text(encoding="ascii").startswith("ZMQ") == zmqs]


def _account(path: Path) -> tuple[float, float]:
    """The ms that a thread has run, and has waited for a processor."""
    ran, waited, _ = path.read_text(encoding="ascii").split()
    return int(ran) / 1e6, int(waited) / 1e6


@contextlib.contextmanager
def probing(url: str, pid: int) -> Iterator[Probe]:
    """Yield a probe that asks."""
    probe = Probe(url, pid)
    thread = threading.Thread(target=probe.run)
    thread.start()
    try:
        yield probe
    finally:
        probe.stop()
        thread.join()


def submitter(jobs: int) -> None:
    """Be the submitter: tell when all are accepted, and when all have come back; go on when a line comes."""
    pad = bytes(PAD)
    with zmqtasks.Client(os.environ["ZMQTASKS_BROKER"]) as client:
        handles: list[zmqtasks.Job[bytes]] = []
        for start in range(0, jobs, PIECE):
            count = min(PIECE, jobs - start)
            handles += client.submit_many(add, [((pad, b"%d" % i), {}) for i in range(start, start + count)])
        client.flush()
        stage()
        handles.reverse()
        for i in range(jobs):
            assert handles.pop().result() == pad + b"%d" % i, "a value is wrong"
        stage()


def measure(mode: str, jobs: int, folder: Path) -> list[Answer]:
    """Run the jobs beside a probe; return what it saw."""
    with contextlib.ExitStack() as stack:
        scheduler, url = stack.enter_context(_cluster.scheduler(folder if mode == "journaled" else None))
        probe = stack.enter_context(probing(url, scheduler.pid))
        time.sleep(QUIET)
        child = stack.enter_context(process(__file__, "--be-submitter", "--jobs", str(jobs), broker=url))
        probe.phase = "submission"
        ready(child)
        probe.phase = "queued"
        time.sleep(QUIET)
        with _cluster.worker(url, SLOTS):
            probe.phase = "running"
            go(child)
            ready(child)
            probe.phase = "the end"
            time.sleep(COMPACTION)
            go(child)
            child.wait(_cluster.STOP)
        time.sleep(QUIET)
        told = probe.status
    assert told is not None
    assert told.counters["succeeded"] == jobs, told.counters
    return probe.answers


def rows(mode: str, answers: list[Answer]) -> list[_report.Row]:
    """A row for each phase: the round trips, and what the loop did in the slow ones."""
    found = []
    for phase in PHASES:
        some = [answer for answer in answers if answer.phase == phase]
        if not some:
            continue
        slow = [answer for answer in some if answer.trip > BOUND]
        row = _report.Row(f"{mode}: {phase}", "ms", sorted(answer.trip for answer in some))
        row.extra = {
            "p99": _report.quantile(row.values, 0.99),
            "answers": f"{len(some):,}",
            f"> {BOUND:.0f} ms": f"{len(slow)}",
            "pauses": f"{sum(answer.held > BOUND for answer in slow)}",
            "longest": max(answer.held for answer in some),
            "longest wait": max(answer.waited for answer in some),
        }
        found.append(row)
    return found


def main() -> None:
    """Measure in memory, then with a journal."""
    parser = _report.arguments(__doc__, jobs=1_000_000)
    parser.add_argument("--dir", type=Path, default=_cluster.DISK, help="a directory on the disk to be measured")
    parser.add_argument("--slow", action="store_true", help="list each answer that took longer than the bound")
    parser.add_argument("--be-submitter", action="store_true", help="used by this script itself")
    given = parser.parse_args()
    _cluster.importable()
    if given.be_submitter:
        submitter(given.jobs)
        return
    before = _report.facts()
    table = []
    for mode in MODES:
        with _cluster.folder(given.dir) as folder:
            answers = measure(mode, given.jobs, folder / "journal")
        table += rows(mode, answers)
        for answer in answers if given.slow else ():
            if answer.trip > BOUND:
                print(f"{mode}, {answer}")
    _report.show(f"pauses of the scheduler ({given.jobs:,} jobs)", table, before, given.json)


if __name__ == "__main__":
    main()
