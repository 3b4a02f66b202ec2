"""The bulk connections of all peers within one bound of memory."""

import random
from collections import deque

import pytest

from zmqtasks import wire
from zmqtasks.bulk import Incoming, Outgoing
from zmqtasks.config import BULK_WINDOW, CHUNK_BYTES, MIB
from zmqtasks.errors import PeerError
from zmqtasks.scheduler.lanes import STALL, Lanes


class Peers:
    """Lanes, and what they sent by route."""

    def __init__(self, held_max=100 * MIB):
        self.sent = deque()
        self.lanes = Lanes(lambda route, frame: self.sent.append((route, frame)), held_max=held_max)

    def peer(self, name):
        self.take(b"b" + name)
        self.lanes.bind(b"c" + name, b"b" + name)
        return Peer(self, name)

    def take(self, route, decode=wire.decode_to_bulk):
        """The messages to this route."""
        mine = [decode(frame) for to, frame in self.sent if to == route]
        self.sent = deque(item for item in self.sent if item[0] != route)
        return mine


class Peer:
    def __init__(self, peers, name):
        self.peers, self.control, self.route = peers, b"c" + name, b"b" + name
        self.outgoing = Outgoing()
        (welcome,) = peers.take(self.route)
        self.window = welcome.window
        self.outgoing.open(welcome.window)

    def push(self, mono=0.0, most=10**9):
        """Send what credit allows; the messages that became whole."""
        whole = []
        while most > 0 and (frame := self.outgoing.next()) is not None:
            most -= 1
            got = self.peers.lanes.receive(self.route, frame, mono)
            self.peers.lanes.check()
            if got:
                assert got[0] == self.control
                whole.append(got[1])
        return whole

    def credits(self):
        gifts = [message.amount for message in self.peers.take(self.route) if isinstance(message, wire.Credit)]
        for amount in gifts:
            self.outgoing.on_credit(amount)
        return gifts

    def add(self, size):
        self.outgoing.add(wire.Code(self.route, bytes(size)))


def test_one_message_comes_whole():
    peers = Peers()
    peer = peers.peer(b"1")
    assert peer.window == BULK_WINDOW
    peer.add(20 * MIB)
    got = []
    while not got:
        got = peer.push()
        assert peer.credits() or got
    assert wire.decode_to_worker(got[0]) == wire.Code(peer.route, bytes(20 * MIB))
    assert peers.lanes.held == 0


def test_beyond_the_bound_only_the_oldest_message_goes_on():
    peers = Peers(held_max=8 * MIB)
    crowd = [peers.peer(b"%d" % number) for number in range(8)]
    assert crowd[-1].window == CHUNK_BYTES  # many share the bound
    for peer in crowd:
        peer.add(6 * MIB)
    finished = []
    for _ in range(10_000):
        for peer in reversed(crowd):
            finished += peer.push()
        peers.lanes.tend(0.0)
        peers.lanes.check()
        assert peers.lanes.held <= 8 * MIB + sum(peer.window for peer in crowd) + 6 * MIB
        for peer in crowd:
            peer.credits()
        if len(finished) == len(crowd):
            break
    assert len(finished) == len(crowd)
    assert peers.lanes.held == 0


def test_the_one_that_holds_up_the_others_is_named():
    peers = Peers(held_max=1 * MIB)
    slow, quick = peers.peer(b"s"), peers.peer(b"q")
    for peer in (slow, quick):
        peer.add(30 * MIB)
    slow.push(mono=1.0, most=1)
    for _ in range(100):
        quick.push(mono=2.0)
        quick.credits()
    assert quick.outgoing.credit == 0
    assert peers.lanes.held > MIB
    assert peers.lanes.tend(1.0 + STALL) is None
    assert peers.lanes.tend(1.1 + STALL) == slow.route
    peers.lanes.forget(slow.route)
    peers.lanes.tend(3.0 + STALL)
    peers.lanes.check()
    assert quick.credits()


def test_nobody_is_named_where_nobody_waits():
    peers = Peers(held_max=MIB)
    slow = peers.peer(b"s")
    slow.add(30 * MIB)
    slow.push(mono=1.0)
    slow.credits()
    assert peers.lanes.tend(1e6) is None


