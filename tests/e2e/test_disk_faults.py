"""A scheduler's disk fails under it: strace injects what the kernel would say. What was accepted is kept."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import zmqtasks
from tests.e2e.test_journal import kill, note, start, status, wait_for
from tests.helpers.processes import BOUND, Site, executions, until
from zmqtasks import Client
from zmqtasks.scheduler.journal.blocks import split
from zmqtasks.scheduler.journal.repair import examine

LARGE = "x" * 300_000  # a file of its own
REQUIRED = "ZMQTASKS_TEST_HOSTS"  # "required": CI, where nothing is skipped


def measure(ledger: str, number: int, what: str) -> int:
    """One line in the ledger, then how much it was given."""
    note(ledger, number)
    return len(what)


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


def _tracers(pid: int) -> set[str]:
    """Who traces the threads of a process."""
    found = set()
    for task in Path(f"/proc/{pid}/task").glob("*/status"):
        found |= {line.split()[1] for line in task.read_text().splitlines() if line.startswith("TracerPid")}
    return found


def _rules(calls: str, what: str, *files: Path) -> list[str]:
    """Options of strace: these system calls fail so, if they are about one of these files."""
    paths = [word for file in files for word in ("-P", str(file))]
    return ["-f", "-q", *paths, "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"]


@contextmanager
def fault(process: "subprocess.Popen[str]", calls: str, what: str, *files: Path) -> Iterator[None]:
    """As long as this lasts, these system calls of a running process fail so.

    strace that goes in the middle of such a call leaves it with ENOSYS, so it goes right after one.
    """
    with tempfile.NamedTemporaryFile("r") as seen:
        arguments = ["-o", seen.name, *_rules(calls, what, *files), "-p", str(process.pid)]
        tracer = subprocess.Popen(["strace", *arguments], stderr=subprocess.DEVNULL)
        try:
            until(lambda: _tracers(process.pid) == {str(tracer.pid)}, "strace is there")
            yield
            if process.poll() is None and "error=" in what:
                seen.read()
                until(lambda: "(INJECTED)" in seen.read(), f"{calls} is tried again")
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(BOUND)


def accepted(site: Site, ledger: Path, count: int) -> list[str]:
    """Jobs that nobody could submit again: ids of accepted ones, whose client is gone."""
    with Client(site.url) as client:
        jobs = client.submit_many(note, [((str(ledger), n), {}) for n in range(count)])
        client.flush(BOUND)
        return [job.id for job in jobs]


def assert_all_there(site: Site, ledger: Path, ids: list[str]) -> None:
    """The scheduler has all that was accepted: each job runs once."""
    with Client(site.url) as client:
        assert [client.job(job_id).result(timeout=BOUND) for job_id in ids] == [n * 7 + 1 for n in range(len(ids))]
    ran = executions(ledger)
    assert {n: ran[n] for n in range(len(ids))} == dict.fromkeys(range(len(ids)), 1)


def assert_ended_by(site: Site, scheduler: "subprocess.Popen[str]", error: str) -> None:
    """It ended at once, and its last line, for people, says why."""
    assert scheduler.wait(BOUND) == 2
    *before, last = site.said(scheduler).splitlines()
    assert last.startswith("zmqtasks: the journal cannot be written any more")
    assert error in last
    assert not any(line.startswith(("Traceback", "Exception", " ", "zmqtasks:")) for line in before), before


# ---------------------------------------------------------------------------------------------- what ends it


@pytest.mark.parametrize(
    ("calls", "more"),
    [("fdatasync", ""), ("fsync,fdatasync", LARGE), ("pwrite64", "")],
    ids=["sync", "sync of a large payload", "write"],
)
def test_an_input_output_error_ends_the_scheduler_and_loses_nothing(
    site: Site, ledger: Path, calls: str, more: str
) -> None:
    scheduler = start(site)
    ids = accepted(site, ledger, 100)
    with Client(site.url) as client:
        with fault(scheduler, calls, "error=EIO"):
            late = client.submit(measure, str(ledger), 100, more)
            assert_ended_by(site, scheduler, "Input/output error")
        with pytest.raises(zmqtasks.JobTimeout):
            late.accepted(timeout=0.1)
        start(site)
        site.worker("-c", "2")
        assert_all_there(site, ledger, ids)
        assert late.result(timeout=BOUND) == len(more)
    assert executions(ledger)[100] == 1


@pytest.mark.parametrize(
    ("level", "call", "file", "what"),
    [
        ("disk", "fdatasync", "journal.db", "error=EIO"),
        ("os", "fdatasync", "journal.db-wal", "error=EIO:when=1"),  # the next one says that all is well
        ("disk", "pread64", "journal.db-wal", "error=EIO"),
    ],
    ids=["sync of the database", "one sync of the WAL", "read of the WAL"],
)
def test_what_fails_in_a_checkpoint_ends_the_scheduler_too(
    site: Site, ledger: Path, level: str, call: str, file: str, what: str
) -> None:
    """SQLite would keep it to itself, and try again."""
    scheduler = start(site, "--durability", level)
    ids = accepted(site, ledger, 10)
    with Client(site.url) as client:
        with fault(scheduler, call, what, site.folder / "data" / file):
            late = client.submit_many(measure, [((str(ledger), 10, "x" * 200_000), {})] * 40)
            assert_ended_by(site, scheduler, "/data/journal.db: ")
        start(site)
        site.worker("-c", "2")
        assert_all_there(site, ledger, ids)
        assert client.gather(late, timeout=BOUND) == [200_000] * 40


# ---------------------------------------------------------------------------------------------- what passes


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


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_a_large_payload_without_a_place_waits_for_one(site: Site, ledger: Path, error: str) -> None:
    scheduler = start(site)
    with Client(site.url) as client:
        with fault(scheduler, "openat", f"error={error}"):
            large = client.submit(measure, str(ledger), 0, LARGE)
            until(lambda: any("cannot be written now" in text for text in status(site)["warnings"]), "it is told")
            with pytest.raises(zmqtasks.JournalUnavailable, match=os.strerror(getattr(errno, error))):
                client.submit(note, str(ledger), 1).accepted(timeout=BOUND)
        assert large.accepted(timeout=BOUND)
        kill(scheduler)
        start(site)
        site.worker("-c", "1")
        assert large.result(timeout=BOUND) == len(LARGE)
    assert executions(ledger) == {0: 1}


# ---------------------------------------------------------------------------------------------- what is slow


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


def test_on_a_slow_disk_each_commit_takes_many_turns(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "2")
    with Client(site.url) as client:
        with fault(scheduler, "fdatasync", "delay_enter=2s"):
            jobs = []
            for n in range(50):
                jobs.append(client.submit(note, str(ledger), n))
                until(lambda: len(executions(ledger)) == len(jobs), "it ran, accepted or not")
            assert client.gather(jobs, timeout=BOUND) == [n * 7 + 1 for n in range(50)]
        kill(scheduler)
        found = examine(site.folder / "data")
        turns = [len(list(split(block.data))) for block in found.blocks]
        assert not found.damages
        assert sum(turns) >= 50
        assert max(turns) > 10
        start(site)
        site.worker("-c", "2")
        assert client.submit(note, str(ledger), 50).result(timeout=BOUND) == 351
    assert_all_there(site, ledger, [job.id for job in jobs])
    assert executions(ledger) == dict.fromkeys(range(51), 1)


# ---------------------------------------------------------------------------------------------- at a start


@pytest.mark.parametrize(
    "faults",
    [
        [
            ("pread64", "journal.db", "error=EIO", "cannot be opened: disk I/O error"),
            ("pread64", "journal.db", "error=EIO:when=4+", "cannot be read"),  # a page
            ("read", "head", "error=EIO", "the head is missing, or cannot be read"),
            ("getdents64", "payloads", "error=EIO", "payloads cannot be read: Input/output error"),
        ],
        [
            ("openat", "journal.db", "error=EACCES", "cannot be opened: Permission denied"),
            ("flock", "lock", "error=ENOLCK", "cannot be used: No locks available"),
            ("pwrite64", "journal.db-wal", "error=EIO", "cannot be written: "),
            ("fsync", "head", "error=EIO", "cannot be written: "),
        ],
    ],
    ids=["reads", "others"],
)
def test_a_start_is_refused_on_a_disk_that_fails_and_loses_nothing(
    site: Site, ledger: Path, faults: list[tuple[str, str, str, str]]
) -> None:
    scheduler = start(site)
    ids = accepted(site, ledger, 20)
    scheduler.send_signal(signal.SIGTERM)
    assert scheduler.wait(BOUND) == 0
    data = site.folder / "data"
    for calls, file, what, said in faults:
        refused = subprocess.run(
            ["strace", "-o", os.devnull, *_rules(calls, what, data / file), sys.executable, "-m", "zmqtasks",
             "scheduler", "--bind", site.url, "--data", str(data)],
            capture_output=True, text=True, timeout=BOUND, check=False,
        )  # fmt: skip
        assert refused.returncode == 2, (calls, file, refused.stderr)
        (line,) = refused.stderr.splitlines()
        assert str(data) in line
        assert said in line
    start(site)
    site.worker("-c", "2")
    assert_all_there(site, ledger, ids)
