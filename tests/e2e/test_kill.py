"""kill -9 in the middle of a batch, with real processes: every result still comes, each exactly once and right.

Every execution appends a line to a ledger file, so that the tests see what really ran.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import zmqtasks
from zmqtasks import Client, Job, LocalCluster

BOUND = 60.0  # seconds until a wait gives up; nothing here should take a tenth of it


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


def die_at_once(ledger: str, number: int) -> None:
    """Takes its process with it."""
    import os
    import signal
    from pathlib import Path

    with Path(ledger).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; the time-out says what did not."""
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end, f"not within {BOUND} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=4, agents=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def executions(ledger: Path) -> Counter[int]:
    return Counter(int(line.split()[0]) for line in ledger.read_text().splitlines())


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


def test_a_job_that_kills_its_child_is_a_dead_letter_and_drags_nobody_along(
    cluster: LocalCluster, client: Client, ledger: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    deadly = client.submit(die_at_once, str(other), 7)
    jobs = client.submit_many(work, [((str(ledger), n, 0.001), {}) for n in range(300)])
    with pytest.raises(zmqtasks.WorkerLost) as caught:
        deadly.result(timeout=BOUND)
    assert executions(other) == {7: 4}, "a crash budget of 3 allows four deaths"
    assert "SIGKILL" in str(caught.value)
    assert deadly.id in str(caught.value)
    check(jobs, ledger, range(300))


def test_kill_9_of_all_workers_and_new_ones_finish(client: Client, cluster: LocalCluster, ledger: Path) -> None:
    numbers = range(300)
    jobs = client.submit_many(work, [((str(ledger), n, 0.005), {}) for n in numbers])
    wait_until(lambda: len(executions(ledger)) > 30, "the batch has begun")
    for pid in cluster.worker_pids:
        os.kill(pid, signal.SIGKILL)
    for pid in cluster.worker_pids:
        wait_until(lambda pid=pid: not _runs(pid), f"worker {pid} is dead")  # type: ignore[misc]
    from subprocess import DEVNULL, Popen
    from sys import executable

    worker = Popen([executable, "-m", "zmqtasks", "worker", "--broker", cluster.url, "-c", "2"], stdout=DEVNULL)
    try:
        check(jobs, ledger, numbers)
    finally:
        worker.terminate()
        assert worker.wait(BOUND) == 0


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
