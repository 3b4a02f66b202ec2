"""After a restart the scheduler knows again what it has written down, and goes on from there."""

import msgspec
import pytest

from zmqtasks import payload, wire
from zmqtasks.clock import Now
from zmqtasks.payload import function_digest
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.records import Ended, Kept, Submitted
from zmqtasks.scheduler.core.restore import RestoreError
from zmqtasks.states import ABORTED, ASSIGNED, CANCELLED, DELAYED, FAILED, READY, SUCCEEDED

DAY = 86_400.0


@pytest.fixture
def h(make):
    return make(durable=True)


def back(h, *peers):
    """The scheduler was killed and is there again, and these have said hello."""
    h.restart()
    for peer in peers:
        peer.connect()
        peer.join()


def test_what_was_accepted_is_ready_again_in_order(h):
    s = h.submitter()
    s.submit(3)
    s.submit(2)
    h.restart()
    assert [h.job(i).state for i in range(5)] == [READY] * 5
    w = h.worker(slots=5)
    assert w.assigned() == [0, 1, 2, 3, 4]


def test_what_was_not_durable_was_never_accepted(h):
    s = h.submitter()
    h.journal.held = True
    s.send(s.message(1))
    assert s.inbox == []
    h.journal.held = False
    h.restart()
    assert h.core.state.sources == {}
    s.connect()
    s.join()
    s.submit(1, first=0)
    assert h.job().state == READY


def test_a_repeat_is_known_after_a_restart(h):
    s = h.submitter()
    message = s.submit(2)
    back(h, s)
    s.send(message)
    s.expect(wire.Accepted(s.prefix, [(0, 2)]))
    s.send(s.message(2, first=0, args=[b"other", b"content"]))
    assert s.expect(wire.Rejected).code == "JobConflict"
    assert h.core.state.open == 2


def test_what_runs_on_a_living_worker_is_not_run_again(h):
    w, s = h.worker(), h.submitter()
    s.submit(2)
    assert w.assigned() == [0]
    back(h, w)
    assert w.inbox == []
    assert (h.job(0).state, h.job(1).state) == (ASSIGNED, READY)
    w.send(wire.Done([wire.Run(1, [b"one"], 0.1, 0.1)], []))
    w.expect(wire.Assign, wire.DoneAck)
    s.connect()
    s.join()
    s.send(wire.Ask(s.prefix, [(0, 2)]))
    assert s.results() == {0: b"one"}


def test_what_a_worker_holds_that_stays_away_runs_elsewhere_and_is_charged(h):
    w, s = h.worker("gone"), h.submitter()
    s.submit(1)
    w.assigned()
    h.restart()
    other = h.worker("other")
    other.silent = False
    assert other.inbox == []
    h.pass_time(h.settings.lease + 0.1)
    assert other.assigned() == [0]
    assert h.job().crashes == 1


def test_results_that_nobody_has_fetched_are_kept_for_those_who_ask_later(h):
    w, s = h.worker(), h.submitter()
    s.submit(1)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    s.results()
    h.restart()
    other = h.submitter("other")
    other.send(wire.Ask(s.prefix, [(0, 1)]))
    assert other.results() == {0: b"value"}
    assert h.core.state.counters["succeeded"] == 1


@pytest.mark.parametrize(("away", "kept"), [(10.0, True), (DAY, True)])
def test_a_result_outlives_a_long_absence_by_the_grace(h, away, kept):
    w, s = h.worker(), h.submitter()
    s.submit(1)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    s.results()
    h.wall += away
    h.restart()
    assert h.core.state.results == 1
    h.jump(h.settings.grace - 1.0)
    assert h.core.state.results == 1
    h.jump(h.settings.result_ttl)
    assert h.core.state.results == 0


