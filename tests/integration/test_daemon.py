"""The real daemon as a process, and peers that speak the wire to it with bare Links."""

import os
import random
import signal
import socket
import time
from pathlib import Path

import pytest
import zmq

from tests.helpers.daemon import PREFIX, joined, round_trip, submit, submitter_hello, worker_hello
from tests.helpers.scheduler_harness import RELEASE
from tests.helpers.wire_examples import EXAMPLES
from zmqtasks import wire
from zmqtasks.channel import Channel
from zmqtasks.errors import BadUrl
from zmqtasks.ids import spans
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.daemon import LONE, Daemon, SchedulerOptions, run_scheduler
from zmqtasks.scheduler.journal import MemoryJournal
from zmqtasks.states import ASSIGNED, READY, RUNNING
from zmqtasks.transport import Context, Wakeup, wait


@pytest.fixture(params=["tcp", "ipc"])
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path}/s"


def test_a_job_goes_through_and_sigterm_ends_in_good_order(start, peers, url, tmp_path):
    daemon = start(url).ready()
    w, s = joined(peers, daemon.url)
    for first in range(5):
        round_trip(w, s, first)
    code, said = daemon.end()
    assert (code, said) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_sigint_too(start):
    assert start("tcp://127.0.0.1:0").ready().end(signal.SIGINT)[0] == 0


def test_the_time_until_it_turns_is_no_gap(url):
    """To restore a large journal takes seconds; nothing stood still then, and no warning says so."""
    daemon = Daemon(SchedulerOptions(bind=(url,)), MemoryJournal(), Wakeup())
    try:
        daemon.bind()
        restored = time.monotonic()
        daemon.stop()  # right after it has begun
        daemon.run()
        assert daemon._now.mono >= restored
    finally:
        daemon.close()


def test_it_goes_on_looking_only_after_a_step_of_a_lone_job(url):
    daemon = Daemon(SchedulerOptions(bind=(url,), busy_poll=0.001), MemoryJournal(), Wakeup())
    try:
        daemon.bind()
        counts, fx = daemon.core.state.moves.counts, Effects()
        assert daemon._expecting(fx) is None
        fx.sends.append(Send(b"w", wire.DoneAck([(1, 1)])))
        assert daemon._expecting(fx) is None  # nobody answers that
        fx.sends.append(Send(b"w", wire.Assign(1, 1, [], [])))
        counts[ASSIGNED] = 1
        out = daemon._expecting(fx)
        assert out is not None
        counts[ASSIGNED], counts[RUNNING] = LONE, 1
        assert daemon._expecting(fx) is None  # there is always something to do
        counts[ASSIGNED], counts[RUNNING], counts[READY] = 1, 0, 1
        assert daemon._expecting(fx) is None  # the others wait for something that takes its time
        counts[ASSIGNED] = counts[READY] = 0
        assert daemon._expecting(fx) not in (None, out)  # who knows when the next job comes: that is learnt by itself
    finally:
        daemon.stop()
        daemon.run()
        daemon.close()


def test_two_addresses_at_once(start, peers, tmp_path):
    daemon = start("tcp://127.0.0.1:0", f"ipc://{tmp_path}/s").ready()
    first = daemon.url
    second = daemon.ready().url
    assert (first[:3], second[:3]) == ("tcp", "ipc")
    w, s = peers(first, wire.decode_to_worker), peers(second, wire.decode_to_submitter)
    w.ask(worker_hello())
    s.ask(submitter_hello())
    round_trip(w, s)


def test_thousands_of_jobs(start, peers, url):
    w, s = joined(peers, start(url).ready().url)
    count, outcomes = 10_000, {}
    for first in range(0, count, 500):
        s.send(submit(first, 500))
    accepted = 0
    w.link.send(wire.encode(wire.Heartbeat(0, [], [])))
    deadline = time.monotonic() + 60
    while len(outcomes) < count:
        assert time.monotonic() < deadline, (accepted, len(outcomes))
        wait([*w.link.readers(), *s.link.readers()], 0.01)
        for peer in (w, s):
            peer.link.service(time.monotonic())
            while (data := peer.link.receive()) is not None:
                message = peer.decode(data)
                if isinstance(message, wire.Assign):
                    args = [a for work in message.works for a in work.args]
                    run = wire.Run(message.number, args, 1e-6 * len(args), 1e-6)
                    peer.send(wire.Done([run], []))
                elif isinstance(message, wire.Accepted):
                    accepted += sum(n for _, n in message.counters)
                elif isinstance(message, wire.Results):
                    outcomes.update(zip(message.counters, message.values, strict=True))
                    peer.send(wire.ResultAck(message.delivery))
    assert accepted == count
    assert all(value == b"%d".ljust(3) % counter for counter, value in outcomes.items())


