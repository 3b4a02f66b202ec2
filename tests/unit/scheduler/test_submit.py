"""Accepting, repeating and refusing Submits."""

import pytest

from tests.helpers.scheduler_harness import EPOCH, RELEASE
from zmqtasks import wire
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.ids import MAX_COUNTER
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.records import Submitted
from zmqtasks.states import READY


def rejection(s, message):
    s.send(message)
    told = s.expect(wire.Rejected)
    assert (told.prefix, told.first, told.count) == (message.prefix, message.first, len(message.args))
    return told.code, told.reason


def test_accepted_as_a_whole_with_one_record(h):
    s = h.submitter()
    message = s.message(3)
    fx = s.send(message)
    submission = h.job().submission
    record = Submitted(
        s.prefix, 0, "add", b"", "msgpack", wire.Spec(), [b"args 0", b"args 1", b"args 2"], [], 0,
        s.prefix, submission.digest, 1, h.wall,
    )  # fmt: skip
    assert fx == Effects(records=[record], sync=True, sends=[Send(s.route, wire.Accepted(s.prefix, [(0, 3)]), 1)])
    s.expect(wire.Accepted(s.prefix, [(0, 3)]))
    assert [h.job(i).state for i in range(3)] == [READY] * 3


def test_where_nobody_keeps_records_none_are_made_and_nothing_waits_for_one(make):
    h = make(recording=False, max_results=1)
    s, w = h.submitter(), h.worker(slots=4)
    effects = [s.send(s.message(3), s.message(1, retries=1))]
    s.expect(wire.Accepted(s.prefix, [(0, 3), (3, 1)]))
    w.inbox.clear()
    effects.append(w.send(wire.Done([wire.Run(1, [b"a", b"b", b"c"], 0.1, 0.1)], [])))
    effects.append(w.send(wire.Done([], [wire.End(4, wire.RETRYABLE, b"", 0.1)])))
    s.inbox.clear()
    w.inbox.clear()
    effects.append(s.send(wire.ResultAck(1)))  # what was delivered may be forgotten now
    effects.append(h.turn())
    assert h.counters["succeeded"] == 3
    assert [fx.records + fx.unwritten for fx in effects] == [[]] * 5
    assert {send.after for fx in effects for send in fx.sends} == {0}


def test_where_nobody_keeps_records_a_result_that_comes_soon_means_that_it_was_accepted(make):
    h = make(recording=False, accept_delay=1.0)
    s, w = h.submitter(), h.worker()
    s.send(s.message(1))
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    s.expect(wire.Results)
    w.inbox.clear()


def test_one_accepted_per_turn(h):
    s = h.submitter()
    s.send(s.message(2), s.message(1), s.message(4))
    s.expect(wire.Accepted(s.prefix, [(0, 2), (2, 1), (3, 4)]))


def test_a_repeat_changes_nothing_and_is_accepted_again(h):
    s = h.submitter()
    message = s.submit(3)
    fx = s.send(message)
    assert fx.records == []
    s.expect(wire.Accepted(s.prefix, [(0, 3)]))
    assert h.counters == {"submitted": 3, "repeated_submits": 1}


@pytest.mark.parametrize(
    "other",
    [
        {"task": "mul"}, {"args": [b"x", b"args 1", b"args 2"]}, {"args": [b"args 0args 1", b"", b"args 2"]},
        {"codec": "json"}, {"retries": 1}, {"count": 2}, {"count": 4},
    ],
)  # fmt: skip
def test_the_same_ids_with_other_content_are_a_conflict(h, other):
    s = h.submitter()
    s.submit(3)
    code, reason = rejection(s, s.message(other.pop("count", 3), first=0, **other))
    assert code == "JobConflict"
    assert s.prefix.hex() in reason
    assert h.counters == {"submitted": 3, "rejected_submits": 1}


@pytest.mark.parametrize(("first", "count"), [(9, 2), (12, 1), (14, 5), (8, 20)])
def test_an_overlap_is_a_conflict(h, first, count):
    s = h.submitter()
    s.submit(5, first=10)
    assert rejection(s, s.message(count, first=first))[0] == "JobConflict"


