"""The real daemon among peers that break every rule; a healthy pair is served all the while."""

import os
import random
import resource
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
import zmq

from tests.helpers.daemon import PREFIX, joined, round_trip, submitter_hello, worker_hello
from tests.helpers.fuzz import any_message, break_bytes
from tests.helpers.scheduler_harness import RELEASE
from tests.helpers.wire_examples import EXAMPLES
from zmqtasks import wire
from zmqtasks.descriptors import Doorman
from zmqtasks.transport import MAX_FRAME, Context

ANY = "tcp://127.0.0.1:0"
SIGNATURE = b"\xff\0\0\0\0\0\0\0\1\x7f"
GREETING = SIGNATURE + b"\3\0NULL".ljust(22, b"\0") + bytes(32)
READY = b"\4\x1c\5READY\x0bSocket-Type\0\0\0\6DEALER"
PONG = b"\4\5\4PONG"
SMALL_LIMIT = 200
OPERATOR = wire.OperatorHello(wire.MAGIC, 1, RELEASE, "h", 1)
HELLO = wire.encode(OPERATOR)


def limited(soft=None, hard=None):
    """Code of a daemon that may open so many files, and is patient with workers that do not say that they live."""
    return (
        "import resource, sys; from zmqtasks.scheduler.daemon import *; from zmqtasks.config import SchedulerSettings;"
        "now = resource.getrlimit(resource.RLIMIT_NOFILE);"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft} or now[0], {hard} or now[1]));"
        f"sys.exit(run_scheduler(SchedulerOptions(bind=({ANY!r},), settings=SchedulerSettings(lease=600.0))))"
    )


@pytest.fixture
def raw():
    """Open TCP connections that are closed with the test."""
    made = []

    def _raw(url, data=b""):
        host, port = url.removeprefix("tcp://").split(":")
        sock = socket.create_connection((host, int(port)), timeout=10)
        made.append(sock)
        sock.sendall(data)
        return sock

    yield _raw
    for sock in made:
        sock.close()


@pytest.fixture
def zmq_socket():
    context = Context()
    made = []  # so that none is collected before it is closed

    def _socket(kind, url):
        sock = context.zmq.socket(kind)
        made.append(sock)
        sock.setsockopt(zmq.LINGER, 0)
        sock.setsockopt(zmq.SNDTIMEO, 10_000)
        sock.connect(url)
        return sock

    yield _socket
    for sock in made:
        sock.close(0)
    context.close()


def operator_of(peers, url):
    operator = peers(url, wire.decode_to_operator)
    operator.ask(OPERATOR, wire.OperatorWelcome)
    return operator


def status(operator):
    return operator.ask(wire.AskStatus(), wire.Status)


def counters(operator):
    return status(operator).counters


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.02)
    return value


def hear(sock, wanted):
    """Read until this has come."""
    sock.settimeout(30)
    data = b""
    while wanted not in data:
        part = sock.recv(4096)
        assert part, f"the connection was cut after {data!r}"
        data += part


def cut(sock):
    """Whether the other side has closed this connection; what it said before does not matter."""
    sock.settimeout(0)
    try:
        while data := sock.recv(4096):
            assert data
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0" + bytes(600), b"\0" * 5_000,
        SIGNATURE + b"\1" + bytes(53), SIGNATURE + b"\3\0CURVE".ljust(22, b"\0") + bytes(32),
        SIGNATURE + b"\3\0PLAIN".ljust(22, b"\0") + bytes(32), GREETING + b"\4\x05\5NOPE!", GREETING + b"\xff" * 100,
        GREETING + b"\6\x7f\xff\xff\xff\xff\xff\xff\xff", GREETING + READY + b"\2\x7f" + bytes(7) + b"\xff",
    ],
    ids=["http", "tls", "zeros", "zmtp1", "curve", "plain", "no-ready", "nonsense", "huge-command", "huge-frame"],
)  # fmt: skip
def test_what_does_not_speak_zeromq_is_cut_and_counted_and_nobody_else_notices(start, peers, raw, data):
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    socks = []
    for number in range(20):
        socks.append(raw(daemon.url))
        try:
            socks[-1].sendall(data)
        except OSError:
            pass  # it has hung up already
        if number % 10 == 0:
            round_trip(w, s, number)
    for sock in socks:
        sock.close()
    round_trip(w, s, 100)
    assert len(daemon.end()[1].splitlines()) <= 3  # of 20 connections


def test_half_a_greeting_does_not_hold_a_connection_for_ever(start, peers, raw):
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    socks = [raw(daemon.url, GREETING[:cut_at]) for cut_at in (0, 1, 10, 12, 40, 64)]
    until(lambda: all(map(cut, socks)), 60)
    assert counters(operator_of(peers, daemon.url))["failed_handshakes"] >= len(socks)
    round_trip(w, s)
    assert daemon.end()[1].count("handshake") == 1


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.PUB, zmq.SUB, zmq.PUSH, zmq.PULL, zmq.ROUTER, zmq.REP, zmq.PAIR])
def test_other_kinds_of_sockets_disturb_nobody(start, peers, zmq_socket, kind):
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    sock = zmq_socket(kind, daemon.url)
    if kind in {zmq.REQ, zmq.PUB, zmq.PUSH}:
        for _ in range(50 if kind != zmq.REQ else 1):
            try:
                sock.send(wire.encode(EXAMPLES["Submit"]), zmq.DONTWAIT)
            except zmq.Again:
                break  # it found no peer of its kind
    for number in range(3):
        round_trip(w, s, number)
    sock.close(0)
    assert daemon.end()[0] == 0


