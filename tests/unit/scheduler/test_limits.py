"""How many jobs may start in a time, and how many may run at once."""

from itertools import pairwise

import pytest

from tests.helpers.scheduler_harness import Harness, SubmitterPeer, WorkerPeer
from tests.unit.scheduler.test_dispatch import measured
from zmqtasks import wire
from zmqtasks.scheduler.core import limits as limits_module
from zmqtasks.scheduler.core.quotas import LATE_SHARE, Rate
from zmqtasks.states import READY


def starts(h: Harness, w: WorkerPeer, s: SubmitterPeer, jobs: int, step: float, most: float) -> list[float]:
    """Run jobs as they come, each at once; returns the times (seconds from now) at which they were given out."""
    begin, times = h.mono, []
    while len(times) < jobs and h.mono - begin < most:
        for message in w.take(wire.Assign):
            times += [h.mono - begin for work in message.works for _ in work.counters]
        if w.held:
            w.done(took=0.0001)
        else:
            h.pass_time(step)
    s.results()
    return times


@pytest.mark.parametrize("rate", [0.5, 10 / 60, 100.0])
def test_no_window_gets_more_than_its_share(h, rate):
    w, s = h.worker(slots=4, credit=1_000), h.submitter()
    s.send(s.message(50, rate=rate))
    times = starts(h, w, s, 50, 0.01 / rate, 60 / rate)
    assert len(times) == 50
    assert all(later - earlier >= (1 - LATE_SHARE) / rate for earlier, later in pairwise(times))
    for window in (2, 10, 40):  # whole intervals: nothing adds up
        assert all(times[i + window] - times[i] >= (window - LATE_SHARE) / rate for i in range(50 - window))
    assert times[-1] <= 49 / rate * 1.01  # and little is wasted
    s.take(wire.Accepted)


def test_a_burst_is_what_was_asked_for_and_no_more(h):
    w, s = h.worker(slots=10, credit=1_000), h.submitter()
    s.send(s.message(30, rate=1.0, burst=5))
    times = starts(h, w, s, 30, 0.05, 60.0)
    for window in (1.0, 3.0, 10.0):
        most = max(sum(1 for t in times if begin <= t < begin + window) for begin in times)
        assert most <= 5 + window
    assert sum(1 for t in times if t < 0.5) == 5
    s.take(wire.Accepted)


def test_each_key_has_a_rate_of_its_own(h):
    w, s = h.worker(slots=10), h.submitter()
    for key in ("a", "b", "a", "b"):
        s.submit(1, rate=0.1, rate_key=key)
    assert w.assigned() == [0, 1]
    w.done()
    h.pass_time(9.9)
    assert w.inbox == []
    h.pass_time(0.2)
    assert sorted(w.assigned()) == [2, 3]
    s.results()


def test_a_limited_job_holds_up_nobody(h):
    measured(h, 0.001)
    w, s = h.worker(slots=2, credit=1_000, tasks=["add", "slow"]), h.submitter()
    s.send(s.message(5, task="slow", rate=0.01), s.message(100))
    came = w.assigned()
    assert came[0] == 0  # the first of the limited ones
    assert set(came[1:]) == set(range(5, 5 + len(came) - 1))
    assert len(came) > 5
    s.take(wire.Accepted)


