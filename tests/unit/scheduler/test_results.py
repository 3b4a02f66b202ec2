"""Outcomes: on their way within a window, sent again until acknowledged, kept for a while, then remembered as gone."""

import pytest

from zmqtasks import payload, wire
from zmqtasks.scheduler.core.effects import Send
from zmqtasks.scheduler.core.records import Succeeded
from zmqtasks.states import FAILED


def finished(h, count, **spec):
    """A worker and a submitter with so many jobs done, whose results were not read."""
    w, s = h.worker(slots=count, credit=count), h.submitter()
    s.submit(count, **spec)
    w.assigned()
    w.done()
    return w, s


def test_a_run_of_results_is_one_record_and_one_message(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3)
    w.assigned()
    fx = w.send(wire.Done([wire.Run(1, [b"a", b"b", b"c"], 0.3, 0.1)], []))
    assert fx.records == [Succeeded(s.prefix, [0, 1, 2], [b"a", b"b", b"c"], h.wall)]
    results = wire.Results(1, s.prefix, "msgpack", [0, 1, 2], [b"a", b"b", b"c"], [])
    assert fx.sends == [Send(s.route, results, 3), Send(w.route, wire.DoneAck([(1, 3)]), 3)]
    w.expect(wire.DoneAck([(1, 3)]))
    s.expect(results)


def test_failures_travel_with_their_payload(h):
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2)
    w.assigned()
    w.report(
        runs=[wire.Run(1, [b"fine"], 0.1, 0.1)],
        ends=[wire.End(2, wire.FAILED, payload.failure("builtins.ValueError", "no"), 0.1)],
    )
    failure = wire.JobEnd(1, FAILED, payload.failure("builtins.ValueError", "no"))
    s.expect(wire.Results(1, s.prefix, "msgpack", [0], [b"fine"], [failure]))


def test_after_a_reconnect_the_submitter_gets_what_it_asks_for_and_nothing_else(h):
    w, s = h.worker(slots=4), h.submitter()
    s.submit(4)
    w.assigned()
    for number in (2, 1, 4, 3):
        w.done(number)
    assert list(s.results(ack=False)) == [1, 0, 3, 2]
    s.disconnect()
    s.connect()
    s.join()
    assert s.results() == {}
    s.send(wire.Ask(s.prefix, [(0, 1), (2, 2)]))
    assert list(s.results()) == [0, 2, 3]
    assert [h.job(n).out for n in range(4)] == [0, 0, 0, 0]


def test_an_acknowledgement_covers_all_before_it(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3)
    w.assigned()
    for number in (1, 2, 3):
        w.done(number)
    deliveries = [message.delivery for message in s.take(wire.Results)]
    assert deliveries == [1, 2, 3]
    s.send(wire.ResultAck(2))
    assert [h.job(n).out for n in range(3)] == [0, 0, 1]
    assert len(h.core.state.delivered) == 2


def test_results_wait_for_a_submitter_that_is_away(h):
    w, s = h.worker(), h.submitter()
    s.submit()
    s.disconnect()
    w.assigned()
    w.done()
    s.connect()
    s.join()
    s.send(wire.Ask(s.prefix, [(0, 1)]))
    assert s.results() == {0: b"result 1"}


def test_the_window_counts_results(make):
    h = make(results_window=2)
    w, s = finished(h, 5)
    assert len(s.results()) == 5  # one message may go beyond: the window is looked at before each
    s.submit(4)
    w.assigned()
    for number in (6, 7, 8, 9):
        w.done(number)
    assert list(s.results(ack=False)) == [5, 6]
    s.send(wire.ResultAck(2))
    assert list(s.results(ack=False)) == [7, 8]  # what waited travels together


def test_the_window_counts_bytes(make):
    h = make(results_window_bytes=10)
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2)
    w.assigned()
    w.done(1, results=[b"0123456789"])
    w.done(2)
    assert list(s.results()) == [0]
    assert list(s.results()) == [1]


