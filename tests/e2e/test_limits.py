"""What is too large, too much or not writable: real processes, and the very words that people read."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.daemon import Peer, joined, round_trip, submitter_hello, worker_hello
from zmqtasks import wire
from zmqtasks.transport import Context

LIMIT = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def cluster():
    with zmqtasks.LocalCluster(workers=1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


def size(data):
    return len(data)


def make(count):
    return bytes(count)


def fail(count):
    raise ValueError("x" * count)


def test_an_argument_over_the_limit_is_refused_where_it_is_given(client):
    with pytest.raises(
        zmqtasks.PayloadTooLarge, match=r"size.*: its arguments take 67,1\d\d,\d\d\d bytes.*at most 67,108,864"
    ):
        client.submit(size, bytes(LIMIT + 1))
    assert client.submit(size, b"small").result(timeout=30) == 5


def test_of_many_the_one_that_is_too_large_is_named(client):
    with pytest.raises(zmqtasks.PayloadTooLarge, match=r"size, item 2: its arguments take"):
        client.submit_many(size, [((b"a",), {}), ((b"b",), {}), ((bytes(LIMIT + 1),), {})])
    assert client.submit(size, b"small").result(timeout=30) == 5


def test_a_function_over_the_limit_is_refused_with_its_name(client):
    captured = bytes(LIMIT + 1)

    def closure():
        return len(captured)

    with pytest.raises(zmqtasks.PayloadTooLarge, match=r"function .*closure takes 67,1\d\d,\d\d\d bytes with what it"):
        client.submit(closure)


def test_a_result_over_the_limit_fails_its_job_and_not_the_worker(client):
    with pytest.raises(zmqtasks.PayloadTooLarge, match=r"make.*: the result has 67,?1\d\d,?\d\d\d bytes"):
        client.submit(make, LIMIT + 1).result(timeout=60)
    assert client.submit(make, 3).result(timeout=30) == bytes(3)


def test_many_that_are_too_much_for_one_message_arrive_in_several(client):
    items = [os.urandom(40_000) for _ in range(50)]
    assert list(client.map(size, items)) == [40_000] * 50


# ------------------------------------------------------------------------------------------ other versions


@pytest.fixture
def scheduler(tmp_path):
    """Start `zmqtasks scheduler`; its output goes where the test says."""
    started = []

    def _start(**streams):
        url = f"ipc://{tmp_path}/s"
        command = [sys.executable, "-m", "zmqtasks", "scheduler", "--bind", url, *streams.pop("words", ())]
        started.append(subprocess.Popen(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}))
        return started[-1], url

    yield _start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def peers():
    context = Context()
    made = []

    def _peer(url, decode):
        made.append(Peer(context, url, decode))
        return made[-1]

    yield _peer
    for peer in made:
        peer.link.close()
    context.close()


def test_a_function_that_no_workers_python_can_run_waits_and_says_so(scheduler, peers):
    process, url = scheduler()
    process.stdout.readline()
    w, s = peers(url, wire.decode_to_worker), peers(url, wire.decode_to_submitter)
    w.ask(worker_hello(python="3.99"), wire.WorkerWelcome)
    s.ask(submitter_hello(), wire.SubmitterWelcome)
    from zmqtasks.payload import function_digest

    shipped = wire.Function(function_digest(b"code"), "module.f", b"code")
    spec = wire.Spec(python="3.11")
    s.ask(
        wire.Submit(b"session 0001", 0, "module.f", shipped.digest, "cloudpickle", spec, [b"a"], [shipped]),
        wire.Accepted,
    )
    notice = None
    deadline = time.monotonic() + 30
    while notice is None:
        assert time.monotonic() < deadline
        w.send(wire.Heartbeat(0, [], []))
        s.link.service(time.monotonic())
        data = s.link.receive()
        message = s.decode(data) if data else None
        notice = message if isinstance(message, wire.Notice) else None
        time.sleep(0.05)
    assert "3.11" in notice.text


def test_another_protocol_is_refused_with_both_versions(scheduler, peers):
    process, url = scheduler()
    process.stdout.readline()
    w = peers(url, wire.decode_to_worker)
    refused = w.ask(worker_hello(protocol=99, release="77.7"), wire.Refused)
    assert re.search(r"zmqtasks .* speaks protocol 1, the peer \(zmqtasks 77\.7\) speaks protocol 99", refused.reason)


# ------------------------------------------------------------------------------------------ nowhere to write


def serve_and_end(process, url, peers):
    """A job goes through, something is logged, and SIGTERM ends it in good order."""
    w, s = joined(peers, url)
    round_trip(w, s)
    stranger = peers(url, wire.decode_to_worker)
    stranger.ask(worker_hello(protocol=99), wire.Refused)
    round_trip(w, s, 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


def until_it_listens(url, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not Path(url.removeprefix("ipc://")).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_and_stderr_does_not_stop_a_scheduler(scheduler, peers):
    with Path("/dev/full").open("w", encoding="ascii") as full:
        process, url = scheduler(stdout=full, stderr=full)
        until_it_listens(url)
        serve_and_end(process, url, peers)


def test_readers_that_left_do_not_stop_a_scheduler(scheduler, peers):
    process, url = scheduler()
    process.stdout.readline()
    process.stdout.close()
    process.stderr.close()
    process.stdout = process.stderr = None
    serve_and_end(process, url, peers)


def test_a_log_file_that_cannot_grow_does_not_stop_a_scheduler(scheduler, peers, tmp_path):
    import resource

    process, url = scheduler(
        words=["--logfile", str(tmp_path / "log"), "-l", "debug"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    process.stdout.readline()
    serve_and_end(process, url, peers)
    assert (tmp_path / "log").stat().st_size == 0
