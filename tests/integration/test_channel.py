"""A peer's Channel and the scheduler's Lanes over real sockets."""

import hashlib
import logging
import os
import time
from collections import deque

import pytest

from zmqtasks import channel as channel_module
from zmqtasks import wire
from zmqtasks.channel import Channel
from zmqtasks.config import BULK_WINDOW, MIB
from zmqtasks.errors import PeerError
from zmqtasks.scheduler.lanes import Lanes
from zmqtasks.transport import Change, Context, Router, wait

KEY = b"n" * 16
HELLO = wire.BulkHello(wire.MAGIC, wire.PROTOCOL, "0.1.0", KEY, 1)
OPEN = wire.encode(wire.OpenBulk())
PING = wire.encode(wire.Ping())


@pytest.fixture
def context():
    context = Context()
    yield context
    context.close()


@pytest.fixture(params=["tcp", "ipc"])
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path}/s"


class Side:
    """The scheduler's side as the daemon drives it, without a core: one control connection, and its lane.

    Attributes:
        got: messages, joined or from control.
        broken: PeerErrors of the bulk connection.
    """

    def __init__(self, context, url):
        self.router = Router(context)
        self.url = self.router.bind(url)
        self.lanes = Lanes(self.router.send)
        self.got = deque()
        self.broken = []
        self.hellos = deque()
        self.control = self.bulk = None
        self.binds = True
        self.reads = True
        self.chunks = 0

    def turn(self):
        while self.reads and (message := self.router.receive()) is not None:
            route, data = message
            if route in self.lanes.by_bulk:
                self.chunks += 1
                try:
                    whole = self.lanes.receive(route, data, 0.0)
                except PeerError as error:
                    self.broken.append(error)
                    self.lanes.forget(route)
                    continue
                if whole is not None:
                    assert whole[0] == self.control
                    self.got.append(whole[1])
            elif isinstance(hello := wire.decode_hello(data), wire.BulkHello):
                self.hellos.append(hello)
                if self.binds:
                    self.bulk = route
                    self.lanes.bind(self.control, route)
            else:
                self.control = route
                self.got.append(data)
        self.lanes.pump(16)
        self.router.flush()
        self.lanes.check()

    def close(self):
        self.router.close()


@pytest.fixture
def side(context, url):
    side = Side(context, url)
    yield side
    side.close()


@pytest.fixture
def peer(context, side):
    peer = Channel(context, side.url, 0.0, lambda: HELLO)
    peer.seen, peer.got, peer.asked = [], deque(), 0
    yield peer
    peer.close()


def turn(peer):
    """One turn of a peer's loop, without the wait; what came."""
    peer.seen += peer.service(time.monotonic())
    peer.flush()
    return peer.receive()