def test_results_of_different_codecs_and_prefixes_do_not_share_a_message(h):
    w, s = h.worker(slots=3), h.submitter()
    h.turn((s, s.message()), (s, s.message(codec="json")), (s, s.message(first=0, prefix=b"given by use")))
    s.expect(wire.Accepted, wire.Accepted)
    w.assigned()
    w.done()
    got = s.take(wire.Results)
    assert [(m.prefix, m.codec, m.counters) for m in got] == [
        (s.prefix, "msgpack", [0]), (s.prefix, "json", [1]), (b"given by use", "msgpack", [0]),
    ]  # fmt: skip


def test_ask_for_an_outcome_sends_it_again(h):
    _, s = finished(h, 3)
    assert len(s.results()) == 3
    s.send(wire.Ask(s.prefix, [(1, 1)]))
    assert list(s.results()) == [1]


def test_ask_for_an_outcome_that_is_on_its_way_sends_it_again(h):
    """What is on its way may answer an earlier wish, for which the submitter has thrown its interest away."""
    _, s = finished(h, 3)
    s.send(wire.Ask(s.prefix, [(0, 3)]))
    assert [message.counters for message in s.take(wire.Results)] == [[0, 1, 2], [0, 1, 2]]
    s.send(wire.ResultAck(2))
    assert h.job(0).out == 0


def test_an_outcome_is_kept_for_its_time_and_then_known_as_expired(make):
    h = make(result_ttl=10.0, tombstone_ttl=100.0)
    _, s = finished(h, 2)
    s.results()
    h.jump(9.9)
    assert h.core.state.results == 2
    h.jump(0.1)
    assert (h.core.state.results, h.core.state.result_bytes) == (0, 0)
    s.send(wire.Ask(s.prefix, [(0, 3)]))
    s.expect(wire.Unknown(s.prefix, [(2, 1)], expired=False), wire.Unknown(s.prefix, [(0, 2)], expired=True))
    h.jump(100)
    assert not h.core.state.sources
    s.send(wire.Ask(s.prefix, [(0, 2)]))
    s.expect(wire.Unknown(s.prefix, [(0, 2)], expired=False))


def test_a_repeat_of_a_submit_whose_outcomes_expired(make):
    h = make(result_ttl=10.0)
    w, s = h.worker(), h.submitter()
    message = s.submit()
    w.assigned()
    w.done()
    s.results()
    h.jump(10)
    s.send(message)
    s.expect(wire.Unknown(s.prefix, [(0, 1)], expired=True), wire.Accepted(s.prefix, [(0, 1)]))


def test_a_job_may_have_a_time_of_its_own(make):
    h = make(result_ttl=10.0)
    w, s = h.worker(slots=2), h.submitter()
    h.turn((s, s.message(result_ttl=1.0)), (s, s.message(result_ttl=100.0)))
    s.expect(wire.Accepted)
    w.assigned()
    w.done()
    s.results()
    h.jump(1)
    assert {job.counter for job in h.core.state.sources[s.prefix].jobs} == {1}
    h.jump(98)
    assert {job.counter for job in h.core.state.sources[s.prefix].jobs} == {1}
    assert h.core.next_deadline(h.now) <= h.mono + 1.001
    h.jump(1)
    assert {job.counter for job in h.core.state.sources[s.prefix].jobs} == set()


def test_a_result_that_nobody_wants_kept_is_sent_before_it_goes(h):
    _, s = finished(h, 1, result_ttl=0.0)
    h.jump(30, caught_up=False)
    assert h.core.state.results == 1  # its submitter is there and has not acknowledged it
    assert s.results() == {0: b"result 1"}
    h.jump(1, caught_up=False)
    assert h.core.state.results == 0


def test_a_result_that_nobody_wants_kept_does_not_wait_for_one_who_left(h):
    w, s = h.worker(), h.submitter()
    s.submit(result_ttl=0.0)
    w.assigned()
    s.disconnect()
    w.done()
    assert h.core.state.results == 0