def test_attempts_crashes_retries_and_back_offs_are_back(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, retries=5, backoff=100.0)
    w.assigned()
    w.send(wire.Done([], [wire.End(1, wire.CRASHED, payload.failure("Crash", "signal 9"), 0.0)]))
    w.expect(wire.Assign, wire.DoneAck)
    w.send(wire.Done([], [wire.End(2, wire.RETRYABLE, b"", 0.0)]))
    w.expect(wire.DoneAck)
    last = h.core.state.attempts
    back(h, w)
    job = h.job()
    assert (job.state, job.crashes, job.retries) == (DELAYED, 1, 1)
    assert h.core.state.evidence[job] == ["death 1: signal 9"]
    h.pass_time(101.0)
    assert w.expect(wire.Assign).attempt > last


def test_a_retry_waits_no_longer_because_the_clock_was_set_back(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, retries=5, backoff=1.0)
    w.assigned()
    w.send(wire.Done([], [wire.End(1, wire.RETRYABLE, b"", 0.0)]))
    w.expect(wire.DoneAck)
    h.wall -= DAY
    back(h, w)
    h.pass_time(1.1)
    assert w.assigned() == [0]


def test_delayed_jobs_wait_for_their_time_again(h):
    s = h.submitter()
    s.submit(1, not_before=h.wall + 50.0)
    h.restart()
    assert h.job().state == DELAYED
    w = h.worker()
    h.pass_time(49.0)
    assert w.inbox == []
    h.pass_time(2.0)
    assert w.assigned() == [0]


def test_the_epoch_grows_even_if_the_clock_went_back(h):
    s = h.submitter()
    s.submit(1)
    before, attempts = h.core.state.epoch, h.core.state.attempts
    h.wall -= DAY
    h.restart()
    assert h.core.state.epoch > before
    assert h.core.state.attempts > attempts


def test_jobs_that_were_cancelled_or_failed_stay_so(h):
    w, s = h.worker(), h.submitter()
    s.submit(2)
    w.assigned()
    s.send(wire.Cancel(1, s.prefix, [(1, 1)], force=False))
    s.take(wire.CancelAck)
    w.send(wire.Done([], [wire.End(1, wire.FAILED, payload.failure("ValueError", "no"), 0.0)]))
    w.expect(wire.DoneAck)
    s.results()
    h.restart()
    assert (h.job(0).state, h.job(1).state) == (FAILED, CANCELLED)


def test_jobs_kept_in_memory_end_with_the_scheduler(h):
    w, s = h.worker(), h.submitter()
    h.journal.held = True
    s.send(s.message(1, durability="memory"))
    s.expect(wire.Accepted(s.prefix, [(0, 1)], volatile=True))
    assert w.assigned() == [0]
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    assert s.results() == {0: b"value"}  # it waits for no disk
    h.sync()
    w.take(wire.DoneAck)
    h.restart()
    assert h.core.state.sources == {}


def test_a_promise_that_cannot_be_kept_is_refused(make):
    h = make()
    s = h.submitter()
    s.send(s.message(1, durability="disk"))
    assert s.expect(wire.Rejected).code == "NotDurable"


def test_at_most_once_is_on_the_disk_before_it_leaves(h):
    w, s = h.worker(), h.submitter()
    h.journal.held = True
    s.send(s.message(1, acks_late=False), s.message(1))
    assert w.inbox == []
    h.sync()
    s.expect(wire.Accepted)
    assert w.assigned() == [0]
    h.journal.held = False


@pytest.mark.parametrize("how", ["crash", "lost worker", "restart"])
def test_at_most_once_ends_as_an_error_where_it_may_have_run(h, how):
    w, s = h.worker(), h.submitter()
    s.submit(1, acks_late=False, crash_budget=3)
    w.assigned()
    if how == "crash":
        w.send(wire.Done([], [wire.End(1, wire.CRASHED, payload.failure("Crash", "signal 9"), 0.0)]))
        w.expect(wire.DoneAck)
    else:
        if how == "restart":
            h.restart()
        w.silent = True
        h.pass_time(h.settings.lease + 0.1)
    if how == "restart":
        s.connect()
        s.join()
        s.send(wire.Ask(s.prefix, [(0, 1)]))
    ((state, error, text),) = s.ends().values()
    assert (state, error) == (FAILED, "WorkerLost")
    assert "acks_late=False" in text


