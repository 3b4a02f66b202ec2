"""Chunks and credit: whatever the order and the sizes, messages arrive whole and no bound is passed."""

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmqtasks import bulk, wire
from zmqtasks.bulk import Incoming, Outgoing
from zmqtasks.config import BULK_STREAMS, BULK_WINDOW, CHUNK_BYTES, MIB
from zmqtasks.errors import PeerError
from zmqtasks.wire import Chunk


def code(data):
    return wire.Code(b"d" * 16, data)


def opened(window=BULK_WINDOW):
    outgoing = Outgoing()
    outgoing.open(window)
    return outgoing


def frames(outgoing):
    return [wire.decode_to_bulk(frame) for frame in outgoing.frames()]


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 3_000), max_size=12),
    window=st.integers(200, 5_000),
    seed=st.integers(0, 2**32),
)
def test_everything_arrives_whole_and_in_bound(sizes, window, seed):
    chance = random.Random(seed)
    messages = [code(chance.randbytes(size)) for size in sizes]
    outgoing, incoming = opened(window), Incoming(window)
    line, sizes_under_way, back = deque(), deque(), deque()
    waiting, got = deque(messages), []
    steps = 0
    while waiting or outgoing or line or back:
        steps += 1
        assert steps < 10_000, "nothing moves any more"
        choice = chance.randrange(4)
        if choice == 0 and waiting:
            outgoing.add(waiting.popleft())
        elif choice == 1 and (frame := outgoing.next()) is not None:
            line.append(frame)
            sizes_under_way.append(len(wire.decode_from_bulk(frame).data))
        elif choice == 2 and line:
            whole = incoming.take(wire.decode_from_bulk(line.popleft()))
            sizes_under_way.popleft()
            if whole is not None:
                got.append(wire.decode_to_worker(whole))
            if incoming.owes:
                back.append(incoming.give())
        elif choice == 3 and back:
            outgoing.on_credit(back.popleft())
        outgoing.check()
        incoming.check()
        under_way, owed = sum(sizes_under_way), window - incoming.allowed
        assert outgoing.credit + under_way + owed + sum(back) == window
        assert len(incoming.streams) <= BULK_STREAMS
    assert sorted(m.blob for m in got) == sorted(m.blob for m in messages)
    assert incoming.held == 0
    assert not outgoing.ready


@settings(deadline=None)
@given(st.data())
def test_any_chunks_of_a_foreign_sender_are_joined(data):
    """Chunks of any size, in any interleaving of up to four streams whose numbers come again."""
    sent = data.draw(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=10))
    incoming = Incoming(1_000)
    waiting, current, got = deque(sent), {}, []
    while waiting or current:
        free = [n for n in range(BULK_STREAMS) if n not in current]
        number = data.draw(st.sampled_from([*current, *(free[:1] if waiting else [])]))
        if number not in current:
            current[number] = waiting.popleft()
        rest = current[number]
        size = data.draw(st.integers(1, len(rest)))
        whole = incoming.take(Chunk(number, size == len(rest), rest[:size]))
        assert (whole is None) == (size < len(rest))
        if whole is None:
            current[number] = rest[size:]
        else:
            got.append(whole)
            del current[number]
        if incoming.owes:
            incoming.give()
        incoming.check()
    assert sorted(got) == sorted(sent)


def test_a_small_message_does_not_wait_for_a_large_one():
    outgoing = opened(64 * MIB)
    for _ in range(BULK_STREAMS - 1):
        outgoing.add(code(bytes(10 * MIB)))
    outgoing.add(code(b"small"))
    first = [wire.decode_to_bulk(outgoing.next()) for _ in range(BULK_STREAMS)]
    assert [chunk.last for chunk in first] == [False] * (BULK_STREAMS - 1) + [True]
    assert len({chunk.stream for chunk in first}) == BULK_STREAMS


def test_so_many_messages_at_once_and_the_others_are_not_even_encoded(monkeypatch):
    encoded = []
    monkeypatch.setattr(bulk.wire, "encode", lambda message: encoded.append(message) or b"x" * MIB)
    outgoing = opened()
    for number in range(10):
        outgoing.add(number)
    assert encoded == []
    outgoing.next()
    assert [m for m in encoded if not isinstance(m, Chunk)] == list(range(BULK_STREAMS))
    assert len(outgoing) == 10


