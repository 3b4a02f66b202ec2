"""Who gets what, and how much."""

import pytest

from tests.helpers.scheduler_harness import Harness, WorkerPeer
from zmqtasks import wire
from zmqtasks.clock import Now
from zmqtasks.config import KIB, MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.scheduler.core.effects import Send
from zmqtasks.scheduler.core.records import Assigned
from zmqtasks.scheduler.core.retracts import STUCK
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, READY


def measured(h: Harness, took: float, task: str = "add") -> None:
    """Have a task's run time known, by one job on a worker that leaves again."""
    w, s = h.worker(f"measuring {task}", tasks=[task]), h.submitter(f"m {task}")
    s.submit(task=task)
    w.assigned()
    w.done(took=took)
    w.send(wire.Goodbye())
    s.results()
    h.peers.pop(w.route, None)


def test_one_job_with_its_record_and_its_message(h):
    w, s = h.worker(), h.submitter()
    s.submit()
    fx, first = h.fx, State(h.settings, h.core.identity.epoch, durable=False).first_attempt + 1
    assert fx.records[1:] == [Assigned(w.nonce, 1, first, [(s.prefix, [0])])]
    work = wire.Work(s.prefix, "add", b"", "msgpack", [0], [b"args 0"], queue="default")
    assert Send(w.route, wire.Assign(1, first, [work], [])) in fx.sends  # waits for no disk
    w.expect(wire.Assign(1, first, [work], []))
    assert h.job().state == ASSIGNED


def test_attempts_and_numbers_count_up(h):
    w, s = h.worker(slots=2), h.submitter()
    s.submit(4)
    one = w.expect(wire.Assign)
    w.done()
    two = w.inbox[0]
    assert (two.number, two.attempt) == (one.number + 2, one.attempt + 2)
    w.assigned()
    s.results()


def test_a_task_of_unknown_time_gets_exactly_one_per_slot(h):
    a, b, s = h.worker("a", slots=2), h.worker("b", slots=3), h.submitter()
    s.submit(100)
    assert (len(a.assigned()), len(b.assigned())) == (2, 3)


def test_few_jobs_are_spread_over_the_workers(h):
    workers = [h.worker(name, slots=4) for name in "abcd"]
    s = h.submitter()
    s.submit(8)
    assert [len(w.assigned()) for w in workers] == [2, 2, 2, 2]


def test_a_short_task_is_given_in_advance_up_to_the_horizon(h):
    measured(h, took=0.001)
    w, s = h.worker(slots=2, credit=1000), h.submitter()
    s.submit(100)
    assert len(w.assigned()) == 20  # 2 slots × 10 ms / 1 ms


def test_credit_bounds_what_is_given_in_advance(h):
    measured(h, took=0.00001)
    w, s = h.worker(slots=2, credit=50), h.submitter()
    s.submit(100)
    assert len(w.assigned()) == 50
    w.done(*range(1, 11))
    assert len(w.assigned()) == 10
    s.results()


def test_what_is_given_in_advance_is_spread_too(h):
    measured(h, took=0.00001)
    a, b, s = h.worker("a", credit=1000), h.worker("b", credit=1000), h.submitter()
    s.submit(100)
    counts = len(a.assigned()), len(b.assigned())
    assert sum(counts) == 100
    assert max(counts) <= 51


def test_a_long_task_is_never_given_in_advance(h):
    measured(h, took=0.5)
    w, s = h.worker(slots=2), h.submitter()
    s.submit(10)
    assert len(w.assigned()) == 2


def test_of_a_task_whose_time_varies_a_slot_has_one_in_advance(h):
    w, s = h.worker(credit=1000), h.submitter()
    s.submit(101)
    w.assigned()
    w.report(runs=[wire.Run(1, [b""], 0.00001, 0.00001)])
    held = len(w.assigned())
    assert held == 100
    w.report(runs=[wire.Run(2, [b""] * 100, 0.1001, 0.1)])
    s.results()
    s.submit(10)
    assert len(w.assigned()) == 2  # 1 ms on average, but it may be 100 ms


def test_what_waits_behind_long_jobs_comes_back_and_is_the_next_to_go(h):
    measured(h, took=0.001)
    w, s = h.worker("a", slots=2, credit=1000), h.submitter()
    s.submit(30)
    assert w.assigned() == list(range(20))  # 2 slots × 10 ms / 1 ms
    h.pass_time(STUCK * 0.9)
    assert w.inbox == []
    h.pass_time(STUCK * 0.2)
    assert w.expect(wire.Retract).numbers == [(3, 18)]
    w.retracted(*range(3, 21))
    assert w.inbox == []  # nothing in advance while it is stuck
    other = h.worker("b", slots=2, credit=1000)
    assert other.assigned()[:18] == list(range(2, 20))  # before those that were never given out
    w.done(1)
    assert w.assigned() != []
    s.results()