def with_bulk(peer, hello):
    """Give this peer both connections; let it in."""
    link = peer.link
    link.close()
    key = hello.nonce if isinstance(hello, wire.WorkerHello) else hello.prefix
    bulk_hello = wire.BulkHello(wire.MAGIC, wire.PROTOCOL, RELEASE, key, hello.connection)
    peer.link = Channel(link._context, link.url, 0.0, lambda: bulk_hello)
    peer.ask(hello)
    return peer


def test_a_large_payload_goes_through_by_bulk_both_ways(start, peers, url):
    where = start(url).ready().url
    w = with_bulk(peers(where, wire.decode_to_worker), worker_hello())
    s = with_bulk(peers(where, wire.decode_to_submitter), submitter_hello())
    s._until(lambda: s.link.connected)
    data = os.urandom(3 * 1024 * 1024)  # within the window: each peer is served only while the test waits for it
    s.link.send_bulk(wire.Submit(PREFIX, 0, "add", b"", "msgpack", wire.Spec(), [data], []))
    s.next(wire.Accepted)
    got = {}
    while not {wire.Assign, wire.Argument} <= got.keys():
        message = w.next()
        got[type(message)] = message
        if isinstance(message, wire.OpenBulk):
            w.link.open_bulk()
    assert got[wire.Assign].works[0].late == [0]
    assert got[wire.Argument].number == 1
    assert got[wire.Argument].data == data
    w.link.send_bulk(wire.Done([wire.Run(1, [data], 0.1, 0.1)], []))
    results = s.next(wire.Results)
    assert results.bulk
    assert results.values == [data]


def test_nonsense_on_a_bulk_connection_ends_the_session_and_nobody_else_notices(start, peers, url):
    where = start(url).ready().url
    w, s = joined(peers, where)
    bad = with_bulk(peers(where, wire.decode_to_worker), worker_hello(nonce=b"b" * 16, queues=["other"]))
    bad.link.open_bulk()
    bad._until(lambda: bad.link.receive() or bad.link._incoming is not None)
    bad.link._bulk.send(b"garbage")
    bad.send(wire.Heartbeat(0, [], []))
    while not isinstance(bad.next(), wire.HelloAgain):  # the two connections are over together
        bad.send(wire.Heartbeat(0, [], []))
    round_trip(w, s)
    o = peers(where, wire.decode_to_operator)
    o.ask(wire.OperatorHello(wire.MAGIC, 1, RELEASE, "h", 1), wire.OperatorWelcome)
    assert o.ask(wire.AskStatus(), wire.Status).counters["malformed_messages"] == 1


def test_a_dead_connection_is_known_at_once(start, peers):
    daemon = start("tcp://127.0.0.1:0").ready()
    w, _ = joined(peers, daemon.url)
    o = peers(daemon.url, wire.decode_to_operator)
    o.ask(wire.OperatorHello(wire.MAGIC, 1, RELEASE, "h", 1), wire.OperatorWelcome)
    assert o.ask(wire.AskStatus(), wire.Status).workers[0].state == "up"
    w.link.close()
    deadline = time.monotonic() + 1.0
    while o.ask(wire.AskStatus(), wire.Status).workers[0].state != "suspect":
        assert time.monotonic() < deadline, "the lease would have to tell"


def test_results_come_again_over_the_next_connection(start, peers, url):
    daemon = start(url).ready()
    w, s = joined(peers, daemon.url)
    s.ask(submit(0, 1), wire.Accepted)
    s.link.close()
    w.next(wire.Assign)
    w.send(wire.Done([wire.Run(1, [b"late"], 0.1, 0.1)], []))
    w.next(wire.DoneAck)
    again = peers(daemon.url, wire.decode_to_submitter)
    again.ask(submitter_hello(connection=2), wire.SubmitterWelcome)
    again.send(wire.Ask(PREFIX, [(0, 1)]))
    assert again.next(wire.Results).values == [b"late"]