def until(condition, peer, side, seconds=20.0):
    """Serve both sides until the condition holds. Messages that the peer got are in `peer.got`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        while (data := turn(peer)) is not None:
            if data == OPEN:
                peer.asked += 1
                peer.open_bulk()
            else:
                peer.got.append(data)
        side.turn()
        assert time.monotonic() < deadline, f"nothing came; {peer.seen}, {len(peer.got)}, {len(side.got)}"
        if not side.lanes.ready:
            due = peer.next_deadline()
            timeout = 0.01 if due is None else min(0.01, max(0.0, due - time.monotonic()))
            wait([*peer.readers(), *side.router.readers()], timeout)
    return value


def greet(peer, side):
    until(lambda: peer.connected, peer, side)
    peer.send(b"hello")
    until(lambda: side.got, peer, side)
    assert side.got.popleft() == b"hello"
    return side.control


def marks(messages):
    """Digests: what pytest would print of two different 64 MiB is of no use."""
    return sorted(hashlib.blake2b(message, digest_size=8).hexdigest() for message in messages)


def code(size):
    piece = os.urandom(min(size, 100_003))
    return wire.Code(os.urandom(16), (piece * (size // len(piece) + 1))[:size])


def test_large_messages_go_both_ways_whole(peer, side):
    control = greet(peer, side)
    ours, theirs = [code(6 * MIB), code(10), code(MIB)], [code(1), code(8 * MIB), code(2 * MIB)]
    for message in ours:
        peer.send_bulk(message)
    for message in theirs:
        side.lanes.send(control, message)
    until(lambda: len(side.got) == 3 and len(peer.got) == 3, peer, side)
    assert marks(side.got) == marks(map(wire.encode, ours))
    assert marks(peer.got) == marks(map(wire.encode, theirs))
    assert side.lanes.held == 0
    assert list(side.hellos) == [HELLO]
    assert peer.seen == [Change.CONNECTED]


def test_the_scheduler_asks_for_the_connection_once_and_the_loop_opens_it(peer, side):
    control = greet(peer, side)
    messages = [code(100_000) for _ in range(3)]
    for message in messages:
        side.lanes.send(control, message)
    until(lambda: len(peer.got) == 3, peer, side)
    assert marks(peer.got) == marks(map(wire.encode, messages))
    assert peer.asked == 1
    assert len(side.hellos) == 1


def test_no_connection_is_opened_without_need(peer, side):
    greet(peer, side)
    for number in range(50):
        peer.send(b"%d" % number)
    until(lambda: len(side.got) == 50, peer, side)
    assert len(peer.readers()) == 2
    assert not side.hellos


def test_small_messages_pass_while_a_large_one_is_under_way(peer, side):
    """Both ways, and each is there long before the large one: a round of this test moves several MiB."""
    control = greet(peer, side)
    large = code(64 * MIB)
    peer.send_bulk(large)
    side.lanes.send(control, large)
    until(lambda: side.chunks, peer, side)
    for number in range(4):
        peer.send(b"beat %d" % number)
        until(lambda: side.got, peer, side)
        assert side.got.popleft() == b"beat %d" % number
        side.router.send(control, b"answer %d" % number)
        until(lambda: peer.got, peer, side)
        assert peer.got.pop() == b"answer %d" % number
    until(lambda: side.got and peer.got, peer, side)
    assert marks(side.got) == marks(peer.got) == marks([wire.encode(large)])


def test_a_scheduler_that_does_not_read_is_sent_no_more_than_the_window(peer, side):
    greet(peer, side)
    peer.send_bulk(code(MIB))
    until(lambda: side.got, peer, side)
    side.got.clear()
    side.reads = False
    peer.send_bulk(code(12 * MIB))
    for _ in range(200):
        turn(peer)
    assert peer._outgoing.credit == 0
    assert sum(map(len, peer._bulk.outbox)) <= BULK_WINDOW + 10_000
    peer.send(b"beat")
    side.reads = True
    until(lambda: side.got, peer, side)
    assert side.got.popleft() == b"beat"
    until(lambda: side.got, peer, side)


def test_a_peer_that_does_not_read_is_sent_no_more_than_the_window(peer, side):
    control = greet(peer, side)
    peer.send_bulk(code(MIB))
    until(lambda: side.got, peer, side)
    large = [code(6 * MIB) for _ in range(3)]
    for message in large:
        side.lanes.send(control, message)
    for _ in range(200):
        side.turn()
    assert not side.lanes.ready
    assert sum(map(len, side.router.parked.get(side.bulk, ()))) <= BULK_WINDOW + 10_000
    until(lambda: len(peer.got) == 3, peer, side)
    assert marks(peer.got) == marks(map(wire.encode, large))


def test_one_reads_slowly_and_it_comes_all_the_same(peer, side):
    greet(peer, side)
    large = code(8 * MIB)
    peer.send_bulk(large)
    until(lambda: side.chunks, peer, side)
    rounds = 0
    while not side.got:
        rounds += 1
        side.reads = rounds % 5 == 0
        turn(peer)
        side.turn()
        wait(side.router.readers(), 0.001)
        assert rounds < 100_000
    assert marks(side.got) == marks([wire.encode(large)])


def begin_anew(peer, side):
    """Both connections break and come again: told once; what was under way is gone."""
    old = side.control, side.bulk
    seen = len(peer.seen)
    until(lambda: peer.seen[seen:] == [Change.BROKEN, Change.CONNECTED], peer, side)
    side.lanes.forget(side.control)
    side.got.clear()
    peer.got.clear()
    greet(peer, side)
    message = code(3 * MIB)
    peer.send_bulk(message)
    until(lambda: side.got, peer, side)
    assert marks(side.got) == marks([wire.encode(message)])
    assert side.control not in old
    assert side.bulk not in old
    assert peer.seen[seen:] == [Change.BROKEN, Change.CONNECTED]


@pytest.fixture
def busy(peer, side):
    """A large message is under way in each direction."""
    control = greet(peer, side)
    peer.send_bulk(code(12 * MIB))
    side.lanes.send(control, code(12 * MIB))
    until(lambda: side.chunks > 3, peer, side)
    side.lanes.check()


@pytest.mark.usefixtures("busy")
def test_where_the_bulk_connection_breaks_both_begin_anew(peer, side):
    peer._bulk._close()
    peer._bulk.reopen_at = None
    sock = peer._control._socket
    peer._bulk.service = lambda mono, ready: [Change.BROKEN]  # what the monitor tells when the line is cut
    begin_anew(peer, side)
    assert peer._control._socket is not sock


@pytest.mark.usefixtures("busy")
def test_where_control_breaks_both_begin_anew(peer, side):
    peer._control.monitor.close(0)
    control = peer._control
    before = control.service

    def broken(mono, ready):
        control.service = before
        control._close()
        control.reopen_at = mono
        return [Change.BROKEN]

    control.service = broken
    begin_anew(peer, side)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (wire.encode(wire.HelloAgain()), "does not know the bulk connection"),
        (wire.encode(wire.Refused("hello", "why not", 1, "0.1.0")), "refused the bulk connection (why not)"),
        (b"garbage", "broke the protocol of the bulk connection"),
        (wire.encode(wire.BulkWelcome(5)), "a second welcome"),
        (wire.encode(wire.Credit(2**40)), "credit for"),
        (wire.encode(wire.Chunk(77, True, bytes(5 * MIB))), "a chunk of 5242880 bytes"),
    ],
)
def test_nonsense_on_the_bulk_connection_begins_both_anew(peer, side, frame, says, caplog):
    with caplog.at_level(logging.WARNING, "zmqtasks.channel"):
        side.router.send(side.bulk, frame)
        side.router.send(side.bulk, PING)
        begin_anew(peer, side)
    assert says in caplog.text


@pytest.mark.usefixtures("busy")
def test_a_ping_is_nothing(peer, side):
    side.router.send(side.bulk, PING)
    until(lambda: side.got, peer, side)
    assert peer.seen == [Change.CONNECTED]


@pytest.mark.usefixtures("busy")
def test_restart_begins_both_anew_and_tells_nobody(peer, side):
    peer.restart(time.monotonic())
    assert not peer.connected
    assert peer.receive() is None
    seen = len(peer.seen)
    until(lambda: peer.connected, peer, side)
    assert peer.seen[seen:] == [Change.CONNECTED]
    assert not peer._outgoing


@pytest.mark.usefixtures("busy")
def test_a_session_that_begins_anew_never_reuses_a_bulk_connection(peer, side):
    peer.close_bulk()
    begin_anew(peer, side)


def test_a_session_that_begins_anew_without_a_bulk_connection_keeps_control(peer, side):
    control = greet(peer, side)
    peer.close_bulk()
    peer.send(b"again")
    until(lambda: side.got, peer, side)
    assert side.control == control
    assert peer.seen == [Change.CONNECTED]


def test_without_a_connection_nothing_is_kept(peer, side):
    peer.send_bulk(code(MIB))
    peer.open_bulk()
    greet(peer, side)
    for _ in range(50):
        turn(peer)
        side.turn()
    assert not side.hellos
    assert not peer._outgoing


def test_a_bulk_connection_that_nobody_welcomes_is_given_up_and_tried_later(peer, side, monkeypatch, caplog):
    monkeypatch.setattr(channel_module, "WELCOME_WITHIN", 0.05)
    monkeypatch.setattr(channel_module, "BULK_RETRY_FIRST", 0.05)
    peer._retry = 0.05
    side.binds = False
    greet(peer, side)
    for _ in range(3):  # the owner sends again what is missing, each time
        peer.open_bulk()
        seen = len(peer.seen)
        until(lambda: Change.CONNECTED in peer.seen[seen:], peer, side)  # noqa: B023  (used before the next round)
    assert peer._retry == pytest.approx(0.4)
    assert "did not welcome the bulk connection within 0.05 s" in caplog.text
    monkeypatch.setattr(channel_module, "WELCOME_WITHIN", 10.0)
    side.binds = True
    begun = len(side.hellos)
    greet(peer, side)
    peer.send_bulk(code(MIB))
    until(lambda: side.got, peer, side)
    assert len(side.hellos) == begun + 1
    assert peer._retry == pytest.approx(0.05)


def test_lanes_refuse_what_is_no_chunk(peer, side):
    for frame, says in (
        (wire.encode(HELLO), "a second hello"),
        (b"\xc1", "FromBulk"),
        (wire.encode(wire.Heartbeat(1, [], [])), "FromBulk"),
    ):
        greet(peer, side)
        peer.open_bulk()
        until(lambda: side.bulk is not None and side.bulk in side.lanes.by_bulk, peer, side)
        until(lambda: peer._incoming is not None, peer, side)
        peer._bulk.send(frame)
        until(lambda: side.broken, peer, side)
        assert says in str(side.broken.pop())
        assert not side.lanes.by_bulk
        peer.restart(time.monotonic())
