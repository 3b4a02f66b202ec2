"""How many calls does a job cost each side of its way? Unlike times, they hardly depend on what else the machine does.

Counted are calls of Python functions (each step of a generator is one) and of C functions, as sys.setprofile tells of
them, while no-op jobs go through: as a batch, one by one, each after the other, and that with a journal, too.

How many turns a side takes for a job does depend on the machine: on what each of them finds, and on what has become
due. The rest does not: calls a job are a line over turns a job, to some 1 %. So `--check FILE` moves each stretch
along that line to the turns of the recorded run, and then no row may be more than 10 % above it (nor, if it is small,
a call a job). Lone jobs, whose turns are few and known, may not take a turn more either.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import _cluster
import _report
import psutil
import rich.box
import rich.console
import rich.table
import throughput
from _jobs import add

import zmqtasks
from zmqtasks.config import SchedulerSettings

SLOTS = 2
FILL = 50_000  # jobs at once, until the scheduler forgets an outcome for each new one, as it does from then on
REST = 0.03  # seconds before each look: acknowledgements are up to 20 ms late
PATIENCE = 20.0  # seconds for a process to tell its counts
WORSE = 1.10  # times what was recorded
MORE = 0.8  # calls a job above what was recorded: what is less may come of jobs that are given back
A_TURN = 0.9  # turns that a lone job may take above the recorded ones: on very busy cores 0.8 come by themselves
KEPT = 0.05  # calls a job: functions below are not written down
TOP = 10  # functions of each side that are listed

BATCH, LOOP, LONE, JOURNALED = "as a batch", "one by one", "each after the other", "the same, journaled"
CASES = (BATCH, LOOP, LONE, JOURNALED)
CALLER, IO = "submitter: caller", "submitter: I/O thread"
SCHEDULER, WRITER, AGENT, CHILDREN = "scheduler: loop", "scheduler: journal", "agent: loop", "children"
SIDES = (CALLER, IO, SCHEDULER, WRITER, AGENT, CHILDREN)
TURNS = {  # what makes a turn of each: for a caller a wait, for a child a claim
    CALLER: ("submitter/job.py Job._wait", "submitter/waiting.py Stream.wait"),
    IO: ("submitter/connection.py Connection._turn",),
    SCHEDULER: ("scheduler/daemon.py Daemon._turn",),
    WRITER: ("scheduler/journal/writer.py Writer._write_all",),
    AGENT: ("worker/agent.py Agent._turn",),
    CHILDREN: ("worker/running.py Runner._run",),
}
WRITERS = tuple(f"scheduler/journal/{name}.py" for name in ("blocks", "files", "head", "large", "store", "writer"))
OURS = f"{_cluster.HERE}{os.sep}"  # the functions of the benchmarks: the jobs, and what submits them

Function = tuple[str, str]  # `scheduler/daemon.py Daemon._turn`, and the C function that it calls, if it is that
Looked = dict[str, Counter[Function]]  # by side
Stretch = dict[str, dict[Function, float]]  # by side, calls a job


class Profile:
    """Counts calls by thread and function. Its source is also the sitecustomize of the processes that are started.

    Args:
        folder: where a process writes its counts on SIGUSR2; the first one begins the counting in its main thread.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.threads: dict[str, dict[tuple[int, str], int]] = {}  # by name
        self.codes: dict[int, Any] = {}
        self.main = self.counting("MainThread")
        threading.setprofile(self.begin)

    def counting(self, thread: str) -> Callable[[Any, str, Any], None]:
        """Make the profile function of a thread. C functions go by name: a bound method would hold its object."""
        counts = self.threads.setdefault(thread, {})
        codes = self.codes

        def count(frame: Any, event: str, arg: Any) -> None:
            code = frame.f_code
            if event == "call":
                key = (id(code), "")  # a code object's own hash takes long
            elif event == "c_call":
                key = (id(code), arg.__qualname__)
            else:
                return
            if key in counts:
                counts[key] += 1
            else:
                counts[key], codes[id(code)] = 1, code

        return count

    def begin(self, *_: object) -> None:
        """Count what a new thread calls."""
        sys.setprofile(self.counting(threading.current_thread().name))

    def look(self) -> dict[str, dict[str, int]]:
        """What was counted so far: thread → function, and what it calls of C, if it is that → calls."""
        found: dict[str, dict[str, int]] = {}
        for thread, counts in self.threads.copy().items():
            named = found[thread] = {}
            for (code, c), calls in counts.copy().items():
                name = f"{self.codes[code].co_filename} {self.codes[code].co_qualname}\t{c}"
                named[name] = named.get(name, 0) + calls
        return found

    def tell(self, *_: object) -> None:
        """Write it down."""
        sys.setprofile(None)
        target = Path(self.folder, str(os.getpid()))
        part = target.with_suffix(".part")
        part.write_text(json.dumps(self.look()), encoding="utf-8")
        part.replace(target)
        sys.setprofile(self.main)


