"""Defects that the laws must catch: each a patch of one production line, with the law that kills it.

`python -m tests.sim.mutants` looks for the first seed that kills each and prints the table below anew; the tests run
each on its recorded seed. A mutant that no seed kills means that the simulation does not see.
"""

# ruff: noqa: E501  (quoted production lines are as long as they are)

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_PREFIX = "zmqtasks."
LIVES = 3  # exit status: none of the seeds killed it


@dataclass(slots=True, frozen=True)
class Mutant:
    """One defect.

    Attributes:
        name: what is wrong.
        module: below zmqtasks.
        old: a text that stands exactly once in that module.
        new: what it becomes.
        law: the first word of the message that it dies of.
        seed: a history in which it does.
    """

    name: str
    module: str
    old: str
    new: str
    law: str
    seed: int


_CORE = "scheduler.core."

MUTANTS = (
    Mutant("accept before the record is durable", _CORE + "state",
           "fx.sends.append(Send(submitter.route, message, self.seq))",
           "fx.sends.append(Send(submitter.route, message, 0))", "durable", 0),
    Mutant("result before the record is durable", _CORE + "delivery",
           "bulk=lane.bulk), state.seq, lane.bulk)", "bulk=lane.bulk), 0, lane.bulk)", "durable", 0),
    Mutant("DoneAck before the record is durable", _CORE + "workers",
           "DoneAck(spans(sorted(set(numbers)))), state.seq)", "DoneAck(spans(sorted(set(numbers)))), 0)", "durable", 0),
    Mutant("a hello does not take back lost assignments", _CORE + "workers",
           "if attempts.get(number) != job.attempt]", "if False]", "liveness", 15),
    Mutant("adoption does not compare attempts", _CORE + "adoption",
           "    if job.attempt != held.attempt and not (untouched and held.attempt <= state.first_attempt):\n        return False\n",
           "", "fence", 30),
    Mutant("an attempt of an earlier life is adopted after one of this life", _CORE + "adoption",
           "untouched = not job.number", "untouched = not job.attempt", "fence", 163),
    Mutant("adoption takes no credit", _CORE + "adoption",
           "    worker.credit -= 1\n    state.moves", "    state.moves", "credit", 42),
    Mutant("credit is not returned", _CORE + "lifecycle",
           "    worker.credit += 1\n    worker.load", "    worker.load", "credit", 0),
    Mutant("a lost worker's jobs are forgotten", _CORE + "workers",
           "lifecycle.lose(state, worker,", "lifecycle.remove_worker(state, worker, fx) or (lambda *a: None)(", "place", 7),
    Mutant("a repeated Submit is taken as new", _CORE + "submitters",
           "known.count == count and known.digest == digest", "False", "result", 0),
    Mutant("an outcome leaves its job leased", _CORE + "outcomes", "job = held.pop(number, None)",
           "job = held.get(number)", "credit", 0),
    Mutant("a crash is not charged", _CORE + "lifecycle", "    job.crashes += 1\n", "", "budget", 0),
    Mutant("a retry is not counted", _CORE + "lifecycle", "    job.retries += 1\n", "", "retries", 6),
    Mutant("an acknowledgement does not open the window", _CORE + "submitters",
           "        lane.flying -= len(jobs)\n", "", "liveness", 2),
    Mutant("the submitter does not ask after a hello", "submitter.core",
           "fx.sends.append(wire.Ask(prefix, part))", "pass", "liveness", 2),
    Mutant("loaded bytes wake nobody", _CORE + "core", "        job = state.waiting.pop(number, None)\n",
           "        job = None\n", "liveness", 1),
    Mutant("a job that was cancelled while it was loaded stays behind", _CORE + "lifecycle",
           "                state.waiting.pop(args.number, None)\n", "                pass\n", "rest", 35),
    Mutant("the worker does not send outcomes again", "worker.core",
           "self._send_outcomes(list(work.outcomes.runs.values()), list(work.outcomes.ends.values()), fx)", "pass",
           "liveness", 2),
    Mutant("the worker takes a repeated Assign as new", "worker.workload",
           "skip = min(count, max(0, self.ledger.seen + 1 - number))", "skip = 0", "worker", 0),
    Mutant("the worker forgets outcomes when it sends them", "worker.ledger", "if state <= ENDED", "if state < ENDED",
           "budget", 101),
    Mutant("the worker keeps what it was told to drop", "worker.core",
           "fx.reclaim |= work.drop(message.dropped)", "pass", "drop", 181),
    Mutant("a dead child's job counts as never started", "worker.workload",
           "self._victim(number, pushed.target.name, evidence, ours=ours, company=company)", "pass", "worker", 0),
    Mutant("the submitter does not submit again after a hello", "submitter.core",
           "            self._send(parcel, fx)\n        for prefix", "            pass\n        for prefix", "liveness", 8),
    Mutant("the submitter takes a repeated result as new", "submitter.core",
           "            handles[counter - first] = None\n", "", "submitter", 0),
    Mutant("the submitter never acknowledges results", "submitter.core",
           "                fx.sends.append(wire.ResultAck(self._delivery[bulk], bulk))\n", "", "liveness", 1),
    Mutant("results of the bulk connection are acknowledged as others", "submitter.core",
           "wire.ResultAck(self._delivery[bulk], bulk)", "wire.ResultAck(self._delivery[bulk])", "liveness", 9),
    Mutant("a late hello of an old connection is taken", "scheduler.core.submitters",
           "hello.connection < submitter.connection", "False", "liveness", 101),
    Mutant("a worker does not count its connections", "worker.core",
           "        self._connection += 1\n", "", "taken", 433),
    Mutant("a repeated hello voids what is in flight", "scheduler.core.core",
           '            self.state.count("repeated_hellos")\n        else:\n            verb(self.state, worker, message, now, fx)',
           '            workers.on_hello(self.state, route, message, now, fx, "")\n        else:\n            verb(self.state, worker, message, now, fx)', "taken", 16),
    Mutant("watchers are forgotten", "scheduler.core.lifecycle",
           "        post(state, watcher, job)\n", "        pass\n", "liveness", 0),
    Mutant("another session's acknowledgement lets an outcome go", "scheduler.core.submitters",
           "        if jobs[0].submission.source.owner is submitter:", "        if True:", "result", 18),
    Mutant("a job whose outcome expired before it was accepted again is waited for", "submitter.core",
           "if message.expired and parcel.stage == SENT:", "if False:", "liveness", 15),
    Mutant("a job overtakes the function that it needs", "submitter.core",
           "elif carrier is not None and (carrier.late or large):", "elif False:", "hello", 47),
    Mutant("a small result acknowledges the large one that it overtook", "submitter.core",
           "        if not message.bulk:\n            self._delivery[0]", "        if True:\n            self._delivery[message.bulk]", "liveness", 16),
    Mutant("an outcome is on its way to somebody who is away", _CORE + "lifecycle",
           "            if owner is not None and owner.route is None:\n", "            if False:\n", "out", 85),
    Mutant("strays are not kept", _CORE + "strays", "    key = (held.prefix, held.counter)\n",
           "    return False\n    key = (held.prefix, held.counter)\n", "twice", 126),
    Mutant("strays are not adopted", _CORE + "submitters", "    if state.strays:\n", "    if False:\n", "stray", 2),
    Mutant("the outcome of a stray is lost in its adoption", _CORE + "adoption",
           "        if done.runs or done.ends:\n", "        if False:\n", "liveness", 2),
    Mutant("a stray does not give its credit back", _CORE + "lifecycle",
           "    worker.credit += 1\n    seat(state, worker)\n", "    seat(state, worker)\n", "credit", 2),
    Mutant("a restarted scheduler gives out the same attempts again", _CORE + "state",
           "self.first_attempt = self.attempts = (epoch << 32) // 1000", "self.first_attempt = self.attempts = 0", "twice", 126),
    Mutant("a worker drops bytes that come before they are announced", "worker.late",
           "            self._early[number] = data\n", "", "liveness", 16),
    Mutant("a worker waits for bytes that its old connection was to bring", "worker.core",
           "        work.give_up_late()\n", "", "liveness", 42),
    Mutant("a worker runs what it was disowned of", "worker.core",
           "fx.reclaim |= self.work.drop(message.numbers)", "pass", "rest", 10),
    Mutant("the scheduler's own silence is taken for that of its workers", _CORE + "core",
           "            worker.heard += seconds\n", "", "lease", 37),
    Mutant("leases live by the wall clock", _CORE + "core",
           "                peer.heard = now.mono\n", "                peer.heard = now.wall - 1_750_000_000.0\n", "hello", 1),
    Mutant("results expire by the wall clock", _CORE + "delivery",
           "while finished and finished[0][0] <= now.mono:",
           "while finished and finished[0][0] <= now.wall - 1_750_000_000.0:", "result", 22),
    Mutant("heartbeats leave out kept outcomes", "worker.ledger",
           "            if state > ENDED:\n", "            if state >= ENDED:\n", "rest", 2),
    Mutant("a draining worker gets new work", _CORE + "lifecycle",
           "if not worker.draining and worker.quarantine is None:", "if worker.quarantine is None:", "drain", 7),
    Mutant("a cancel that nobody answered is not repeated", "submitter.core",
           "        fx.sends.extend(self._cancels.again())\n", "        pass\n", "cancel", 8),
    Mutant("progress outlives its job", _CORE + "lifecycle",
           "    state.progress.pop(job, None)\n    for", "    for", "progress", 0),
    Mutant("the submitter gives up what a restarted scheduler has forgotten", "submitter.core",
           "if parcel.args is not None and not message.expired:", "if False:", "result", 2),
)  # fmt: skip


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the mutant's module from its patched source, whoever imports it."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = _PREFIX + mutant.module
        self.used = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        self.origin = spec.origin
        return importlib.util.spec_from_loader(fullname, self, origin=spec.origin)

    def exec_module(self, module: ModuleType) -> None:
        self.used = True
        source = Path(self.origin).read_text(encoding="utf-8")
        exec(compile(patched(self.mutant, source), self.origin, "exec"), module.__dict__)


