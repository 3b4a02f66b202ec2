import pytest

from zmqtasks.wire import Done, End, Run
from zmqtasks.worker.backlog import Backlog, Outcomes, Target, dones
from zmqtasks.worker.claims import Piece


def anything(_resources) -> bool:
    return True


def piece(first: int, count: int, size: int = 1) -> Piece:
    return Piece(first, 100 + first, b"p", list(range(first, first + count)), [b"x" * size] * count)


@pytest.fixture
def quick():
    target = Target("quick", None, "json")
    target.measured(1, 1e-6, 1e-6)
    return target


def test_claims_share_what_waits_among_the_slots():
    target = Target("not so quick", None, "json")
    target.measured(1, 5e-6, 5e-6)
    backlog = Backlog()
    backlog.append(piece(1, 200), target)
    _, pieces = backlog.cut(0.001, 4, anything)
    assert [(p.first, len(p.args)) for p in pieces] == [(1, 50)]
    _, pieces = backlog.cut(0.001, 1, anything)
    assert [(p.first, p.attempt, len(p.args)) for p in pieces] == [(51, 151, 150)]
    assert not backlog


@pytest.mark.parametrize(("took", "jobs"), [(1e-6, 200), (4e-6, 50), (5e-5, 16), (4e-4, 2), (1e-2, 1)])
def test_what_takes_less_than_waking_a_child_is_not_shared(took, jobs):
    target = Target("t", None, "json")
    target.measured(1, took, took)
    backlog = Backlog()
    backlog.append(piece(1, 300), target)
    _, pieces = backlog.cut(0.001, 100, anything)
    assert sum(len(p.args) for p in pieces) == jobs


def test_a_claim_is_bounded_in_bytes(quick):
    backlog = Backlog()
    backlog.append(piece(1, 3, 30_000), quick)
    assert [len(p.args) for p in backlog.cut(0.001, 1, anything)[1]] == [2]
    backlog.append(piece(4, 1, 90_000), quick)
    assert [p.first for p in backlog.cut(0.001, 1, anything)[1]] == [3]
    assert [p.first for p in backlog.cut(0.001, 1, anything)[1]] == [4]


def test_numbers_are_taken_out_of_the_middle(quick):
    backlog = Backlog()
    backlog.append(piece(1, 10), quick)
    backlog.append(piece(11, 10), quick)
    backlog.remove([(3, 2), (9, 4), (100, 5)])
    assert list(backlog.numbers()) == [1, 2, *range(5, 9), *range(13, 21)]
    assert backlog.waiting == 14


def test_a_slow_first_call_is_soon_forgotten():
    target = Target("t", None, "json")
    assert target.jobs(0.001) == 1
    target.measured(1, 0.05, 0.05)
    for _ in range(16):
        target.measured(1, 1e-5, 1e-5)
    assert target.jobs(0.001) > 10


def test_outcomes_are_discarded_in_any_pieces():
    outcomes = Outcomes()
    outcomes.runs[1] = Run(1, [b"1", b"2", b"3", b"4"], 4.0, 1.0)
    outcomes.ends[5] = End(5, 1, b"", 0.0)
    outcomes.discard(2, 2)
    assert list(outcomes.numbers()) == [5, 1, 4]
    assert outcomes.runs[4] == Run(4, [b"4"], 1.0, 1.0)
    outcomes.discard(4, 2)
    outcomes.discard(1, 1)
    assert list(outcomes.numbers()) == []


def test_a_run_too_large_for_a_message_is_cut():
    run = Run(1, [b"x" * 30_000] * 5, 5.0, 1.0)
    ends = [End(9, 1, b"e" * 40_000, 0.0)]
    assert [([(r.first, len(r.results)) for r in d.runs], large) for d, large in dones([run], ends)] == [
        ([(1, 2)], False),
        ([(3, 2)], False),
        ([(5, 1)], False),
        ([], False),
    ]
    assert list(dones([], [])) == []
    large = Run(2, [b"x" * 99_999], 1.0, 1.0)
    small = [Run(1, [b"1"], 1.0, 1.0), Run(3, [b"3"], 1.0, 1.0)]
    assert list(dones([small[0], large, small[1]], [])) == [
        (Done([small[0]], []), False),
        (Done([large], []), True),
        (Done([small[1]], []), False),
    ]


def test_the_most_urgent_goes_first_and_what_comes_back_stands_in_front_of_its_equals(quick):
    urgent = Target("urgent", None, "json", 5)
    urgent.measured(1, 1e-6, 1e-6)
    backlog = Backlog()
    backlog.append(piece(1, 2), quick)
    backlog.append(piece(3, 2), urgent)
    backlog.append(piece(5, 2), quick)
    backlog.put_front([piece(7, 1)], quick)
    backlog.put_front([piece(8, 1)], urgent)
    assert list(backlog.numbers()) == [8, 3, 4, 7, 1, 2, 5, 6]
    target, pieces = backlog.cut(0.001, 1, anything)
    assert (target, [p.first for p in pieces]) == (urgent, [8, 3])
    backlog.remove([(1, 1), (5, 2)])
    assert list(backlog.numbers()) == [7, 2]
    assert backlog.cut(0.001, 1, anything)[0] is quick
    assert not backlog


def test_what_waits_for_resources_lets_others_pass_but_nobody_who_wants_the_same(quick):
    backlog = Backlog()
    large, small = Target("large", None, "json", 0, (("gpu", 4),)), Target("small", None, "json", 0, (("gpu", 1),))
    other = Target("other", None, "json", 0, (("mem", 1),))
    for first, target, count in ((1, large, 2), (3, small, 1), (4, quick, 2), (6, other, 1), (7, quick, 1)):
        backlog.append(piece(first, count), target)

    def but_large(needed):
        return needed != large.resources

    def numbers(fits):
        cut = backlog.cut(0.001, 1, fits)
        return cut and [p.first + i for p in cut[1] for i in range(len(p.args))]

    assert [numbers(but_large) for _ in range(4)] == [[4, 5], [6], [7], None]
    assert list(backlog.numbers()) == [1, 2, 3]
    assert [numbers(anything) for _ in range(3)] == [[1], [2], [3]]  # each by itself, in their order
    assert not backlog
