"""How many jobs a worker holds, however fast it and all that lies between are."""

from collections import deque
from collections.abc import Callable
from random import Random

import pytest

from tests.helpers.scheduler_harness import Harness
from tests.unit.scheduler.test_dispatch import measured
from zmqtasks import wire
from zmqtasks.scheduler.core.window import LEAST, Window

TARGET = 0.010  # seconds that jobs should stand in queues at most
TURN = 0.001


class Pipe:
    """A way there and back of which one place lets so many jobs a second pass, one after the other.

    Args: rate: jobs a second. way: seconds of the empty way. window: what may be on it. more: what a way takes besides.
    """

    def __init__(self, rate: float, way: float, window: Window, more: Callable[[], float] = float) -> None:
        self.rate, self.way, self.window, self.more = rate, way, window, more
        self.mono = 50.0
        self.open = 0.0  # monotonic time at which the narrow place is free
        self.held: deque[tuple[int, float]] = deque()  # (number, when it is back)
        self.last = self.done = 0

    def run(self, seconds: float, most: int = 10**9) -> None:
        """Keep it as full as the window, and `most`, say."""
        for _ in range(round(seconds / TURN)):
            self.mono += TURN
            while self.held and self.held[0][1] <= self.mono:
                number, _ = self.held.popleft()
                self.done += 1
                if number == self.window.number:
                    self.window.returned(TARGET, self.mono)
            if len(self.held) >= min(self.window.size, most):
                continue
            first, more = self.last + 1, self.more()
            while len(self.held) < min(self.window.size, most):
                self.last += 1
                self.open = max(self.open, self.mono) + 1 / self.rate
                self.held.append((self.last, max(self.open + self.way + more, self.held[-1][1] if self.held else 0.0)))
            numbers = range(self.held[0][0], self.last + 1)
            self.window.sent(first, numbers, len(numbers), self.last - first, 0.0, self.done, self.mono)


@pytest.mark.parametrize("way", [0.001, 0.05, 0.3])
@pytest.mark.parametrize("rate", [20_000, 100_000])
def test_a_worker_holds_what_keeps_it_busy_and_little_more(rate, way):
    pipe = Pipe(rate, way, Window(2, 1_000_000))
    pipe.run(20 * (way + TARGET))  # it finds its size
    pipe.done = 0
    pipe.run(1.0)
    assert pipe.done == pytest.approx(rate, rel=0.05)
    assert rate * way < pipe.window.size < rate * (way + max(TARGET, way)) * 2


def test_a_slower_way_makes_it_smaller_and_a_faster_one_larger():
    pipe = Pipe(100_000, 0.001, Window(2, 1_000_000))
    pipe.run(0.5)
    before = pipe.window.size
    pipe.rate = 20_000
    pipe.run(0.5)
    assert pipe.window.size < before / 3
    pipe.rate = 100_000
    pipe.run(0.5)
    assert pipe.window.size > before / 2


def test_it_is_soon_large_again_after_a_pause():
    pipe = Pipe(100_000, 0.001, Window(2, 1_000_000))
    pipe.run(0.5)
    pipe.open = pipe.mono + 0.5  # nothing passes
    pipe.run(0.6)
    pipe.done = 0
    pipe.run(0.3)
    assert pipe.done > 0.9 * 0.3 * 100_000


def test_it_never_holds_so_few_that_messages_cost_the_most():
    for slots, least in ((1, LEAST), (2, LEAST), (16, 16 * 48)):
        pipe = Pipe(50, 0.001, Window(slots, 1_000_000))
        pipe.run(60.0)
        assert least <= pipe.window.size < 5 * least


@pytest.mark.parametrize("way", [0.015, 0.05, 0.3])
def test_a_way_that_gets_longer_is_found_out(way):
    pipe = Pipe(20_000, 0.001, Window(2, 20_000))
    pipe.run(0.5)
    pipe.way = way
    pipe.run(40 * way + 1.0)
    pipe.done = 0
    pipe.run(1.0)
    assert pipe.done > 18_000
    assert pipe.window.size < 20_000 * (way + max(TARGET, way)) * 2


def test_ways_that_differ_are_no_queue():
    random = Random(7)
    pipe = Pipe(50_000, 0.05, Window(2, 1_000_000), lambda: random.uniform(-0.018, 0.018))
    pipe.run(4.0)
    pipe.done = 0
    pipe.run(2.0)
    assert pipe.done > 0.8 * 2.0 * 50_000


def test_a_floor_that_is_too_low_does_no_lasting_harm():
    window = Window(2, 1_000_000)
    for number in (1, 2):
        window.sent(number, {number}, 1, 0, 9.0, number, float(number))  # its work was overestimated
        window.returned(TARGET, number + 0.05)
    pipe = Pipe(50_000, 0.05, window)
    pipe.run(5.0)
    pipe.done = 0
    pipe.run(1.0)
    assert pipe.done > 45_000


