"""Real processes of a test: schedulers and workers started by the command line, what they leave, what they say."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import psutil

BOUND = 60.0  # seconds until a wait gives up; nothing here should take a tenth of it
GONE_WITHIN = 2.0  # a process that lost its owner has one second; the machine may be busy


def until(condition: Callable[[], Any], what: str, seconds: float = BOUND) -> None:
    """Poll until it holds; the time-out says what did not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def lives(process: psutil.Process) -> bool:
    """Whether it is neither gone nor a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def until_gone(processes: Iterable[psutil.Process], seconds: float = GONE_WITHIN) -> None:
    """Until none of these lives; the time-out names those that do."""
    end = time.monotonic() + seconds
    while left := [p for p in processes if lives(p)]:
        assert time.monotonic() < end, f"after {seconds} s there still are {[(p.pid, p.cmdline()) for p in left]}"
        time.sleep(0.01)


def family(*pids: int) -> list[psutil.Process]:
    """These processes and all below them, the oldest first."""
    found = [psutil.Process(pid) for pid in pids]
    for process in list(found):
        found += process.children(recursive=True)
    return sorted(set(found), key=lambda p: (p.create_time(), p.pid))


def executions(ledger: Path) -> Counter[int]:
    """How often each number was run, by a ledger whose lines begin with the number."""
    return Counter(int(line.split()[0]) for line in ledger.read_text().splitlines())


class Site:
    """A folder with a short path, and the daemons that a test starts there; all are gone after `close`.

    Attributes:
        folder: for files.
        url: where its scheduler listens.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zq-"))
        self.url = f"ipc://{self.folder}/s"
        self._started: list[subprocess.Popen[str]] = []
        self._count = 0

    def scheduler(self, **settings: float) -> subprocess.Popen[str]:
        """A scheduler that listens at `url`. `settings`: of SchedulerSettings."""
        code = (
            "import sys\n"
            "from zmqtasks import logs\n"
            "from zmqtasks.config import SchedulerSettings\n"
            "from zmqtasks.scheduler.daemon import SchedulerOptions, run_scheduler\n"
            "logs.setup('info')\n"
            f"options = SchedulerOptions(bind=({self.url!r},), settings=SchedulerSettings(**{settings!r}))\n"
            "sys.exit(run_scheduler(options))\n"
        )
        return self.start("scheduler", ["-c", code])

    def worker(self, *options: str, **how: Any) -> subprocess.Popen[str]:
        """A worker, ready. `options`: of the command line."""
        return self.start("worker", ["-m", "zmqtasks", "worker", "--broker", self.url, *options], **how)

    def start(
        self, role: str, arguments: list[str], *, wait: bool = True, extra: Mapping[str, str] | None = None, **how: Any
    ) -> subprocess.Popen[str]:
        """A Python process with its stderr in a file (see `said`), ready if it is a daemon.

        `extra`: of its environment.
        """
        self._count += 1
        with (self.folder / f"{self._count}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path.cwd()), "TMPDIR": str(self.folder), **(extra or {})},
                **how,
            )
        process.log = Path(log.name)  # type: ignore[attr-defined]
        self._started.append(process)
        if wait:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert " ready" in line, f"the {role} said {line!r} and on stderr:\n{self.said(process)}"
        return process

    @staticmethod
    def said(process: subprocess.Popen[str]) -> str:
        """Its stderr so far."""
        text: str = process.log.read_text()  # type: ignore[attr-defined]
        return text

    def close(self) -> None:
        """Kill what is left, remove the folder."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        shutil.rmtree(self.folder)
