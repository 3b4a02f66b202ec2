"""The first message of a connection, and what is no proper message at all."""

import msgspec
import pytest

from tests.helpers.scheduler_harness import EPOCH, RELEASE, OperatorPeer, Peer, SubmitterPeer, WorkerPeer
from zmqtasks import wire
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.model import Operator


def test_each_kind_of_peer_is_welcomed(h):
    w, s, o = WorkerPeer(h, "w"), SubmitterPeer(h, "s"), OperatorPeer(h, "o")
    fx = h.turn((w, w.hello()), (s, s.hello()), (o, o.hello()))
    w.expect(wire.WorkerWelcome(EPOCH, RELEASE, 1.0, 4.0, 64 * 1024 * 1024, []))
    s.expect(wire.SubmitterWelcome(EPOCH, RELEASE, durable=False, max_payload=64 * 1024 * 1024))
    o.expect(wire.OperatorWelcome(EPOCH, RELEASE))
    assert (fx.records, fx.stores, fx.loads, fx.drops, fx.forget) == ([], [], [], [], [])
    assert fx.logs == [Log(20, "worker-joined", "worker w (host, pid 7) joined with 1 slot")]


@pytest.mark.parametrize("kind", [WorkerPeer, SubmitterPeer])
def test_another_protocol_is_refused_and_both_versions_are_named(h, kind):
    peer = kind(h, "x")
    peer.send(peer.hello(protocol=7, release="9.9"))
    refused = peer.expect(wire.Refused)
    assert (refused.code, refused.protocol, refused.release) == ("protocol", wire.PROTOCOL, RELEASE)
    for part in ("protocol 7", "zmqtasks 9.9", f"protocol {wire.PROTOCOL}", f"zmqtasks {RELEASE}", "install"):
        assert part in refused.reason
    assert h.counters == {"refused_hellos": 1}
    assert not h.core.state.peers


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"GET / HTTP/1.1", msgspec.msgpack.encode([1]), wire.encode(wire.Heartbeat(1, [], []))],
    ids=["empty", "no MessagePack", "HTTP", "short", "heartbeat"],
)
def test_a_stranger_is_told_to_say_hello(h, data):
    peer = WorkerPeer(h, "x")
    fx = peer.send(data)
    assert fx == Effects(sends=[Send(peer.route, wire.HelloAgain())])
    peer.expect(wire.HelloAgain())
    assert h.counters == {"strangers": 1}


def test_a_malformed_message_of_a_known_peer_changes_nothing(h):
    peers: list[Peer] = [h.worker(), h.submitter(), h.operator()]
    for peer in peers:
        before = dict(h.core.state.peers)
        fx = peer.send(b"\x93\x01\x02\x03")
        assert (fx.records, fx.sends, [log.action for log in fx.logs]) == ([], [], ["malformed"])
        assert h.core.state.peers == before
    assert h.counters == {"malformed_messages": 3}


def test_a_message_of_another_direction_is_malformed(h):
    w, s = h.worker(), h.submitter()
    w.send(wire.ResultAck(1))
    s.send(wire.Goodbye())
    assert h.counters == {"malformed_messages": 2}
    assert set(h.core.state.workers) == {w.nonce}


@pytest.mark.parametrize(
    "nonsense",
    [
        {"slots": 0}, {"slots": -1}, {"slots": 3, "credit": 2}, {"credit": 2**40}, {"seen": -1}, {"seen": 2**63},
        {"seen": 3, "held": [wire.Held(4, b"p" * 12, 0, 1)]},
    ],
)  # fmt: skip
def test_a_worker_that_offers_nonsense_is_not_let_in(h, nonsense):
    w = WorkerPeer(h, "w")
    w.send(w.hello(**nonsense))
    assert w.expect(wire.Refused).code == "hello"
    assert h.counters == {"refused_hellos": 1}
    assert not h.core.state.workers


def test_a_session_needs_a_proper_prefix(h):
    s = SubmitterPeer(h, "s")
    s.send(s.hello(prefix=b"short"))
    s.expect(wire.Refused("hello", "a session's prefix has 12 bytes, not 5", wire.PROTOCOL, RELEASE))
    assert not h.core.state.submitters


def test_hello_on_a_new_connection_ends_the_old_one(h):
    w, s = h.worker(), h.submitter()
    for peer in (w, s):
        old = peer.route
        peer.connect()
        peer.join()
        assert h.fx.forget == [old]
        assert old not in h.core.state.peers


@pytest.mark.parametrize("kind", ["worker", "submitter"])
def test_a_hello_that_comes_late_does_not_end_the_connection_after_it(h, kind):
    peer = getattr(h, kind)()
    late = peer.hello(connection=1)
    peer.connect()
    peer.join(connection=2)
    current = peer.route
    peer.connect()
    assert peer.send(late) == Effects()
    assert list(h.core.state.peers) == [current]
    assert h.counters == {"late_hellos": 1}


@pytest.mark.parametrize("kind", ["worker", "submitter"])
def test_a_hello_of_a_connection_that_is_over_begins_nothing(h, kind):
    peer = getattr(h, kind)()
    if kind == "submitter":  # whose session stays only with jobs
        peer.submit()
        peer.inbox.clear()
    late = peer.hello()
    peer.disconnect()
    peer.connect()
    assert peer.send(late) == Effects()
    assert not h.core.state.peers
    peer.join()
    assert list(h.core.state.peers) == [peer.route]


@pytest.mark.parametrize("kind", ["worker", "submitter"])
def test_a_second_hello_on_the_same_connection_changes_nothing(h, kind):
    peer = getattr(h, kind)()
    state = h.core.state
    before = dict(state.peers), dict(state.workers), dict(state.submitters)
    other = {"nonce": b"another life 16b"} if kind == "worker" else {"prefix": b"other prefix"}
    assert peer.send(peer.hello(), peer.hello(**other)) == Effects()
    assert (state.peers, state.workers, state.submitters) == before
    assert h.counters == {"repeated_hellos": 2}


def test_an_operator_may_say_hello_again(h):
    o = h.operator()
    o.send(o.hello())
    o.expect(wire.OperatorWelcome)
    assert h.core.state.peers == {o.route: Operator(o.route, "host", 9)}
    o.disconnect()
    assert not h.core.state.peers
