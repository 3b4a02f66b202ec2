"""Tasks that no worker knows: they wait and are told of, or fail at once."""

from tests.helpers.scheduler_harness import Harness
from zmqtasks import wire
from zmqtasks.states import ABORTED, READY


def test_a_warning_after_five_seconds_with_near_names(h):
    h.worker(tasks=["photos.resize", "photos.rotate", "mail.send"])
    s = h.submitter()
    s.submit(3, task="photos.resise")
    h.pass_time(4.9)
    s.expect()
    assert h.core.next_deadline(h.now) <= h.mono + 0.11
    h.pass_time(0.1)
    notice = s.expect(wire.Notice)
    assert notice.text == (
        "3 jobs wait: no worker of queue 'default' knows a task 'photos.resise'; "
        "did you mean photos.resize or photos.rotate?"
    )
    assert (notice.queue, notice.task) == ("default", "photos.resise")  # it is about no other job
    assert ("unserved", notice.text) in h.logs
    assert h.operator().status().warnings == [notice.text]
    h.pass_time(60)
    assert s.inbox == []  # said once
    assert h.job().state == READY
    h.jump(3600)
    s.expect(wire.Notice)


def test_one_job(h):
    s = h.submitter()
    s.submit()
    h.pass_time(5)
    assert s.expect(wire.Notice).text.startswith("1 job waits: no worker takes from queue 'default'")


def test_without_a_near_name_it_says_what_they_know(h):
    h.worker(tasks=["aaa"])
    s = h.submitter()
    s.submit(task="zzz")
    h.pass_time(5)
    assert s.expect(wire.Notice).text.endswith("knows a task 'zzz'; they know: aaa")


def test_workers_that_know_no_task_want_an_app(h):
    h.worker(tasks=[])
    s = h.submitter()
    s.submit(task="zzz")
    h.pass_time(5)
    told = "knows a task 'zzz'; they know no task at all; start one that does with: zmqtasks worker -A APP -Q default"
    assert s.expect(wire.Notice).text.endswith(told)


def test_no_worker_at_all_says_how_to_start_one(h):
    s = h.submitter()
    s.submit(queue="high")
    h.pass_time(5)
    notice = s.expect(wire.Notice)
    assert "no worker takes from queue 'high'; start one with: zmqtasks worker -A APP -Q high" in notice.text
    assert (notice.queue, notice.task) == ("high", "")


def test_a_queue_with_nearly_the_same_name_is_named(h):
    h.worker(queues=["high", "low"])
    s = h.submitter()
    s.submit(queue="hihg")
    h.pass_time(5)
    told = "no worker takes from queue 'hihg' (did you mean 'high'?); start one with: zmqtasks worker -A APP -Q hihg"
    assert told in s.expect(wire.Notice).text


def test_another_python(h):
    h.worker(python="3.11")
    s = h.submitter()
    blob = b"code"
    from zmqtasks.payload import function_digest

    fn = wire.Function(function_digest(blob), "mod.fn", blob)
    s.submit(task="mod.fn", function=fn.digest, functions=[fn], python="3.13")
    h.pass_time(5)
    notice = s.expect(wire.Notice)
    assert notice.text.endswith("shipped functions need Python 3.13, which no worker of queue 'default' runs")
    assert (notice.queue, notice.python) == ("default", "3.13")


def test_no_warning_when_a_worker_comes_in_time(h):
    s = h.submitter()
    s.submit()
    h.pass_time(4.9)
    w = h.worker()
    assert w.assigned() == [0]
    h.pass_time(10)
    s.expect()


def test_a_warning_when_the_last_worker_left(h):
    w, s = h.worker(), h.submitter()
    w.send(wire.Goodbye())
    s.submit()
    h.pass_time(5)
    s.expect(wire.Notice)


def test_fail_unknown_ends_the_job_at_once(h):
    h.worker(tasks=["mul"])
    s = h.submitter()
    s.send(s.message(2, task="mull", fail_unknown=True))
    text = "no worker of queue 'default' knows a task 'mull'; did you mean mul?"
    assert s.ends() == dict.fromkeys((0, 1), (ABORTED, "TaskNotRegistered", text))


