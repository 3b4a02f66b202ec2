"""What the scripts measure: a LocalCluster for shipped functions, a scheduler and a worker as daemons for the app."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import zmqtasks

HERE = Path(__file__).resolve().parent
START = 20.0  # seconds for the scheduler's endpoint to appear
STOP = 10.0  # seconds for a daemon to end after SIGTERM
ZMQTASKS = ("-m", "zmqtasks")
DISK = Path("/var/tmp")  # noqa: S108 - on a disk, where /tmp often is memory


def importable() -> None:
    """Let every process that is started from here import this folder's modules."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))


@contextlib.contextmanager
def local_client(slots: int) -> Iterator[zmqtasks.Client]:
    """Yield a client of a private cluster."""
    with zmqtasks.LocalCluster(workers=slots) as cluster, cluster.client() as client:
        yield client


@contextlib.contextmanager
def folder(where: Path = DISK) -> Iterator[Path]:
    """Yield a folder on a disk, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="zmqtasks-bench-", dir=where))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def daemons(slots: int) -> Iterator[str]:
    """Start `zmqtasks scheduler` and `zmqtasks worker -A _tasks`, yield the broker's URL, stop both."""
    with scheduler() as (_, broker), worker(broker, slots):
        yield broker


@contextlib.contextmanager
def scheduler(
    data: Path | None = None, *program: str, options: Sequence[str] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start `zmqtasks scheduler`, yield its process and URL, stop it.

    Args:
        data: of its journal; None: it has none.
        program: another program than `-m zmqtasks` that takes the same arguments.
        options: more of these.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        broker = f"ipc://{folder}/scheduler"
        log = folder / "log"
        kept = ("--in-memory",) if data is None else ("--data", str(data))
        process = _start(stack, log, "scheduler", "--bind", broker, *kept, *options, program=program or ZMQTASKS)
        deadline = time.monotonic() + START
        while not (folder / "scheduler").exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the scheduler did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield process, broker


@contextlib.contextmanager
def worker(broker: str, slots: int = 2, queues: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Start `zmqtasks worker -A _tasks` beside a scheduler of `scheduler()`, yield its process, stop it."""
    with contextlib.ExitStack() as stack:
        log = Path(broker.removeprefix("ipc://")).with_name("log")
        chosen = ("-Q", ",".join(queues)) if queues else ()
        yield _start(stack, log, "worker", "-A", "_tasks", "--broker", broker, "-c", str(slots), *chosen)


def _start(
    stack: contextlib.ExitStack, log: Path, *arguments: str, program: Sequence[str] = ZMQTASKS
) -> subprocess.Popen[bytes]:
    """Start a command of zmqtasks in the background; it is stopped when the stack unwinds, in reverse order."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
