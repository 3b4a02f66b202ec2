"""What has waited long counts as more urgent, where the scheduler is told a span."""

import pytest

from tests.unit.scheduler.test_priority import LONG
from tests.unit.scheduler.test_resources import ONE
from zmqtasks import wire
from zmqtasks.scheduler.core import ageing

SPAN = 100.0


@pytest.fixture
def aged(make):
    return make(ageing=SPAN)


def serve(h, w, took=LONG):
    """The job that runs ends; returns the counter of the one that is given out instead."""
    h.pass_time(took)
    w.done(min(w.held), took=took)
    (counter,) = w.assigned()
    return counter


def test_a_stream_of_urgent_jobs_does_not_hold_up_the_others_for_ever(aged):
    w, s = aged.worker(), aged.submitter()
    s.submit(1, priority=9)
    w.assigned()
    s.submit(1, priority=1)
    order = []
    for _ in range(90):
        s.submit(1, priority=3)
        order.append(serve(aged, w))
        if order[-1] == 1:
            break
    spans = len(order) * LONG / SPAN
    assert 2.0 <= spans <= 2.0 + 1 / ageing._LOOKS + LONG / SPAN  # from 1 to 3, where the older goes first: two spans
    s.take(wire.Results)


def test_it_counts_for_the_job_and_not_for_those_behind_it(aged):
    w, s = aged.worker(), aged.submitter()
    s.submit(1, priority=9)
    w.assigned()
    s.submit(1)
    aged.pass_time(5 * SPAN)
    s.submit(2)  # behind it, in the same line
    s.submit(1, priority=4)
    aged.pass_time(0.3 * SPAN)
    assert serve(aged, w) == 1
    assert serve(aged, w) == 4
    assert serve(aged, w) == 2
    s.take(wire.Results)


def test_nothing_counts_as_more_than_9_and_those_under_limits_and_needs_count_too(aged):
    w, s = aged.worker(resources=ONE), aged.submitter()
    s.submit(1, priority=9)
    w.assigned()
    s.submit(1, resources=ONE)
    s.submit(1, rate=1000.0)
    aged.pass_time(50 * SPAN)
    assert {line.level for line in aged.core.state.lines.all() if len(line)} == {9}
    assert "with priority 0, and counts as 9 since it has waited so long" in " ".join(aged.operator().job(1).reasons)
    assert {serve(aged, w), serve(aged, w)} == {1, 2}
    s.take(wire.Results)


def test_without_a_span_nothing_is_looked_at(h):
    assert h.core.state.age_at == float("inf")
