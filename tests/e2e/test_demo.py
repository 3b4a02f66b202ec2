"""``make demo`` as a user sees it: real processes, real pictures, nothing left behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "smoother"))

import filters
import pictures

DEMO = Path(__file__).parents[2] / "examples" / "smoother" / "demo.py"
SIGMA = 2.0  # what smoother.py takes where none is given
MARK = "ZMQTASKS_TEST_MARK"


def processes_with(mark: str) -> list[str]:
    """The processes that inherited the mark, whoever started them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float, state: Callable[[], object]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, state()
        time.sleep(0.02)


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


def start_demo(out: Path, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DEMO), "--short", "--keep", str(out)],
        env={**os.environ, MARK: mark, "COLUMNS": "120"},
        cwd=out,  # not the example's own folder
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_makes_what_numpy_makes_and_leaves_no_process(tmp_path: Path, mark: str) -> None:
    demo = start_demo(tmp_path, mark)
    output, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, output
    assert "equal to plain numpy in every pixel (max difference 0)" in output
    for name in ("scheduler", "worker.a", "worker.b"):
        assert name in output
        assert (tmp_path / "logs" / f"{name}.log").exists()
    originals = pictures.bundled(short=True)
    assert len(originals) == len(pictures.BUNDLED_SHORT)
    for original in originals:
        window = pictures.padded(original.pixels, filters.halo(SIGMA))
        smoothed, edges = filters.smooth_edges(window, SIGMA)
        assert np.array_equal(pictures.load(tmp_path / f"{original.name}-smoothed.png"), smoothed)
        assert np.array_equal(pictures.load(tmp_path / f"{original.name}-edges.png"), edges)
    sheet = pictures.load(tmp_path / "contact-sheet.png")
    assert sheet.shape[0] > 500
    wait_until(lambda: not processes_with(mark), 5, lambda: processes_with(mark))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    demo = start_demo(tmp_path, mark)
    first_worker_log = tmp_path / "logs" / "worker.a.log"
    wait_until(
        lambda: first_worker_log.exists() or demo.poll() is not None,
        60,
        lambda: processes_with(mark),
    )
    demo.send_signal(number)
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, output
    wait_until(lambda: not processes_with(mark), 5, lambda: processes_with(mark))


def test_a_daemon_that_dies_is_shown_with_its_log(tmp_path: Path, mark: str) -> None:
    demo = start_demo(tmp_path, mark)
    log = tmp_path / "logs" / "scheduler.log"
    wait_until(lambda: log.exists() or demo.poll() is not None, 60, lambda: processes_with(mark))

    def scheduler() -> list[str]:
        return [line for line in processes_with(mark) if " -m zmqtasks scheduler" in line]

    wait_until(lambda: bool(scheduler()) or demo.poll() is not None, 60, lambda: processes_with(mark))
    os.kill(int(scheduler()[0].split()[0]), signal.SIGKILL)
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 1, output
    assert "the demo failed: scheduler ended early with exit code -9" in output
    wait_until(lambda: not processes_with(mark), 5, lambda: processes_with(mark))
