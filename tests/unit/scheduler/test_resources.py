"""Jobs that need resources: who is given how many, who is kept for whom, and what is told of it."""

import pytest

from tests.helpers.scheduler_harness import Harness, WorkerPeer
from tests.unit.scheduler.test_dispatch import measured
from zmqtasks import wire
from zmqtasks.resources import parse
from zmqtasks.scheduler.core.demands import _IDLE

QUARTER, HALF, ONE, TWO, FOUR = (parse({"gpu": n}) for n in (0.25, 0.5, 1, 2, 4))


def free(h: Harness, name: str = "w") -> int:
    return next(w for w in h.core.state.workers.values() if w.name == name).free["gpu"]


def held(w: WorkerPeer) -> int:
    w.inbox = [message for message in w.inbox if not isinstance(message, wire.Assign)]
    return len(w.held)


def test_no_more_are_given_out_than_fit_and_the_worker_is_told_what_each_takes(h):
    w, s = h.worker(slots=16, resources=ONE), h.submitter()
    s.submit(6, resources=QUARTER)
    (message,) = w.inbox
    assert [(work.counters, work.resources) for work in message.works] == [([0, 1, 2, 3], QUARTER)]
    w.inbox.clear()
    w.done(2)
    assert w.assigned() == [4]
    s.results()


@pytest.mark.parametrize("how", ["done", "failed", "crashed", "lost", "retracted", "goodbye", "gone", "void"])
def test_however_a_lease_ends_what_it_took_is_free_again(make, how):
    h = make(durable=True)
    w, s = h.worker(slots=4, resources=TWO), h.submitter()
    s.submit(3, resources=ONE, crash_budget=9)
    assert w.assigned() == [0, 1]
    assert free(h) == 0
    other = h.worker("other", slots=4, tasks=["add"])
    if how == "done":
        w.done(1)
    elif how in ("failed", "crashed", "lost"):
        w.ended(1, {"failed": wire.FAILED, "crashed": wire.CRASHED, "lost": wire.LOST}[how])
    elif how == "retracted":
        w.retracted(1)
    elif how == "void":  # a heartbeat does not list it
        w.held.pop(1)
        w.send(w.heartbeat())
    elif how == "goodbye":
        w.send(wire.Goodbye())
        w = h.worker("again", slots=4, resources=TWO)
    else:
        h.jump(10.0)
        w = h.worker("again", slots=4, resources=TWO)
    assert other.inbox == []
    assert len([1 for worker in h.core.state.workers.values() for _ in worker.held]) in (1, 2)  # solo ones: one
    w.take(wire.Assign)
    s.results()


def test_others_pass_what_waits_for_resources(h):
    measured(h, 0.001)
    w, s = h.worker(slots=2, credit=100, resources=ONE), h.submitter()
    s.submit(3, resources=ONE)
    assert w.assigned() == [0]
    s.submit(5)
    assert len(w.assigned()) == 5
    bare = h.worker("bare", slots=8)
    assert bare.inbox == []


def test_a_restart_and_a_worker_that_comes_back_change_nothing(make):
    h = make(durable=True)
    w, s = h.worker(slots=8, resources=FOUR), h.submitter()
    s.submit(3, resources=TWO)
    assert w.assigned() == [0, 1]
    h.restart()
    w.connect()
    w.join()
    assert w.inbox == []
    assert free(h) == 0
    w.disconnect()
    w.connect()
    w.join()
    assert w.inbox == []
    w.done(1)
    assert w.assigned() == [2]
    h.jump(10.0)  # given up
    assert w.name not in [worker.name for worker in h.core.state.workers.values()]
    w.connect()
    w.join()  # and adopted again
    assert free(h) == 0
    s.connect()


def test_what_an_unknown_job_takes_is_not_given_to_others(h):
    s, other = h.submitter(), h.submitter("o")
    w = WorkerPeer(h, "w", slots=8, resources=TWO)
    w.seen, w.held = 1, {1: wire.Held(1, s.prefix, 0, 5, ONE)}  # of an earlier life of the scheduler
    w.join()
    other.submit(2, resources=ONE)
    assert w.assigned() == [0]
    s.submit(1, resources=ONE)
    assert free(h) == 0
    w.done(1)
    assert w.assigned() == [1]
    s.results()


def turns(h: Harness, w: WorkerPeer, rounds: int) -> list[str]:
    """Which kinds of jobs start while the oldest that runs ends, again and again."""
    order: list[str] = []
    kinds: dict[int, str] = {}
    for _ in range(rounds):
        for message in w.take(wire.Assign):
            number = message.number
            for work in message.works:
                for _ in work.counters:
                    kinds[number] = "big" if work.resources == FOUR else "small"
                    order.append(kinds[number])
                    number += 1
        w.done(w.numbers()[0])
    return order


def test_what_needs_much_has_its_turn_where_little_always_fits(h):
    w, s, other = h.worker(slots=8, credit=1_000, resources=FOUR), h.submitter(), h.submitter("o")
    s.submit(60, resources=ONE)
    other.submit(8, resources=FOUR)
    assert turns(h, w, 22) == [*["small"] * 5, *["big", *["small"] * 4] * 4]
    w.take(wire.Assign)
    for peer in (s, other):
        peer.results()


def test_a_more_urgent_one_gets_what_was_kept(h):
    w, s, other = h.worker(slots=8, credit=100, resources=FOUR), h.submitter(), h.submitter("o")
    s.submit(4, resources=ONE)
    assert w.assigned() == [0, 1, 2, 3]
    other.submit(1, resources=FOUR)
    s.submit(2, resources=ONE)  # waits: what comes free is kept
    w.done(1)
    assert w.inbox == []
    s.submit(1, resources=ONE, priority=9)
    assert w.assigned() == [6]
    w.done(*w.numbers())
    assert w.assigned() == [0]
    w.done()
    assert w.assigned() == [4, 5]
    for peer in (s, other):
        peer.results()