def test_no_job_is_taken_while_the_disk_is_full(h):
    s = h.submitter()
    s.submit(1)
    h.core.on_journal(0, 0, "no space left on device")
    h.turn()
    assert s.expect(wire.Notice).text == "no space left on device"
    s.send(s.message(1))
    rejected = s.expect(wire.Rejected)
    assert (rejected.code, "no space left" in rejected.reason) == ("JournalUnavailable", True)
    s.send(s.message(1, durability="memory"))
    s.expect(wire.Accepted)
    late = h.submitter("late")
    assert late.expect(wire.Notice).text == "no space left on device"
    h.core.on_journal(0, 0, "")
    h.turn()
    for submitter in (s, late):
        assert submitter.expect(wire.Notice).text == "the journal can be written again"
    s.submit(1)


def test_who_asks_while_the_disk_is_full_need_not_wait_for_it(h):
    """Otherwise nobody could ask why nothing goes on."""
    s, o = h.submitter(), h.operator()
    s.submit(1)
    h.core.on_journal(0, 0, "no space left on device")
    fx = o.send(wire.AskJob(s.prefix, 0), wire.AskJobs(["ready"], "", 10))
    assert [send.after for send in fx.sends if send.route == o.route] == [0, 0]
    o.expect(wire.JobReport, wire.Jobs)
    s.take(wire.Notice)


def test_a_slow_disk_stops_what_would_only_wait_for_it(make):
    h = make(durable=True, max_pending=100)
    s = h.submitter()
    s.submit(1)
    h.core.on_journal(0, 101, "")
    s.send(s.message(1))
    assert s.expect(wire.Rejected).code == "QueueFull"
    w = h.worker()
    assert w.inbox == []
    h.core.on_journal(0, 0, "")
    h.turn()
    assert w.assigned() == [0]


def test_a_small_journal_is_left_of_much_work(make):
    h = make(durable=True, compact_above=1_000, max_results=10)
    w, s = h.worker(slots=10), h.submitter()
    held = s.submit(1, not_before=h.wall + DAY)
    for _ in range(60):
        s.submit(10)
        w.assigned()
        first = w.seen - 9
        w.send(wire.Done([wire.Run(first, [b"value"] * 10, 0.1, 0.1)], []))
        w.expect(wire.DoneAck)
        s.results()
        h.core.on_journal(sum(map(len, map(repr, h.journal.records))), 0, "")
        h.pass_time(1.1)
    assert h.core.state.counters["compactions"] > 1
    assert h.journal.trimmed > 100
    assert len(h.journal.records) < 250
    kept = [r for r in h.journal.records if isinstance(r, Kept) and r.first == held.first]
    assert kept
    h.restart()
    assert h.job(held.first).state == DELAYED
    assert h.core.state.counters["submitted"] >= 601


def test_everything_of_a_submission_is_in_what_is_written_down_anew(make):
    h = make(durable=True, compact_above=0)
    w, s = h.worker(slots=1), h.submitter()
    s.submit(4, retries=3, backoff=1_000.0)
    assert w.assigned() == [0]
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    w.expect(wire.Assign, wire.DoneAck)
    s.results()
    w.send(wire.Done([], [wire.End(2, wire.RETRYABLE, b"", 0.0)]))
    w.expect(wire.Assign, wire.DoneAck)
    h.core.on_journal(1, 0, "")
    h.turn()
    h.core.on_journal(0, 0, "")
    h.jump(2.0)
    assert not any(isinstance(record, Submitted) for record in h.journal.records)
    h.restart()
    states = [h.job(i).state for i in range(4)]
    assert states == [SUCCEEDED, DELAYED, ASSIGNED, READY]
    assert (h.job(0).delivered, h.job(1).retries, h.job(2).number) == (True, 1, 3)