def test_nothing_goes_out_before_the_welcome_or_beyond_the_window():
    outgoing = Outgoing()
    outgoing.add(code(bytes(10 * MIB)))
    assert not outgoing.ready
    assert outgoing.next() is None
    outgoing.open(BULK_WINDOW)
    assert sum(len(chunk.data) for chunk in frames(outgoing)) == BULK_WINDOW
    assert not outgoing.ready
    outgoing.on_credit(300_000)
    sizes = [len(chunk.data) for chunk in frames(outgoing)]
    assert sizes == [CHUNK_BYTES, 300_000 - CHUNK_BYTES]
    outgoing.check()


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(PeerError, match="a window of"):
        Outgoing().open(window)


@pytest.mark.parametrize("amount", [0, -5, 1_001])
def test_credit_for_what_was_not_sent_is_refused(amount):
    outgoing = opened(1_000)
    outgoing.add(code(bytes(5_000)))
    frames(outgoing)
    with pytest.raises(PeerError, match="1000 are on their way"):
        outgoing.on_credit(amount)
    outgoing.check()


def test_a_sender_that_does_not_wait_for_credit_is_refused():
    incoming = Incoming(1_000)
    incoming.take(Chunk(1, False, bytes(600)))
    with pytest.raises(PeerError, match="a chunk of 600 bytes, where 400 were allowed"):
        incoming.take(Chunk(2, True, bytes(600)))
    incoming.check()
    assert incoming.give() == 600
    incoming.take(Chunk(2, True, bytes(600)))
    incoming.check()


def test_too_many_messages_at_once_are_refused():
    incoming = Incoming(1_000)
    for number in range(BULK_STREAMS):
        incoming.take(Chunk(number, False, b"x"))
    with pytest.raises(PeerError, match="more than 4 messages at once"):
        incoming.take(Chunk(99, True, b"x"))
    assert incoming.take(Chunk(3, True, b"y")) == b"xy"
    assert incoming.take(Chunk(99, True, b"x")) == b"x"


def test_a_message_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(bulk, "MAX_BULK_MESSAGE", 1_000)
    incoming = Incoming(5_000)
    incoming.take(Chunk(1, False, bytes(1_000)))
    with pytest.raises(PeerError, match="a message of more than 1000 bytes"):
        incoming.take(Chunk(1, True, b"x"))


def test_an_empty_chunk_is_refused_unless_it_ends_a_message():
    incoming = Incoming(1_000)
    with pytest.raises(PeerError, match="empty"):
        Incoming(1_000).take(Chunk(1, False, b""))
    incoming.take(Chunk(1, False, b"x"))
    assert incoming.take(Chunk(1, True, b"")) == b"x"
    incoming.check()


def test_a_million_tiny_chunks_cost_no_more_than_their_bytes():
    incoming = Incoming(2 * MIB)
    for _ in range(600_000):
        incoming.take(Chunk(1, False, b"x"))
    assert len(incoming._streams[1].pieces) == -(-600_000 // CHUNK_BYTES)
    assert incoming.take(Chunk(1, True, b"y")) == b"x" * 600_000 + b"y"
    incoming.check()


def test_credit_is_given_in_few_messages():
    incoming = Incoming(BULK_WINDOW)
    gifts = []
    for _ in range(64):
        incoming.take(Chunk(1, False, bytes(CHUNK_BYTES)))
        if incoming.owes:
            gifts.append(incoming.give())
    assert gifts == [BULK_WINDOW // 4] * 16


def check(*ends):
    for end in ends:
        end.check()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda o, i: setattr(o, "credit", o.credit + 1), "lost or invented"),
        (lambda o, i: setattr(i, "allowed", i.allowed - 1), "lost or invented"),
        (lambda o, i: setattr(i, "held", 0), "held bytes"),
    ],
)
def test_the_laws_can_be_broken(spoil, says):
    outgoing, incoming = opened(), Incoming(BULK_WINDOW)
    incoming.take(Chunk(1, False, b"x"))
    spoil(outgoing, incoming)
    with pytest.raises(AssertionError, match=says):
        check(outgoing, incoming)
