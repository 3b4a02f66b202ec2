"""What is too large, too much or not writable: real processes, and the very words that people read."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.daemon import Peer, joined, round_trip, submitter_hello, worker_hello
from zmqtasks import payload, wire
from zmqtasks.transport import Context
from zmqtasks.worker import pool as pools
from zmqtasks.worker.claims import Claim, Piece

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
        command = [sys.executable, "-m", "zmqtasks", "scheduler", "--in-memory", "--bind", url]
        command += streams.pop("words", ())
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


# ------------------------------------------------------------------------------------------ no room for a child


class Children:
    """A Pool that is served here. `finished`: ids of claims; `deaths`: how often a slot died."""

    def __init__(self, slots):
        self.pool = pools.Pool(slots, "", "w", "info")
        self.finished = []
        self.deaths = 0
        self.until(lambda: len(self.pids) == slots, "children")

    @property
    def pids(self):
        return [slot.pid for slot in self.pool._slots.values() if slot.pid]

    @property
    def server(self):
        return self.pool._server.pid

    def run(self, number):
        """Push a claim of one job, and serve until it is finished."""
        shipped, data = payload.ship(size), payload.encoder("pickle")(((b"abc",), {}))
        piece = Piece(number, 1, b"p" * 12, [0], [data])
        assert self.pool.queue.push(Claim(number, "t", shipped.digest, shipped.blob, "pickle", LIMIT, [piece]))
        self.until(lambda: number in self.finished, f"claim {number}")

    def until(self, condition, what, seconds=30.0):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            select.select([self.pool], [], [], 0.02)
            for event in self.pool.service(time.monotonic()):
                if isinstance(event, pools.Death):
                    self.deaths += 1
                elif isinstance(event, tuple) and event[1].finished:
                    self.finished.append(event[1].claim)


@pytest.fixture
def children(monkeypatch):
    monkeypatch.setattr(pools, "SLOWLY", 0.1)
    made = Children(2)
    yield made
    made.pool.close()


def open_files(pid):
    return {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}


def said(caplog):
    return [text for record in caplog.records if "no child can be made" in (text := record.getMessage())]


@pytest.mark.skipif(sys.platform != "linux", reason="needs prlimit and /proc")
@pytest.mark.parametrize("room", [0, 1, 2])  # for no descriptor; for the one that comes along; and one of the tether
def test_a_fork_server_that_may_open_no_more_files_keeps_its_children(children, caplog, room):
    import resource

    server, before = children.server, open_files(children.server)
    limits = resource.prlimit(server, resource.RLIMIT_NOFILE)
    lost, kept = children.pids
    children.pool._fork_at = float("inf")  # its successor waits until there is no room for it
    os.kill(lost, signal.SIGKILL)
    children.until(lambda: children.deaths, "a death")
    free = sorted(set(range(1000)) - open_files(server))
    resource.prlimit(server, resource.RLIMIT_NOFILE, (free[room], limits[1]))
    children.pool._fork_at = 0.0
    children.until(lambda: said(caplog), "a warning")
    children.run(1)
    children.until(lambda: children.pool._fork_at > time.monotonic(), "another attempt")
    assert (children.server, children.pids, children.deaths) == (server, [kept], 1)
    assert said(caplog) == ["no child can be made (Too many open files); it is tried again every 0.1 s, 1 of 2 live"]
    resource.prlimit(server, resource.RLIMIT_NOFILE, limits)
    children.until(lambda: len(children.pids) == 2, "the successor")
    children.until(lambda: len(open_files(server)) == len(before), "no descriptor left behind")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_an_agent_that_may_open_no_more_files_serves_its_children(children, caplog):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lost, kept = children.pids
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        os.kill(lost, signal.SIGKILL)
        children.until(lambda: said(caplog), "a warning")
        children.until(lambda: children.pool._fork_at > time.monotonic(), "another attempt")
        assert (children.pids, children.deaths) == ([kept], 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(said(caplog)) == 1
    children.run(1)
    children.until(lambda: len(children.pids) == 2, "the successor")


def test_a_worker_lives_on_whose_fork_server_dies_now_and_then(children, monkeypatch):
    monkeypatch.setattr(pools, "EARLY_DEATHS", 1)
    for number in (1, 2, 3):
        children.run(number)
        server = children.server
        os.kill(server, signal.SIGKILL)
        children.until(lambda server=server: children.server != server, "a new fork server")
        children.until(lambda: len(children.pids) == 2, "children")
    assert children.deaths == 6


def test_a_fork_server_that_dies_again_and_again_is_given_up(children, monkeypatch):
    monkeypatch.setattr(pools, "EARLY_DEATHS", 1)
    server = children.server
    os.kill(server, signal.SIGKILL)
    children.until(lambda: children.server != server and children.pool._ready, "a new fork server")
    os.kill(children.server, signal.SIGKILL)
    with pytest.raises(zmqtasks.ZmqTasksError, match=r"the fork server died 2 times .*; giving up"):
        children.until(lambda: False, "the end")


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