def test_a_slow_disk_does_not_keep_the_loop_awake_for_what_is_stuck(h):
    measured(h, took=0.001)
    w, s = h.worker(slots=2, credit=1000), h.submitter()
    s.submit(30)
    w.assigned()
    h.core.on_journal(0, h.settings.max_pending + 1, "")
    h.pass_time(STUCK * 1.1)
    w.expect(wire.Retract)
    deadline = h.core.next_deadline(Now(h.mono, h.wall))
    assert deadline is None or deadline > h.mono


def test_shipped_functions_share_a_line_but_not_their_measured_time(h):
    fast, slow = (wire.Function(h_digest(blob), "mod." + blob.decode(), blob) for blob in (b"fast", b"slow"))
    w, s = h.worker(credit=1000), h.submitter()
    s.submit(1, task="mod.fast", function=fast.digest, functions=[fast], python="3.11")
    w.assigned()
    w.done(took=0.0001)
    s.results()
    h.turn(
        (s, s.message(5, task="mod.fast", function=fast.digest, python="3.11")),
        (s, s.message(5, task="mod.slow", function=slow.digest, functions=[slow], python="3.11")),
    )
    s.expect(wire.Accepted)
    assert w.assigned() == [1, 2, 3, 4, 5]
    w.done(took=0.0001)
    assert w.assigned() == [6]
    s.results()


def test_a_cancelled_function_in_front_does_not_lend_its_time_to_the_next(h):
    fast, slow = (wire.Function(h_digest(blob), "mod." + blob.decode(), blob) for blob in (b"fast", b"slow"))
    s = h.submitter()
    h.turn(
        (s, s.message(3, task="mod.fast", function=fast.digest, functions=[fast], python="3.11")),
        (s, s.message(9, task="mod.slow", function=slow.digest, functions=[slow], python="3.11")),
    )
    h.job().submission.target.measured(1, 0.0001, 0.0001)
    s.send(wire.Cancel(1, s.prefix, [(0, 3)], force=False))
    s.expect(wire.Accepted, wire.CancelAck, wire.Results)
    assert h.worker(credit=1000).assigned() == [3]


def h_digest(blob: bytes) -> bytes:
    from zmqtasks.payload import function_digest

    return function_digest(blob)


@pytest.mark.parametrize(("size", "most"), [(10, MAX_JOBS_PER_MESSAGE), (KIB, 64), (100 * KIB, 1)])
def test_messages_hold_at_most_500_jobs_and_64_kib(h, size, most):
    w, s = h.worker(slots=1200, credit=2000), h.submitter()
    h.turn(*((s, s.message(100, args=[b"x" * size] * 100)) for _ in range(12)))
    s.expect(wire.Accepted)
    messages = w.take(wire.Assign)
    counts = [sum(len(work.counters) for work in message.works) for message in messages]
    assert sum(counts) == 1200
    assert max(counts) == most
    for message, count in zip(messages, counts, strict=True):
        assert count == 1 or sum(len(a) for work in message.works for a in work.args) <= MAX_BYTES_PER_MESSAGE
    assert [m.number for m in messages] == [1 + sum(counts[:i]) for i in range(len(counts))]


def test_two_submitters_take_turns(h):
    w, s, t = h.worker(), h.submitter("s"), h.submitter("t")
    h.turn((s, s.message(3)), (t, t.message(3)))
    got = []
    for _ in range(6):
        (assign,) = w.take(wire.Assign)
        got.append(assign.works[0].prefix[:1])
        w.done(took=0.5)
    assert got == [b"s", b"t"] * 3
    s.expect(wire.Accepted, *[wire.Results] * 3)
    t.expect(wire.Accepted, *[wire.Results] * 3)


def test_within_one_submitter_the_order_is_that_of_acceptance(h):
    w, s = h.worker(tasks=["add", "mul"]), h.submitter()
    h.turn((s, s.message(2)), (s, s.message(1, task="mul")), (s, s.message(1)))
    got = []
    for _ in range(4):
        got += w.assigned()
        w.done(took=0.5)
    assert got == [0, 1, 2, 3]
    s.expect(wire.Accepted, *[wire.Results] * 4)


