"""What the scripts measure: a LocalCluster for shipped functions, a scheduler and a worker as daemons for the app."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import zmqtasks

HERE = Path(__file__).resolve().parent
START = 20.0  # seconds for the scheduler's endpoint to appear
STOP = 10.0  # seconds for a daemon to end after SIGTERM


def importable() -> None:
    """Let every process that is started from here import this folder's modules."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))


@contextlib.contextmanager
def local_client(slots: int) -> Iterator[zmqtasks.Client]:
    """Yield a client of a private cluster."""
    with zmqtasks.LocalCluster(workers=slots) as cluster, cluster.client() as client:
        yield client


@contextlib.contextmanager
def daemons(slots: int) -> Iterator[str]:
    """Start `zmqtasks scheduler` and `zmqtasks worker -A _tasks`, yield the broker's URL, stop both."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = f"ipc://{folder}/scheduler"
        log = folder / "log"
        _start(stack, log, "scheduler", "--bind", broker, "--in-memory")
        deadline = time.monotonic() + START
        while not (folder / "scheduler").exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the scheduler did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        _start(stack, log, "worker", "-A", "_tasks", "--broker", broker, "-c", str(slots))
        yield broker


def _start(stack: contextlib.ExitStack, log: Path, *arguments: str) -> None:
    """Start a command of zmqtasks in the background; it is stopped when the stack unwinds, in reverse order."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "zmqtasks", *arguments],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