def test_chunks_of_many_peers_take_turns_and_a_turn_is_bounded():
    peers = Peers()
    crowd = [peers.peer(b"%d" % number) for number in range(3)]
    for peer in crowd:
        for _ in range(4):
            peers.lanes.send(peer.control, wire.Code(b"d", bytes(MIB)))
    for _ in range(3):
        peers.lanes.pump(2)
    assert [len(peers.take(peer.route)) for peer in crowd] == [2, 2, 2]
    assert peers.lanes.ready
    peers.lanes.check()


def test_what_waits_for_a_connection_goes_out_when_it_stands_and_not_if_the_session_ends():
    peers = Peers()
    for name in (b"1", b"2"):
        peers.lanes.send(b"c" + name, wire.Code(b"d", name))
        peers.lanes.send(b"c" + name, wire.Code(b"d", name))
        assert peers.take(b"c" + name, wire.decode_to_worker) == [wire.OpenBulk()]
    peers.lanes.forget(b"c2")
    for name in (b"1", b"2"):
        peer = peers.peer(name)
        peers.lanes.pump(10)
        incoming = Incoming(peer.window)
        joined = [incoming.take(chunk) for chunk in peers.take(peer.route)]
        assert [wire.decode_to_worker(data) for data in joined] == ([wire.Code(b"d", b"1")] * 2 if name == b"1" else [])
    peers.lanes.check()


@pytest.mark.parametrize("route", [b"c1", b"b1"])
def test_a_lane_ends_with_either_connection(route):
    peers = Peers()
    peer = peers.peer(b"1")
    peer.add(3 * MIB)
    peer.push()
    peers.lanes.send(peer.control, wire.Code(b"d", bytes(3 * MIB)))
    peers.lanes.forget(route)
    peers.lanes.forget(route)
    peers.lanes.check()
    assert not peers.lanes.by_bulk
    assert not peers.lanes.ready
    assert peers.lanes.held == 0


def test_a_second_bulk_connection_takes_the_place_of_the_first():
    peers = Peers()
    peers.peer(b"1")
    peers.lanes.bind(b"c1", b"other")
    peers.lanes.check()
    assert list(peers.lanes.by_bulk) == [b"other"]


def test_a_peer_that_breaks_the_rules_harms_nobody_else():
    peers = Peers()
    good, bad = peers.peer(b"g"), peers.peer(b"b")
    good.add(3 * MIB)
    good.push(most=2)
    for frame in (wire.encode(wire.Chunk(1, False, b"")), wire.encode(wire.Credit(1)), b"", b"\xc0"):
        with pytest.raises(PeerError):
            peers.lanes.receive(bad.route, frame, 0.0)
    peers.lanes.forget(bad.route)
    peers.lanes.check()
    assert len(good.push()) == 1


@pytest.mark.parametrize("seed", range(20))
def test_any_history_keeps_the_laws_and_ends(seed):
    chance = random.Random(seed)
    peers = Peers(held_max=chance.choice((MIB, 3 * MIB, 100 * MIB)))
    crowd = {}
    for step in range(400):
        action = chance.randrange(7)
        name = b"%d" % chance.randrange(5)
        if action == 0 or name not in crowd:
            crowd[name] = peers.peer(name)  # anew: whatever was under way is gone
        peer = crowd[name]
        if action == 1:
            peer.add(chance.randrange(2 * MIB))
        elif action == 2:
            peer.push(mono=step, most=chance.randrange(10))
        elif action == 3:
            peer.credits()
        elif action == 4:
            peers.lanes.send(peer.control, wire.Code(b"d", bytes(chance.randrange(MIB))))
        elif action == 5:
            peers.lanes.pump(chance.randrange(20))
        elif chance.random() < 0.1:
            peers.lanes.forget(chance.choice((peer.control, peer.route)))
            del crowd[name]
        peers.lanes.tend(0.0)
        peers.lanes.check()
    for _ in range(2_000):
        for peer in crowd.values():
            peer.push()
            peer.credits()
        peers.lanes.tend(0.0)
    assert peers.lanes.held == 0
    assert not any(peer.outgoing for peer in crowd.values())
