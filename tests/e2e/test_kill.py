"""kill -9 in the middle of a batch, with real processes: every result still comes, each exactly once and right.

Every execution appends a line to a ledger file, so that the tests see what really ran.
"""

import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import zmqtasks
from tests.helpers.processes import BOUND, Site, executions
from tests.helpers.processes import until as wait_until
from zmqtasks import Client, Job, LocalCluster


def work(ledger: str, number: int, seconds: float) -> tuple[int, int]:
    """One line in the ledger, then the answer: (number squared, pid)."""
    import os
    import time
    from pathlib import Path

    with Path(ledger).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    if seconds:
        time.sleep(seconds)
    return number * number, os.getpid()


def die_at_once(ledger: str, number: int, way: str) -> None:
    """Takes its process with it."""
    import ctypes
    import os
    import threading
    from pathlib import Path

    with Path(ledger).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    exec(way, {"os": os, "ctypes": ctypes, "threading": threading})


def raze(ledger: str, number: int) -> None:
    """Takes its whole host with it: every process above it that belongs to the worker, and its own group."""
    import os
    import signal
    from pathlib import Path

    import psutil

    with Path(ledger).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    forkserver = psutil.Process(os.getppid())
    agent = forkserver.parent()
    assert agent is not None
    for pid in (agent.pid, forkserver.pid):
        os.kill(pid, signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=4, agents=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def check(jobs: list[Job], ledger: Path, numbers: range) -> Counter[int]:
    """Every result is there and right, and every job ran."""
    values = [job.result(timeout=BOUND)[0] for job in jobs]
    assert values == [n * n for n in numbers]
    ran = executions(ledger)
    assert set(ran) == set(numbers)
    return ran


@pytest.mark.parametrize("seconds", [0.0, 0.005], ids=["micro-jobs", "5 ms jobs"])
def test_kill_9_of_a_worker_in_the_middle_of_a_batch(
    cluster: LocalCluster, client: Client, ledger: Path, seconds: float
) -> None:
    numbers = range(600 if seconds else 6000)
    jobs = client.submit_many(work, [((str(ledger), n, seconds), {}) for n in numbers])
    wait_until(lambda: len(executions(ledger)) > len(numbers) // 10, "a tenth of the batch has begun")
    os.kill(cluster.worker_pids[0], signal.SIGKILL)
    ran = check(jobs, ledger, numbers)
    assert max(ran.values()) <= 2, "a job ran more often than one death explains"


def test_kill_9_of_children_in_the_middle_of_a_batch(cluster: LocalCluster, client: Client, ledger: Path) -> None:
    numbers = range(400)
    jobs = client.submit_many(work, [((str(ledger), n, 0.005), {}) for n in numbers])
    killed: set[int] = set()
    for _ in range(3):
        before = len(executions(ledger))
        wait_until(lambda before=before: len(executions(ledger)) > before + 40, "the batch goes on")  # type: ignore[misc]
        pid = int(ledger.read_text().splitlines()[-1].split()[1])
        if pid not in killed:
            killed.add(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    ran = check(jobs, ledger, numbers)
    assert max(ran.values()) <= 1 + len(killed)
    assert sum(ran.values()) - len(numbers) <= 25 * len(killed), "far more ran again than the dead children held"


@pytest.mark.parametrize(
    ("way", "evidence"),
    [
        ("os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("os._exit(3)", "ended with exit code 3"),
        ("threading.Thread(target=os._exit, args=(0,)).start(); threading.Event().wait()", "ended with exit code 0"),
        ("ctypes.string_at(0)", "was killed by SIGSEGV"),
        ("os.abort()", "was killed by SIGABRT"),
        ("os.killpg(0, 10)", "was killed by SIGUSR1"),
    ],
    ids=["kill", "exit", "exit of a thread", "segfault", "abort", "group"],
)
def test_a_job_that_kills_its_child_is_a_dead_letter_and_drags_nobody_along(
    cluster: LocalCluster, client: Client, ledger: Path, tmp_path: Path, way: str, evidence: str
) -> None:
    other = tmp_path / "other"
    deadly = client.submit(die_at_once, str(other), 7, way)
    jobs = client.submit_many(work, [((str(ledger), n, 0.001), {}) for n in range(300)])
    with pytest.raises(zmqtasks.WorkerLost) as caught:
        deadly.result(timeout=BOUND)
    assert executions(other) == {7: 4}, "a crash budget of 3 allows four deaths"
    told = str(caught.value)
    assert told.startswith(f"job {deadly.id} (tests.e2e.test_kill.die_at_once) was running in 4 processes that died")
    pids = [line.split()[1] for line in other.read_text().splitlines()]
    for number, pid in enumerate(pids, 1):
        assert f"death {number}: child {pid} {evidence} while running" in told
    assert told.count(f" on {socket.gethostname()}") == 4
    check(jobs, ledger, range(300))


def test_a_job_without_memory_fails_with_its_own_error(client: Client) -> None:
    def greedy() -> None:
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, before[1]))
        try:
            bytearray(1 << 30)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)

    with pytest.raises(MemoryError):
        client.submit(greedy).result(BOUND)
    assert client.submit(pow, 2, 3).result(BOUND) == 8


def test_a_job_that_kills_its_whole_host_is_a_dead_letter_and_drags_nobody_along(site: Site) -> None:
    """Somebody starts the worker again each time, as a service manager does."""
    site.scheduler(heartbeat=0.2, lease=1.0)
    (site.folder / "ledger").touch()
    ledger, numbers = site.folder / "ledger", range(60)
    workers: list[subprocess.Popen[str]] = []

    def supervised(jobs: list[Job]) -> bool:
        if not workers or workers[-1].poll() is not None:
            workers.append(site.worker("-c", "2"))
        return all(job.done() for job in jobs)

    with Client(site.url) as client:
        jobs = client.submit_many(work, [((str(ledger), n, 0.02), {}) for n in numbers[:30]])
        deadly = client.submit(raze, str(site.folder / "other"), 7)
        jobs += client.submit_many(work, [((str(ledger), n, 0.02), {}) for n in numbers[30:]])
        wait_until(lambda: supervised([deadly, *jobs]), "every job has ended")
        with pytest.raises(zmqtasks.WorkerLost) as caught:
            deadly.result()
        ran = check(jobs, ledger, numbers)
    assert executions(site.folder / "other") == {7: 4}
    assert max(ran.values()) <= 2, "only those that the first dead worker held may have run again"
    deaths = re.findall(
        r"death (\d): worker worker@\S+ \((\S+), pid (\d+)\) was lost: silent for \d+\.\d s", str(caught.value)
    )
    host = socket.gethostname()
    assert deaths == [(str(n), host, str(worker.pid)) for n, worker in enumerate(workers[:4], 1)]
    assert len(workers) <= 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_whose_scheduler_was_away_for_longer_than_a_lease_goes_on(site: Site, number: int) -> None:
    """The jobs that it runs meanwhile are adopted by the next scheduler, which knows nothing of them at first."""
    first = site.scheduler(heartbeat=0.2, lease=1.0)
    site.worker("-c", "2")
    ledger, numbers = site.folder / "ledger", range(2)
    ledger.touch()
    with Client(site.url) as client:
        jobs = client.submit_many(work, [((str(ledger), n, 3.0), {}) for n in numbers])
        wait_until(lambda: len(executions(ledger)) == 2, "both jobs run")
        first.send_signal(number)
        assert first.wait(BOUND) == (-number if number == signal.SIGKILL else 0)
        time.sleep(1.2)  # the fault: there is no scheduler for so long
        site.scheduler(heartbeat=0.2, lease=1.0)
        assert check(jobs, ledger, numbers) == Counter(numbers), "a job ran again"


def test_kill_9_of_all_workers_and_new_ones_finish(client: Client, cluster: LocalCluster, ledger: Path) -> None:
    numbers = range(300)
    jobs = client.submit_many(work, [((str(ledger), n, 0.005), {}) for n in numbers])
    wait_until(lambda: len(executions(ledger)) > 30, "the batch has begun")
    pids = cluster.worker_pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    check(jobs, ledger, numbers)
    assert not set(pids) & set(cluster.worker_pids), "the cluster has started others"


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_kill_9_of_the_script_leaves_no_process(tmp_path: Path) -> None:
    from subprocess import PIPE, Popen
    from sys import executable

    code = """
import time, zmqtasks
cluster = zmqtasks.LocalCluster(workers=2)
client = cluster.client()
job = client.submit(time.sleep, 60)
print(cluster.scheduler_pid, *cluster.worker_pids, flush=True)
job.result()
"""
    script = Popen([executable, "-c", code], stdout=PIPE, text=True, cwd=tmp_path)
    assert script.stdout is not None
    pids = [int(word) for word in script.stdout.readline().split()]
    assert len(pids) == 2
    wait_until(lambda: len(psutil.Process(pids[1]).children(recursive=True)) >= 3, "fork server and children are up")
    family = pids + [child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)]
    script.kill()
    script.wait()
    script.stdout.close()
    for pid in family:
        wait_until(lambda pid=pid: not _runs(pid), f"process {pid} ends with its script")  # type: ignore[misc]
