import pytest

from zmqtasks.wire import Held
from zmqtasks.worker.ledger import ENDED, GONE, PUSHED, VOID, WAITING, Ledger


@pytest.fixture
def ledger():
    made = Ledger()
    made.add(1, 11, b"p", [100, 101, 102])
    made.add(4, 14, b"q", [7, 9])
    made.add(10, 30, b"q", [1])
    yield made
    made.check()


def test_moves_go_over_entries(ledger):
    ledger.move(2, 3, WAITING, PUSHED)
    assert ledger.everything() == [(WAITING, 1, 1), (PUSHED, 2, 2), (PUSHED, 4, 1), (WAITING, 5, 1), (WAITING, 10, 1)]
    assert ledger.counts[:GONE] == [3, 3, 0, 0]


def test_a_move_from_elsewhere_or_by_no_way_is_a_bug(ledger):
    with pytest.raises(AssertionError, match="no way leads from waiting to void"):
        ledger.move(1, 1, WAITING, VOID)
    other = Ledger()
    other.add(1, 1, b"p", [1, 2])
    other.move(1, 1, WAITING, PUSHED)
    with pytest.raises(AssertionError, match="not all pushed"):
        other.move(1, 2, PUSHED, ENDED)


def test_what_is_gone_leaves(ledger):
    ledger.move(1, 3, WAITING, GONE)
    ledger.move(4, 1, WAITING, GONE)
    assert ledger.everything() == [(WAITING, 5, 1), (WAITING, 10, 1)]
    assert ledger.state(4) == ledger.state(1) == ledger.state(7) == ledger.state(99) == GONE
    assert ledger.held() == [Held(5, b"q", 9, 15), Held(10, b"q", 1, 30)]
    assert ledger.held_spans() == [(5, 1), (10, 1)]


def test_void_numbers_are_not_held(ledger):
    ledger.move(1, 3, WAITING, PUSHED)
    ledger.move(2, 1, PUSHED, VOID)
    assert ledger.held_spans() == [(1, 1), (3, 3), (10, 1)]
    assert [h.number for h in ledger.held()] == [1, 3, 4, 5, 10]


def test_ranges_far_beyond_what_is_held_cost_nothing(ledger):
    assert ledger.segments(0, 2**60) == ledger.everything()
    assert ledger.segments(6, 4) == []
    assert ledger.segments(2**50, 2**60) == []