SITE = f"""from __future__ import annotations
import json, os, signal, sys, threading
from pathlib import Path

{inspect.getsource(Profile)}
signal.signal(signal.SIGUSR2, Profile(os.path.dirname(__file__)).tell)
"""


class Bench:
    """A cluster whose calls are counted."""

    def __init__(self, stack: contextlib.ExitStack, profile: Profile, data: Path | None, trips: int) -> None:
        scheduler, url = stack.enter_context(_cluster.scheduler(data, options=("--busy-poll", "0")))
        agent = stack.enter_context(_cluster.worker(url, SLOTS))
        self._profile = profile
        self._scheduler, self._agent = scheduler.pid, psutil.Process(agent.pid)
        before = set(profile.threads)
        self.client = stack.enter_context(zmqtasks.Client(url))
        self._loops = set(profile.threads) - before
        self.rows = throughput.client_rows(self.client)
        for _ in range(SchedulerSettings().max_results // FILL + 1):
            throughput.checked(self.rows["submit_many"], FILL)
        self._look()  # they count from now on
        throughput.checked(self.lone, trips)
        self._itself: Looked = {}
        self._itself = self._during(lambda: throughput.checked(lambda _: (), 0))

    def calls(self, way: throughput.Run, jobs: int) -> Stretch:
        """What each side calls for each of so many jobs."""
        used = self._during(lambda: throughput.checked(way, jobs))
        return {side: {name: count / jobs for name, count in calls.items() if count} for side, calls in used.items()}

    def lone(self, jobs: int) -> list[int]:
        """Each job waits for the one before."""
        return [self.client.submit(add, i, 1).result() for i in range(jobs)]

    def _during(self, run: Callable[[], object]) -> Looked:
        """What is called meanwhile, but for what looking and comparing cost."""
        before = self._look()
        sys.setprofile(self._profile.main)
        try:
            run()
        finally:
            sys.setprofile(None)
        after = self._look()
        for side, calls in after.items():
            calls.subtract(before[side])
            calls.subtract(self._itself.get(side, {}))
        return after

    def _look(self) -> Looked:
        """All calls so far."""
        time.sleep(REST)
        found: Looked = {side: Counter() for side in SIDES}
        mine = self._profile.look()
        _add(found[CALLER], mine["MainThread"])
        for thread in self._loops:
            _add(found[IO], mine[thread])
        for calls in self._ask(self._scheduler).values():
            _add(found[SCHEDULER], calls)
        for function in [each for each in found[SCHEDULER] if each[0].startswith(WRITERS)]:
            found[WRITER][function] = found[SCHEDULER].pop(function)  # whichever thread writes
        for calls in self._ask(self._agent.pid).values():
            _add(found[AGENT], calls)
        for child in (child for server in self._agent.children() for child in server.children()):
            for calls in self._ask(child.pid).values():
                _add(found[CHILDREN], calls)
        return found

    def _ask(self, pid: int) -> dict[str, dict[str, int]]:
        """What a process has counted: thread → function → calls."""
        path = Path(self._profile.folder, str(pid))
        path.unlink(missing_ok=True)
        os.kill(pid, signal.SIGUSR2)
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"process {pid} did not tell its calls")
            time.sleep(0.002)
        told: dict[str, dict[str, int]] = json.loads(path.read_text("utf-8"))
        return told


def _add(found: Counter[Function], calls: Mapping[str, int]) -> None:
    """Add what a thread has counted, with shorter paths."""
    for name, count in calls.items():
        if not name.startswith(OURS):
            path, function = name.split(" ", 1)
            function, c = function.split("\t")
            last = path.rpartition("/zmqtasks/")[2] if "/zmqtasks/" in path else path.rpartition("/")[2]
            found[f"{last} {function}", c] += count


