"""Large arguments, results and functions, with real processes: over the bulk connection, whole, and in nobody's way."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import BOUND
from zmqtasks import Client, LocalCluster, errors

MIB = 2**20
LIMIT = 64 * MIB
ENVELOPE = 1_000  # bytes that the pickled (args, kwargs) have beyond the argument itself, at most


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(workers=2, agents=2) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def data(size: int) -> bytes:
    """Bytes that no two places of which look alike."""
    piece = os.urandom(100_003)
    return (piece * (size // len(piece) + 1))[:size]


def mark(given: bytes) -> str:
    return hashlib.blake2b(given, digest_size=16).hexdigest()


def mark_of(given: bytes) -> str:
    """The digest of what came."""
    import hashlib

    return hashlib.blake2b(given, digest_size=16).hexdigest()


def echo(given: bytes) -> bytes:
    return given


def hold(path: str) -> None:
    """Runs until the file is there."""
    import time
    from pathlib import Path

    Path(path + ".runs").touch()
    while not Path(path).exists():
        time.sleep(0.005)


def test_64_mib_there_and_back(client: Client) -> None:
    given = data(LIMIT - ENVELOPE)
    assert client.submit(mark_of, given).result(timeout=BOUND) == mark(given)
    back = client.submit(echo, given).result(timeout=BOUND)
    assert mark(back) == mark(given)


def test_small_jobs_pass_while_64_mib_are_under_way(client: Client) -> None:
    given = data(LIMIT - ENVELOPE)
    large = [client.submit(echo, given) for _ in range(2)]
    passed = 0
    while not any(job.done() for job in large):
        assert client.submit(pow, 2, passed).result(timeout=BOUND) == 2**passed
        passed += 1
    assert passed >= 3
    for job in large:
        assert mark(job.result(timeout=BOUND)) == mark(given)


def test_many_of_1_mib_from_two_clients_at_once(cluster: LocalCluster) -> None:
    wrong: list[object] = []

    def run() -> None:
        with cluster.client() as client:
            given = [data(MIB) for _ in range(40)]
            jobs = [client.submit(echo, each) for each in given]
            wrong.extend(n for n, job in enumerate(jobs) if mark(job.result(timeout=BOUND)) != mark(given[n]))
            wrong.extend([] if client.submit(pow, 2, 3).result(timeout=BOUND) == 8 else ["pow"])

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(BOUND)
        assert not thread.is_alive()
    assert wrong == []


def test_large_and_small_arguments_in_one_batch(client: Client) -> None:
    given = [data(size) for size in (0, 300_000, 1, 70_000, 3 * MIB, 65_536, 65_537, 10, 500_000)]
    jobs = client.submit_many(mark_of, [((each,), {}) for each in given])
    assert [job.result(timeout=BOUND) for job in jobs] == [mark(each) for each in given]


def test_a_function_that_captures_5_mib(client: Client) -> None:
    captured = data(5 * MIB)

    def measure(number: int) -> tuple[int, int]:
        return number, len(captured)

    assert list(client.map(measure, range(20), chunksize=1)) == [(n, 5 * MIB) for n in range(20)]
    arguments = [((number,), {}) for number in range(1_500)]  # more than one message of them needs the function
    assert client.gather(client.submit_many(measure, arguments)) == [(n, 5 * MIB) for n in range(1_500)]


def test_a_job_with_large_arguments_is_cancelled(client: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    holders = [client.submit(hold, str(gate)) for _ in range(4)]
    given = data(8 * MIB)
    waiting = [client.submit(mark_of, given) for _ in range(6)]
    try:
        cancelled = [job.cancel() for job in waiting]
        with pytest.raises(errors.JobCancelled):
            waiting[-1].result(timeout=BOUND)
    finally:
        gate.touch()
    for job in holders:
        job.result(timeout=BOUND)
    for job, was in zip(waiting, cancelled, strict=True):
        if not was:
            assert job.result(timeout=BOUND) == mark(given)
    assert client.submit(mark_of, given).result(timeout=BOUND) == mark(given)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_dies_or_stops_while_large_arguments_are_under_way(number: signal.Signals) -> None:
    """Whatever of them had arrived, they are sent to another worker whole."""
    with LocalCluster(workers=2, agents=2) as cluster, cluster.client() as client:
        assert client.submit(pow, 2, 3).result(timeout=BOUND) == 8
        given = data(24 * MIB)
        victim = cluster.worker_pids[0]
        jobs = [client.submit(mark_of, given) for _ in range(4)]
        jobs[0].accepted(timeout=BOUND)
        os.kill(victim, number)
        try:
            assert [job.result(timeout=BOUND) for job in jobs] == [mark(given)] * 4
        finally:
            if number == signal.SIGSTOP:
                os.kill(victim, signal.SIGCONT)


GONE_SOON = """
import os, signal, sys, time, zmqtasks
client = zmqtasks.Client(sys.argv[1])
client.submit(len, bytes(60 << 20))
time.sleep(0.05)  # any moment of the way will do
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_submitter_dies_in_the_middle_of_a_large_submit_and_nobody_notices(cluster: LocalCluster) -> None:
    died = subprocess.run([sys.executable, "-c", GONE_SOON, cluster.url], timeout=BOUND, check=False)
    assert died.returncode == -signal.SIGKILL
    with cluster.client() as client:
        given = data(MIB)
        assert client.submit(mark_of, given).result(timeout=BOUND) == mark(given)