def test_results_beyond_the_budget_are_read_from_the_disk(make):
    h = make(durable=True, max_result_bytes=10, cache=0)
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [b"a" * 20, b"b" * 20, b"c" * 20], 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    s.results()
    assert h.core.state.resident_bytes == 0
    assert len(h.journal.stored) == 1
    s.send(wire.Ask(s.prefix, [(1, 1), (2, 1)]))
    h.turn()
    h.turn()
    assert s.results() == {1: b"b" * 20, 2: b"c" * 20}


def test_results_in_pages_are_not_in_memory_after_a_restart(make):
    h = make(durable=True, max_result_bytes=50, cache=0)
    w, s = h.worker(slots=6), h.submitter()
    s.submit(6)
    w.assigned()
    values = [b"%d" % i * 20 for i in range(6)]
    w.send(wire.Done([wire.Run(1, values, 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    assert s.results() == dict(enumerate(values))
    h.restart()
    assert h.core.state.resident_bytes == 0
    s.connect()
    s.join()
    s.send(wire.Ask(s.prefix, [(0, 6)]))
    for _ in range(3):
        h.turn()
    assert s.results() == dict(enumerate(values))


def test_jobs_kept_in_memory_make_no_small_pages(make):
    h = make(durable=True, max_result_bytes=1_000_000)
    w, s = h.worker(slots=100), h.submitter()
    s.send(s.message(20, durability="memory"), s.message(5))
    w.assigned()
    w.send(wire.Done([wire.Run(1, [bytes(60_000)] * 20 + [b"small"] * 5, 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    assert h.core.state.resident_bytes > h.settings.max_result_bytes
    assert not h.journal.stored
    s.results()
    s.take(wire.Accepted)
    assert h.core.state.resident_bytes <= h.settings.max_result_bytes


def test_what_was_loaded_for_somebody_who_left_does_not_stay(make):
    h = make(durable=True, spill=10, cache=100)
    w, s = h.worker(slots=10), h.submitter()
    s.submit(10)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [bytes(60)] * 10, 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    for _ in range(20):
        s.results()
        h.turn()
    for i in range(10):
        other = h.submitter(f"other{i}")
        other.send(wire.Ask(s.prefix, [(i, 1)]))
        other.disconnect()
        h.turn()
    assert h.core.state.payloads.bytes_at_hand <= 200


def test_the_limit_of_the_journal_follows_what_was_left(make):
    h = make(durable=True, compact_above=100)
    s = h.submitter()
    s.submit(100, task="a.very.long.module.name." * 20)
    seen = []
    for _ in range(20):
        h.core.on_journal(10_000, 0, "")  # what is left is this much, though an estimate would say less
        h.pass_time(1.1)
        seen.append(h.core.state.counters["compactions"])
    assert seen[-1] == 1, "while nothing changes, nothing is written down anew"
    h.restart()
    h.core.on_journal(19_000, 0, "")
    h.pass_time(1.1)
    assert h.core.state.counters["compactions"] == 1, "nor after a restart"
    h.core.on_journal(21_000, 0, "")
    h.pass_time(1.1)
    assert h.core.state.counters["compactions"] == 2


def test_nothing_is_written_down_anew_before_the_old_is_gone(make):
    h = make(durable=True, compact_above=100)
    s = h.submitter()
    s.submit(10)
    for _ in range(10):
        h.core.on_journal(10_000, 0, "", trimming=True)
        h.pass_time(1.1)
    assert h.core.state.counters["compactions"] == 1
    h.core.on_journal(90, 0, "")
    h.pass_time(1.1)
    h.core.on_journal(190, 0, "")
    h.pass_time(1.1)
    assert h.core.state.counters["compactions"] == 2
    s.expect(wire.Notice)


def test_what_is_written_down_anew_expires_no_later_for_it(make):
    h = make(durable=True, compact_above=0)
    w, s = h.worker(), h.submitter()
    s.submit(1)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [b"value"], 0.1, 0.1)], []))
    w.expect(wire.DoneAck)
    s.results()
    h.jump(h.settings.result_ttl - 1_000.0)
    h.core.on_journal(1, 0, "")
    h.turn()
    h.jump(2.0)
    assert any(isinstance(record, Kept) for record in h.journal.records)
    h.restart()
    h.jump(900.0)
    assert h.core.state.results == 1
    h.jump(200.0)
    assert h.core.state.results == 0


def test_counters_survive_a_kill(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, retries=3, backoff=0.5)
    w.assigned()
    w.ended(1, wire.RETRYABLE)
    h.pass_time(11.0)
    w.assigned()
    counters = dict(h.core.state.counters)
    assert counters["retried"] == 1
    h.restart()
    assert h.core.state.counters["retried"] == 1


def test_lost_bytes_end_the_job_and_are_said(make):
    h = make(durable=True, spill=10, cache=0)
    w, s = h.worker(slots=1), h.submitter()
    s.submit(1)
    w.assigned()
    w.send(wire.Done([wire.Run(1, [b"r" * 50], 0.1, 0.1)], []))
    h.journal.lost.update(h.journal.stored)
    w.expect(wire.DoneAck)
    h.turn()
    h.turn()
    ((state, error, _),) = s.ends().values()
    assert (state, error) == (FAILED, "PayloadLost")
    s.send(s.message(1, args=[b"a" * 50]))
    s.take(wire.Accepted)
    h.journal.lost.update(h.journal.stored)
    h.turn()
    h.turn()
    ((_, error, _),) = s.ends().values()
    assert error == "PayloadLost"


def test_a_function_whose_record_is_lost_ends_its_own_jobs_only(h):
    """So is a journal that was mended."""
    s = h.submitter()
    function = wire.Function(function_digest(b"blob"), "mod.fn", b"blob")
    s.submit(2, task="mod.fn", function=function.digest, functions=[function], python="3.11")
    s.submit(3)
    records = [
        msgspec.structs.replace(record, functions=[]) if isinstance(record, Submitted) else record
        for record in h.journal.records
    ]
    core = Core(h.settings, h.core.identity)
    core.restore(1, records)
    fx = Effects()
    core.begin(Now(h.mono, h.wall), fx)
    core.check()
    assert core.state.open == 3
    assert [record.state for record in fx.records if isinstance(record, Ended)] == [ABORTED, ABORTED]


def test_an_id_that_is_given_again_after_its_burial_belongs_to_the_new_session(h):
    submitted = [record for record in _two_lives(h) if isinstance(record, Submitted)]
    core = Core(h.settings, h.core.identity)
    core.restore(1, submitted)
    core.begin(Now(h.mono, h.wall), Effects())
    source = core.state.sources[submitted[1].prefix]
    assert source.owner is not None
    assert source.owner.prefix == b"second------"


def _two_lives(h):
    """The same given id, submitted by one session, and long after it was forgotten by another."""
    spec, prefix = wire.Spec(), b"given-------"
    return [
        Submitted(prefix, 0, "add", b"", "msgpack", spec, [b"a"], [], 0, owner, owner, order, h.wall)
        for order, owner in enumerate((b"first-------", b"second------"), 1)
    ]


def test_records_that_skip_numbers_are_no_journal(h):
    h.core.restore(1, [])
    h.core.restore(1, h.journal.records)
    with pytest.raises(RestoreError, match="record 9 follows record"):
        h.core.restore(9, h.journal.records)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_delay_that_a_worker_asked_for_survives_a_restart_and_a_clock_that_was_set_back(make, compacted):
    h = make(durable=True, compact_above=0)
    w, s = h.worker(), h.submitter()
    s.submit()  # its Spec knows of no back-off
    w.assigned()
    w.report(ends=[wire.End(1, wire.RETRYABLE, b"", 0.01, 300.0, 3)])
    h.pass_time(100.0)
    if compacted:
        h.core.on_journal(1, 0, "")
        h.turn()
    h.restart()
    assert h.core.state.backoffs.at == pytest.approx(h.mono + 200.0)
    h.wall -= 10_000.0
    h.restart()
    most = 200.0 if compacted else 300.0  # as long as when it was written down
    assert h.core.state.backoffs.at == pytest.approx(h.mono + most)