def test_a_job_gets_a_slot_where_short_ones_are_plenty(h):
    measured(h, 0.001)
    w, s = h.worker(slots=2, credit=1_000, tasks=["add", "rare"], resources=ONE), h.submitter()
    s.submit(500)
    rare = h.submitter("rare")
    rare.send(rare.message(1, task="rare", resources=ONE))
    rare.take(wire.Accepted)
    for _ in range(100):
        if any(work.task == "rare" for m in w.take(wire.Assign) for work in m.works):
            break
        w.done(*w.numbers()[:2], took=0.001)
        s.results()
    else:
        pytest.fail("it never got one")


def test_limits_and_resources_hold_together_and_solo_jobs_have_theirs(make):
    h = make(durable=True)
    w, s = h.worker(slots=8, resources=FOUR), h.submitter()
    s.submit(5, resources=ONE, cap=2)
    assert w.assigned() == [0, 1]
    h.jump(10.0)  # what it held is run alone
    w = h.worker("second", slots=8, resources=FOUR)
    assert len(w.assigned()) == 1
    w.done()
    assert len(w.assigned()) == 1
    w.done()
    assert len(w.assigned()) == 2
    s.results()


def test_what_no_worker_has_is_said(h):
    h.worker(slots=2, resources=ONE)
    s, o = h.submitter(), h.operator()
    s.submit(2, resources=FOUR, fail_unknown=True)  # its task is known
    s.submit(1, resources=parse({"gpu": 1, "mem": "2GiB"}))
    s.submit(1, resources=parse({"gpuu": 1}))
    h.pass_time(6.0)
    notices = s.take(wire.Notice)
    assert (notices[0].queue, notices[0].task, notices[0].resources) == ("default", "add", FOUR)
    texts = [notice.text for notice in notices]
    assert texts == o.status().warnings
    assert texts[0].startswith(
        "2 jobs wait: a job needs gpu 4, and no worker of queue 'default' that could run it has that "
        "(the most that one has is gpu 1); start one with: zmqtasks worker -A APP -Q default --resource gpu=4"
    )
    assert "--resource gpu=1 --resource mem=2GiB" in texts[1]
    assert "(the most that one has is gpuu 0; did you mean 'gpu' by 'gpuu'?); start one with" in texts[2]
    assert "did you mean 'gpu'" in " ".join(o.job(3).reasons)
    told = " ".join(o.job(0).reasons)
    assert "It needs gpu 4 of its worker." in told
    assert "Nobody can run it now: a job needs gpu 4" in told
    w = h.worker("large", slots=2, resources=FOUR)
    assert w.assigned() == [0]
    assert len(o.status().warnings) == 2


def test_who_asks_is_told_who_has_it_and_what_is_free(h):
    w, s, o = h.worker("one", slots=4, resources=FOUR), h.submitter(), h.operator()
    s.submit(3, resources=ONE)
    assert w.assigned() == [0, 1, 2]
    s.submit(1, resources=TWO)
    (worker,) = o.status().workers
    assert (worker.resources, worker.taken) == ({"gpu": 4.0}, {"gpu": 3.0})
    told = " ".join(o.job(3).reasons)
    assert "It needs gpu 2 of its worker." in told
    ids = [f"{s.prefix.hex()}{counter:08x}" for counter in range(4)]
    holders = ", ".join(ids[:3])
    kept = "and what comes free there is kept for such jobs"
    assert f"Not now: of its gpu 4, 1 is free (taken by {holders}), {kept}." in told
    s.submit(1, resources=ONE)
    kept = f"is kept there for jobs that have waited longer, and need gpu 2 each (the first is {ids[3]})"
    assert kept in " ".join(o.job(4).reasons)
    assert "It takes gpu 1 of what this worker has." in o.job(0).reasons


def test_of_many_workers_some_jobs_are_named_that_have_it(h):
    workers = [h.worker(f"w{n}", slots=4, resources=TWO) for n in range(6)]
    s, o = h.submitter(), h.operator()
    s.submit(7, resources=TWO)
    given = {worker.name: worker.assigned() for worker in workers}
    assert sorted(given.values()) == [[n] for n in range(6)]
    told = o.job(6).reasons[-1]
    assert told.startswith("Not now: they have not got all free that it needs, or no slot (taken by ")
    assert told.endswith(" and 3 more).")
    assert f"{s.prefix.hex()}{given['w0'][0]:08x} on w0" in told


@pytest.mark.parametrize("wrong", [(("gpu", 0),), (("gpu", 15_000),), (("b", 1), ("a", 1)), (("a b", 1),)])
def test_amounts_that_cannot_be_are_refused(h, wrong):
    s = h.submitter()
    s.send(s.message(1, resources=wrong))
    assert s.expect(wire.Rejected).code == "PeerError"
    stranger = WorkerPeer(h, "stranger", resources=wrong)
    stranger.send(stranger.hello())
    assert stranger.expect(wire.Refused).code == "hello"


def test_needs_that_nobody_has_any_more_are_forgotten(h):
    w, s = h.worker(slots=100, credit=1_000, resources=parse({"mem": 1000})), h.submitter()
    for n in range(1, 5 * _IDLE):
        s.submit(1, resources=(("mem", n),))
        w.assigned()
        w.done()
    s.results()
    (profile,) = h.core.state.lines.profiles()
    assert len(profile.demands) <= _IDLE