def test_a_limited_job_gets_a_slot_where_short_ones_are_plenty(h):
    measured(h, 0.001)
    w, s = h.worker(slots=2, credit=1_000, tasks=["add", "rare"]), h.submitter()
    s.submit(2_000 // 4)
    rare = h.submitter("rare")
    rare.send(rare.message(1, task="rare", rate=1.0))
    rare.take(wire.Accepted)
    for _ in range(100):
        if any(work.task == "rare" for m in w.take(wire.Assign) for work in m.works):
            break
        w.done(*w.numbers()[:2], took=0.001)
        s.results()
    else:
        pytest.fail("it never got one")


@pytest.mark.parametrize("how", ["done", "failed", "lost", "retracted"])
def test_no_more_run_at_once_than_may(h, how):
    w, s = h.worker(slots=10), h.submitter()
    s.submit(5, cap=2, crash_budget=5)
    assert w.assigned() == [0, 1]
    other = h.worker("other", slots=10)
    assert other.inbox == []
    if how == "done":
        w.done(1)
    elif how == "failed":
        w.ended(1, wire.FAILED)
    elif how == "lost":
        w.ended(1, wire.CRASHED)
    else:
        w.retracted(1)
    h.turn()
    assert len([job for job in range(5) if h.job(job).worker is not None]) == 2
    for peer in (w, other):
        peer.take(wire.Assign)
    s.results()


def test_caps_have_keys_and_both_limits_hold_together(h):
    w, s = h.worker(slots=10), h.submitter()
    s.submit(3, cap=1, cap_key="x", rate=0.1, burst=3)
    s.submit(3, cap=1, cap_key="y", rate=0.1, burst=3)
    assert w.assigned() == [0, 3]
    w.done(1)
    assert w.assigned() == [1]  # the third of the burst
    w.done(3)
    assert w.inbox == []
    h.pass_time(10.1)
    assert w.assigned() == [2]
    s.results()


def test_after_a_restart_a_rate_begins_as_if_it_was_used_up(make):
    h = make(durable=True)
    w, s = h.worker(slots=10), h.submitter()
    s.submit(4, rate=0.1)
    s.submit(3, task="add", cap=1, cap_key="k")
    assert w.assigned() == [0, 4]
    h.restart()
    w.connect()
    w.join()
    assert w.inbox == []  # the one that holds the cap is still running
    h.pass_time(9.0)
    assert w.inbox == []
    h.pass_time(1.1)
    assert w.assigned() == [1]
    w.done(2)
    assert w.assigned() == [5]
    s.connect()


def test_after_a_restart_a_rate_that_is_forgotten_begins_as_if_it_was_used_up(make):
    h = make(durable=True)
    w, s = h.worker(slots=10), h.submitter()
    limited = {"rate": 0.1, "burst": 2, "durability": "memory"}
    s.send(s.message(3, **limited))
    s.take(wire.Accepted)
    assert w.assigned() == [0, 1]  # a first life has nothing to remember
    h.restart()
    w.connect()
    w.join()
    s = h.submitter("another")
    s.send(s.message(3, **limited))
    h.pass_time(9.0)
    assert w.assigned() == []
    h.pass_time(1.1)
    assert w.assigned() == [0]
    h.pass_time(20.0)
    s.send(s.message(2, rate_key="new", **limited))  # the restart is long ago
    assert w.assigned() == [1, 2, 3, 4]
    assert all(accepted.volatile for accepted in s.take(wire.Accepted))


def test_the_newest_declaration_counts_and_an_operators_counts_more(h):
    w, s = h.worker(slots=10), h.submitter()
    s.submit(3, rate=0.001)
    assert w.assigned() == [0]
    s.submit(1, rate=1.0)
    h.pass_time(1.1)
    assert len(w.assigned()) == 1
    limits = h.core.state.limits
    limits.tell("add", 0.0, 1, h.now)
    h.turn()
    assert len(w.assigned()) == 2
    limits.tell("add", 0.001, 1, h.now)
    s.submit(2)
    w.assigned()
    s.submit(2, rate=100.0)
    h.pass_time(5.0)
    assert w.inbox == []
    limits.tell("add", None, 1, h.now)
    h.pass_time(1.0)
    assert w.inbox
    w.assigned()


def test_an_operator_limits_a_task_that_had_no_limit(h):
    w, s = h.worker(slots=1), h.submitter()
    s.submit(3)
    assert w.assigned() == [0]
    h.core.state.limits.tell("add", 0.1, 1, h.now)
    w.done(1)
    assert w.assigned() == [1]
    w.done(2)
    assert w.inbox == []
    assert h.job(2).state == READY
    h.pass_time(10.1)
    assert w.assigned() == [2]
    s.results()


def test_limits_that_nobody_uses_are_forgotten(h):
    w, s = h.worker(slots=1), h.submitter()
    for key in range(1_500):
        s.send(s.message(1, rate=1e6, rate_key=str(key), result_ttl=0.0))
        w.take(wire.Assign)
        w.done()
        s.results()
        h.pass_time(0.01)
    assert len(h.core.state.limits.all()) < 1_100
    s.inbox.clear()


def test_a_rate_counts_whole_intervals():
    rate = Rate(("rate", "t", ""))
    rate.allow(2.0, 3, 0.0)
    assert rate.room(100.0) == 3
    rate.count(3, 100.0)
    assert rate.room(100.0) == 0
    assert rate.opens_at == pytest.approx(100.5)
    assert rate.room(100.5) == 1
    assert rate.room(101.5) == 3
    assert rate.room(1e9) == 3


def test_what_cannot_be_is_refused(h):
    s = h.submitter()
    for wrong in ({"rate": -1.0}, {"burst": 0}, {"cap": -1}, {"rate": float("nan")}):
        s.send(s.message(1, **wrong))
        s.expect(wire.Rejected)


def test_waiting_for_a_limit_is_no_reason_to_take_work_back(h):
    w, s = h.worker(slots=1, credit=100), h.submitter()
    s.submit(1)
    w.assigned()
    s.submit(2, rate=0.001, priority=9)
    w.take(wire.Retract)
    w.done(1)
    assert w.assigned() == [1]
    w.done(2)
    s.submit(3)
    w.assigned()
    h.turn()
    assert w.inbox == []
    w.done()
    w.take(wire.Assign)
    s.results()


def test_the_worker_that_serves_a_lonely_job_serves_it_again_when_its_limit_opens(h):
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2, rate=1.0, burst=2, crash_budget=5)
    assert w.assigned() == [0, 1]
    w.report(ends=[wire.End(n, wire.SUSPECT, b"\x94\xaaWorkerLost\xa4oops\xa0\xc4\x00", 0.1) for n in (1, 2)])
    came = []
    for _ in range(40):
        h.pass_time(0.25)
        for message in w.take(wire.Assign):
            came += [counter for work in message.works for counter in work.counters]
            w.done(message.number)
    assert sorted(came) == [0, 1]
    s.results()


