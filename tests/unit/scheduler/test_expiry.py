"""Jobs that must not start after a certain time."""

import pytest

from zmqtasks import wire
from zmqtasks.ids import expand
from zmqtasks.states import ABORTED, ASSIGNED


def test_what_waits_when_its_time_is_over_ends(h):
    s = h.submitter()
    s.submit(2, expires=h.wall + 5.0)
    h.pass_time(4.9)
    s.take(wire.Notice)
    assert s.inbox == []
    h.pass_time(0.2)
    ends = s.ends()
    assert {counter: (state, kind) for counter, (state, kind, _) in ends.items()} == {
        0: (ABORTED, "JobExpired"),
        1: (ABORTED, "JobExpired"),
    }
    assert "had not started when its time was over (expires 2023-11-14T22:13:25" in ends[0][2]


def test_a_job_that_is_late_already_never_starts(h):
    w, s = h.worker(), h.submitter()
    s.send(s.message(1, expires=h.wall - 1.0))
    assert s.ends()[0][1] == "JobExpired"
    assert w.inbox == []


def test_a_delayed_job_may_expire_before_its_time(h):
    s = h.submitter()
    s.submit(1, not_before=h.wall + 100.0, expires=h.wall + 5.0)
    h.pass_time(5.1)
    assert s.ends()[0][1] == "JobExpired"


def test_what_runs_goes_on_and_what_waits_on_a_worker_comes_back(h):
    w, s = h.worker(slots=1), h.submitter()
    s.submit(1, expires=h.wall + 5.0)
    assert w.assigned() == [0]
    h.pass_time(5.1)
    asked = w.expect(wire.Retract).numbers
    w.retracted(started=expand(asked))
    assert h.job().state == ASSIGNED
    w.done(1)
    assert s.results() == {0: b"result 1"}
    s.submit(1, expires=h.wall + 5.0)
    w.assigned()
    h.pass_time(5.1)
    w.retracted(*expand(w.expect(wire.Retract).numbers))
    assert s.ends()[1][1] == "JobExpired"


def test_it_is_not_tried_again_after_its_time(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, expires=h.wall + 5.0, retries=3)
    w.assigned()
    w.send(w.heartbeat(1))
    h.pass_time(5.1)
    w.ended(1, wire.RETRYABLE)
    assert s.ends()[0][1] == "JobExpired"


@pytest.mark.parametrize("away", [1.0, 10.0])
def test_it_expires_after_a_restart(make, away):
    h = make(durable=True)
    s = h.submitter()
    s.submit(1, expires=h.wall + 5.0)
    h.wall += away
    h.restart()
    s.connect()
    s.join()
    s.send(wire.Ask(s.prefix, [(0, 1)]))
    h.pass_time(5.0)
    s.take(wire.Notice)
    assert s.ends()[0][1] == "JobExpired"