def patched(mutant: Mutant, source: str) -> str:
    """The module's source with the defect in it.

    Raises:
        LookupError: the line has changed: the mutant must follow it.
    """
    if source.count(mutant.old) != 1:
        message = f"mutant {mutant.name!r}: its text stands {source.count(mutant.old)} times in {mutant.module}"
        raise LookupError(message)
    return source.replace(mutant.old, mutant.new)


def _die(mutant: Mutant, seeds: Sequence[int]) -> int:
    """In a fresh process: run seeds until one kills; prints ``seed law message``."""
    finder = _Finder(mutant)
    sys.meta_path.insert(0, finder)
    history = importlib.import_module("tests.sim.history")
    assert finder.used, "the mutant's module was loaded before it could be patched"
    for seed in seeds:
        try:
            history.run(seed)
        except AssertionError as error:
            law = str(error).partition(":")[0]
            print(f"{seed} {law}: {str(error)[:200]}")
            return 0
        except Exception as error:  # noqa: BLE001  (a core that falls over is dead as well)
            print(f"{seed} {type(error).__name__}: {error}")
            return 0
    return LIVES


def kill(mutant: Mutant, seeds: Sequence[int], timeout: float) -> tuple[int, str] | None:
    """The first of these seeds that kills it, and the law's name; None if it lives."""
    index = MUTANTS.index(mutant)
    command = [sys.executable, "-m", "tests.sim.mutants", "--run", str(index), *map(str, seeds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode == LIVES:
        return None
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    seed, _, rest = done.stdout.strip().splitlines()[-1].partition(" ")
    return int(seed), rest


def _record(mutant: Mutant, seed: int, law: str) -> None:
    """Put a seed and a law into the table above."""
    file = Path(__file__)
    head, quote, rest = file.read_text(encoding="utf-8").partition(f'"{mutant.name}"')
    old = f'"{mutant.law}", {mutant.seed}),'
    file.write_text(head + quote + rest.replace(old, f'"{law}", {seed}),', 1), encoding="utf-8")


def main() -> int:
    """Returns 1 if a mutant lives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds are tried")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", type=int, help="one mutant by its index")
    parser.add_argument("--record", action="store_true", help="write the seeds and laws found into this file")
    parser.add_argument("numbers", nargs="*", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        return _die(MUTANTS[options.run], options.numbers)
    living = 0
    results: list[tuple[Mutant, int, str]] = []
    chosen = [mutant for index, mutant in enumerate(MUTANTS) if options.only in (None, index)]
    with ThreadPoolExecutor(options.jobs) as pool:
        for mutant, found in zip(chosen, pool.map(lambda m: _try(m, options.seeds), chosen), strict=True):
            living += found is None
            print(f"{MUTANTS.index(mutant):3} {mutant.name}: {found or 'LIVES'}", flush=True)
            if found is not None and found[0] >= 0:
                results.append((mutant, found[0], found[1].partition(":")[0]))
    for result in results if options.record else ():  # not before: the processes above read this file
        _record(*result)
    return 1 if living else 0


def _try(mutant: Mutant, seeds: int) -> tuple[int, str] | None:
    try:
        return kill(mutant, range(seeds), 1200)
    except RuntimeError as error:
        return -1, str(error).strip().splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
