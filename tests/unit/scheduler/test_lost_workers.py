"""Silence, broken connections, returns: leases, suspects, adoption, heartbeats."""

from zmqtasks import payload, wire
from zmqtasks.states import ASSIGNED, FAILED, READY, RUNNING


def logged(h, action):
    return [text for a, text in h.logs if a == action]


def test_a_silent_worker_is_lost_after_its_lease_and_not_before(h):
    a, s = h.worker("a"), h.submitter()
    s.submit()
    a.assigned()
    a.silent = True
    h.jump(3.9)
    assert h.job().state == ASSIGNED
    assert h.core.next_deadline(h.now) <= h.mono + 0.11
    h.jump(0.11)
    assert h.job().state == READY
    (text,) = logged(h, "worker-lost")
    assert "worker a (host, pid 7) is lost (silent for 4.0 s); 1 job runs again elsewhere" in text


def test_heartbeats_keep_a_long_job_where_it_is(h):
    a, s = h.worker("a"), h.submitter()
    h.worker("b")
    s.submit()
    a.assigned()
    h.pass_time(1000)
    assert (h.job().state, h.job().attempt) == (ASSIGNED, a.held[1].attempt)


def test_no_lease_ends_while_input_waits(h):
    a = h.worker("a")
    h.jump(100, caught_up=False)
    assert h.core.state.workers
    a.send(a.heartbeat())
    h.jump(3.9)
    assert h.core.state.workers
    h.jump(0.2)
    assert not h.core.state.workers


def test_a_gap_of_the_schedulers_own_is_added_to_every_lease(h):
    h.worker("a")
    h.core.on_gap(60)
    h.jump(62)
    assert h.core.state.workers
    h.jump(2.1)
    assert not h.core.state.workers


def test_a_broken_connection_makes_a_suspect_that_gets_nothing_and_keeps_its_jobs(h):
    a, s = h.worker("a", slots=2), h.submitter()
    s.submit()
    a.assigned()
    a.disconnect()
    assert logged(h, "worker-suspect") == [
        "worker a (host, pid 7) lost its connection; what it holds (1 job) waits for it until its lease ends"
    ]
    s.submit()
    assert (h.job(0).state, h.job(1).state) == (ASSIGNED, READY)
    a.connect()
    assert a.join().dropped == []
    assert a.assigned() == [1]
    a.done()
    assert sorted(s.results()) == [0, 1]
    assert h.job(0).crashes == 0


def test_an_assignment_lost_with_its_connection_is_given_again(h):
    a, s = h.worker("a", slots=2), h.submitter()
    s.submit(2)
    a.inbox.clear()
    del a.held[2]  # it never came
    a.seen = 1
    a.disconnect()
    a.connect()
    assert a.join().dropped == []
    (again,) = a.take(wire.Assign)
    assert (again.number, again.works[0].counters) == (3, [1])
    assert h.job(1).crashes == 0
    a.done()
    s.results()


def test_jobs_of_a_lost_worker_run_alone_one_at_a_time(h):
    a, b, s = h.worker("a", slots=3), h.worker("b", slots=8), h.submitter()
    s.submit(5, retries=1)
    assert len(a.assigned()) == 3
    assert len(b.assigned()) == 2
    a.silent = True
    h.pass_time(5)
    assert b.inbox == []  # it holds two others; nothing new comes to them
    s.submit(2)
    b.done(took=0.5)
    got = []
    for _ in range(3):
        got += b.assigned()
        assert len(b.held) == 1
        assert h.job(got[-1]).solo
        b.done(took=0.5)
    assert sorted(got) == [0, 1, 2]
    h.turn()
    assert sorted(b.assigned()) == [5, 6]  # and then all is as before
    assert [h.job(i).crashes for i in range(5)] == [1 if i in got else 0 for i in range(5)]
    assert len(s.results()) == 5


def test_jobs_that_shared_a_process_that_died_run_alone_and_only_one_is_to_blame(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3)
    w.assigned()
    for number in (1, 2, 3):
        w.ended(number, wire.SUSPECT, "child 9 was killed by SIGSEGV with 3 jobs in it")
    ends = []
    for _ in range(5):
        (counter,) = w.assigned()
        assert h.job(counter).solo
        if counter == 1:
            w.ended(max(w.held), wire.CRASHED)
        else:
            w.done()
        ends.append(counter)
    assert sorted(ends) == [0, 1, 1, 1, 2]
    results = s.results()
    assert isinstance(results[0], bytes)
    assert isinstance(results[2], bytes)
    assert "death 1: child 9 was killed by SIGSEGV with 3 jobs in it" in payload.read_failure(results[1].payload).text


def test_suspects_go_to_several_workers_of_different_kinds(h):
    a, s = h.worker("a", slots=3), h.submitter()
    s.submit(3)
    a.assigned()
    a.silent = True
    h.pass_time(5)
    b, c = h.worker("b", slots=4), h.worker("c", slots=4, tasks=["add", "mul"])
    h.turn()
    assert len(b.assigned()) == len(c.assigned()) == 1
    b.done(took=0.5)
    assert len(b.assigned()) == 1
    s.results()


def test_a_job_that_kills_its_hosts_is_a_dead_letter(h):
    s = h.submitter()
    s.submit()
    for name in "abcd":
        w = h.worker(name)
        assert w.assigned() == [0]
        w.silent = True
        h.pass_time(5)
    state, kind, text = s.ends()[0]
    assert (state, kind) == (FAILED, "WorkerLost")
    for death, name in enumerate("abcd", 1):
        assert f"death {death}: worker {name} (host, pid 7) was lost: silent for" in text


