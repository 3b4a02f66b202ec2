"""A scheduler's disk fails under it: strace injects what the kernel would say. What was accepted is kept."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zmqtasks
from tests.e2e.test_journal import kill, note, start, status, wait_for
from tests.helpers.processes import BOUND, Site, executions, until
from zmqtasks import Client

REQUIRED = "ZMQTASKS_TEST_HOSTS"  # "required": CI, where nothing is skipped


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    """Skip where there is none, or where processes may not be traced."""
    why = "strace is not installed"
    if shutil.which("strace"):
        done = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        why = f"strace may not trace here: {done.stderr.strip()}"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


def _tracers(pid: int) -> set[str]:
    """Who traces the threads of a process."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        found |= {line.split()[1] for line in task.read_text().splitlines() if line.startswith("TracerPid")}
    return found


@contextmanager
def fault(process: "subprocess.Popen[str]", calls: str, what: str) -> Iterator[None]:
    """As long as this lasts, these system calls of a running process fail so."""
    arguments = ["-f", "-q", "-o", os.devnull, "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]
    tracer = subprocess.Popen(["strace", *arguments, "-p", str(process.pid)], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _tracers(process.pid) == {str(tracer.pid)}, "strace is there")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(BOUND)


def said_one_line(site: Site, scheduler: "subprocess.Popen[str]") -> str:
    """What a scheduler that ended said at last: for people, not for us."""
    said = site.said(scheduler)
    assert "Traceback" not in said
    return said.strip().splitlines()[-1]


@pytest.mark.parametrize("calls", ["fsync,fdatasync", "pwrite64"], ids=["sync", "write"])
def test_an_input_output_error_ends_the_scheduler_and_loses_nothing(site: Site, ledger: Path, calls: str) -> None:
    scheduler = start(site)
    with Client(site.url) as client:
        kept = client.submit_many(note, [((str(ledger), n), {}) for n in range(100)])
        client.flush(BOUND)
        with fault(scheduler, calls, "error=EIO"):
            late = client.submit(note, str(ledger), 100)
            assert scheduler.wait(BOUND) == 2
        assert "Input/output error" in said_one_line(site, scheduler)
        with pytest.raises(zmqtasks.JobTimeout):
            late.accepted(timeout=0.1)
        start(site)
        assert status(site)["jobs"]["ready"] >= 100
        site.worker("-c", "2")
        assert client.gather([*kept, late], timeout=BOUND) == [n * 7 + 1 for n in range(101)]
    assert executions(ledger) == dict.fromkeys(range(101), 1)


@pytest.mark.parametrize("error", ["EROFS", "ENOSPC", "EDQUOT"])
def test_a_disk_that_takes_nothing_for_a_while_stops_only_new_jobs(
    site: Site, ledger: Path, tmp_path: Path, error: str
) -> None:
    scheduler = start(site)
    site.worker("-c", "1")
    sign = tmp_path / "go on"
    with Client(site.url) as client:
        kept = client.options(queue="later").submit_many(note, [((str(ledger), n), {}) for n in range(50)])
        running = client.submit(wait_for, str(ledger), 1000, str(sign))
        client.flush(BOUND)
        until(lambda: executions(ledger), "it runs")
        with fault(scheduler, "pwrite64", f"error={error}"):
            stuck = client.submit(note, str(ledger), 50)
            until(lambda: any("cannot be written now" in text for text in status(site)["warnings"]), "it is told")
            with pytest.raises(zmqtasks.JournalUnavailable, match=os.strerror(getattr(errno, error))):
                client.submit(note, str(ledger), 2000).accepted(timeout=BOUND)
            sign.touch()
            with pytest.raises(zmqtasks.JobTimeout):
                stuck.accepted(timeout=0.1)
        assert running.result(timeout=BOUND) == 1000  # no restart: the same process goes on
        assert stuck.result(timeout=BOUND) == 351
        assert scheduler.poll() is None
        kill(scheduler)
        start(site)
        site.worker("-c", "1", "-Q", "later")
        assert client.gather(kept, timeout=BOUND) == [n * 7 + 1 for n in range(50)]
    assert executions(ledger) == {1000: 1, **dict.fromkeys(range(51), 1)}


def test_a_disk_that_stands_still_stops_only_what_has_to_wait_for_it(site: Site, ledger: Path, tmp_path: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "2")
    sign = tmp_path / "go on"
    with Client(site.url) as client, Client(site.url) as other:
        running = client.submit(wait_for, str(ledger), 1000, str(sign))
        client.flush(BOUND)
        with fault(scheduler, "fsync,fdatasync", "delay_enter=600s"):
            waits = client.submit_many(note, [((str(ledger), n), {}) for n in range(300)])
            quick = other.options(durability="memory").submit_many(note, [((str(ledger), 500), {})] * 5)
            assert other.gather(quick, timeout=BOUND) == [3501] * 5
            assert status(site)["workers"]
            sign.touch()
            until(lambda: len(executions(ledger)) == 302, "jobs run meanwhile")
            with pytest.raises(zmqtasks.JobTimeout):
                waits[0].accepted(timeout=0.1)
            assert not any(job.done() for job in [running, *waits])
        assert running.result(timeout=BOUND) == 1000
        assert client.gather(waits, timeout=BOUND) == [n * 7 + 1 for n in range(300)]
    assert executions(ledger) == {1000: 1, 500: 5, **dict.fromkeys(range(300), 1)}


def test_a_journal_that_cannot_be_read_is_refused_and_left_as_it_is(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    with Client(site.url) as client:
        jobs = client.submit_many(note, [((str(ledger), n), {}) for n in range(20)])
        client.flush(BOUND)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(BOUND) == 0
        data = site.folder / "data"
        rules = ["-P", str(data / "journal.db"), "-e", "trace=pread64", "-e", "inject=pread64:error=EIO"]
        refused = subprocess.run(
            ["strace", "-f", "-q", "-o", os.devnull, *rules, sys.executable, "-m", "zmqtasks", "scheduler",
             "--bind", site.url, "--data", str(data)],
            capture_output=True, text=True, timeout=BOUND, check=False,
        )  # fmt: skip
        assert refused.returncode == 2, refused.stderr
        assert "Traceback" not in refused.stderr
        assert str(data) in refused.stderr
        start(site)
        site.worker("-c", "2")
        assert client.gather(jobs, timeout=BOUND) == [n * 7 + 1 for n in range(20)]