def test_frames_that_are_empty_many_or_huge(start, peers, zmq_socket):
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    for frames in ([b""], [b"", b""], [b"x"] * 2_000, [b"", wire.encode(submitter_hello())], [bytes(1_000_000)] * 5):
        zmq_socket(zmq.DEALER, daemon.url).send_multipart(frames)
    huge = zmq_socket(zmq.DEALER, daemon.url)
    watch = huge.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    huge.send(bytes(MAX_FRAME + 1))
    assert watch.poll(20_000), "zmq has not cut the connection"
    huge.disable_monitor()
    watch.close(0)
    round_trip(w, s)
    operator = operator_of(peers, daemon.url)
    assert until(lambda: counters(operator).get("strangers", 0) >= 5)
    assert psutil.Process(daemon.process.pid).memory_info().rss < 300 * 2**20
    assert daemon.end()[0] == 0


def test_who_breaks_the_protocol_is_counted_and_told_once_with_its_address(start, peers):
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    rng = random.Random(7)
    bad = peers(daemon.url, wire.decode_to_worker)
    bad.ask(worker_hello(name="bad", nonce=b"b" * 16, queues=["none"]), wire.WorkerWelcome)
    for number in range(2_000):
        bad.send(b"\x92\x1e" + rng.randbytes(20) if number % 2 else wire.encode(EXAMPLES["Submit"]))
    round_trip(w, s)
    operator = operator_of(peers, daemon.url)
    until(lambda: bad.link.flush() and counters(operator).get("malformed_messages", 0) >= 2_000)
    _, said = daemon.end()
    assert said.count("a message was refused") == 1
    assert "(from 127.0.0.1)" in said


def test_strangers_leave_nothing_behind(start, peers, zmq_socket):
    """A connection that never says hello costs no memory, whatever it says and however often it comes back."""
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    rng = random.Random(7)
    process = psutil.Process(daemon.process.pid)
    sizes = []
    for number in range(3):
        for _ in range(150):
            sock = zmq_socket(zmq.DEALER, daemon.url)
            for _ in range(20):
                sock.send(break_bytes(rng, any_message(rng)))
            sock.close(100)
        round_trip(w, s, number)
        sizes.append(process.memory_info().rss)
    told = status(operator_of(peers, daemon.url))
    assert told.counters["strangers"] > 100
    assert told.submitters <= 1 + told.counters.get("late_hellos", 0) + 450
    assert sizes[2] - sizes[1] < 20 * 2**20
    assert daemon.end()[0] == 0


@pytest.mark.timeout(180)
def test_a_flood_of_tiny_messages_leaves_the_others_their_turn(start, peers, zmq_socket):
    """Two strangers send as fast as they can; a round trip takes longer then, but not for ever, and memory stays."""
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    process = psutil.Process(daemon.process.pid)
    floods = [zmq_socket(zmq.DEALER, daemon.url) for _ in range(2)]
    sent = 0
    before = process.memory_info().rss
    for number in range(10):
        for flood in floods:
            try:
                for _ in range(20_000):
                    flood.send(b"\x91\xcc\xff", zmq.DONTWAIT)
                    sent += 1
            except zmq.Again:
                pass  # the daemon lags behind, as it may
        round_trip(w, s, number)
    assert sent > 10_000
    assert process.memory_info().rss - before < 64 * 2**20
    assert daemon.end()[0] == 0


def test_who_never_reads_the_answers_is_dropped_when_they_are_too_many(start, peers, raw):
    """Answers to a stranger are parked up to a bound; what the kernel and zmq hold comes on top."""
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    process = psutil.Process(daemon.process.pid)
    before = process.memory_info().rss
    deaf = raw(daemon.url, GREETING + READY)
    hear(deaf, b"ROUTER")
    deaf.sendall(b"\0" + bytes([len(HELLO)]) + HELLO)
    ask = wire.encode(wire.AskStatus())
    frame = b"\0" + bytes([len(ask)]) + ask
    for number in range(20):
        deaf.sendall(frame * 2_000)
        round_trip(w, s, number)
    assert process.memory_info().rss - before < 64 * 2**20
    deaf.close()
    assert daemon.end()[0] == 0