def test_another_protocol_is_refused(start, peers, url):
    s = peers(start(url).ready().url, wire.decode_to_submitter)
    refused = s.ask(submitter_hello(protocol=2, release="9.9"), wire.Refused)
    assert "9.9" in refused.reason
    assert s.ask(wire.ResultAck(1)) == wire.HelloAgain()


def test_zmq_peers_that_send_rubbish_disturb_nobody(start, peers, url):
    daemon = start(url).ready()
    w, s = joined(peers, daemon.url)
    rng = random.Random(7)
    rubbish = peers(daemon.url, wire.decode_to_worker)
    context = Context()
    frames = context.zmq.socket(zmq.DEALER)
    frames.setsockopt(zmq.SNDTIMEO, 5000)
    frames.connect(daemon.url)
    for number in range(300):
        rubbish.send(rng.randbytes(rng.randrange(1, 200)))
        frames.send_multipart([rng.randbytes(rng.randrange(50)) for _ in range(rng.randrange(1, 6))])
        if number % 100 == 0:
            round_trip(w, s, number)
    known = peers(daemon.url, wire.decode_to_worker)
    known.ask(worker_hello(name="bad", nonce=b"b" * 16, queues=["none"]), wire.WorkerWelcome)
    for message in EXAMPLES.values():  # legal messages in illegal order
        known.send(message)
    known.send(rng.randbytes(100))
    round_trip(w, s, 1000)
    frames.close(0)
    context.close()
    assert daemon.end()[0] == 0


def test_every_message_to_every_role_disturbs_nobody(start, peers):
    daemon = start("tcp://127.0.0.1:0").ready()
    w, s = joined(peers, daemon.url)
    hellos = [
        worker_hello(name="bad", nonce=b"b" * 16, queues=["none"]), submitter_hello(prefix=b"session 0002"),
        wire.OperatorHello(wire.MAGIC, 1, RELEASE, "h", 1),
    ]  # fmt: skip
    for hello in hellos:
        for connection, (name, message) in enumerate(EXAMPLES.items(), 1):
            if name == "SubmitterHello":
                continue
            peer = peers(daemon.url, lambda data: data)
            if not isinstance(hello, wire.OperatorHello):
                hello.connection = connection
            peer.ask(hello)
            for _ in range(3):
                peer.send(message)
            peer.link.close(1.0)
    round_trip(w, s, 0)
    assert daemon.end()[0] == 0


def test_raw_tcp_garbage_disturbs_nobody(start, peers):
    daemon = start("tcp://127.0.0.1:0").ready()
    w, s = joined(peers, daemon.url)
    rng = random.Random(7)
    address = ("127.0.0.1", int(daemon.url.rsplit(":", 1)[1]))
    signature = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)  # as a ZMTP peer begins
    for number in range(60):
        with socket.create_connection(address) as raw:
            try:
                raw.sendall(signature[: rng.randrange(64)] + rng.randbytes(rng.randrange(1000)))
                raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
            except OSError:
                pass  # the daemon has hung up
        if number % 20 == 0:
            round_trip(w, s, number)
    round_trip(w, s, 1000)
    assert daemon.end()[0] == 0


def test_the_lifeline_ends_it(start):
    read, write = os.pipe()
    code = (
        "import sys; from zmqtasks.scheduler.daemon import *;"
        f"sys.exit(run_scheduler(SchedulerOptions(bind=('tcp://127.0.0.1:0',), lifeline_fd={read})))"
    )
    daemon = start(code=code, pass_fds=[read]).ready()
    os.close(read)
    os.write(write, b"still here")
    time.sleep(0.1)
    assert daemon.process.poll() is None
    os.close(write)
    assert daemon.end(number=None)[0] == 0


def test_a_pidfile_is_there_as_long_as_the_daemon(start, tmp_path):
    path = tmp_path / "pid"
    code = (
        "import sys; from zmqtasks.scheduler.daemon import *;"
        f"sys.exit(run_scheduler(SchedulerOptions(bind=('tcp://127.0.0.1:0',), pidfile={str(path)!r})))"
    )
    daemon = start(code=code).ready()
    assert path.read_text() == f"{daemon.process.pid}\n"
    assert daemon.end()[0] == 0
    assert not path.exists()