def test_queues_go_to_the_workers_that_take_them(h):
    high, low, both = h.worker("high", queues=["high"]), h.worker("low", queues=["low"]), None
    s = h.submitter()
    h.turn((s, s.message(1, queue="high")), (s, s.message(1, queue="low")), (s, s.message(1, queue="low")))
    s.expect(wire.Accepted)
    assert (high.assigned(), low.assigned()) == ([0], [1])
    both = h.worker("both", queues=["high", "low"])
    h.turn()
    assert both.assigned() == [2]


def test_queues_of_one_worker_take_turns(h):
    w, s = h.worker(queues=["a", "b"]), h.submitter()
    h.turn((s, s.message(2, queue="a")), (s, s.message(2, queue="b")))
    got = []
    for _ in range(4):
        got += w.assigned()
        w.done(took=0.5)
    assert got == [0, 2, 1, 3]
    s.expect(wire.Accepted, *[wire.Results] * 4)


def test_shipped_functions_go_only_to_workers_of_their_python(h):
    blob = b"blob"
    fn = wire.Function(h_digest(blob), "mod.fn", blob)
    old, s = h.worker("old", python="3.11"), h.submitter()
    s.submit(task="mod.fn", function=fn.digest, functions=[fn], python="3.12")
    assert h.job().state == READY
    new = h.worker("new", python="3.12")
    assert new.assigned() == [0]
    assert old.inbox == []


def test_a_worker_gets_only_tasks_that_it_knows(h):
    a, s = h.worker("a", tasks=["add"]), h.submitter()
    s.submit(task="mul")
    assert a.inbox == []
    assert h.worker("b", tasks=["mul"]).assigned() == [0]


def test_retract_for_balance(h):
    measured(h, took=0.0001)
    a, s = h.worker("a", credit=100), h.submitter()
    s.submit(21)
    assert len(a.assigned()) == 21
    b = h.worker("b")
    a.expect()  # not at once: a moment without outcomes must pass
    assert h.core.next_deadline(h.now) == pytest.approx(h.mono + 0.005)
    h.jump(0.006)
    a.expect(wire.Retract([(12, 10)]))
    a.retracted(*range(12, 21), started=[21])
    assert (b.assigned(), a.assigned()) == ([11, 12, 13, 14, 15], [16, 17, 18, 19])  # shared, where there is room
    assert h.counters["retracts"] == 1
    h.jump(0.006)
    assert a.inbox == []  # nobody is hungry now


def test_a_job_stays_assigned_until_it_is_handed_back(h):
    measured(h, took=0.0001)
    a, s = h.worker("a"), h.submitter()
    s.submit(10)
    a.assigned()
    b = h.worker("b")
    h.jump(0.006)
    a.expect(wire.Retract)
    h.jump(0.1)
    a.expect(wire.Retract)  # it is asked for half of the rest
    assert b.inbox == []
    a.done()
    assert len(s.results()) == 10


def test_a_draining_worker_gets_nothing_new(h):
    a, s = h.worker("a"), h.submitter()
    s.submit(3)
    assert a.assigned() == [0]
    a.send(wire.Draining())
    a.done(took=0.5)
    assert a.inbox == []
    assert h.worker("b").assigned() == [1]
    s.results()


def test_goodbye_frees_everything_without_a_charge(h):
    a, s = h.worker("a", slots=3), h.submitter()
    s.submit(3)
    a.assigned()
    fx = a.send(wire.Goodbye())
    assert [(r.counter, r.crashes, r.solo) for r in fx.records] == [(2, 0, False), (1, 0, False), (0, 0, False)]
    assert fx.forget == [a.route]
    assert h.worker("b", slots=3).assigned() == [0, 1, 2]
    assert h.worker("b2", slots=3).inbox == []


def test_a_late_message_of_one_who_said_goodbye_is_a_strangers(h):
    a = h.worker("a")
    a.send(wire.Goodbye())
    h.peers[a.route] = a
    a.send(a.heartbeat())
    a.expect(wire.HelloAgain())


def test_more_workers_than_jobs(h):
    workers = [h.worker(f"w{i}", slots=2) for i in range(5)]
    s = h.submitter()
    s.submit(3)
    assert sorted(len(w.assigned()) for w in workers) == [0, 0, 1, 1, 1]


def test_dispatch_never_gives_more_than_was_offered(h):
    w: WorkerPeer = h.worker(slots=4, credit=4)
    s = h.submitter()
    s.submit(10)
    assert w.assigned() == [0, 1, 2, 3]
    w.connect()
    assert w.join().dropped == []
    assert w.inbox == []