def test_fail_unknown_waits_for_the_first_worker_of_the_queue(h):
    s = h.submitter()
    s.submit(task="mull", fail_unknown=True)
    h.worker("other", queues=["other"])
    s.expect()
    h.worker(tasks=["mul"])
    assert s.ends()[0][1] == "TaskNotRegistered"


def test_fail_unknown_does_not_end_the_jobs_of_those_who_may_wait(h):
    w, s = h.worker(tasks=["mul"]), h.submitter()
    h.turn((s, s.message(task="add")), (s, s.message(task="add", fail_unknown=True)))
    s.take(wire.Accepted)
    assert list(s.ends()) == [1]
    w.send(wire.Goodbye())
    assert h.worker("w2").assigned() == [0]


def test_fail_unknown_of_a_known_task_runs(h):
    w, s = h.worker(), h.submitter()
    s.submit(fail_unknown=True)
    assert w.assigned() == [0]


def test_status_counts_what_waits_now_and_warns_until_the_last_job_is_gone(h):
    o, s, t = h.operator(), h.submitter(), h.submitter("t")
    s.submit(queue="ghost")
    t.submit(queue="ghost", task="mul")
    h.pass_time(5)
    s.expect(wire.Notice)
    t.expect(wire.Notice)
    assert [text.partition(";")[0] for text in o.status().warnings] == [
        "2 jobs wait: no worker takes from queue 'ghost'"
    ]
    t.submit(7, queue="ghost", task="mul")
    assert o.status().warnings[0].startswith("9 jobs wait: ")
    t.send(wire.Cancel(1, t.prefix, [(0, 8)], force=False))
    assert o.status().warnings[0].startswith("1 job waits: ")  # they had the same words before
    t.take(wire.CancelAck)
    t.results()
    assert h.worker(queues=["ghost"]).assigned() == [0]
    assert o.status().warnings == []


def test_warnings_are_bounded(h):
    h.worker()
    s = h.submitter()
    for i in range(30):
        s.submit(task=f"task {i}")
    h.pass_time(5)
    s.inbox.clear()
    assert len(h.operator().status().warnings) == 20


# ------------------------------------------------------------------------------------------------ jobs for one worker


def test_what_is_for_one_worker_ends_a_minute_after_it_left():
    h = Harness(durable=True)
    w, s = h.worker("w", queues=["w.dq2"]), h.submitter()
    w.send(wire.Goodbye())
    s.submit(2, queue="w.dq2", fail_unserved=True)
    s.submit(1, first=2, queue="w.dq2")
    told = "worker 'w', whose own queue 'w.dq2' is, is not there; zmqtasks worker -n w starts it"
    h.pass_time(5)
    assert [notice.text for notice in s.take(wire.Notice)] == [f"2 jobs wait: {told}", f"1 job waits: {told}"]
    h.restart()  # the worker may be back later than others
    s = h.submitter()
    s.send(wire.Ask(s.prefix, [(0, 3)]))
    h.pass_time(59.9)
    s.inbox.clear()
    assert h.job().state == READY
    h.pass_time(0.1)
    assert s.ends() == dict.fromkeys((0, 1), (ABORTED, "WorkerLost", f"{told}; it was waited for for 60 s"))
    assert h.job(2).state == READY


def test_what_is_for_one_worker_waits_anew_when_it_was_there(h):
    s = h.submitter()
    s.submit(queue="w.dq2", fail_unserved=True)
    h.pass_time(50)
    w = h.worker("w", queues=["w.dq2"])
    assert w.assigned() == [0]
    s.submit(first=1, queue="w.dq2", fail_unserved=True)
    w.send(wire.Goodbye())
    h.pass_time(59)
    assert h.job().state == READY
    s.inbox.clear()
    h.pass_time(1)
    assert set(s.ends()) == {0, 1}
