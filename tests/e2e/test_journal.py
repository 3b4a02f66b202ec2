"""The scheduler is killed, restarted, and its disk fails, with real processes: nothing that was accepted is lost."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psutil import Process

import zmqtasks
from tests.helpers.processes import BOUND, Site, executions, until
from zmqtasks import Client, Job

MIB = 1024 * 1024


def note(ledger: str, number: int) -> int:
    """One line in the ledger, then the answer."""
    import os

    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"%d %d\n" % (number, os.getpid()))
    os.close(file)
    return number * 7 + 1


def wait_for(ledger: str, number: int, sign: str) -> int:
    """One line in the ledger, then wait until a file is there."""
    import os
    import time

    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"%d %d\n" % (number, os.getpid()))
    os.close(file)
    while not os.path.exists(sign):  # noqa: PTH110  (it is shipped: few imports)
        time.sleep(0.01)
    return number


def fail(text: str) -> None:
    raise ValueError(text)


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def start(site: Site, *options: str, data: Path | None = None) -> subprocess.Popen[str]:
    """A scheduler with a journal."""
    where = str(data or site.folder / "data")
    command = ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--data", where, *options]
    return site.start("scheduler", command)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def command(site: Site, *arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    broker = () if arguments[0] == "scheduler" else ("--broker", site.url)
    return subprocess.run(
        [sys.executable, "-m", "zmqtasks", *arguments, *broker],
        capture_output=True, text=True, timeout=BOUND, check=False, **how,
    )  # fmt: skip


def status(site: Site) -> dict[str, Any]:
    """What `zmqtasks status --json` prints."""
    told: dict[str, Any] = json.loads(command(site, "status", "--json").stdout)
    return told


def test_a_signal_ends_it_whichever_thread_the_kernel_gives_that_to(site: Site) -> None:
    """Of a process that was stopped (SIGSTOP) when the signal came, or is traced, it may be any."""
    scheduler = start(site)

    def ours() -> list[int]:
        """The loop and the journal's writer, once they run; zmq's own threads block all signals."""
        threads = [thread.id for thread in Process(scheduler.pid).threads() if thread.id != scheduler.pid]
        status = {thread: Path(f"/proc/{scheduler.pid}/task/{thread}/status").read_text() for thread in threads}
        return [thread for thread, text in status.items() if not int(text.partition("SigBlk:")[2].split()[0], 16)]

    until(lambda: len(ours()) >= 2, "both threads run")
    os.kill(max(ours()), signal.SIGTERM)  # to this thread first
    assert scheduler.wait(BOUND) == 0


# ---------------------------------------------------------------------------------------------- kills under load


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=[pytest.mark.nightly, pytest.mark.timeout(1200)])])
def test_nothing_is_lost_however_often_the_scheduler_is_killed(site: Site, ledger: Path, kills: int) -> None:
    chance = random.Random(kills)
    scheduler = start(site)
    for _ in range(2):
        site.worker("-c", "2")
    jobs: list[Job[int]] = []
    stop = threading.Event()

    def submit() -> None:
        """Batches of all sizes, as long as there are kills to come."""
        while not stop.is_set():
            size = chance.choice((1, 3, 40, 300))
            calls = [((str(ledger), len(jobs) + i), {}) for i in range(size)]
            jobs.extend(client.submit_many(note, calls))
            time.sleep(0.005)

    with Client(site.url) as client:
        submitter = threading.Thread(target=submit)
        submitter.start()
        try:
            for _ in range(kills):
                before = len(jobs)
                until(lambda before=before: len(jobs) > before + 50, "more jobs were submitted")
                time.sleep(chance.uniform(0, 0.1))  # a kill at any moment, not a wait for anything
                kill(scheduler)
                scheduler = start(site)
        finally:
            stop.set()
            submitter.join()
        values = [job.result(timeout=BOUND) for job in jobs]
    assert values == [number * 7 + 1 for number in range(len(jobs))]
    ran = executions(ledger)
    assert set(ran) == set(range(len(jobs)))
    again = Counter(ran.values())
    print(f"{len(jobs)} jobs, {kills} kills, executions: {dict(again)}")
    assert again[1] > len(jobs) * 0.5


def test_jobs_of_scripts_that_have_ended_are_kept(site: Site, ledger: Path) -> None:
    """No client that could submit anything again: only the journal has them."""
    scheduler = start(site)
    code = (
        "import os, sys, zmqtasks\n"
        "from tests.e2e.test_journal import note\n"
        "client = zmqtasks.Client(sys.argv[1])\n"
        "jobs = client.submit_many(note, [((sys.argv[2], n), {}) for n in range(3000)])\n"
        "client.flush(30)\n"
        "print('\\n'.join(job.id for job in jobs), flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, site.url, str(ledger)], capture_output=True, text=True, timeout=BOUND, check=True
    )
    ids = done.stdout.split()
    kill(scheduler)
    scheduler = start(site)
    assert status(site)["jobs"]["ready"] == 3000
    site.worker("-c", "2")
    until(lambda: len(executions(ledger)) > 1000, "a third of them ran")
    kill(scheduler)
    start(site)
    with Client(site.url) as client:
        assert [client.job(job_id).result(timeout=BOUND) for job_id in ids] == [n * 7 + 1 for n in range(3000)]
    assert set(executions(ledger)) == set(range(3000))


# ---------------------------------------------------------------------------------------------- what is back


def test_another_process_asks_by_id_after_a_restart(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "1")
    with Client(site.url) as client:
        job = client.submit(note, str(ledger), 5)
        assert job.result(timeout=BOUND) == 36
        wrong = client.submit(fail, "no good")
        assert isinstance(wrong.exception(timeout=BOUND), ValueError)
    kill(scheduler)
    start(site)
    with Client(site.url) as client:
        assert client.job(job.id).result(timeout=BOUND) == 36
    app = zmqtasks.App("asking", broker=site.url)
    assert app.AsyncResult(job.id).get(timeout=BOUND) == 36
    told = command(site, "result", job.id)
    assert told.returncode == 0, told.stderr
    assert "36" in told.stdout
    failed = command(site, "result", wrong.id)
    assert failed.returncode == 1
    assert "no good" in failed.stdout + failed.stderr
    assert executions(ledger) == {5: 1}


def test_queues_delays_counters_and_the_dead_are_back(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "1", "-Q", "served")
    with Client(site.url) as client:
        served = client.options(queue="served")
        assert client.gather([served.submit(note, str(ledger), n) for n in range(5)], timeout=BOUND)
        dead = client.options(queue="served", crash_budget=1).submit(die)
        assert isinstance(dead.exception(timeout=BOUND), zmqtasks.WorkerLost)
        for queue, number in (("alpha", 3), ("beta", 4)):
            client.options(queue=queue).submit_many(note, [((str(ledger), 100), {})] * number)
        later = client.options(queue="served", countdown=3600).submit(note, str(ledger), 200)
        gone = client.options(queue="alpha").submit(note, str(ledger), 300)
        client.flush(BOUND)
        assert gone.cancel()
        before = status(site)
        kill(scheduler)
        start(site)
        after = status(site)
        assert after["jobs"] == before["jobs"]
        ready = {queue["name"]: queue["ready"] for queue in after["queues"]}
        assert (ready["alpha"], ready["beta"]) == (3, 4)
        for name in ("submitted", "succeeded", "failed", "cancelled"):
            assert after["counters"][name] == before["counters"][name], name
        assert after["epoch"] > before["epoch"]
        assert after["journal"]["size"] > 0
        assert client.job(later.id).cancel()
        assert isinstance(client.job(dead.id).exception(timeout=BOUND), zmqtasks.WorkerLost)
        with pytest.raises(zmqtasks.JobCancelled):
            client.job(gone.id).result(timeout=BOUND)


def test_a_job_that_comes_due_while_there_is_no_scheduler_runs(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "1")
    with Client(site.url) as client:
        job = client.options(countdown=1.0).submit(note, str(ledger), 1)
        client.flush(BOUND)
        due = time.time() + 1.0
        kill(scheduler)
        until(lambda: time.time() > due, "its time has come")
        start(site)
        assert job.result(timeout=BOUND) == 8
    assert executions(ledger) == {1: 1}


def test_what_a_living_worker_runs_is_not_run_again(site: Site, ledger: Path, tmp_path: Path) -> None:
    scheduler = start(site)
    for _ in range(2):
        site.worker("-c", "2")
    sign = tmp_path / "go on"
    with Client(site.url) as client:
        jobs = client.submit_many(wait_for, [((str(ledger), n, str(sign)), {}) for n in range(4)])
        until(lambda: len(executions(ledger)) == 4, "all of them run")
        for _ in range(3):
            kill(scheduler)
            scheduler = start(site)
            until(lambda: [w["state"] for w in status(site)["workers"]] == ["up", "up"], "both workers are back")
        sign.touch()
        assert client.gather(jobs, timeout=BOUND) == list(range(4))
    assert executions(ledger) == dict.fromkeys(range(4), 1)


def test_an_end_in_good_order_keeps_everything_too(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    with Client(site.url) as client:
        jobs = client.submit_many(note, [((str(ledger), n), {}) for n in range(500)])
        client.flush(BOUND)
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(BOUND) == 0
        start(site)
        site.worker("-c", "2")
        assert client.gather(jobs, timeout=BOUND) == [n * 7 + 1 for n in range(500)]
    assert executions(ledger) == dict.fromkeys(range(500), 1)


# ---------------------------------------------------------------------------------------------- at most once


def test_at_most_once_is_one_execution_when_the_scheduler_dies(site: Site, ledger: Path, tmp_path: Path) -> None:
    scheduler = start(site)
    site.worker("-c", "1")
    sign = tmp_path / "go on"
    with Client(site.url) as client:
        job = client.options(acks_late=False).submit(wait_for, str(ledger), 1, str(sign))
        until(lambda: executions(ledger), "it runs")
        kill(scheduler)
        sign.touch()
        start(site)
        assert job.result(timeout=BOUND) == 1
    assert executions(ledger) == {1: 1}


@pytest.mark.parametrize("both", [False, True], ids=["worker", "worker and scheduler"])
def test_at_most_once_ends_as_an_error_when_its_worker_dies(
    site: Site,
    ledger: Path,
    tmp_path: Path,
    both: bool,  # noqa: FBT001
) -> None:
    scheduler = start(site)
    worker = site.worker("-c", "1")
    with Client(site.url) as client:
        job = client.options(acks_late=False).submit(wait_for, str(ledger), 1, str(tmp_path / "never"))
        until(lambda: executions(ledger), "it runs")
        if both:
            kill(scheduler)
        kill(worker)
        if both:
            start(site)
        site.worker("-c", "1")
        with pytest.raises(zmqtasks.WorkerLost, match="may have run, and is not run again"):
            job.result(timeout=BOUND)
    assert executions(ledger) == {1: 1}


# ---------------------------------------------------------------------------------------------- durability


def test_memory_jobs_are_submitted_again_by_those_who_live(site: Site, ledger: Path) -> None:
    scheduler = start(site, "--durability", "quick=memory")
    with Client(site.url) as client:
        jobs = client.options(queue="quick").submit_many(note, [((str(ledger), n), {}) for n in range(50)])
        kept = client.options(queue="slow").submit(note, str(ledger), 99)
        client.flush(BOUND)
        shown = command(site, "inspect", "queues").stdout
        assert any("quick" in line and "memory" in line for line in shown.splitlines())
        assert any("slow" in line and "disk" in line for line in shown.splitlines())
        kill(scheduler)
        start(site, "--durability", "quick=memory")
        site.worker("-c", "2", "-Q", "quick,slow")
        assert client.gather([*jobs, kept], timeout=BOUND) == [n * 7 + 1 for n in [*range(50), 99]]


def test_a_job_that_must_be_kept_is_refused_where_nothing_is(site: Site) -> None:
    site.start("scheduler", ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--in-memory"])
    with Client(site.url) as client, pytest.raises(zmqtasks.NotDurable):
        client.options(durability="disk").submit(fail, "never").result(timeout=BOUND)


def test_a_second_scheduler_on_the_same_directory_is_refused(site: Site) -> None:
    first = start(site)
    other = f"{site.url}2"
    second = subprocess.run(
        [sys.executable, "-m", "zmqtasks", "scheduler", "--bind", other, "--data", str(site.folder / "data")],
        capture_output=True, text=True, timeout=BOUND, check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"is used by another scheduler (pid {first.pid})" in second.stderr
    assert "Traceback" not in second.stderr


# ---------------------------------------------------------------------------------------------- trouble


def _refused(site: Site, client: Client) -> None:
    """Submit until the scheduler cannot write: whoever submits, or waits for what was on its way, learns why."""
    stuck: list[Job[int]] = []

    def full() -> bool:
        stuck.extend(client.submit_many(note, [(("x" * 20_000, 0), {})] * 10))
        return any("cannot be written now" in warning for warning in status(site)["warnings"])

    until(full, "the scheduler warns")
    with pytest.raises(zmqtasks.JournalUnavailable, match="the journal cannot be written now"):
        client.submit(note, "x", 0).result(timeout=BOUND)
    assert any("the scheduler says" in _why_it_waits(job) for job in stuck)


def _why_it_waits(job: Job[int]) -> str:
    """What a time-out says; "" if the job is accepted or refused."""
    try:
        job.accepted(timeout=0.2)
    except zmqtasks.JobTimeout as error:
        return str(error)
    except zmqtasks.ZmqTasksError:
        pass
    return ""


def _trouble_and_back(site: Site, ledger: Path, scheduler: subprocess.Popen[str], mend: Callable[[], None]) -> None:
    """Refused while the disk is full, all kept, and on as soon as there is room: before and after a kill."""
    with Client(site.url) as client:
        kept = client.options(queue="good").submit_many(note, [((str(ledger), n), {}) for n in range(100)])
        client.flush(BOUND)
        _refused(site, client)
        mend()
        until(lambda: not any("be written" in warning for warning in status(site)["warnings"]), "the warning is gone")
        more = client.options(queue="good").submit(note, str(ledger), 100)
        more.accepted(timeout=BOUND)
        kill(scheduler)
        start(site, data=site.folder / "small" / "data")
        site.worker("-c", "2", "-Q", "good")
        assert client.gather([*kept, more], timeout=BOUND) == [n * 7 + 1 for n in range(101)]
    assert "goes on as soon as that is mended" in site.said(scheduler)
    assert "the journal can be written again" in site.said(scheduler)


def test_a_file_that_may_not_grow_stops_nothing_but_new_jobs(site: Site, ledger: Path) -> None:
    scheduler = start(site, data=site.folder / "small" / "data")
    unlimited = resource.prlimit(scheduler.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(scheduler.pid, resource.RLIMIT_FSIZE, (2 * MIB, unlimited[1]))
    _trouble_and_back(
        site, ledger, scheduler, lambda: resource.prlimit(scheduler.pid, resource.RLIMIT_FSIZE, unlimited) and None
    )


def test_an_end_on_a_full_disk_says_what_was_not_written(site: Site, ledger: Path) -> None:
    scheduler = start(site)
    with Client(site.url) as client:
        kept = client.submit_many(note, [((str(ledger), n), {}) for n in range(10)])
        client.flush(BOUND)
        resource.prlimit(scheduler.pid, resource.RLIMIT_FSIZE, (32 * 1024, resource.RLIM_INFINITY))
        long = str(ledger.parent) + "/." * 1_500 + f"/{ledger.name}"  # 3 kB: all in one message
        lost = client.submit_many(note, [((long, n), {}) for n in range(10, 25)])
        until(lambda: any("be written now" in warning for warning in status(site)["warnings"]), "it cannot be written")
        scheduler.send_signal(signal.SIGTERM)
        assert scheduler.wait(BOUND) == 0
        assert "bytes of records were not written" in site.said(scheduler)
        start(site)
        site.worker("-c", "2")
        assert client.gather([*kept, *lost], timeout=BOUND) == [n * 7 + 1 for n in range(25)]
    assert executions(ledger) == dict.fromkeys(range(25), 1)


@pytest.fixture
def small_disk(site: Site) -> Iterator[Path]:
    """A disk of a few MiB."""
    path = site.folder / "small"
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "zmqtasks-test", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"this user cannot mount a small disk: {done.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_full_disk_stops_nothing_but_new_jobs(site: Site, ledger: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(3 * MIB))
    scheduler = start(site, data=small_disk / "data")
    _trouble_and_back(site, ledger, scheduler, filler.unlink)


def test_on_a_read_only_disk_a_start_is_refused(site: Site, ledger: Path, small_disk: Path) -> None:
    data = small_disk / "data"
    scheduler = start(site, data=data)
    with Client(site.url) as client:
        job = client.submit(note, str(ledger), 1)
        client.flush(BOUND)
        kill(scheduler)
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        refused = command(site, "scheduler", "--bind", site.url, "--data", str(data))
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
        assert f"{data} cannot be used: Read-only file system" in refused.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        start(site, data=data)
        site.worker("-c", "1")
        assert job.result(timeout=BOUND) == 8
