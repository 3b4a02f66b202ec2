"""Payloads above the spill size are kept by the journal and fetched when their turn comes."""

import pytest

from zmqtasks import wire
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import Ref
from zmqtasks.scheduler.core.payloads import Payloads
from zmqtasks.scheduler.core.records import Stored, Succeeded
from zmqtasks.states import ASSIGNED, CANCELLED, READY, WAITING

BIG, ANSWER = b"B" * 100, b"A" * 50


@pytest.fixture
def h(make):
    """Everything above 10 bytes goes to the journal, and nothing of it stays at hand."""
    return make(spill=10, cache=0)


def test_arguments_are_stored_before_their_record_and_loaded_before_they_are_sent(h):
    w, s = h.worker(), h.submitter()
    fx = s.send(s.message(1, args=[BIG]))
    s.expect(wire.Accepted)
    assert (fx.stores, fx.records[0].args, fx.loads) == ([(1, BIG)], [Stored(1, 100)], [1])
    assert (h.job().state, w.inbox) == (WAITING, [])
    h.turn()
    assert w.expect(wire.Assign).works[0].args == [BIG]
    fx = w.send(wire.Done([wire.Run(1, [b"small"], 0.1, 0.1)], []))
    assert fx.drops == [1]
    assert h.journal.stored == {}
    w.expect(wire.DoneAck)
    s.results()


def test_results_are_stored_and_loaded_in_order(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3)
    w.assigned()
    fx = w.send(wire.Done([wire.Run(1, [b"one", ANSWER, b"three"], 0.1, 0.1)], []))
    assert fx.records == [Succeeded(s.prefix, [0, 1, 2], [b"one", Stored(1, 50), b"three"], h.wall)]
    assert list(s.results(ack=False)) == [0]
    h.turn()
    w.expect(wire.DoneAck)
    assert s.results() == {1: ANSWER, 2: b"three"}


def test_with_a_cache_nothing_is_loaded(make):
    h = make(spill=10)
    w, s = h.worker(), h.submitter()
    s.submit(1, args=[BIG])
    assert w.expect(wire.Assign).works[0].args == [BIG]
    w.done(results=[ANSWER])
    assert s.results() == {0: ANSWER}


def test_small_jobs_do_not_wait_for_the_large_one_in_front(h):
    w, s = h.worker(slots=2), h.submitter()
    s.submit(3, args=[BIG, b"1", b"2"])
    assert w.assigned() == [1, 2]
    h.turn()
    w.expect()
    w.done(1)
    assert w.assigned() == [0]
    s.results()


def test_arguments_are_loaded_again_for_another_attempt(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, args=[BIG], retries=1)
    h.turn()
    w.assigned()
    w.ended(1, wire.RETRYABLE)
    h.turn()
    assert w.expect(wire.Assign).works[0].args == [BIG]


def test_a_cancel_while_they_are_loaded(h):
    h.worker()
    s = h.submitter()
    s.submit(1, args=[BIG])
    assert h.job().state == WAITING
    h.journal.asked.clear()  # the disk is slow
    s.send(wire.Cancel(1, s.prefix, [(0, 1)], force=False))
    s.expect(wire.CancelAck)
    h.core.on_loaded(1, BIG, h.now, Effects())
    h.turn()
    s.expect(wire.Results)  # its failure is large here, too
    assert h.job().state == CANCELLED
    assert h.core.state.payloads.spilled == 1
    assert not h.core.state.payloads._pinned


def test_an_outcome_that_expires_while_it_is_wanted(make):
    h = make(spill=10, cache=0, result_ttl=10.0, results_window=1)
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2)
    w.assigned()
    w.done(1)
    w.done(2, results=[ANSWER])
    (first,) = s.take(wire.Results)
    h.mono, h.wall = h.mono + 10, h.wall + 10
    fx = s.send(wire.ResultAck(first.delivery))  # now it would be loaded, and expires in the same turn
    assert (fx.loads, fx.drops) == ([], [1])
    h.turn()
    s.expect(wire.Unknown(s.prefix, [(1, 1)], expired=True))


def test_a_large_failure_is_kept_like_a_result(h):
    w, s = h.worker(), h.submitter()
    s.submit()
    w.assigned()
    w.ended(1, wire.FAILED, "x" * 100)
    h.turn()
    assert s.ends()[0][2] == "x" * 100
    assert isinstance(h.job().outcome, Ref)


def test_bytes_are_counted_where_they_are(make):
    h = make(spill=10, cache=0, result_ttl=5.0)
    w, s = h.worker(), h.submitter()
    s.submit()
    w.assigned()
    w.done(results=[ANSWER])
    h.turn()
    s.results()
    assert h.core.state.result_bytes == len(ANSWER)
    h.jump(5)
    assert (h.core.state.result_bytes, h.journal.stored) == (0, {})


def test_jobs_wait_again_when_the_worker_is_gone_before_the_bytes_come(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, args=[BIG])
    w.send(wire.Goodbye())
    assert h.job().state == READY
    v = h.worker("v")
    assert h.job().state == ASSIGNED
    assert v.expect(wire.Assign).works[0].args == [BIG]


def test_the_cache_keeps_the_newest():
    payloads, fx = Payloads(spill=1, cache=10), Effects()
    refs = [payloads.keep(b"%d" % i * 4, fx) for i in range(4)]
    assert [payloads.at_hand(ref) for ref in refs] == [None, None, b"2222", b"3333"]
    payloads.drop(refs[3], fx)
    assert payloads.at_hand(refs[3]) is None
    assert payloads.at_hand(b"small") == b"small"
    assert fx.drops == [4]


def test_each_load_is_asked_for_once():
    payloads, fx = Payloads(spill=1, cache=0), Effects()
    ref = payloads.keep(b"1234", fx)
    assert isinstance(ref, Ref)
    payloads.load(ref, fx)
    payloads.load(ref, fx)
    assert fx.loads == [1]
    payloads.loaded(1, b"1234", arguments=True)
    assert payloads.take(ref) == b"1234"
    payloads.sent(ref)
    with pytest.raises(AssertionError):
        payloads.take(ref)
