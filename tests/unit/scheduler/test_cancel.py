"""Cancel in every state of a job; each request is answered once."""

import pytest

from zmqtasks import payload, wire
from zmqtasks.scheduler.core.records import Ended
from zmqtasks.states import ASSIGNED, CANCELLED, SUCCEEDED


def ack(cancelled=(), refused=(), unknown=(), request=1):
    return wire.CancelAck(request, list(cancelled), list(refused), list(unknown))


def cancel(s, *spans, force=False, request=1):
    return s.send(wire.Cancel(request, s.prefix, list(spans), force))


def assigned(h, count=1, **spec):
    w, s = h.worker(slots=count), h.submitter()
    s.submit(count, **spec)
    w.assigned()
    return w, s


def cancelled_end(h, counter=0):
    return {counter: (CANCELLED, "JobCancelled", f"job {h.job(counter).id} was cancelled")}


def test_ready(h):
    s = h.submitter()
    s.submit(5)
    fx = cancel(s, (1, 3))
    assert [(type(r), r.counter, r.state) for r in fx.records] == [(Ended, c, CANCELLED) for c in (1, 2, 3)]
    s.expect(ack([(1, 3)]), wire.Results)
    assert h.worker(slots=5).assigned() == [0, 4]


def test_delayed(h):
    s = h.submitter()
    s.submit(not_before=h.wall + 100)
    cancel(s, (0, 1))
    assert s.take(wire.CancelAck) == [ack([(0, 1)])]
    assert s.ends() == cancelled_end(h)
    w = h.worker()
    h.pass_time(101)
    assert w.inbox == []


def test_delayed_by_a_retry(h):
    w, s = assigned(h, retries=1, backoff=10.0)
    w.ended(1, wire.RETRYABLE)
    cancel(s, (0, 1))
    s.expect(ack([(0, 1)]), wire.Results)
    h.pass_time(11)
    assert w.inbox == []


def test_final_and_unknown(h):
    w, s = assigned(h)
    w.done()
    s.results()
    cancel(s, (0, 2))
    s.expect(ack(refused=[(0, 1)], unknown=[(1, 1)]))
    assert h.job().state == SUCCEEDED


def test_assigned_and_not_started_is_retracted(h):
    w, s = assigned(h, 3)
    cancel(s, (1, 2))
    w.expect(wire.Retract([(2, 2)]))
    s.expect()
    w.retracted(2)
    s.expect(wire.Results)  # its end is told at once; the answer waits for the other
    w.retracted(3)
    assert s.take(wire.CancelAck) == [ack([(1, 2)])]
    s.results()
    assert w.inbox == []


def test_assigned_and_started_is_refused(h):
    w, s = assigned(h, 2)
    cancel(s, (0, 2))
    w.expect(wire.Retract([(1, 2)]))
    w.retracted(2, started=[1])
    assert s.take(wire.CancelAck) == [ack([(1, 1)], [(0, 1)])]
    assert h.job(0).state == ASSIGNED
    w.done()
    assert list(s.results()) == [1, 0]


def test_done_before_the_retract_came(h):
    w, s = assigned(h)
    cancel(s, (0, 1))
    w.expect(wire.Retract([(1, 1)]))
    w.done()
    assert s.take(wire.CancelAck) == [ack(refused=[(0, 1)])]
    assert s.results() == {0: b"result 1"}


@pytest.mark.parametrize("running", [False, True])
def test_by_force(h, running):
    w, s = assigned(h)
    if running:
        w.send(w.heartbeat(1))
    cancel(s, (0, 1), force=True)
    w.expect(wire.Kill([(1, 1)]))
    w.report(ends=[wire.End(1, wire.CANCELLED, payload.failure("JobCancelled", "killed"), 0.1)])
    assert s.take(wire.CancelAck) == [ack([(0, 1)])]
    assert s.ends() == {0: (CANCELLED, "JobCancelled", "killed")}