def test_it_does_not_grow_where_it_was_not_what_kept_them_few():
    pipe = Pipe(100_000, 0.001, Window(2, 1_000_000))
    size = pipe.window.size
    pipe.run(1.0, most=size // 2)
    assert pipe.window.size == size


def test_it_never_grows_beyond_what_the_worker_takes():
    pipe = Pipe(100_000, 0.3, Window(2, 2_000))
    pipe.run(5.0)
    assert pipe.window.size == 2_000


def test_a_long_way_to_the_first_job_is_not_believed_for_ever():
    window = Window(2, 1_000_000)
    window.sent(1, {1}, 1, 0, 0.0, 0, 10.0)
    window.returned(TARGET, 30.0)  # the job itself took 20 s
    pipe = Pipe(20_000, 0.001, window)
    pipe.run(1.0)
    assert window.size < 20_000 * 3 * TARGET


def test_work_that_was_expected_is_no_delay():
    window = Window(2, 1_000_000)
    size = window.size
    window.sent(1, {1}, 1, 0, 0.0, 0, 10.0)
    window.returned(TARGET, 10.001)
    window.sent(1 + size, range(2, 2 + size), size, 0, 0.5, 1, 11.0)
    window.returned(TARGET, 11.502)
    assert window.size > size


def test_one_that_will_not_come_back_is_not_waited_for():
    window = Window(2, 1_000_000)
    window.sent(5, {5}, 1, 0, 0.0, 0, 10.0)
    window.sent(6, {5, 6}, 2, 0, 0.0, 0, 10.1)
    assert window.number == 5
    window.sent(7, {6, 7}, 2, 0, 0.0, 0, 10.2)  # 5 was cancelled, or taken back
    assert window.number == 7


def test_one_that_runs_for_long_while_others_come_back_is_not_waited_for():
    window = Window(2, 1_000_000)
    window.sent(60, range(1, 61), 60, 0, 0.0, 0, 10.0)
    window.sent(120, range(60, 121), 61, 0, 0.0, 119, 10.1)
    assert window.number == 60
    window.sent(181, {60, 181}, 2, 0, 0.0, 179, 10.2)
    assert window.number == 181


# ------------------------------------------------------------------------------------------ in the scheduler


def flood(h: Harness, turns: int, per_turn: int) -> int:
    """Micro-jobs without end for one worker that brings so many back in each turn of 1 ms; what it holds then."""
    measured(h, took=0.000001)
    w, s = h.worker(slots=2, credit=10_000), h.submitter("many")
    for _ in range(6):
        s.submit(500)
    for _ in range(turns):
        h.mono += TURN
        w.inbox.clear()
        some = w.numbers()[:per_turn]
        w.done(*some, took=0.000001)
        s.results()
        for at in range(0, len(some), 500):
            s.submit(len(some[at : at + 500]))
    w.inbox.clear()
    return len(w.held)


def test_micro_jobs_that_stand_in_a_queue_are_few_there(h):
    assert flood(h, 300, per_turn=5) < 800  # of 3,000


def test_micro_jobs_that_come_back_at_once_are_many(h):
    assert 700 < flood(h, 60, per_turn=100) < 2_500


def test_a_job_that_was_cancelled_while_it_was_timed_does_not_stop_the_clock(h):
    measured(h, took=0.000001)
    w, s = h.worker(slots=2, credit=10_000), h.submitter("many")
    s.submit(500)
    window = h.core.state.workers[w.nonce].window
    timed = window.number
    assert timed
    assert window._before == 1  # what was sent with it, behind it, does not hold it up
    w.assigned()
    w.ended(timed, wire.CANCELLED)
    w.done(timed + 1)
    assert w.assigned()
    assert window.number > timed + 1
    s.results()


def test_jobs_that_fail_tell_how_long_they_were_away_too(h):
    measured(h, took=0.000001)
    w, s = h.worker(slots=2, credit=10_000), h.submitter("many")
    s.submit(500)
    s.submit(500)
    window = h.core.state.workers[w.nonce].window
    size = window.size
    w.inbox.clear()
    h.mono += TURN
    w.report(ends=[wire.End(n, wire.FAILED, b"", 1e-6) for n in w.numbers()[:-2]])
    assert window.size == 2 * size
    w.inbox.clear()
    s.inbox.clear()


def test_an_outcome_of_a_job_that_was_taken_back_times_nothing(h):
    measured(h, took=0.000001)
    w, s = h.worker(slots=2, credit=10_000), h.submitter("many")
    s.submit(200)  # all are given out: nothing else is timed after that
    worker = h.core.state.workers[w.nonce]
    timed, size = worker.window.number, worker.window.size
    w.assigned()
    s.send(wire.Cancel(1, s.prefix, [(worker.held[timed].counter, 1)], False))
    w.inbox.clear()
    w.retracted(timed)
    h.mono += 10.0
    w.send(wire.Done([wire.Run(timed, [b"", b""], 2e-6, 1e-6)], []))  # one of the two is its own
    assert worker.window.size == size
    w.inbox.clear()
    s.inbox.clear()


def test_urgent_jobs_do_not_wait_until_more_than_the_window_is_over(h):
    measured(h, took=0.000001)
    w, s = h.worker(slots=2, credit=10_000), h.submitter("many")
    for _ in range(2):
        s.submit(500)
    worker = h.core.state.workers[w.nonce]
    worker.window.size = worker.window.least  # it has shrunk
    w.inbox.clear()
    s.submit(1, spec=wire.Spec(priority=9))
    w.retracted(*(n for first, count in w.expect(wire.Retract).numbers for n in range(first, first + count)))
    assert 1_000 in w.assigned()
    w.inbox.clear()
