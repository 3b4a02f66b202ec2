"""Attempts that end without an outcome: retries, crashes, losses."""

import math

import pytest

from zmqtasks import payload, wire
from zmqtasks.scheduler.core.lifecycle import LONGEST_DELAY
from zmqtasks.scheduler.core.records import Requeued
from zmqtasks.states import DELAYED, FAILED, READY
from zmqtasks.task import FOREVER


def one(h, **spec):
    w, s = h.worker(), h.submitter()
    s.submit(**spec)
    w.assigned()
    return w, s


def test_an_exception_is_final_without_retries(h):
    w, s = one(h)
    w.ended(1, wire.RETRYABLE, "oops")
    assert s.ends() == {0: (FAILED, "builtins.ValueError", "oops")}


def test_what_may_not_be_retried_is_not(h):
    w, s = one(h, retries=5)
    w.ended(1, wire.FAILED)
    assert s.ends()[0][0] == FAILED


def test_a_retry_without_backoff_is_at_once_and_the_last_failure_is_final(h):
    w, s = one(h, retries=2)
    for number in (1, 2):
        w.ended(number, wire.RETRYABLE)
        assert w.assigned() == [0]
    w.ended(3, wire.RETRYABLE, "the third")
    assert s.ends() == {0: (FAILED, "builtins.ValueError", "the third")}
    assert h.counters["retried"] == 2


def test_an_assign_tells_how_often_its_jobs_were_retried(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3, retries=5)
    w.assigned()
    for number, told in ((2, (4, 1)), (4, (5, 2))):
        w.ended(number, wire.RETRYABLE)
        assert [assign.retried for assign in w.inbox] == [[told]]
        assert w.assigned() == [1]


def test_backoff_doubles_up_to_its_limit(h):
    w, s = one(h, retries=4, backoff=2.0, backoff_max=5.0)
    for number, delay in ((1, 2.0), (2, 4.0), (3, 5.0), (4, 5.0)):
        fx = w.send(wire.Done([], [wire.End(number, wire.RETRYABLE, b"", 0.01)]))
        w.expect(wire.DoneAck)
        record = Requeued(s.prefix, 0, 0, number, pytest.approx(h.wall + delay), False, 0, "", pytest.approx(delay))
        assert fx.records == [record]
        assert h.job().state == DELAYED
        assert h.core.state.backoffs.at == pytest.approx(h.mono + delay)
        h.pass_time(delay - 0.1)
        assert w.inbox == []
        h.pass_time(0.1)
        assert w.assigned() == [0]
    w.ended(5, wire.RETRYABLE)
    assert s.ends()[0][0] == FAILED


def test_backoff_does_not_follow_the_wall_clock(h):
    w, _ = one(h, retries=1, backoff=10.0)
    w.ended(1, wire.RETRYABLE)
    h.wall += 3600
    h.turn()
    assert h.job().state == DELAYED


def test_a_thousand_retries_do_not_overflow(h):
    w, s = one(h, retries=1100, backoff=1e-9, backoff_max=0.5)
    for number in range(1, 1101):
        w.ended(number, wire.RETRYABLE)
        h.pass_time(0.5)
        assert w.assigned() == [0]
    w.done()
    s.results()


def test_the_fourth_death_of_a_child_is_final_with_all_the_evidence(h):
    w, s = one(h)
    for number in (1, 2, 3):
        w.ended(number, wire.CRASHED, f"child {number} of host died of signal 9")
        assert [assign.again for assign in w.inbox] == [[number + 1]]
        assert w.assigned() == [0]
    w.ended(4, wire.CRASHED, "child 4 of host died of signal 11")
    state, kind, text = s.ends()[0]
    assert (state, kind) == (FAILED, "WorkerLost")
    assert h.job().id in text
    assert "crash budget is 3" in text
    for number in (1, 2, 3):
        assert f"death {number}: child {number} of host died of signal 9" in text
    assert "death 4: child 4 of host died of signal 11" in text
    assert [action for action, _ in h.logs if action == "dead-letter"] == ["dead-letter"]
    assert not h.core.state.evidence


@pytest.mark.parametrize("budget", [0, 1])
def test_a_job_may_have_a_budget_of_its_own(h, budget):
    w, s = one(h, crash_budget=budget)
    for number in range(1, budget + 1):
        w.ended(number, wire.CRASHED)
        w.assigned()
    w.ended(budget + 1, wire.CRASHED)
    assert s.ends()[0][1] == "WorkerLost"


def test_a_crash_costs_no_retry_and_a_retry_no_crash(h):
    w, s = one(h, retries=1, crash_budget=1)
    w.ended(1, wire.CRASHED)
    w.assigned()
    w.ended(2, wire.RETRYABLE)
    w.assigned()
    job = h.job()
    assert (job.crashes, job.retries) == (1, 1)
    w.done()
    assert s.results() == {0: b"result 3"}
    assert not h.core.state.evidence


def test_an_outcome_lost_with_a_child_is_not_charged(h):
    w, s = one(h, crash_budget=0)
    for number in (1, 2, 3, 4, 5):
        w.ended(number, wire.LOST)
        assert w.assigned() == [0]
    w.done()
    assert s.results() == {0: b"result 6"}
    assert h.job().crashes == 0


def test_what_comes_back_goes_before_what_never_left(h):
    w, s = h.worker(slots=2), h.submitter()
    s.submit(5)
    assert w.assigned() == [0, 1]
    w.ended(1, wire.LOST)
    assert w.assigned() == [0]
    assert h.job(2).state == READY


