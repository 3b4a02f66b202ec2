"""Jobs whose argument or function comes over the bulk connection."""

import pytest

from tests.unit.worker.harness import BASE, PREFIX, Worker, run
from zmqtasks import wire

DIGEST = b"d" * 16


@pytest.fixture
def w() -> Worker:
    return Worker(slots=4).up()


def assign(w: Worker, args: list[bytes], late: list[int], function: wire.Function | None = None) -> None:
    digest = function.digest if function else b""
    work = wire.Work(PREFIX, "add", digest, "msgpack", list(range(len(args))), args, late)
    w.handle(wire.Assign(1, BASE + 1, [work], [function] if function else []))


def test_a_job_waits_for_its_argument_and_others_do_not(w):
    assign(w, [b"0", b"", b"2", b""], [1, 3])
    assert sorted(n for claim in w.numbers() for n in claim) == [1, 3]
    w.handle(wire.Argument(2, b"large"))
    (claim,) = w.pushes()
    assert (claim.pieces[0].first, claim.pieces[0].args, claim.pieces[0].counters) == (2, [b"large"], [1])
    w.handle(wire.Argument(2, b"again"))
    assert w.pushes() == []
    w.turn(1.0)
    w.running((0, 0), (0, 0), (0, 0), (0, 0))
    assert w.sent_one(wire.Heartbeat).held == [(1, 4)]


def test_jobs_wait_for_their_function(w):
    function = wire.Function(DIGEST, "f", b"")
    assign(w, [b"0", b""], [1], function)
    assert w.pushes() == []
    w.handle(wire.Code(DIGEST, b"code"))
    (claim,) = w.pushes()
    assert (claim.blob, claim.pieces[0].args) == (b"code", [b"0"])
    w.handle(wire.Argument(2, b"large"))
    assert len(w.pushes()) == 1


def test_bytes_may_come_before_they_are_announced(w):
    w.handle(wire.Argument(2, b"large"))
    w.handle(wire.Code(DIGEST, b"code"))
    assert w.pushes() == []
    assign(w, [b"0", b"", b""], [1, 2], wire.Function(DIGEST, "f", b""))
    told = [(claim.blob, [piece.args for piece in claim.pieces]) for claim in w.pushes()]
    assert told == [(b"code", [[b"0"]]), (b"code", [[b"large"]])]


def test_what_is_late_can_be_handed_back_at_once(w):
    assign(w, [b"", b"1", b""], [0, 2], wire.Function(DIGEST, "f", b""))
    w.handle(wire.Retract([(1, 2)]))
    assert w.sent_one(wire.Retracted).numbers == [(1, 2)]
    w.handle(wire.Argument(1, b"too late"))
    w.handle(wire.Code(DIGEST, b"code"))
    w.handle(wire.Argument(3, b"in time"))
    assert w.numbers() == [[3]]


def test_a_new_connection_does_not_bring_what_the_old_one_was_to_bring(w):
    assign(w, [b"0", b""], [1])
    w.pushes()
    w.disconnect()
    assert [held.number for held in w.connect().held] == [1]
    w.welcome()
    w.handle(wire.Argument(2, b"late"))
    assert w.pushes() == []


def test_disowned_jobs_are_dropped_where_they_stand(w):
    assign(w, [b"0", b""], [1])
    (claim,) = w.pushes()
    w.handle(wire.Disown([(1, 2)]))
    w.reclaimed()
    w.report(claim.id, [run(1, 1)])
    assert w.all_sent() == []
    assert w.core.work.empty


def test_large_outcomes_go_by_bulk(w):
    w.assign(2)
    (claim, *_) = w.pushes()
    w.report(claim.id, [wire.Run(1, [b"x" * 70_000], 0.1, 0.1)])
    assert w.by_bulk == w.all_sent() == [wire.Done([wire.Run(1, [b"x" * 70_000], 0.1, 0.1)], [])]


def test_the_newest_progress_of_running_jobs_is_told(w):
    w.assign(2)
    (claim, *_) = w.pushes()
    w.core_progress([(1, b"a"), (1, b"b"), (7, b"no such job")])
    assert w.sent_one(wire.Progress) == wire.Progress([1], [b"b"])
    w.disconnect()
    w.core_progress([(1, b"c"), (2, b"d")])
    w.report(claim.id, [run(1, 1)])
    w.connect()
    w.welcome()
    assert {type(m): m for m in w.all_sent()}[wire.Progress] == wire.Progress([2], [b"d"])