def test_an_address_in_use_is_one_clear_line(start, url):
    daemon = start(url).ready()
    code, said = start(daemon.url).end(number=None)
    assert code == 2
    assert said == f"zmqtasks: {daemon.url} is in use by another process; stop it, or choose another --bind\n"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("tcp://0.0.0.0:0", "--plaintext 10.0.0.0/8"),
        ("http://x", "bad URL 'http://x'"),
        ("ipc:///no/such/directory/s", "cannot listen on ipc:///no/such/directory/s"),
    ],
)
def test_an_address_that_it_may_not_or_cannot_take_is_one_clear_line(start, url, part):
    code, said = start(url).end(number=None)
    assert code == 2
    assert said.startswith("zmqtasks: ")
    assert said.count("\n") == 1
    assert part in said


def test_an_open_address_with_plaintext_lets_this_machine_in(start, peers):
    code = (
        "import sys; from zmqtasks.scheduler.daemon import *;"
        "sys.exit(run_scheduler(SchedulerOptions(bind=('tcp://0.0.0.0:0',), plaintext=('198.51.100.0/24',))))"
    )
    daemon = start(code=code).ready()
    w, s = joined(peers, daemon.url.replace("0.0.0.0", "127.0.0.1"))
    round_trip(w, s)
    code, said = daemon.end()
    assert code == 0
    assert "peers from 198.51.100.0/24 may connect without encryption or keys, as --plaintext says" in said


def test_a_peer_from_elsewhere_is_refused(start, peers):
    """This machine's own address is not loopback: connecting to it comes from it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address than loopback")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has no other address than loopback")
    code = (
        "import sys; from zmqtasks.scheduler.daemon import *;"
        "sys.exit(run_scheduler(SchedulerOptions(bind=('tcp://0.0.0.0:0',), plaintext=('198.51.100.0/24',))))"
    )
    daemon = start(code=code).ready()
    port = daemon.url.rsplit(":", 1)[1]
    outsider = peers(f"tcp://{address}:{port}", wire.decode_to_worker)
    changes = []
    deadline = time.monotonic() + 10
    while not changes:
        assert time.monotonic() < deadline
        changes += outsider.link.service(time.monotonic())
        wait(outsider.link.readers(), 0.01)
    assert changes[0].value == "broken"
    assert not outsider.link.connected
    w, s = joined(peers, f"tcp://127.0.0.1:{port}")
    round_trip(w, s)
    assert f"a peer at {address} was refused: not in --plaintext" in daemon.end()[1]


def test_a_stop_of_the_daemon_costs_no_worker_its_lease(start, peers):
    code = (
        "import sys; from zmqtasks.scheduler.daemon import *; from zmqtasks.config import SchedulerSettings;"
        "s = SchedulerSettings(lease=1.0, heartbeat=0.2);"
        "sys.exit(run_scheduler(SchedulerOptions(bind=('tcp://127.0.0.1:0',), settings=s)))"
    )
    daemon = start(code=code).ready()
    w, s = joined(peers, daemon.url)
    s.ask(submit(0, 1), wire.Accepted)
    assign = w.next(wire.Assign)
    os.kill(daemon.process.pid, signal.SIGSTOP)
    time.sleep(2.0)
    os.kill(daemon.process.pid, signal.SIGCONT)
    w.send(wire.Heartbeat(assign.number, spans([assign.number]), [assign.number]))
    w.send(wire.Done([wire.Run(assign.number, [b"r"], 0.1, 0.1)], []))
    assert w.next() == wire.DoneAck([(1, 1)])
    assert s.next(wire.Results).values == [b"r"]
    assert "stood still" in daemon.end()[1]


def test_idle_costs_next_to_nothing(start, peers):
    daemon = start("tcp://127.0.0.1:0").ready()
    joined(peers, daemon.url)
    stat = Path(f"/proc/{daemon.process.pid}/stat")
    if not stat.exists():
        pytest.skip("needs /proc")

    def used():
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])  # clock ticks, 100 a second

    time.sleep(0.2)
    before = used()
    time.sleep(2.0)
    assert used() - before <= 60  # of 200 that a loop that spins would use; in fact it is about 1


def test_an_address_that_is_refused_leaves_no_journal_behind(tmp_path):
    with pytest.raises(BadUrl, match="--plaintext"):
        run_scheduler(SchedulerOptions(bind=("tcp://0.0.0.0:5555",), data=tmp_path / "data"))
    assert not (tmp_path / "data").exists()