def test_by_force_and_not_started(h):
    w, s = assigned(h)
    cancel(s, (0, 1), force=True)
    w.expect(wire.Kill([(1, 1)]))
    w.retracted(1)
    assert s.take(wire.CancelAck) == [ack([(0, 1)])]
    assert s.ends() == cancelled_end(h)


def test_by_force_after_a_refusal_in_waiting(h):
    w, s = assigned(h)
    cancel(s, (0, 1), request=1)
    cancel(s, (0, 1), force=True, request=2)
    w.expect(wire.Retract([(1, 1)]), wire.Kill([(1, 1)]))
    w.retracted(started=[1])
    s.expect(ack(refused=[(0, 1)], request=1))
    w.report(ends=[wire.End(1, wire.CANCELLED, b"", 0.1)])
    assert s.take(wire.CancelAck) == [ack([(0, 1)], request=2)]
    s.results()


def test_the_same_job_twice_in_one_request(h):
    w, s = assigned(h)
    cancel(s, (0, 1), (0, 1))
    w.inbox.clear()
    w.retracted(1)
    assert len(s.take(wire.CancelAck)) == 1
    s.results()


@pytest.mark.parametrize("kind", [wire.RETRYABLE, wire.CRASHED, wire.LOST])
def test_an_attempt_that_ends_otherwise_is_not_tried_again(h, kind):
    w, s = assigned(h, retries=3)
    cancel(s, (0, 1))
    w.expect(wire.Retract([(1, 1)]))
    w.ended(1, kind)
    assert s.take(wire.CancelAck) == [ack([(0, 1)])]
    assert s.ends() == cancelled_end(h)
    assert w.inbox == []


def test_asked_again_when_the_worker_comes_back(h):
    w, s = assigned(h, 2)
    w.disconnect()
    cancel(s, (0, 1), force=True, request=1)
    cancel(s, (1, 1), request=2)
    s.expect()
    w.connect()
    w.join()
    w.expect(wire.Kill([(1, 1)]), wire.Retract([(2, 1)]))  # force for those alone that were meant
    w.retracted(1, 2)
    assert s.take(wire.CancelAck) == [ack([(1, 1)], request=2), ack([(0, 1)], request=1)]
    s.results()


def test_when_the_worker_does_not_come_back(h):
    w, s = assigned(h)
    w.silent = True
    cancel(s, (0, 1))
    w.inbox.clear()
    h.pass_time(5)
    assert s.take(wire.CancelAck) == [ack([(0, 1)])]
    assert s.ends() == cancelled_end(h)


def test_what_is_cancelled_already_is_told_to_be(h):
    s = h.submitter()
    s.submit(2)
    cancel(s, (0, 1))
    cancel(s, (0, 2), request=2)
    assert s.take(wire.CancelAck) == [ack([(0, 1)]), ack([(0, 2)], request=2)]
    assert s.ends() == {**cancelled_end(h), **cancelled_end(h, 1)}


def test_the_answer_waits_for_the_disk(h):
    s = h.submitter()
    s.submit()
    h.journal.held = True
    cancel(s, (0, 1))
    s.expect()
    h.sync()
    s.expect(ack([(0, 1)]), wire.Results)


def test_a_submitter_that_left_gets_no_answer(h):
    w, s = assigned(h)
    cancel(s, (0, 1))
    w.inbox.clear()
    s.disconnect()
    w.retracted(1)
    assert not h.core.state.cancels


def test_many_cancels_leave_the_line_in_order(h):
    s = h.submitter()
    s.submit(500)
    for counter in range(0, 500, 3):
        cancel(s, (counter, 1))
    s.inbox.clear()
    w = h.worker(slots=500, credit=500)
    assert w.assigned() == [c for c in range(500) if c % 3]


def test_cancelled_etas_are_swept_out(h):
    s = h.submitter()
    for _ in range(10):
        message = s.submit(500, not_before=h.wall + 1e6)
        cancel(s, (message.first, 500))
        s.inbox.clear()
    assert len(h.core.state.delays) <= 1_500
