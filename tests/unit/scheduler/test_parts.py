"""The small parts of the core: timers, lines, the table of moves, the story, the laws."""

import itertools
import random
from math import inf

import pytest

from tests.helpers.scheduler_harness import RELEASE
from zmqtasks import states, wire
from zmqtasks.scheduler.core.deadlines import Timers
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.lines import ABLE, HUNGRY, Lines
from zmqtasks.scheduler.core.model import UNKNOWN_COST, Job, Source, Submission, Target, Worker
from zmqtasks.scheduler.core.story import RING, Entry, Story
from zmqtasks.scheduler.core.transitions import TABLE, IllegalMoveError, Moves
from zmqtasks.scheduler.gate import Gate
from zmqtasks.scheduler.journal import MemoryJournal
from zmqtasks.states import ABORTED, ASSIGNED, FINAL, READY, RUNNING, SUCCEEDED, State


def jobs_of(count=10, **spec):
    source = Source(b"p" * 12, None)
    submission = Submission(source, 0, count, b"", Target("add", b"", None), "msgpack", wire.Spec(**spec))
    return [Job(submission, counter, b"") for counter in range(count)]


def worker_in(lines, name="w", *, queues=("default",), tasks=("add",)):
    worker = Worker(name.encode())
    lines.join(worker, list(queues), list(tasks), "3.11")
    lines.regroup(worker, ABLE | HUNGRY)
    return worker


def profile_of(worker):
    (profile,) = worker.team.profiles
    return profile


# ------------------------------------------------------------------------------------------------------ timers


def test_timers_come_up_in_order_and_equal_ones_in_the_order_they_were_added():
    timers = Timers(lambda _: True)
    for when, thing in ((3.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "d")):
        timers.add(when, thing)
    assert timers.at == 1.0
    assert list(timers.due(0.9)) == []
    assert list(timers.due(3.0)) == [(1.0, "a"), (1.0, "b"), (3.0, "c")]
    assert (len(timers), timers.at) == (1, 9.0)
    assert list(timers.due(10.0)) == [(9.0, "d")]
    assert timers.at == inf


def test_timers_sweep_out_what_does_not_matter():
    alive = set(range(0, 100_000, 100))
    timers = Timers(alive.__contains__)
    for number in range(100_000):
        timers.add(float(-number), number)
        assert len(timers) <= 3_000
    assert {thing for _, thing in timers.due(1.0)} >= alive


# ------------------------------------------------------------------------------------------------------ lines


def test_a_line_that_nobody_serves_is_known_as_such():
    lines, jobs = Lines(), jobs_of()
    line = lines.line_of(jobs[0].submission)
    lines.append(line, jobs)
    assert list(lines.unserved) == [line]
    worker = worker_in(lines)
    assert not lines.unserved
    assert list(lines.ready) == [profile_of(worker)]
    lines.leave(worker)
    assert list(lines.unserved) == [line]
    assert not lines.ready
    assert list(lines.profiles()) == []


def test_take_empties_the_index():
    lines, jobs = Lines(), jobs_of(3)
    worker_in(lines)
    line = lines.line_of(jobs[0].submission)
    lines.append(line, jobs)
    assert lines.take(line, 2) == jobs[:2]
    assert lines.ready
    assert lines.take(line, 2) == jobs[2:]
    assert not lines.ready
    lines.put_back(jobs[1])
    assert lines.ready
    assert line.head() is jobs[1]


@pytest.mark.parametrize("removed", [[0], [9], [4], [0, 1, 2], [3, 4, 5, 6], [9, 0, 8, 1, 7, 2], list(range(10))])
def test_removed_jobs_are_skipped_and_compacted(removed):
    lines, jobs = Lines(), jobs_of(10)
    worker_in(lines)
    line = lines.line_of(jobs[0].submission)
    lines.append(line, jobs)
    for at, counter in enumerate(removed, 1):
        lines.remove(jobs[counter])
        assert len(line) == 10 - at
        assert 2 * len(line.gone) <= max(len(line.jobs), 1)
    left = [job for job in jobs if job.counter not in removed]
    assert bool(lines.ready) == bool(left)
    if left:
        assert line.head() is left[0]
        assert lines.take(line, 100) == left
    assert not lines.ready
    assert not line.gone


def test_a_removed_job_that_comes_back_stands_once():
    lines, jobs = Lines(), jobs_of(5)
    line = lines.line_of(jobs[0].submission)
    lines.append(line, jobs)
    lines.remove(jobs[2])
    lines.put_back(jobs[2])
    assert sorted(job.counter for job in lines.take(line, 10)) == [0, 1, 2, 3, 4]


