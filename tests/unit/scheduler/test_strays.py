"""A scheduler that was restarted in memory: what workers hold from before is adopted when its jobs come again."""

import pytest

from tests.helpers.scheduler_harness import Harness, SubmitterPeer, WorkerPeer
from zmqtasks import wire
from zmqtasks.states import ASSIGNED, FAILED, READY, RUNNING, SUCCEEDED

OLD = 5  # an attempt of the life before


def holder(h: Harness, s: SubmitterPeer, *counters: int, name: str = "w", attempt: int = OLD, **hello) -> WorkerPeer:
    """A worker that says hello with attempts at jobs of s, numbered from 1 on."""
    held = {n: wire.Held(n, s.prefix, counter, attempt + n) for n, counter in enumerate(counters, 1)}
    w = WorkerPeer(h, name, slots=2, **hello)
    w.seen, w.held = len(held), held
    w.join()
    return w


def test_a_job_that_is_submitted_again_is_the_workers_again_and_does_not_run_twice(h):
    s = h.submitter()
    w = holder(h, s, 0)
    assert w.numbers() == [1]
    s.submit()
    assert h.job().state == ASSIGNED
    assert h.job().attempt == OLD + 1
    assert w.inbox == []
    w.send(w.heartbeat(1))
    assert h.job().state == RUNNING
    w.done(1)
    assert s.results() == {0: b"result 1"}
    assert h.counters["adopted"] == 1


def test_the_submitter_may_be_sooner_back_than_the_worker(h):
    s = h.submitter()
    s.submit()
    w = holder(h, s, 0)
    assert (h.job().state, h.job().attempt) == (ASSIGNED, OLD + 1)
    assert w.inbox == []
    w.done(1)
    assert s.results() == {0: b"result 1"}


def test_a_job_that_has_begun_elsewhere_is_not_adopted(h):
    s = h.submitter()
    a = h.worker("a")
    s.submit()
    assert a.assigned() == [0]
    w = holder(h, s, 0)
    assert w.numbers() == []


