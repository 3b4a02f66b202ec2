"""What operators set while the scheduler runs."""

import pytest

from zmqtasks import wire
from zmqtasks.ids import expand
from zmqtasks.states import CANCELLED, READY


def test_no_job_of_a_paused_queue_starts_and_what_has_not_started_comes_back(h):
    w, s, o = h.worker(slots=2, queues=["a", "b"]), h.submitter(), h.operator()
    s.submit(3, queue="a")
    assert w.assigned() == [0, 1]
    assert o.control(wire.SetQueue("a", paused=True)) == wire.Controlled("", 0)
    asked = w.expect(wire.Retract).numbers
    w.retracted(2, started=[1])
    assert sorted(expand(asked)) == [1, 2]
    s.submit(1, queue="b")
    assert w.assigned() == [3]
    s.submit(1, queue="a")
    w.done(1)
    assert w.inbox == []
    assert [h.job(i).state for i in (1, 2, 4)] == [READY] * 3
    assert any("paused" in reason for reason in o.job(1).reasons)
    (queue,) = [queue for queue in o.status().queues if queue.name == "a"]
    assert (queue.paused, queue.ready) == (True, 3)
    o.control(wire.SetQueue("a", paused=False))
    assert w.assigned() == [1, 2, 4]  # they are known to be short by now
    s.results()


def test_a_purge_cancels_all_that_has_not_started_and_nothing_else(h):
    w, s, o = h.worker(queues=["a", "b"]), h.submitter(), h.operator()
    s.submit(1, queue="a")
    for _ in range(5):
        s.submit(500, queue="a")
    s.submit(1, queue="a", not_before=h.wall + 100.0)
    s.submit(2, queue="b")
    w.assigned()
    o.send(wire.Purge("a"))
    for _ in range(5):
        h.turn()
        s.results()
    assert o.expect(wire.Controlled) == wire.Controlled("", 2_501)
    assert h.core.state.moves.counts[CANCELLED] == 2_501
    assert h.job(2_502).state == READY
    w.done()
    w.take(wire.Assign)
    s.results()


def test_names_that_nobody_knows_are_warned_of_and_it_is_done_all_the_same(h):
    w, s, o = h.worker(queues=["high"], tasks=["photos.resize"]), h.submitter(), h.operator()
    s.submit(1, queue="later", not_before=h.wall + 100.0)

    def warning(change):
        done = o.control(change)
        assert done.error == ""
        w.take(wire.Consume)
        return done.warning

    nobody = "no worker takes from queue 'hihg', and no job is in it; did you mean 'high'?"
    assert warning(wire.SetQueue("hihg", paused=True)) == nobody
    assert warning(wire.SetQueue("hihg", paused=True)) == nobody  # as often as it is said
    assert warning(wire.SetQueue("hihg", paused=False)) == ""  # it takes back what was set
    assert warning(wire.SetQueue("xyz", weight=2.0)) == "no worker takes from queue 'xyz', and no job is in it"
    assert warning(wire.Purge("hihg")) == nobody
    for queue in ("high", "later"):
        assert warning(wire.SetQueue(queue, paused=True)) == ""
    nobody = "no worker knows a task 'photos.resise', and no job of it is here; did you mean 'photos.resize'?"
    assert warning(wire.SetRate("photos.resise", 1.0)) == nobody
    assert warning(wire.SetRate("photos.resise", None)) == ""  # it takes back what was set
    assert warning(wire.SetRate("photos.resise", None)) == nobody
    for task in ("photos.resize", "add"):  # known to a worker, and to a submitter
        assert warning(wire.SetRate(task, 1.0)) == ""
    nobody = "no worker that was asked takes from queue 'hgih'; did you mean 'high'?"
    assert warning(wire.SetConsumer("hgih", take=False)) == nobody
    assert warning(wire.SetConsumer("new", take=True)) == ""
    assert warning(wire.SetConsumer("high", take=False, worker="w")) == ""
    assert h.core.state.lines.paused == {"high", "later"}


def test_status_shows_the_rates_that_are_set_beside_those_that_are_declared(make):
    h = make(durable=True)
    w, s, o = h.worker(slots=9, rates=[("said", 5.0, 2)]), h.submitter(), h.operator()
    s.submit(1, task="add", rate=3.0)
    w.assigned()
    begin = h.wall
    for task in ("said", "add", "bare"):
        o.control(wire.SetRate(task, 0.5, 2))
        h.pass_time(10.0)
    o.control(wire.SetRate("gone", 1.0))
    o.control(wire.SetRate("gone", None))
    told = [
        wire.RateStatus("add", 0.5, 2, begin + 10.0, 3.0, 1),
        wire.RateStatus("bare", 0.5, 2, begin + 20.0),
        wire.RateStatus("said", 0.5, 2, begin, 5.0, 2),
    ]
    assert o.status().rates == told
    h.restart()
    w.connect()
    w.join(connection=2)
    o.connect()
    o.send(o.hello())
    o.expect(wire.OperatorWelcome)
    assert o.status().rates == told


def test_what_is_set_holds_after_a_restart(make):
    h = make(durable=True)
    o = h.operator()
    o.control(wire.SetQueue("a", paused=True, weight=2.5))
    o.control(wire.SetRate("add", 0.5, 3))
    h.restart()
    state = h.core.state
    assert (state.lines.paused, state.shares.weights, state.limits.told) == ({"a"}, {"a": 2.5}, {"add": (0.5, 3)})
    w, s = h.worker(queues=["a", "b"], slots=10), h.submitter()
    s.submit(1, queue="a")
    s.submit(5, queue="b")
    assert w.inbox == []  # nor is it known what started just before it
    h.pass_time(6.1)
    assert w.assigned() == [1, 2, 3]
    assert h.core.state.limits.all()[0].interval == 2.0


def test_a_change_is_told_when_it_is_on_the_disk(make):
    h = make(durable=True)
    o = h.operator()
    h.journal.held = True
    o.send(wire.SetQueue("a", weight=2.0))
    assert o.inbox == []
    h.sync()
    o.expect(wire.Controlled)


@pytest.mark.parametrize(
    "change",
    [
        wire.SetRate("add", -1.0),
        wire.SetRate("add", float("nan")),
        wire.SetRate("add", 1.0, 0),
        wire.SetQueue("a", weight=0.0),
        wire.SetQueue("a", weight=float("inf")),
    ],
)
def test_what_cannot_be_changes_nothing(h, change):
    o = h.operator()
    assert o.control(change).error
    state = h.core.state
    assert (state.shares.weights, state.limits.told) == ({}, {})