def test_every_way_through_a_small_line_keeps_its_count():
    for steps in itertools.product("rtp", repeat=5):
        lines, jobs = Lines(), jobs_of(4)
        line = lines.line_of(jobs[0].submission)
        lines.append(line, jobs)
        inside, outside = list(jobs), []
        for step in steps:
            if step == "r" and inside:
                outside.append(inside.pop(len(inside) // 2))
                lines.remove(outside[-1])
            elif step == "t" and inside:
                (taken,) = lines.take(line, 1)
                inside.remove(taken)
                outside.append(taken)
            elif step == "p" and outside:
                inside.append(outside.pop())
                lines.put_back(inside[-1])
            assert len(line) == len(inside)
        assert set(lines.take(line, 9)) == set(inside)


def test_lines_are_forgotten_with_their_last_submission():
    lines, jobs = Lines(), jobs_of(1)
    lines.line_of(jobs[0].submission)
    lines.release(jobs[0].submission)
    assert list(lines.all()) == []
    lines.release(jobs[0].submission)


def test_equal_workers_share_a_profile():
    lines = Lines()
    a, b = worker_in(lines, "a", tasks=["x", "y"]), worker_in(lines, "b", tasks=["y", "x"])
    assert profile_of(a) is profile_of(b)
    assert profile_of(worker_in(lines, "c")) is not profile_of(a)


# ------------------------------------------------------------------------------------------------------ moves

ALL = sorted(int(state) for state in State)


def test_the_table_covers_every_state_and_final_ones_are_final():
    assert sorted(TABLE) == ALL
    assert {state for state, moves in TABLE.items() if not moves} == FINAL
    assert all(reason for moves in TABLE.values() for reason in moves.values())


@pytest.mark.parametrize("here", ALL)
@pytest.mark.parametrize("there", ALL)
def test_moves_follow_the_table(here, there):
    for way in ("one", "many"):
        (job,) = jobs_of(1)
        job.state = here
        moves = Moves()
        moves.enter(1, here)
        go = getattr(moves, way)
        what = job if way == "one" else [job]
        if there in TABLE[here]:
            go(what, there)
            assert job.state == there
            assert moves.counts[there] == 1
            assert sum(moves.counts) == 1
        else:
            with pytest.raises(IllegalMoveError, match=f"{states.name(here)} → {states.name(there)}"):
                go(what, there)
            assert (job.state, moves.counts[here]) == (here, 1)


def test_a_job_leaves_the_counts():
    (job,) = jobs_of(1)
    moves = Moves()
    moves.enter(1, READY)
    moves.one(job, ABORTED)
    moves.leave(job)
    assert sum(moves.counts) == 0


# ------------------------------------------------------------------------------------------------------ measuring


def test_the_cost_of_a_target():
    target = Target("add", b"", None)
    assert target.cost == UNKNOWN_COST
    target.measured(10, 0.01, 0.002)
    assert target.cost == pytest.approx(0.001)
    for _ in range(100):
        target.measured(10, 0.1, 0.011)
    assert target.cost == pytest.approx(0.01, rel=0.01)
    target.measured(1, 1.0, 1.0)
    for _ in range(5):
        target.measured(100, 0.1, 0.01)
    assert target.cost == target.mean  # long enough to be taken for what it is
    for _ in range(100):
        target.measured(1_000, 0.01, 0.0001)
    assert target.longest > 0.1
    assert target.cost == 0.005  # it varies: short, but not taken for a micro-job
    for _ in range(500):
        target.measured(1, 0.001, 0.001)
    assert target.cost == pytest.approx(0.001, rel=0.01)


# ------------------------------------------------------------------------------------------------------ story, status


def test_the_story_of_a_job_is_bounded():
    story = Story()
    for number in range(RING + 10):
        story.tell(Entry(0.0, b"p", number, 5, READY, "accepted"))
    assert [entry.first for entry in story.of(b"p", 9)] == []
    assert [entry.first for entry in story.of(b"p", 12)] == [10, 11, 12]
    assert story.of(b"q", 12) == []


def test_the_story_tells_what_happened(h):
    w, s = h.worker(), h.submitter()
    s.submit(retries=1)
    w.assigned()
    w.ended(1, wire.RETRYABLE)
    w.assigned()
    w.done()
    s.results()
    told = [(entry.state, entry.cause) for entry in h.core.state.story.of(s.prefix, 0)]
    assert told == [
        (READY, "accepted"),
        (ASSIGNED, "given to worker w"),
        (READY, "retry 1 of 1"),
        (ASSIGNED, "given to worker w"),
        (SUCCEEDED, "its result came"),
    ]


def test_a_run_of_jobs_is_one_entry_that_holds_these_and_no_others():
    story = Story()
    story.tell_run(1.0, b"p", [7, 5, 6], ASSIGNED, "together")
    story.tell_run(2.0, b"p", [5, 9], SUCCEEDED, "apart")
    assert [len(story.of(b"p", counter)) for counter in range(4, 11)] == [0, 2, 1, 1, 0, 1, 0]
    assert story.of(b"q", 5) == []
    story.tell_run(3.0, b"p", [5], ASSIGNED, "again")
    assert story.latest({b"p": [9, 7, 5], b"q": [5]}, ASSIGNED) == {(b"p", 5): 3.0, (b"p", 7): 1.0}


def test_the_soonest_of_many_timers():
    dice = random.Random(7)
    times = [dice.random() for _ in range(500)]
    timers: Timers[float] = Timers(lambda when: when not in times[:50])
    for when in times:
        timers.add(when, when)
    assert [when for when, _ in timers.soonest()] == sorted(times[50:])
    assert timers.when(times[60], 500) == times[60]
    assert timers.when(times[60], 0) is None
    assert len(timers) == 500


def test_status(h):
    w, s, o = h.worker(slots=2, queues=["default", "high"]), h.submitter(), h.operator()
    s.submit(4)
    w.assigned()
    w.send(w.heartbeat(1))
    w.done(2, took=0.5)
    w.assigned()
    s.results()
    h.mono += 0.5
    status = o.status()
    assert status == wire.Status(
        h.core.identity.epoch, RELEASE, 4711, 0.5, False,
        [wire.WorkerStatus("w", "host", 7, "up", 2, 2, 1, 1, ["default", "high"], ["add"], 0.5, "3.11")],
        [wire.QueueStatus("default", 1, 1, "memory"), wire.QueueStatus("high", 0, 1, "memory")],
        {"waiting": 0, "delayed": 0, "ready": 1, "assigned": 1, "running": 1, "succeeded": 1, "failed": 0,
         "cancelled": 0, "aborted": 0},
        1, {"submitted": 4, "succeeded": 1}, [],
    )  # fmt: skip
    w.send(wire.Draining())
    assert o.status().workers[0].state == "draining"
    w.disconnect()
    s.disconnect()
    status = o.status()
    assert (status.workers[0].state, status.submitters) == ("suspect", 0)


# ------------------------------------------------------------------------------------------------------ the laws


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (lambda core: setattr(next(iter(core.state.workers.values())), "credit", 7), "credit"),
        (lambda core: setattr(next(iter(core.state.workers.values())), "running", 1), "running"),
        (lambda core: setattr(next(iter(core.state.workers.values())), "load", 9.0), "load"),
        (lambda core: setattr(core.state, "open", 0), "open"),
        (lambda core: setattr(core.state, "results", 1), "results"),
        (lambda core: core.state.moves.counts.__setitem__(RUNNING, 1), "counts"),
        (lambda core: setattr(core.state.find(b"s".ljust(12, b"\0"), 0), "attempt", 0), "fence"),
        (lambda core: setattr(core.state.find(b"s".ljust(12, b"\0"), 0), "args", None), "memory"),
        (lambda core: setattr(core.state.find(b"s".ljust(12, b"\0"), 0), "worker", None), "place"),
        (lambda core: setattr(core.state.find(b"s".ljust(12, b"\0"), 1), "state", ASSIGNED), "line"),
        (lambda core: next(iter(core.state.lines.all())).jobs.clear(), "line"),
        (lambda core: core.state.lines.ready.update(dict.fromkeys(core.state.lines.profiles())), "line"),
    ],
)  # fmt: skip
def test_check_finds_what_is_broken(h, damage, law):
    w, s = h.worker(), h.submitter()
    s.submit(3)
    w.assigned()
    h.core.check()
    damage(h.core)
    with pytest.raises(AssertionError, match=f"^{law}"):
        h.core.check()
    h.core.state.moves.counts = [0] * len(TABLE)
    h.core.state.sources.clear()  # so that the harness has nothing to say at the end


def test_the_memory_journal_holds_nothing_up_and_keeps_payloads():
    journal = MemoryJournal()
    journal.append([], sync=True)
    fx = Effects(sends=[Send(b"route", wire.Ping(), after=2**40)])
    assert Gate().pass_(fx.sends, journal.durable) == fx.sends
    journal.store(1, b"large")
    journal.load(1)
    assert journal.loaded() == [(1, b"large")]
    assert journal.loaded() == []
    journal.drop(1)
    journal.drop(1)