def test_an_outcome_that_expires_while_it_waits_is_told_as_expired(make):
    h = make(results_window=1, result_ttl=10.0)
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2)
    w.assigned()
    w.done(1)
    w.done(2)
    (first,) = s.take(wire.Results)
    h.jump(10)
    s.send(wire.ResultAck(first.delivery))
    s.expect(wire.Unknown(s.prefix, [(1, 1)], expired=True))


@pytest.mark.parametrize("bound", [{"max_results": 2}, {"max_result_bytes": 16}])
def test_beyond_the_budget_the_oldest_delivered_go_first(make, bound):
    h = make(**bound)
    w, s = h.worker(slots=5), h.submitter()
    s.submit(5)
    w.assigned()
    for number in (3, 1, 2, 5, 4):
        w.done(number)
    assert h.core.state.results == 5  # not delivered yet: kept
    s.results()
    assert {job.counter for job in h.core.state.sources[s.prefix].jobs} == {3, 4}
    s.send(wire.Ask(s.prefix, [(0, 5)]))
    assert list(s.results()) == [3, 4]
    s.expect(wire.Unknown(s.prefix, [(0, 3)], expired=True))


def test_tombstones_are_bounded(make):
    h = make(max_results=0, max_tombstones=3)
    w, s = h.worker(), h.submitter()
    for _ in range(6):
        s.submit()
        w.assigned()
        w.done()
        s.results()
    s.send(wire.Ask(s.prefix, [(0, 6)]))
    s.expect(wire.Unknown(s.prefix, [(0, 3)], expired=False), wire.Unknown(s.prefix, [(3, 3)], expired=True))


def test_what_waits_for_its_time_is_bounded(make):
    """Entries of outcomes that went before their time are swept out."""
    h = make(max_results=1)
    w, s = h.worker(slots=100), h.submitter()
    for ttl in (-1.0, 1e6) * 20:
        s.submit(100, result_ttl=ttl)
        w.assigned()
        w.done(took=0.5)
        s.results()
    state = h.core.state
    assert state.results == 1
    assert len(state.finished) <= 101
    assert len(state.expiries) <= 1_100
    assert len(state.delivered) <= 101


def test_an_id_that_was_forgotten_may_be_used_again(make):
    """The old job's entries must not take the new job of the same id with them."""
    h = make(max_results=0, max_tombstones=0, result_ttl=50.0)
    w, s = h.worker(), h.submitter()
    s.submit(first=0)
    w.assigned()
    w.done(took=0.5)
    s.results()
    assert not h.core.state.sources
    s.submit(first=0)
    w.assigned()
    h.jump(1, caught_up=False)
    h.jump(50, caught_up=False)
    assert h.job(0).number == 2


def test_late_and_repeated_outcomes_are_counted_acknowledged_and_dropped(h):
    w, s = h.worker(), h.submitter()
    s.submit()
    w.assigned()
    w.done()
    s.results()
    w.done(1)
    w.ended(1, wire.FAILED)
    w.done(77)
    assert h.counters["stale_results"] == 3
    assert h.counters["succeeded"] == 1


def test_two_runs_in_one_message_with_a_failure_between(h):
    w, s = h.worker(slots=5), h.submitter()
    s.submit(5)
    w.assigned()
    runs = [wire.Run(4, [b"d", b"e"], 0.2, 0.1), wire.Run(1, [b"a", b"b"], 0.2, 0.1)]
    w.report(runs=runs, ends=[wire.End(3, wire.FAILED, b"not MessagePack \xc1", 0.1)])
    assert list(s.results()) == [3, 4, 0, 1, 2]


@pytest.mark.parametrize("times", [(float("nan"), 0.1), (0.1, float("nan")), (-1.0, 0.0), (float("inf"), 1.0)])
def test_impossible_run_times_are_not_believed(h, times):
    w, s = h.worker(), h.submitter()
    s.submit(3)
    w.assigned()
    w.report(runs=[wire.Run(1, [b""], *times)])
    assert w.assigned() == [1]  # still of unknown time: one per slot
    w.done()
    assert w.assigned() == [2]
    s.results()