def test_neighbours_do_not_overlap(h):
    s = h.submitter()
    s.submit(5, first=10)
    s.submit(5, first=15)
    s.submit(5, first=5)
    assert h.counters == {"submitted": 15}


def test_queue_full_refuses_the_whole_message(make):
    h = make(max_jobs=5)
    s = h.submitter()
    s.submit(3)
    code, reason = rejection(s, s.message(3))
    assert code == "QueueFull"
    assert "3 unfinished jobs" in reason
    assert "limit is 5" in reason
    s.submit(2, first=3)


def test_queue_full_by_the_bytes_that_are_held(make):
    h = make(max_bytes=400)
    w, s = h.worker(), h.submitter()
    s.submit(1, args=[b"x" * 101])
    code, reason = rejection_beside_work(w, s)
    assert code == "QueueFull"
    assert "401 bytes of jobs and results" in reason
    assert "limit is 400" in reason
    w.done()
    s.results()
    s.submit(1, first=1)
    w.assigned()


def rejection_beside_work(w, s):
    w.assigned()
    return rejection(s, s.message(1))


def test_room_returns_when_jobs_end(make):
    h = make(max_jobs=1)
    w, s = h.worker(), h.submitter()
    s.submit()
    assert w.assigned() == [0]
    w.done()
    s.submit()
    assert (w.assigned(), s.results()) == ([1], {0: b"result 1"})


def test_too_large_arguments_name_the_task_and_the_limit(make):
    h = make(max_payload=10)
    s = h.submitter()
    code, reason = rejection(s, s.message(2, args=[b"", b"x" * 11]))
    assert code == "PayloadTooLarge"
    for part in ("11 bytes", "add", "limit is 10"):
        assert part in reason


@pytest.mark.parametrize(
    "broken",
    [
        {"count": 0}, {"count": MAX_JOBS_PER_MESSAGE + 1}, {"prefix": b"short"}, {"first": -1},
        {"first": MAX_COUNTER, "count": 2}, {"backoff": float("nan")}, {"result_ttl": float("inf")},
        {"not_before": float("inf")},
        {"functions": [wire.Function(b"d" * 16, "mod.fn", b"other bytes")]},
    ],
)  # fmt: skip
def test_a_submit_out_of_shape_is_refused(h, broken):
    s = h.submitter()
    assert rejection(s, s.message(broken.pop("count", 1), **broken))[0] == "PeerError"
    assert not h.core.state.targets


def test_the_last_counter_there_is(h):
    s = h.submitter()
    s.submit(first=MAX_COUNTER)


def test_another_session_may_submit_the_same_id_and_both_get_its_outcome(h):
    w, s, t = h.worker(), h.submitter("s"), h.submitter("t")
    message = s.submit(prefix=b"given by use")
    t.send(message)
    t.expect(wire.Accepted(message.prefix, [(0, 1)]))
    assert w.assigned() == [0]
    w.done()
    assert (s.results(), t.results()) == ({0: b"result 1"}, {0: b"result 1"})
    assert h.job(0, message.prefix).out == 0


def test_a_repeat_from_the_same_session_gets_the_outcome_again(h):
    w, s = h.worker(), h.submitter("s")
    message = s.submit(prefix=b"given by use")
    w.assigned()
    w.done()
    assert s.results() == {0: b"result 1"}
    s.send(message)
    s.expect(wire.Results)  # which means Accepted, too


def test_a_repeat_from_another_session_gets_the_outcome_that_is_there(h):
    w, s = h.worker(), h.submitter("s")
    message = s.submit(prefix=b"given by use")
    w.assigned()
    w.done()
    assert s.results() == {0: b"result 1"}
    t = h.submitter("t")
    t.send(message)
    assert t.results() == {0: b"result 1"}  # which means Accepted, too