@contextlib.contextmanager
def profiled(folder: Path) -> Iterator[Profile]:
    """Count in every process that is started meanwhile."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
    try:
        yield Profile(str(site))
    finally:
        threading.setprofile(None)


def stretches(jobs: int, trips: int) -> Generator[dict[str, Stretch], None, None]:
    """One of each case, without end: the machine drifts, and so it drifts for all of them."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_cluster.folder())
        profile = stack.enter_context(profiled(folder))
        memory, journal = (Bench(stack, profile, data, trips) for data in (None, folder / "journal"))
        while True:
            yield {
                BATCH: memory.calls(memory.rows["submit_many"], jobs),
                LOOP: memory.calls(memory.rows["client.submit in a loop"], jobs),
                LONE: memory.calls(memory.lone, trips),
                JOURNALED: journal.calls(journal.lone, trips),
            }


class Row:
    """One side of one case. Its figure is that of a usual number of turns: now and then a stretch is far off the line.

    Attributes:
        turns: a job, the median of the stretches.
        a_turn: calls that one turn more costs: the line's slope, by the median of the slopes between stretches.
        total: calls a job at that many turns.
        calls: of the stretch that is most like that.
    """

    def __init__(self, case: str, side: str, stretches: Iterable[Mapping[Function, float]]) -> None:
        self.case, self.side, self.name = case, side, f"{case}: {side}"
        self._stretches = list(stretches)
        self._totals = [sum(calls.values()) for calls in self._stretches]
        self._turns = [sum(calls.get((name, ""), 0.0) for name in TURNS[side]) for calls in self._stretches]
        self.turns = statistics.median(self._turns)
        points = list(zip(self._turns, self._totals, strict=True))
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.combinations(points, 2)]
        far = (max(self._turns) - min(self._turns)) / 4
        self.a_turn = statistics.median([calls / turns for turns, calls in steps if abs(turns) > far] or [0.0])
        self.total = self.at(self.turns, self.a_turn)
        self.calls = self.like(self.turns, self.total)
        # Callers lead the loop: its thread looks at the clock now and then, the more often the longer a job takes.
        self.parked = side == IO and case in {LONE, JOURNALED}
        if case == LONE and self.total and not (self.turns or self.parked):
            raise RuntimeError(
                f"{side}: no call of {' or '.join(TURNS[side])}; what is a turn now? (TURNS in {__file__})"
            )

    def like(self, turns: float, total: float) -> Mapping[Function, float]:
        """The stretch that is most like these."""
        off = [abs(total - b) + self.a_turn * abs(turns - a) for a, b in zip(self._turns, self._totals, strict=True)]
        return self._stretches[off.index(min(off))]

    def at(self, turns: float, a_turn: float) -> float:
        """Calls a job, if it took so many turns. The lower quartile: jobs that are given twice add some."""
        here = zip(self._turns, self._totals, strict=True)
        return _report.quantile(sorted(total - (there - turns) * a_turn for there, total in here), 0.25)

    def now(self, recorded: Mapping[str, Any]) -> float:
        """Calls a job, at as many turns as in a recorded run."""
        return self.at(recorded["extra"]["turns"], recorded["extra"]["calls/turn"])

    def worse(self, recorded: Mapping[str, Any], functions: Mapping[str, float]) -> str:
        """What takes more than in a recorded run, as a line for people, or nothing."""
        if self.parked:
            return ""
        extra, now = recorded["extra"], self.now(recorded)
        if now > max(extra["calls"] + MORE, extra["calls"] * WORSE):
            like = named(self.like(extra["turns"], now))
            more = {name: calls - functions.get(name, 0.0) for name, calls in like.items()}
            most = ", ".join(f"{more[name]:+.2f} {name}" for name in sorted(more, key=lambda name: -more[name])[:5])
            return f"{self.name}: {now:.1f} calls a job, was {extra['calls']:.1f} ({most})"
        fewest, least = min(self._turns), extra["fewest"]
        if self.case in {LONE, JOURNALED} and fewest > least + A_TURN:
            return f"{self.name}: {fewest:.2f} turns a job, was {least:.2f}"
        return ""

    def shown(self, recorded: Mapping[str, Any] | None) -> _report.Row:
        """For the report."""
        extra: dict[str, float | str] = {"calls": self.total, "turns": self.turns}
        extra |= {"fewest": min(self._turns), "calls/turn": self.a_turn}
        if recorded:
            extra["× recorded"] = self.now(recorded) / recorded["extra"]["calls"]
        return _report.Row(self.name, "calls/job", self._totals, extra)