def test_run_times_of_crashes_are_not_measured(h):
    w, s = one(h)
    w.ended(1, wire.CRASHED, took=0.0001)
    w.ended(2, wire.LOST, took=0.0001)
    assert h.job().submission.target.mean < 0
    w.inbox.clear()
    w.ended(3, wire.FAILED, took=0.5)
    assert h.job().submission.target.mean == 0.5
    s.ends()


def test_an_unreadable_evidence_is_told_as_such(h):
    w, s = one(h, crash_budget=0)
    w.report(ends=[wire.End(1, wire.CRASHED, b"\xc1", 0.0)])
    assert "cannot be decoded" in s.ends()[0][2]


def test_jitter_waits_for_a_share_of_the_backoff_that_differs_from_job_to_job(h):
    w, s = h.worker(slots=8), h.submitter()
    s.submit(8, retries=1, backoff=100.0, jitter=True)
    w.assigned()
    fx = w.send(wire.Done([], [wire.End(number, wire.RETRYABLE, b"", 0.01) for number in range(1, 9)]))
    w.expect(wire.DoneAck)
    shares = [record.due - h.wall for record in fx.records]
    assert all(0.0 <= share < 100.0 for share in shares)
    assert len(set(shares)) == 8


# ------------------------------------------------------------------------------------------------ as the worker says


def asked(number, delay=-1.0, limit=-1):
    return wire.End(number, wire.RETRYABLE, payload.failure("builtins.ValueError", "oops"), 0.01, delay, limit)


def test_a_worker_says_when_and_how_often_a_job_is_tried_again(h):
    w, s = one(h, backoff=1.0, jitter=True)  # and no retries, for other reasons
    for number, delay in ((1, 300.0), (2, 0.5)):
        fx = w.send(wire.Done([], [asked(number, delay, 2)]))
        w.expect(wire.DoneAck)
        record = Requeued(s.prefix, 0, 0, number, pytest.approx(h.wall + delay), False, 0, "", pytest.approx(delay))
        assert fx.records == [record]
        h.pass_time(delay - 0.1)
        assert w.inbox == []
        h.pass_time(0.1)
        assert w.assigned() == [0]
    w.report(ends=[asked(3, 1.0, 2)])
    assert s.ends() == {0: (FAILED, "builtins.ValueError", "oops")}


def test_a_delay_of_nothing_is_at_once(h):
    w, _ = one(h, backoff=50.0)
    w.report(ends=[asked(1, 0.0, 1)])
    assert w.assigned() == [0]


def test_without_a_delay_of_its_own_it_waits_as_its_spec_says_and_counts_as_the_worker_does(h):
    w, _ = one(h, backoff=50.0)
    w.report(ends=[asked(1, limit=1)])
    assert h.core.state.backoffs.at == pytest.approx(h.mono + 50.0)


def test_a_limit_below_that_of_the_spec_holds(h):
    w, s = one(h, retries=5)
    w.report(ends=[asked(1, 0.0, 0)])
    assert s.ends()[0][0] == FAILED


@pytest.mark.parametrize("limit", [-1, -3, -(2**63)])
def test_without_a_limit_of_its_own_the_spec_holds(h, limit):
    w, s = one(h, retries=1)
    w.report(ends=[asked(1, 0.0, limit)])
    assert w.assigned() == [0]
    w.report(ends=[asked(2, 0.0, limit)])
    assert s.ends()[0][0] == FAILED


def test_for_ever_is_for_ever(h):
    w, s = one(h)
    for number in range(1, 301):
        w.report(ends=[asked(number, 0.0, wire.UNLIMITED)])
        assert w.assigned() == [0]
    assert h.job().retries == 300
    w.done()
    s.results()


def test_exceptions_and_what_was_asked_for_are_counted_together(h):
    w, s = one(h, retries=2)
    w.ended(1, wire.RETRYABLE)
    w.assigned()
    w.report(ends=[asked(2, 0.0, 3)])
    w.assigned()
    w.ended(3, wire.RETRYABLE, "the third")
    assert s.ends()[0] == (FAILED, "builtins.ValueError", "the third")


@pytest.mark.parametrize(
    ("delay", "waits"),
    [(math.inf, LONGEST_DELAY), (1e300, LONGEST_DELAY), (math.nan, 7.0), (-math.inf, 7.0), (-0.5, 7.0), (-0.0, 0.0)],
)
def test_a_worker_is_not_believed_blindly(h, delay, waits):
    w, _ = one(h, backoff=7.0)
    w.report(ends=[asked(1, delay, 2**62)])
    if not waits:
        assert w.assigned() == [0]
        return
    assert h.job().state == DELAYED
    assert h.core.state.backoffs.at == pytest.approx(h.mono + waits)
    (row,) = h.operator().jobs().rows
    assert math.isfinite(row.due)


def test_the_story_tells_which_retry_it_is(h):
    w, _ = one(h)
    w.report(ends=[asked(1, 9.0, 4)])
    o = h.operator()
    report = o.job()
    assert report.story[-1].cause == "retry 1 of 4"
    assert report.reasons[0] == "It is delayed for another 9.0 s: its last attempt failed, and retry 1 waits."
    assert "It failed 1 time before." in report.reasons
    h.pass_time(9.0)
    w.assigned()
    w.report(ends=[asked(2, 9.0, wire.UNLIMITED)])
    assert o.job().story[-1].cause == "retry 2"


def test_a_spec_without_limit_has_none(h):
    w, _ = one(h, retries=FOREVER)
    w.ended(1, wire.RETRYABLE)
    w.assigned()
    o = h.operator()
    assert "It failed 1 time before." in o.job().reasons
    assert [line.cause for line in o.job().story if "retry" in line.cause] == ["retry 1"]
