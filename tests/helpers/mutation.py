"""Mutation testing: patch one line of production code, run histories until a law breaks, record which seed did it."""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import resource
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_PREFIX = "zmqtasks."
_ROOT = Path(__file__).parents[2]
_MEMORY = 4 * 1024**3  # bytes of address space
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


@dataclass(slots=True, frozen=True)
class Table:
    """Mutants and the histories that must kill them.

    Attributes:
        module: the table's own module, which runs `main`.
        history: the module whose `run(seed)` raises an AssertionError that begins with the law's name.
        mutants: all of them.
    """

    module: str
    history: str
    mutants: tuple[Mutant, ...]

    def kill(self, mutant: Mutant, seeds: Sequence[int], timeout: float) -> tuple[int, str] | None:
        """The first of these seeds that kills it, and the law's name; None if it lives."""
        index = self.mutants.index(mutant)
        command = [sys.executable, "-m", self.module, "--run", str(index), *map(str, seeds)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode == LIVES:
            return None
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        seed, _, rest = done.stdout.strip().splitlines()[-1].partition(" ")
        return int(seed), rest

    def _die(self, mutant: Mutant, seeds: Sequence[int]) -> int:
        """In a fresh process: run seeds until one kills; prints ``seed law message``."""
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))  # some would fill the machine before a law speaks
        finder = _Finder(mutant)
        sys.meta_path.insert(0, finder)
        history = importlib.import_module(self.history)
        assert finder.used, "the mutant's module was loaded before it could be patched"
        logging.disable()
        for seed in seeds:
            try:
                history.run(seed)
            except AssertionError as error:
                law = str(error).partition(":")[0]
                print(f"{seed} {law}: {str(error)[:200]}")
                return 0
            except Exception as error:  # noqa: BLE001  (what falls over is dead as well)
                print(f"{seed} {type(error).__name__}: {str(error)[:200]!r}")
                return 0
        return LIVES

    def _record(self, mutant: Mutant, seed: int, law: str) -> None:
        """Put a seed and a law into the table's file."""
        file = _ROOT / (self.module.replace(".", "/") + ".py")
        head, quote, rest = file.read_text(encoding="utf-8").partition(f'"{mutant.name}"')
        old = f'"{mutant.law}", {mutant.seed}),'
        file.write_text(head + quote + rest.replace(old, f'"{law}", {seed}),', 1), encoding="utf-8")

    def _try(self, mutant: Mutant, seeds: int) -> tuple[int, str] | None:
        try:
            return self.kill(mutant, [mutant.seed, *range(seeds)], 1200)
        except RuntimeError as error:
            return -1, str(error).strip().splitlines()[-1]

    def main(self) -> int:
        """Returns 1 if a mutant lives."""
        parser = argparse.ArgumentParser()
        parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
        parser.add_argument("--seeds", type=int, default=500, help="how many seeds are tried")
        parser.add_argument("--jobs", type=int, default=2, help="processes")
        parser.add_argument("--only", type=int, nargs="+", help="some mutants by their index")
        parser.add_argument("--record", action="store_true", help="write the seeds and laws found into the table")
        parser.add_argument("numbers", nargs="*", type=int, help=argparse.SUPPRESS)
        options = parser.parse_args()
        if options.run is not None:
            return self._die(self.mutants[options.run], options.numbers)
        living = 0
        results: list[tuple[Mutant, int, str]] = []
        chosen = [mutant for index, mutant in enumerate(self.mutants) if not options.only or index in options.only]
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, found in zip(chosen, pool.map(lambda m: self._try(m, options.seeds), chosen), strict=True):
                living += found is None
                print(f"{self.mutants.index(mutant):3} {mutant.name}: {found or 'LIVES'}", flush=True)
                if found is not None and found[0] >= 0:
                    results.append((mutant, found[0], found[1].partition(":")[0]))
        for result in results if options.record else ():  # not before: the processes above read this file
            self._record(*result)
        return 1 if living else 0