def parts(calls: Mapping[Function, float]) -> tuple[float, float]:
    """Calls of Python functions, and of C functions."""
    return sum(calls[each] for each in calls if not each[1]), sum(calls[each] for each in calls if each[1])


def named(calls: Mapping[Function, float]) -> dict[str, float]:
    """Calls by the name of what is called, whoever calls it."""
    found: dict[str, float] = {}
    for (function, c), count in calls.items():
        name = f"C {c}" if c else function
        found[name] = found.get(name, 0.0) + count
    return {name: round(found[name], 3) for name in sorted(found) if found[name] >= KEPT}


def table(rows: Iterable[Row]) -> rich.table.Table:
    """Sides and cases, Python functions + C functions."""
    made = rich.table.Table(title="calls a job, Python + C", box=rich.box.SIMPLE, title_justify="left")
    made.add_column("", no_wrap=True)
    for case in CASES:
        made.add_column(case, justify="right", no_wrap=True)
    found = {(row.case, row.side): parts(row.calls) for row in rows}
    for case in CASES:
        of_all = [both for key, both in found.items() if key[0] == case]
        found[case, "all"] = sum(python for python, _ in of_all), sum(c for _, c in of_all)
    for side in (*SIDES, "all"):
        cells = [found.get((case, side)) for case in CASES]
        made.add_row(side, *(f"{cell[0]:,.1f} + {cell[1]:,.1f}" if cell else "" for cell in cells))
    return made


def listed(row: Row) -> Iterator[str]:
    """Where most calls are made, as lines: calls of these functions, and of C functions in them."""
    functions: dict[str, list[float]] = {}
    for (function, c), count in row.calls.items():
        for name in (function, function.split(" ")[0]):
            functions.setdefault(name, [0.0, 0.0])[bool(c)] += count
    most = sorted(functions, key=lambda name: -sum(functions[name]))
    for what, inside in (("files", False), ("functions", True)):
        yield f"{row.name}: {what}"
        some = [name for name in most if (" " in name) is inside][:TOP]
        yield from (f"  {functions[name][0]:6.1f} + {functions[name][1]:5.1f}  {name}" for name in some)


def write_functions(rows: Iterable[Row], target: Path) -> None:
    """Add to the file which functions were called."""
    document = json.loads(target.read_text("utf-8"))
    document["functions"] = {row.name: named(row.calls) for row in rows}
    target.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> int:
    """Count; returns 1 if something is worse than what was recorded, 2 if that cannot be told."""
    parser = _report.arguments(__doc__, jobs=2_000, trips=50, repeat=20)
    parser.add_argument("--functions", action="store_true", help="list where most calls of a lone trip are made")
    parser.add_argument("--check", type=Path, metavar="FILE", help="a recorded run; worse by 10 %% is a failure")
    given = parser.parse_args()
    before = _report.facts()
    recorded = json.loads(given.check.read_text("utf-8")) if given.check else {}
    if recorded and _minor(recorded["facts"]) != _minor(before):
        print(f"{given.check} is of {_minor(recorded['facts'])}; {_minor(before)} counts otherwise", file=sys.stderr)
        return 2
    _cluster.importable()
    with contextlib.closing(stretches(given.jobs, given.trips)) as source:
        found = list(itertools.islice(source, given.repeat))
    rows = [Row(case, side, (one[case][side] for one in found)) for case in CASES for side in SIDES]
    rows = [row for row in rows if row.total]
    title = f"calls ({given.jobs:,} jobs or {given.trips} trips a stretch, {SLOTS} slots)"
    was = {row["name"]: row for row in recorded.get("rows", [])}
    _report.show(title, [row.shown(was.get(row.name)) for row in rows], before, given.json)
    if given.json:
        write_functions(rows, given.json)
    console = rich.console.Console(width=140, highlight=False)
    console.print(table(rows))
    for row in rows:
        if given.functions and row.case == LONE:
            console.print("\n".join(listed(row)), markup=False)
    told = [row.worse(was[row.name], recorded["functions"][row.name]) for row in rows if row.name in was]
    for line in filter(None, told):
        print(f"worse: {line}", file=sys.stderr)
    if recorded and not any(told):
        print(f"no side calls more than 10 % more than in {given.check} ({given.repeat} stretches)")
    return 1 if any(told) else 0


def _minor(facts: Mapping[str, Any]) -> str:
    """Which Python, as far as that changes what is counted."""
    return str(facts["python"]).rpartition(".")[0]


if __name__ == "__main__":
    raise SystemExit(main())