def test_one_who_asks_for_the_job_of_another_gets_its_outcome(h):
    w, s, t = h.worker(), h.submitter("s"), h.submitter("t")
    s.submit()
    w.assigned()
    t.send(wire.Ask(s.prefix, [(0, 1)]), wire.Ask(s.prefix, [(0, 1)]))
    t.expect()
    w.done()
    assert (s.results(), t.results()) == ({0: b"result 1"}, {0: b"result 1"})
    t.send(wire.Ask(s.prefix, [(0, 1)]))
    assert (s.results(), t.results()) == ({}, {0: b"result 1"})


def test_ask_tells_what_is_unknown(h):
    s = h.submitter()
    s.submit(2)
    s.send(wire.Ask(s.prefix, [(0, 4), (9, 1)]))
    s.expect(wire.Unknown(s.prefix, [(2, 2), (9, 1)], expired=False))
    s.send(wire.Ask(b"never seen  ", [(0, 1)]))
    s.expect(wire.Unknown(b"never seen  ", [(0, 1)], expired=False))


@pytest.mark.parametrize("spans", [[(-1, 1)], [(0, 2**33)], [(5, -5)], [(2**32, 1)], [(0, 60_000), (0, 60_000)]])
def test_ask_and_cancel_for_jobs_that_cannot_be_are_malformed(h, spans):
    s = h.submitter()
    s.send(wire.Ask(s.prefix, spans))
    s.send(wire.Cancel(1, s.prefix, spans, force=False))
    assert h.counters == {"malformed_messages": 2}


def test_a_session_without_jobs_is_forgotten_with_its_connection(h):
    s = h.submitter()
    s.disconnect()
    assert not h.core.state.submitters


def test_one_who_only_watched_leaves_nothing_behind(h):
    w, s, t = h.worker(), h.submitter("s"), h.submitter("t")
    s.submit()
    w.assigned()
    t.send(wire.Ask(s.prefix, [(0, 1)]))
    w.done()
    assert h.job().out == 2
    t.inbox.clear()
    t.disconnect()
    assert h.job().out == 1
    s.results()
    assert h.job().out == 0


def test_a_session_with_jobs_waits_for_its_return(h):
    s = h.submitter()
    s.submit()
    s.disconnect()
    assert set(h.core.state.submitters) == {s.prefix}
    s.connect()
    assert s.join() == wire.SubmitterWelcome(EPOCH, RELEASE, durable=False, max_payload=64 * 1024 * 1024)


def test_an_eta_is_kept_in_the_scheduler_until_its_time(h):
    w, s = h.worker(), h.submitter()
    s.submit(2, not_before=h.wall + 30)
    assert h.core.next_deadline(h.now) is not None
    h.pass_time(29)
    assert w.inbox == []
    h.pass_time(1)
    assert w.assigned() == [1]  # what comes back goes to the front, so the last one is first
    w.done()
    assert w.assigned() == [0]
    s.results()


def test_an_eta_in_the_past_is_no_delay(h):
    w, s = h.worker(), h.submitter()
    s.submit(not_before=h.wall - 1)
    assert w.assigned() == [0]


def test_a_clock_step_moves_an_eta_but_no_lease(h):
    w, s = h.worker(), h.submitter()
    s.submit(not_before=h.wall + 3600)
    h.wall += 3600
    h.turn()
    assert w.assigned() == [0]
    assert h.core.state.workers


def test_an_accepted_that_waits_outlives_the_tombstone_that_it_tells_of(make):
    h = make(result_ttl=5.0, tombstone_ttl=5.0, accept_delay=20.0)
    w, s = h.worker(), h.submitter()
    message = s.message(1)
    s.send(message)
    w.assigned()
    w.done()
    s.results()
    h.jump(6.0)
    s.send(message)  # a repeat of what has expired: its Accepted waits for company
    s.take(wire.Unknown)
    h.jump(6.0)
    assert not h.core.state.sources
    h.pass_time(20.0)
    s.expect(wire.Accepted(s.prefix, [(0, 1)]))