def test_at_the_limit_of_open_files_those_inside_are_served_and_others_get_in_when_some_leave(start, peers, raw):
    daemon = start(code=limited(SMALL_LIMIT, SMALL_LIMIT)).ready()
    w, s = joined(peers, daemon.url)
    operator = operator_of(peers, daemon.url)
    crowd = []
    while len(crowd) < SMALL_LIMIT:  # those that get in say so by their half of the handshake
        sock = raw(daemon.url, GREETING + READY)
        crowd.append(sock)
    told = until(lambda: (t := status(operator)).counters.get("turned_away", 0) and t)
    assert any("new peers are turned away" in warning for warning in told.warnings)
    round_trip(w, s, 0)
    assert cpu_share(daemon.process.pid) < 0.5  # a listener that spins takes all of one core, and more
    for sock in crowd:
        sock.close()
    late, later = peers(daemon.url, wire.decode_to_worker), peers(daemon.url, wire.decode_to_submitter)
    late.ask(worker_hello(name="late", nonce=b"l" * 16, queues=["late"]), wire.WorkerWelcome)
    later.ask(submitter_hello(prefix=b"session 0002"), wire.SubmitterWelcome)
    round_trip(w, s, 1)
    assert until(lambda: not status(operator).warnings)
    code, said = daemon.end()
    assert code == 0
    assert 1 <= said.count("ulimit -n") <= 2, said


def test_connections_that_never_shake_hands_cannot_take_all_files(start, peers, raw):
    """As above, but they come faster than they are cut: the limit itself is reached, and nothing spins."""
    daemon = start(code=limited(SMALL_LIMIT, SMALL_LIMIT)).ready()
    w, s = joined(peers, daemon.url)
    crowd = [raw(daemon.url) for _ in range(3 * SMALL_LIMIT)]
    round_trip(w, s, 0)
    assert cpu_share(daemon.process.pid) < 0.5
    until(lambda: all(map(cut, crowd)))
    late = peers(daemon.url, wire.decode_to_worker)
    late.ask(worker_hello(name="late", nonce=b"l" * 16, queues=["late"]), wire.WorkerWelcome)
    round_trip(w, s, 1)
    assert counters(operator_of(peers, daemon.url))["turned_away"] > 0
    assert daemon.end()[0] == 0


def test_no_signal_goes_to_the_doorman():
    """Python's handler writes to the descriptor that wakes the main thread: in the doorman's table it is not there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        doorman = Doorman(listener.fileno())
        try:
            until(lambda: doorman.able is not None)
            told = Path(f"/proc/self/task/{doorman._thread.native_id}/status").read_text() if doorman.able else ""
        finally:
            doorman.close()
    if not doorman.able:
        pytest.skip("this system lets no thread have a table of its own")
    (blocked,) = [int(line.split()[1], 16) for line in told.splitlines() if line.startswith("SigBlk")]
    assert all(blocked >> number - 1 & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def cpu_share(pid, seconds=1.0):
    """How much of one core a process uses."""
    process = psutil.Process(pid)
    before = sum(process.cpu_times()[:2])
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / seconds


def test_a_daemon_raises_its_limit_of_open_files(start):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= SMALL_LIMIT:
        pytest.skip("the hard limit is low")
    daemon = start(code=limited(SMALL_LIMIT)).ready()
    assert psutil.Process(daemon.process.pid).rlimit(psutil.RLIMIT_NOFILE)[0] > SMALL_LIMIT
    assert daemon.end()[0] == 0


def crowd_of(count, peers, url, raw, w, s):
    """Many connections that have shaken hands; the figures of them."""
    process = psutil.Process(int(status(operator_of(peers, url)).pid))
    rss, began = process.memory_info().rss, time.monotonic()
    socks = []
    alive = began
    while len(socks) < count:
        batch = [raw(url, GREETING + READY) for _ in range(min(500, count - len(socks)))]
        for sock in batch:
            hear(sock, b"ROUTER")  # the end of the handshake; who says more before it is cut
            sock.sendall(b"\0" + bytes([len(HELLO)]) + HELLO)
        for sock in batch:
            hear(sock, RELEASE.encode())
        socks += batch
        if time.monotonic() > alive + 1.0:
            alive = time.monotonic()
            for sock in socks:
                sock.sendall(PONG)
    took = time.monotonic() - began
    for number in range(5):
        round_trip(w, s, number)
    assert not any(map(cut, socks))
    return took, (process.memory_info().rss - rss) / count


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.nightly)])
@pytest.mark.timeout(300)
def test_thousands_of_connections(start, peers, raw, count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + 200
    if hard != resource.RLIM_INFINITY and hard * 0.9 < needed:
        pytest.skip(f"needs {needed} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    try:
        daemon = start(code=limited()).ready()
        w, s = joined(peers, daemon.url)
        took, each = crowd_of(count, peers, daemon.url, raw, w, s)
        print(f"{count:,} connections: {took:.2f} s, {each / 1024:.1f} KiB each")
        assert each < 256 * 1024
        assert daemon.end()[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_stopped_daemon_is_found_again_by_a_crowd(start, peers):
    """What waits in a stopped daemon's port is served when it goes on."""
    daemon = start(code=limited()).ready()
    w, s = joined(peers, daemon.url)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    waiting = [peers(daemon.url, wire.decode_to_operator) for _ in range(20)]
    for one in waiting:
        one.link.service(time.monotonic())
    os.kill(daemon.process.pid, signal.SIGCONT)
    for one in waiting:
        one.ask(OPERATOR, wire.OperatorWelcome)
    round_trip(w, s)
    assert PREFIX
