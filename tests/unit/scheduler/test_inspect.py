"""What operators learn about jobs: some rows of many, and never by looking at all of them."""

import pytest

from zmqtasks import ids, wire
from zmqtasks.scheduler.core import rows
from zmqtasks.states import DELAYED


def counters(jobs):
    return [int(row.id[24:], 16) for row in jobs.rows]


def test_running_assigned_ready_and_delayed(h):
    w, s, o = h.worker(slots=2), h.submitter(), h.operator()
    s.submit(4)
    s.submit(1, not_before=h.wall + 60.0)
    w.assigned()
    w.send(w.heartbeat(1))
    h.mono, h.wall = h.mono + 2.5, h.wall + 2.5
    (row,) = o.jobs("running").rows
    assert row == wire.JobStatus(
        ids.job_id(s.prefix, 0), "add", "running", "default", "w", h.job(0).attempt, 0, 0, 0.0, "user@host",
        h.wall - 2.5,
    )  # fmt: skip
    assert counters(o.jobs("assigned")) == [1]
    assert [(row.state, row.worker, row.since) for row in o.jobs("ready").rows] == [("ready", "", 0.0)] * 2
    (row,) = o.jobs("delayed").rows
    assert (row.due, row.worker) == (h.wall + 57.5, "")
    everything = o.jobs()
    assert counters(everything) == [0, 1, 2, 3, 4]
    assert everything.total == 5


def test_a_job_that_went_back_and_forth_was_given_when_it_was_given_last(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit()
    w.assigned()
    h.jump(1.0)
    w.retracted(1)
    w.assigned()
    assert [row.since for row in o.jobs("assigned").rows] == [h.wall]


def test_the_limit_and_the_sum(h):
    s, o = h.submitter(), h.operator()
    s.submit(300, task="none")
    told = o.jobs("ready", limit=7)
    assert (counters(told), told.total) == (list(range(7)), 300)
    assert (o.jobs("ready", limit=0).rows, o.jobs("ready", limit=-1).rows) == ([], [])
    assert len(o.jobs("ready", limit=10**9).rows) == 300


def test_no_answer_is_larger_than_a_message_may_be(h):
    s, o = h.submitter(), h.operator()
    for _ in range(3):
        s.submit(400, task="none")
    told = o.jobs(limit=100_000)
    assert (len(told.rows), told.total) == (500, 1200)


def test_the_jobs_of_one_queue(h):
    w, s, o = h.worker(slots=2, queues=["a", "b"]), h.submitter(), h.operator()
    s.submit(3, queue="a")
    s.submit(3, queue="b")
    w.assigned()
    told = o.jobs(queue="b")
    assert told.total == 3
    assert {row.queue for row in told.rows} == {"b"}
    assert o.jobs(queue="c") == wire.Jobs([], 0)


def test_many_jobs_of_a_queue_are_not_counted(h, monkeypatch):
    monkeypatch.setattr(rows, "LOOK", 50)
    s, o = h.submitter(), h.operator()
    s.submit(60, task="none", queue="a")
    told = o.jobs(queue="a", limit=3)
    assert (len(told.rows), told.total) == (3, -1)
    assert o.jobs(limit=3).total == 60


def test_delayed_jobs_come_in_the_order_of_their_time_whatever_delays_them(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(1, not_before=h.wall + 30.0)
    s.submit(1, retries=1, backoff=20.0)
    s.submit(1, not_before=h.wall + 10.0)
    w.assigned()
    w.ended(1, wire.RETRYABLE)
    assert h.job(1).state == DELAYED
    told = o.jobs("delayed")
    assert [(counter, row.due - h.wall) for counter, row in zip(counters(told), told.rows, strict=True)] == [
        (2, 10.0),
        (1, 20.0),
        (0, 30.0),
    ]
    s.send(wire.Cancel(1, s.prefix, [(2, 1)], force=False))
    s.take(wire.CancelAck)
    s.results()
    assert counters(o.jobs("delayed")) == [1, 0]


def test_jobs_that_are_over_the_newest_first(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(3)
    for number in (1, 2, 3):
        w.assigned()
        if number == 2:
            w.ended(number, wire.FAILED)
        else:
            w.done(number)
    s.results()
    assert counters(o.jobs("succeeded")) == [2, 0]
    assert counters(o.jobs("failed")) == [1]
    assert counters(o.jobs()) == []


def test_cancelled_jobs_in_the_middle_of_a_line_are_left_out(h):
    s, o = h.submitter(), h.operator()
    s.submit(9, task="none")
    s.send(wire.Cancel(1, s.prefix, [(3, 2)], force=False))
    s.take(wire.CancelAck)
    s.results()
    assert counters(o.jobs("ready")) == [0, 1, 2, 5, 6, 7, 8]


def test_jobs_whose_arguments_are_being_loaded(make):
    h = make(cache=0, spill=100)
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(args=[b"x" * 200])
    told = o.jobs("waiting")
    assert [row.state for row in told.rows] in (["waiting"], [])  # its bytes may have come in the same turn
    w.inbox.clear()


@pytest.mark.parametrize("states", [["sleeping"], ["ready", ""]])
def test_a_state_that_does_not_exist_is_refused(h, states):
    o = h.operator()
    o.send(wire.AskJobs(states, "", 10))
    o.expect()
    assert h.counters["malformed_messages"] == 1
    assert "there is no job state" in h.logs[-1][1]


def test_what_an_answer_tells_is_durable_first(h):
    s, o = h.submitter(), h.operator()
    h.journal.held = True
    s.send(s.message())
    o.send(wire.AskJobs([], "", 10), wire.AskJob(s.prefix, 0))
    o.expect()
    h.journal.held = False
    h.sync()
    o.expect(wire.Jobs, wire.JobReport)
    s.inbox.clear()
