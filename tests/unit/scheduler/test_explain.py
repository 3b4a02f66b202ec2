"""Why a job is where it is: one test per place, with the sentences that people read."""

from zmqtasks import wire
from zmqtasks.scheduler.core import rows


def why(o, counter=0, **other):
    return o.job(counter, **other).reasons


def test_an_unknown_job(h):
    report = h.operator().job(5)
    assert (report.job, report.story, report.progress) == (None, [], b"")
    assert report.reasons == [
        "The scheduler knows no job of this id.",
        "It keeps jobs in memory only: those of before its last start are forgotten.",
    ]


def test_a_job_whose_outcome_was_dropped(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(result_ttl=1.0)
    w.assigned()
    w.done()
    s.results()
    h.pass_time(2)
    assert why(o) == ["This job is over and its outcome was dropped: it was kept as long as its result_ttl says."]


def test_ready_and_no_worker_takes_from_its_queue(h):
    s, o = h.submitter(), h.operator()
    s.submit(3, queue="high")
    assert why(o, 2) == [
        "It is ready in queue 'high'; 2 jobs of the same submitter stand before it.",
        "Nobody can run it now: no worker takes from queue 'high'; start one with: zmqtasks worker -A APP -Q high.",
    ]


def test_ready_and_no_worker_knows_its_task(h):
    h.worker(tasks=["resize"])
    s, o = h.submitter(), h.operator()
    s.submit(task="resise")
    assert why(o)[1] == (
        "Nobody can run it now: no worker of queue 'default' knows a task 'resise'; did you mean resize."
    )


def test_ready_and_all_slots_are_taken(h):
    w, s, o = h.worker("a"), h.submitter(), h.operator()
    s.submit(3)
    w.assigned()
    assert why(o, 1) == [
        "It is ready in queue 'default'; no job stands before it.",
        "1 worker can run it: a.",
        "Not now: all slots are taken.",
    ]
    assert "; 1 job of the same submitter stands before it." in why(o, 2)[0]


def test_ready_and_each_worker_has_its_own_reason(h):
    a, b, c = (h.worker(name) for name in "abc")
    s, o = h.submitter(), h.operator()
    s.submit(4)
    for worker in (a, b, c):
        worker.assigned()
    a.send(wire.Draining())
    b.disconnect()
    assert why(o, 3)[1:] == [
        "3 workers can run it: a, b, c.",
        "Not now on a: it is shutting down and takes no new jobs.",
        "Not now on b: its connection broke, and it is not back yet.",
        "Not now on c: all slots are taken.",
    ]


def test_many_workers_are_not_all_named(h):
    workers = [h.worker(f"w{n}") for n in range(7)]
    s, o = h.submitter(), h.operator()
    s.submit(8)
    for worker in workers:
        worker.assigned()
    assert why(o, 7)[1] == "7 workers can run it: w0, w1, w2, w3, w4 and 2 more."


def test_ready_behind_more_jobs_than_are_looked_at(h, monkeypatch):
    monkeypatch.setattr(rows, "LOOK", 10)
    s, o = h.submitter(), h.operator()
    s.submit(30, task="none")
    assert "; more than 10 jobs of the same submitter stand before it." in why(o, 20)[0]
    assert "; 9 jobs of the same submitter stand before it." in why(o, 9)[0]


def test_ready_and_others_take_turns(h):
    w, s, t, o = h.worker(queues=["a", "b"]), h.submitter("s"), h.submitter("t"), h.operator()
    s.submit(2, queue="a")
    s.submit(1, queue="b")
    t.submit(1, queue="a")
    w.assigned()
    t.submit(4, queue="a", task="other")  # nobody knows it, so it is in nobody's way
    told = why(o, 1)
    assert "It takes turns with 1 other submitter in this queue (1 job)." in told
    assert "Its queue takes turns with 1 other queue of the same workers (1 job)." in told
    o.control(wire.SetQueue("a", weight=3.0))
    assert "of the same workers (1 job); of the slots' time it gets 75% by its weight." in " ".join(why(o, 1))


def test_ready_and_more_urgent_jobs_go_first(h):
    w, s, o = h.worker(queues=["a", "b"]), h.submitter(), h.operator()
    s.submit(2, queue="a", priority=9)
    s.submit(1, queue="a", priority=3)
    s.submit(1, queue="b")
    w.assigned()
    first = "2 jobs with a higher priority (3, 9) in other queues of the same workers go first, too."
    assert first in why(o, 3)
    assert not any("higher priority" in told for told in why(o, 1))
    s.submit(1, queue="a", priority=3, task="add")
    assert "; 1 job of the same submitter and 1 with a higher priority (9) stand before it." in why(o, 4)[0]
    t = h.submitter("t")
    t.submit(5, queue="b", priority=1)
    assert "; 5 jobs with a higher priority (1) stand before it." in why(o, 3)[0]
    o.control(wire.SetQueue("b", paused=True))
    assert "; no job stands before it." in why(o, 3)[0]


def test_ready_behind_jobs_of_other_tasks_of_its_submitter(h):
    w, s, o = h.worker(tasks=["add", "mul", "div"]), h.submitter(), h.operator()
    s.submit(4, task="mul")
    s.submit(1, task="add")
    s.submit(2, task="div")
    s.submit(2, task="add", rate=0.001)  # a limited one has turns of its own
    w.assigned()
    assert "; 3 jobs of the same submitter stand before it." in why(o, 4)[0]
    assert "; 4 jobs of the same submitter stand before it." in why(o, 5)[0]
    assert "; 1 job of the same submitter stands before it." in why(o, 8)[0]


def test_ready_and_held_by_a_limit_or_a_pause_though_there_is_room(h):
    w, s, o = h.worker(slots=3), h.submitter(), h.operator()
    s.submit(2, rate=0.1)
    s.submit(1)
    w.assigned()
    assert why(o, 1)[1:] == [
        "Its jobs may start once in 10 s; it is the next, in 10 s.",
        "1 worker can run it: w.",
        "There is room for it on w.",
    ]
    o.control(wire.SetQueue("default", paused=True))
    w.expect(wire.Retract)
    s.submit(1, expires=h.wall + 30.0)
    assert why(o, 3)[1:] == [
        "Queue 'default' is paused: no job of it starts until somebody resumes it.",
        "1 worker can run it: w.",
        "There is room for it on w.",
        "It expires if it has not started in 30 s.",
    ]


def test_only_the_next_under_a_rate_is_told_that_it_is(h):
    w, s, o = h.worker(slots=9), h.submitter(), h.operator()
    s.submit(4, rate=0.1)
    w.assigned()
    assert why(o, 1)[1] == "Its jobs may start once in 10 s; it is the next, in 10 s."
    first = "2 jobs of them go before it, so it may start in 30 s at the earliest."
    assert why(o, 3)[1] == f"Its jobs may start once in 10 s; {first}"
    s.submit(1, rate=0.1, priority=5)
    assert "it is the next, in 10 s" in why(o, 4)[1]
    assert "1 job of them goes before it, so it may start in 20 s at the earliest" in why(o, 1)[1]
    t = h.submitter("t")
    t.submit(3, rate=0.1, priority=5)
    assert "it is one of the next, in 10 s" in why(o, 4)[1]
    assert "2 jobs of them go before it" in why(o, 2, prefix=t.prefix)[1]
    assert "5 jobs of them go before it, so it may start in 1 min at the earliest" in why(o, 2)[1]


def test_a_rate_that_nothing_has_used_yet_is_used_by_those_before(h):
    s, o = h.submitter(), h.operator()
    s.submit(4, rate=0.1)
    assert "it may start now" in why(o, 0)[1]
    assert "3 jobs of them go before it, so it may start in 30 s at the earliest" in why(o, 3)[1]
    s.submit(4, task="mul", rate=0.1, burst=3)
    assert "2 jobs of them go before it, so it may start now at the earliest" in why(o, 6)[1]
    assert "3 jobs of them go before it, so it may start in 10 s at the earliest" in why(o, 7)[1]


def test_who_has_what_a_cap_allows_is_told(h):
    a, b, s, o = h.worker("a", slots=1), h.worker("b", slots=4, caps=[("add", 4)]), h.submitter(), h.operator()
    ids = [f"{s.prefix.hex()}{counter:08x}" for counter in range(9)]
    s.submit(3, cap=2, cap_key="k")
    assert (a.assigned(), b.assigned()) == ([0], [1])
    assert why(o, 2)[1] == f"Of its jobs with the key 'k' 2 may run at once; 2 do: {ids[0]} on a, {ids[1]} on b."
    s.submit(6)  # under the cap that a worker said
    assert b.assigned() == [3, 4, 5]
    assert "Of its jobs 4 may run at once; 3 do." in why(o, 6)
    h.worker("c").assigned()  # it says nothing, and b is still there
    told = f"4 do: {ids[3]} on b, {ids[4]} on b, {ids[5]} on b and 1 more."
    assert f"Of its jobs 4 may run at once; {told}" in why(o, 7)


def test_delayed_by_its_eta(h):
    s, o = h.submitter(), h.operator()
    s.submit(not_before=h.wall + 90.0)
    report = o.job()
    assert report.reasons == [
        "It is delayed for another 1 min 30 s: it was submitted with a time before which it must not start."
    ]
    assert report.job.due == h.wall + 90.0


def test_delayed_by_a_retry(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(retries=3, backoff=8.0)
    w.assigned()
    w.ended(1, wire.RETRYABLE)
    h.jump(1.0)
    report = o.job()
    assert report.reasons == [
        "It is delayed for another 7.0 s: its last attempt failed, and retry 1 of 3 waits.",
        "It failed 1 time before; 3 retries are allowed.",
    ]
    assert report.job.due == h.wall + 7.0


def test_assigned_and_running(h):
    w, s, o = h.worker(slots=2), h.submitter(), h.operator()
    s.submit(2)
    w.assigned()
    h.mono, h.wall = h.mono + 1.5, h.wall + 1.5
    assert why(o, 1) == [
        "Worker w (host, pid 7) has had it for 1.5 s and has not said yet that it runs.",
        "Of what this worker got before, 1 job is not over; it has 2 slots.",
    ]
    w.send(w.heartbeat(1, 2))
    assert why(o, 1) == ["It runs on worker w (host, pid 7), which has had it for 1.5 s."]
    assert [line.state for line in o.job(1).story] == ["ready", "assigned", "running"]


def test_its_worker_lost_its_connection(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit()
    w.assigned()
    w.disconnect()
    h.jump(1.0)
    assert why(o)[-1] == (
        "The connection of that worker broke: if it is not back in 3.0 s, the job runs again elsewhere."
    )


def test_somebody_asked_to_cancel_it(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit()
    w.assigned()
    s.send(wire.Cancel(1, s.prefix, [(0, 1)], force=True))
    w.expect(wire.Kill)
    assert why(o)[-1] == "Somebody asked to cancel it; its worker has not answered yet."


def test_after_deaths_it_runs_alone(h):
    a, s, o = h.worker("a"), h.submitter(), h.operator()
    s.submit()
    a.assigned()
    a.silent = True
    a.disconnect()
    h.jump(5.0)
    told = why(o)
    assert told[1] == (
        "A worker died that held it: it runs alone on a worker, one such job at a time, when that worker is empty."
    )
    assert told[2].startswith("Nobody can run it now: no worker takes from queue 'default'")
    assert told[3] == "It was running in a process that died; its crash budget is 3."
    assert told[4].startswith("Death 1: worker a (host, pid 7) was lost: silent for")
    assert o.job().story[-1].cause.startswith("worker a (host, pid 7) was lost")


def test_how_it_ended(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(1, result_ttl=600.0)
    s.submit(2)
    w.assigned()
    w.done(1)
    w.assigned()
    w.ended(2, wire.FAILED, "no such file\nand more")
    w.assigned()
    h.jump(60.0)
    assert why(o, 0)[:2] == [
        "It succeeded, with a result of 8 bytes.",
        "That was 1 min ago; its outcome is kept for another 9 min, if there is room.",
    ]
    assert why(o, 0)[2] == "Its outcome is on the way to a submitter that has not said yet that it arrived."
    assert why(o, 1)[:2] == [
        "It failed: builtins.ValueError: no such file.",
        "That was 1 min ago; its outcome is kept for another 59 min, if there is room.",
    ]
    s.results()
    assert len(why(o, 0)) == 2
    assert o.job(1).story[-1].cause == "it failed on worker w"


def test_a_failure_that_cannot_be_read_hides_nothing_else(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit()
    w.assigned()
    w.report(ends=[wire.End(1, wire.FAILED, b"\xff", 0.1)])
    assert why(o)[0].startswith("It failed: RemoteError: the failure itself cannot be decoded")
    s.results()


def test_cancelled(h):
    s, o = h.submitter(), h.operator()
    s.submit()
    s.send(wire.Cancel(1, s.prefix, [(0, 1)], force=False))
    s.take(wire.CancelAck)
    s.results()
    assert why(o)[0].startswith("It was cancelled: JobCancelled: job ")
    assert [(line.state, line.cause) for line in o.job().story] == [
        ("ready", "accepted"),
        ("cancelled", "it was cancelled"),
    ]


def test_its_time_has_come(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit(2, not_before=h.wall + 5.0)
    h.jump(6.0)
    w.inbox.clear()
    assert [(line.state, line.cause) for line in o.job(1).story][:2] == [
        ("delayed", "accepted"),
        ("ready", "its time has come"),
    ]


def test_progress(h):
    w, s, o = h.worker(), h.submitter(), h.operator()
    s.submit()
    w.assigned()
    w.send(wire.Progress([1], [b"\x82"]))
    assert o.job().progress == b"\x82"
    s.inbox.clear()
