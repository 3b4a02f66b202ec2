"""What goes over the bulk connection, where nothing is in order."""

from collections.abc import Iterator

import pytest

from tests.helpers.submitter_harness import PREFIX, Harness
from zmqtasks import wire
from zmqtasks.config import MAX_BYTES_PER_MESSAGE
from zmqtasks.submitter.ledger import Call

LARGE = b"x" * (MAX_BYTES_PER_MESSAGE + 1)
SPEC = wire.Spec(python="3.11")
SMALL_FUNCTION = Call("f", wire.Function(b"s" * 16, "f", b"blob"), "cloudpickle", SPEC)
LARGE_FUNCTION = Call("g", wire.Function(b"l" * 16, "g", LARGE), "cloudpickle", SPEC)


@pytest.fixture
def h() -> Iterator[Harness]:
    harness = Harness()
    harness.welcome()
    yield harness
    harness.finish()


def firsts(messages) -> list[tuple[int, int]]:
    """(first counter, functions carried) of some Submits."""
    return [(m.first, len(m.functions)) for m in messages]


@pytest.mark.parametrize(
    ("call", "carrier", "follower"),
    [(LARGE_FUNCTION, b"a", b"b"), (SMALL_FUNCTION, LARGE, b"b"), (SMALL_FUNCTION, b"a", LARGE)],
    ids=["large function", "large argument", "small before large"],
)
def test_a_job_waits_for_the_function_that_another_way_brings(h: Harness, call: Call, carrier: bytes, follower: bytes):
    h.submit(1, call, args=[carrier])
    h.submit(1, call, args=[follower])
    assert firsts(h.sent()) == [(0, 1)]
    h.submit(1)
    assert firsts(h.sent()) == [(2, 0)]
    h.hear(wire.Accepted(PREFIX, [(0, 1)]))
    assert firsts(h.sent()) == [(1, 0)]
    h.hear(wire.Accepted(PREFIX, [(1, 2)]))


def test_a_new_connection_tells_them_all_anew(h: Harness):
    h.submit(1, LARGE_FUNCTION)
    h.submit(1, LARGE_FUNCTION)
    h.sent()
    h.lose()
    h.welcome()
    assert firsts(h.sent()) == [(0, 1)]
    h.hear(wire.Accepted(PREFIX, [(0, 1)]))
    assert firsts(h.sent()) == [(1, 0)]


def test_what_waits_behind_a_function_and_was_accepted_over_an_earlier_connection_is_asked_for(h: Harness):
    """One outcome tells that the scheduler knows these jobs; the others may have ended while nobody was there."""
    h.submit(1, LARGE_FUNCTION)
    h.submit(3, LARGE_FUNCTION)
    h.sent()
    h.hear(wire.Results(1, PREFIX, "cloudpickle", [2], [b"v"], []))
    assert h.sent() == [wire.Ask(PREFIX, [(1, 1), (3, 1)]), wire.ResultAck(1)]


def test_only_results_without_a_gap_before_them_are_acknowledged(h: Harness):
    h.submit(3)
    h.hear(wire.Accepted(PREFIX, [(0, 3)]))
    h.sent()
    for delivery, expected in ((2, []), (3, []), (1, [wire.ResultAck(3, bulk=True)])):
        h.hear(wire.Results(delivery, PREFIX, "msgpack", [delivery - 1], [b"v"], [], bulk=True))
        h.time += 1.0
        h.turn()
        assert h.sent() == expected


def test_a_cancel_waits_until_its_job_has_got_through(h: Harness):
    h.submit(1, args=[LARGE])
    h.sent()
    h.cancel((0, 1))
    assert h.sent() == []
    h.lose()
    h.welcome()
    assert firsts(h.sent()) == [(0, 0)]
    h.hear(wire.Accepted(PREFIX, [(0, 1)]))
    assert h.sent() == [wire.Cancel(1, PREFIX, [(0, 1)], False)]
    h.hear(wire.CancelAck(1, [(0, 1)], [], []))
    assert [answer.cancelled for answer in h.answers] == [[(0, 1)]]
