"""The more urgent first, in the scheduler and on the workers; queues and submitters share what is left."""

from collections import Counter

import pytest

from tests.helpers.scheduler_harness import Harness, WorkerPeer
from tests.unit.scheduler.test_dispatch import measured
from zmqtasks import wire
from zmqtasks.ids import expand

LONG = 10.0  # seconds


def drain(h: Harness, w: WorkerPeer, took: float, rounds: int = 10_000) -> list[tuple[bytes, int]]:
    """Let a worker run one job after the other; returns them (prefix, counter) in the order in which they came."""
    order = []
    for _ in range(rounds):
        messages = w.take(wire.Assign)
        order += [(work.prefix, counter) for message in messages for work in message.works for counter in work.counters]
        if not w.held:
            return order
        h.pass_time(took)
        w.done(min(w.held), took=took)
    return order


def test_the_highest_priority_has_the_next_free_slot(h):
    w, s = h.worker(), h.submitter()
    s.submit(1)
    for priority in (0, 3, 9, 3):
        s.submit(1, priority=priority)
    assert [counter for _, counter in drain(h, w, LONG)] == [0, 3, 2, 4, 1]
    s.results()


def test_it_counts_across_queues_and_tasks(h):
    w, s = h.worker(queues=["a", "b"], tasks=["one", "two"]), h.submitter()
    s.submit(1, queue="a", task="one")
    s.submit(1, queue="a", task="one", priority=1)
    s.submit(1, queue="b", task="two", priority=2)
    s.submit(1, queue="b", task="one", priority=0)
    s.submit(1, queue="a", task="two", priority=5)
    assert [counter for _, counter in drain(h, w, LONG)] == [0, 4, 2, 1, 3]
    s.results()


def test_more_urgent_work_is_first_in_advance_too(h):
    measured(h, took=0.001)
    s = h.submitter()
    for priority in (0, 1):
        s.send(s.message(10, priority=priority))
    s.take(wire.Accepted)
    w = h.worker(slots=1, credit=1_000)
    message = w.expect(wire.Assign)
    assert [(work.priority, work.counters) for work in message.works] == [(1, list(range(10, 20)))]
    s.take(wire.Notice)


def test_what_has_not_started_makes_way(h):
    measured(h, took=0.001)
    w, s = h.worker(slots=1, credit=1_000), h.submitter()
    s.submit(100)
    assert len(w.assigned()) == 10  # all that it may hold
    s.send(s.message(3, priority=7))
    s.take(wire.Accepted)
    asked = w.expect(wire.Retract).numbers
    assert asked == [(8, 3)]  # as many as wait, the last ones
    w.retracted(*expand(asked))
    message = w.expect(wire.Assign)
    assert [(work.priority, work.counters) for work in message.works] == [(7, [100, 101, 102])]
    h.turn()
    assert w.inbox == []


def test_for_urgent_jobs_of_unknown_length_a_slot_is_cleared_and_kept_clear(h):
    measured(h, took=0.001)
    w, s = h.worker(slots=1, credit=1_000, tasks=["add", "other"]), h.submitter()
    s.submit(100)
    w.assigned()
    s.send(s.message(20, task="other", priority=1))
    s.take(wire.Accepted)
    asked = w.expect(wire.Retract).numbers
    assert asked == [(2, 9)]  # all but the one that may run
    w.retracted(*expand(asked))
    assert w.inbox == []  # nothing else in advance
    w.done(1)
    assert w.assigned() == [100]
    s.results()


def test_what_is_as_urgent_or_more_so_stays(h):
    measured(h, took=0.001)
    w, s = h.worker(slots=1, credit=1_000), h.submitter()
    s.submit(100, priority=5)
    w.assigned()
    s.send(s.message(3, priority=5), s.message(3, priority=4))
    s.take(wire.Accepted)
    assert w.inbox == []


def test_a_million_jobs_do_not_starve_ten(h):
    w = h.worker(slots=2)
    big, small = h.submitter("big"), h.submitter("small")
    big.submit(500)
    w.take(wire.Assign)
    small.submit(10)
    order = []
    while Counter(prefix for prefix, _ in order)[small.prefix] < 10:
        w.done(min(w.held), took=LONG)
        order += [(work.prefix, c) for m in w.take(wire.Assign) for work in m.works for c in work.counters]
    assert len(order) <= 22
    w.take(wire.Assign)
    big.results()
    small.results()


@pytest.mark.parametrize(("weight", "took"), [(1.0, (1.0, 1.0)), (3.0, (1.0, 1.0)), (2.0, (0.2, 1.0))])
def test_queues_share_the_time_by_their_weights(h, weight, took):
    for task, seconds in zip(("one", "two"), took, strict=True):
        measured(h, seconds, task)
    h.core.state.shares.weights["heavy"] = weight
    w, s = h.worker(queues=["heavy", "light"], tasks=["one", "two"]), h.submitter()
    s.submit(400, queue="heavy", task="one")
    s.submit(400, queue="light", task="two")
    used = [0.0, 0.0]
    for _ in range(200):
        (message,) = w.take(wire.Assign)
        which = int(message.works[0].task == "two")
        used[which] += took[which]
        w.done(took=took[which])
    assert used[0] / used[1] == pytest.approx(weight, rel=0.1)
    w.take(wire.Assign)
    s.results()


def test_a_queue_that_was_empty_has_saved_nothing_up(h):
    for task in ("one", "two"):
        measured(h, 1.0, task)
    w, s = h.worker(queues=["a", "b"], tasks=["one", "two"]), h.submitter()
    s.submit(300, queue="a", task="one")
    for _ in range(100):
        w.take(wire.Assign)
        w.done(took=1.0)
    s.submit(100, queue="b", task="two")
    tasks = []
    for _ in range(20):
        (message,) = w.take(wire.Assign)
        tasks.append(message.works[0].task)
        w.done(took=1.0)
    assert 8 <= tasks.count("two") <= 12
    w.take(wire.Assign)
    s.results()


def test_a_priority_that_cannot_be_is_refused(h):
    s = h.submitter()
    for priority in (-1, 10):
        s.send(s.message(1, priority=priority))
        assert "priority" in s.expect(wire.Rejected).reason