def test_a_draining_worker_gets_no_suspects(h):
    a, b, s = h.worker("a", slots=2), h.worker("b", tasks=["mul", "add"]), h.submitter()
    s.submit(3)
    assert sorted(a.assigned() + b.assigned()) == [0, 1, 2]
    a.silent = True
    h.pass_time(5)
    b.done(took=0.5)
    first = b.assigned()
    b.send(wire.Draining())
    b.done(took=0.5)
    assert b.inbox == []
    c = h.worker("c")
    second = c.assigned()
    assert len(first) == len(second) == 1
    assert first != second
    assert len(s.results()) == 2


def test_a_returning_worker_gets_its_job_back_if_it_has_not_started_elsewhere(h):
    a, s = h.worker("a"), h.submitter()
    s.submit()
    a.assigned()
    attempt = a.held[1].attempt
    a.silent = True
    h.pass_time(5)
    assert (h.job().state, h.job().crashes, h.job().solo) == (READY, 1, True)
    h.peers[a.route] = a
    a.send(a.heartbeat())
    a.expect(wire.HelloAgain())
    a.connect()
    assert a.join().dropped == []
    job = h.job()
    assert (job.state, job.attempt, job.number, job.crashes, job.solo) == (ASSIGNED, attempt, 1, 0, False)
    assert h.counters["adopted"] == 1
    a.done()
    assert s.results() == {0: b"result 1"}
    s.submit()
    assert a.expect(wire.Assign).number == 2
    a.done()
    assert s.results() == {1: b"result 2"}


def test_a_returning_worker_loses_a_job_that_was_given_to_another(h):
    a, s = h.worker("a"), h.submitter()
    s.submit()
    a.assigned()
    a.silent = True
    h.pass_time(5)
    b = h.worker("b")
    assert b.assigned() == [0]
    a.silent = False
    a.connect()
    assert a.join().dropped == [(1, 1)]
    a.done(1, results=[b"too late"])
    assert s.results() == {}
    assert h.counters["stale_results"] == 1
    b.done()
    assert s.results() == {0: b"result 1"}


def test_a_returning_worker_is_told_to_drop_what_is_over(h):
    a, s = h.worker("a", slots=2), h.submitter()
    s.submit(2)
    a.assigned()
    a.send(wire.Done([wire.Run(1, [b"x"], 0.1, 0.1)], []))
    a.inbox.clear()
    a.held[1] = wire.Held(1, s.prefix, 0, 12345)  # as if the acknowledgement had been lost
    a.connect()
    assert a.join().dropped == [(1, 1)]
    s.results()


def test_a_dropped_job_that_runs_on_takes_its_slot(h):
    a = h.worker("a", slots=1)
    s = h.submitter()
    a.send(wire.Heartbeat(0, [], [], 1))
    s.submit()
    assert a.inbox == []
    a.send(wire.Heartbeat(0, [], []))
    assert a.assigned() == [0]


def test_a_heartbeat_finds_what_the_worker_does_not_hold(h):
    a, s = h.worker("a", slots=3), h.submitter()
    s.submit(3)
    a.assigned()
    lost = a.held.pop(2)
    a.send(a.heartbeat())
    (again,) = a.take(wire.Assign)
    assert (again.number, again.works[0].counters) == (4, [lost.counter])
    assert h.counters["lost_assignments"] == 1
    assert h.job(1).crashes == 0


def test_what_the_worker_has_not_seen_yet_is_not_lost(h):
    a, s = h.worker("a", slots=3), h.submitter()
    s.submit(3)
    a.inbox.clear()
    a.send(wire.Heartbeat(1, [(1, 1)], []))
    assert [h.job(i).state for i in range(3)] == [ASSIGNED] * 3
    a.send(wire.Heartbeat(0, [], []))
    assert [h.job(i).state for i in range(3)] == [ASSIGNED] * 3


def test_a_heartbeat_tells_what_runs(h):
    a, s = h.worker("a", slots=3), h.submitter()
    s.submit(3)
    a.assigned()
    a.send(a.heartbeat(2, 77))
    a.send(a.heartbeat(2, 3))
    assert [h.job(i).state for i in range(3)] == [ASSIGNED, RUNNING, RUNNING]
    a.done(1, 2)
    a.ended(3, wire.FAILED)
    assert len(s.results()) == 3


def test_a_heartbeat_may_list_more_than_was_ever_assigned(h):
    a, s = h.worker("a"), h.submitter()
    s.submit()
    a.assigned()
    a.send(wire.Heartbeat(2**62, [(0, 2**62)], []))
    a.send(wire.Retracted([(-(2**62), 2**61), (5, 2**62)], [(2, 2**60)]))
    assert h.job().state == ASSIGNED


def test_numbers_at_the_edge_of_64_bits_do_no_harm(h):
    a = h.worker("a")
    top = 2**64 - 1
    a.send(wire.Done([wire.Run(top, [b"", b""], 0.1, 0.1)] * 2, [wire.End(top, 1, b"", 0.1)] * 2))
    a.expect(wire.DoneAck)


def test_every_message_renews_the_lease(h):
    a, s = h.worker("a"), h.submitter()
    for _ in range(5):
        h.jump(3)
        s.submit()
        a.assigned()
        a.done()
    assert logged(h, "worker-lost") == []
    s.results()