def test_an_outcome_that_came_before_its_job_is_kept_and_acknowledged_only_then(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    w.send(wire.Done([wire.Run(1, [b"zero"], 0.5, 0.5)], [wire.End(2, wire.FAILED, b"failure", 0.1)]))
    assert w.inbox == []
    s.send(s.message(2))
    assert w.expect(wire.DoneAck).numbers == [(1, 2)]
    s.take(wire.Accepted)
    came = s.results()
    assert came[0] == b"zero"
    assert came[1] == wire.JobEnd(1, FAILED, b"failure")
    assert h.job().state == SUCCEEDED


def test_a_repeated_outcome_of_a_stray_is_counted_once(h):
    s = h.submitter()
    w = holder(h, s, 0)
    for _ in range(2):
        w.send(wire.Done([wire.Run(1, [b"zero"], 0.5, 0.5)], []))
    assert h.core.state.stray_bytes == 4
    s.send(s.message())
    assert w.expect(wire.DoneAck).numbers == [(1, 1)]
    assert s.results() == {0: b"zero"}


def test_strays_take_slots_and_credit(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    s.next = 2
    s.submit(2)
    assert w.inbox == []
    w.retracted(1)
    assert len(w.assigned()) == 1


def test_a_stray_that_is_over_takes_no_slot(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    s.next = 2
    s.submit(2)
    w.send(wire.Done([wire.Run(1, [b"zero"], 0.5, 0.5)], []))
    assert w.assigned() == [2]


def test_a_stray_that_nobody_wants_is_disowned_in_the_end(h):
    s = h.submitter()
    w = holder(h, s, 0)
    h.pass_time(h.settings.adoption + 2)
    assert w.expect(wire.Disown).numbers == [(1, 1)]
    del w.held[1]
    s.submit()
    assert w.assigned() == [0]


def test_strays_go_with_their_worker(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    w.send(wire.Goodbye())
    assert not h.core.state.strays
    v = holder(h, s, 0, 1, name="v")
    v.silent = True
    h.pass_time(h.settings.lease + 1)
    assert not h.core.state.strays
    s.submit(2)
    assert h.job().state == READY


def test_a_heartbeat_that_does_not_list_a_stray_ends_it(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    del w.held[1]
    w.send(w.heartbeat())
    assert [key[1] for key in h.core.state.strays] == [1]


def test_a_draining_worker_is_not_left_waiting_for_strays(h):
    s = h.submitter()
    w = holder(h, s, 0)
    w.send(wire.Draining())
    assert w.expect(wire.Disown).numbers == [(1, 1)]


def test_of_two_attempts_at_a_job_the_later_is_kept(h):
    s = h.submitter()
    a = holder(h, s, 0, name="a", attempt=OLD)
    b = holder(h, s, 0, name="b", attempt=OLD + 7)
    assert a.expect(wire.Disown).numbers == [(1, 1)]
    c = holder(h, s, 0, name="c", attempt=OLD + 3)
    assert c.numbers() == []
    del a.held[1]
    s.submit()
    assert h.job().worker.nonce == b.nonce


@pytest.mark.parametrize("bound", ["max_strays", "max_stray_bytes"])
def test_strays_are_bounded(make, bound):
    h = make(**{bound: 3})
    s = h.submitter()
    w = holder(h, s, *range(10))
    for number in w.numbers():
        w.send(wire.Done([wire.Run(number, [b"xx"], 0.5, 0.5)], []))
    w.take(wire.Disown)
    w.take(wire.DoneAck)
    assert len(h.core.state.strays) <= 3 if bound == "max_strays" else h.core.state.stray_bytes <= 3


def test_an_id_that_a_user_chose_may_mean_another_job_now(h):
    """Only a session's own numbers surely mean the same: what ran under that id before is dropped."""
    s = h.submitter()
    given = b"nightly".ljust(12, b"-")
    w = WorkerPeer(h, "w", slots=2)
    w.seen, w.held = 1, {1: wire.Held(1, given, 0, OLD)}
    w.join()
    w.send(wire.Done([wire.Run(1, [b"of monday"], 0.5, 0.5)], []))
    s.send(s.message(prefix=given, first=0))
    assert w.take(wire.Disown) == [wire.Disown([(1, 1)])]
    assert w.assigned() == [0]
    assert s.results() == {}
    s.take(wire.Accepted)


def test_such_an_id_is_not_adopted_by_a_hello_either(h):
    s = h.submitter()
    given = b"nightly".ljust(12, b"-")
    s.submit(prefix=given, first=0)
    w = WorkerPeer(h, "w", slots=2)
    w.seen, w.held = 1, {1: wire.Held(1, given, 0, OLD)}
    assert w.join().dropped == [(1, 1)]
    assert w.assigned() == [0]


def test_a_cancel_finds_strays(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    s.send(wire.Cancel(1, s.prefix, [(0, 1)], force=False))
    assert s.expect(wire.CancelAck) == wire.CancelAck(1, [], [(0, 1)], [])
    s.send(wire.Cancel(2, s.prefix, [(1, 1)], force=True))
    assert w.expect(wire.Kill).numbers == [(2, 1)]
    assert s.expect(wire.CancelAck) == wire.CancelAck(2, [], [], [(1, 1)])


def test_a_new_hello_keeps_the_strays_that_it_lists(h):
    s = h.submitter()
    w = holder(h, s, 0, 1)
    del w.held[1]
    w.connect()
    w.join()
    assert w.numbers() == [2]
    s.submit(2)
    assert w.assigned() == [0]
    assert h.job(1).number == 2


def test_an_attempt_at_a_job_that_is_over_and_forgotten_is_no_stray(make):
    h = make(result_ttl=5.0)
    w, s = h.worker(), h.submitter()
    s.submit()
    w.assigned()
    held = dict(w.held)
    w.done()
    s.results()
    h.pass_time(10)
    w.held = held
    w.connect()
    assert w.join().dropped == [(1, 1)]