# ------------------------------------------------------------------------------------------------ what workers say


def test_what_a_worker_says_of_its_tasks_holds_for_jobs_that_say_nothing(h):
    s = h.submitter()
    s.submit(2)  # before there is a worker
    w = h.worker(slots=9, tasks=["add", "free"], rates=[("add", 10.0, 1)])
    assert w.assigned() == [0]
    s.submit(2)
    s.submit(1, task="free")
    assert w.assigned() == [4]
    for counter in (1, 2, 3):
        h.jump(0.1)
        assert w.assigned() == [counter]


def test_jobs_and_operators_say_more(h):
    w, s, o = h.worker(slots=9, rates=[("add", 10.0, 1)]), h.submitter(), h.operator()
    s.submit(2, rate=1000.0)
    assert w.assigned() == [0]
    h.jump(0.001)
    assert w.assigned() == [1]
    o.control(wire.SetRate("add", 0.0))  # no limit
    s.submit(3)
    assert sorted(w.assigned()) == [2, 3, 4]


def test_another_worker_may_say_otherwise_and_nonsense_is_refused(h):
    h.worker("old", rates=[("add", 10.0, 1)]).send(wire.Goodbye())
    w, s = h.worker("new", slots=9, rates=[("add", 1000.0, 5)]), h.submitter()
    s.submit(5)
    assert len(w.assigned()) == 5
    bad = WorkerPeer(h, "bad", rates=[("add", float("nan"), 1)])
    bad.send(bad.hello())
    assert "how often they may start" in bad.expect(wire.Refused).reason


def test_a_cap_that_a_worker_says_holds_for_jobs_that_say_nothing(h):
    s = h.submitter()
    s.submit(3)  # before there is a worker
    w = h.worker(slots=9, tasks=["add", "free"], caps=[("add", 2)])
    assert w.assigned() == [0, 1]
    s.submit(2)
    s.submit(1, task="free")
    assert w.assigned() == [5]
    w.done(1)
    assert w.assigned() == [2]
    w.ended(2, wire.FAILED)
    assert w.assigned() == [3]
    s.submit(2, cap=2)  # who says the same says it of the same jobs
    assert w.inbox == []
    s.submit(1, cap=1, cap_key="own")
    assert w.assigned() == [8]
    s.results()


def test_what_runs_when_a_cap_becomes_known_counts_and_what_waits_on_a_worker_comes_back(h):
    measured(h, 0.0001)
    old, s = h.worker("old", slots=2, credit=100), h.submitter()
    s.submit(6)
    assert len(old.assigned()) == 6  # in advance
    old.send(old.heartbeat(1, 2))
    new = h.worker("new", slots=9, caps=[("add", 3)])
    assert old.take(wire.Retract) == [wire.Retract([(3, 4)])]
    old.retracted(3, 4, 5, 6)
    assert len(new.assigned() + old.assigned()) == 1
    old.done(1)
    assert len(new.assigned() + old.assigned()) == 1
    s.results()


def test_a_cap_that_workers_say_holds_after_a_restart(make):
    h = make(durable=True)
    w, s = h.worker(slots=9, caps=[("add", 2)]), h.submitter()
    s.submit(4)
    assert w.assigned() == [0, 1]
    h.restart()
    w.connect()
    w.join()
    assert w.inbox == []
    w.done(1)
    assert w.assigned() == [2]
    s.connect()


def test_of_very_many_tasks_the_limits_of_the_first_are_known(h, monkeypatch):
    monkeypatch.setattr(limits_module, "_MOST", 2)
    tasks = ["a", "b", "c"]
    h.worker(slots=9, tasks=tasks, caps=[(task, 1) for task in tasks], rates=[(task, 1.0, 1) for task in tasks])
    known = h.core.state.limits
    assert (list(known.caps), list(known.announced)) == (["a", "b"], ["a", "b"])


def test_the_newest_worker_counts_also_if_it_says_nothing(h):
    h.worker("old", caps=[("add", 1)], rates=[("add", 0.1, 1)]).send(wire.Goodbye())
    w, s = h.worker("new", slots=3, tasks=["add", "rare"]), h.submitter()
    s.submit(3)
    assert w.assigned() == [0, 1, 2]
    h.worker("other", tasks=["rare"], caps=[("rare", 1)])
    last = h.worker("last", slots=9, caps=[("add", 4)])  # those three count
    s.submit(3)
    assert len(last.assigned()) == 1
    one = h.worker("one", slots=9)
    assert one.inbox == []  # it says nothing, and one is there that does
    last.send(wire.Goodbye())
    assert len(one.assigned()) == 1  # what that held
    other = h.worker("another")
    assert len(one.assigned() + other.assigned()) == 2
    bad = WorkerPeer(h, "bad", caps=[("add", 0)])
    bad.send(bad.hello())
    assert "how many may run at once" in bad.expect(wire.Refused).reason
