"""The loop of submit, with a client that runs jobs in a thread of this process."""

import signal
import threading
import time

import pytest

from zmqtasks import payload, states
from zmqtasks.cli import _feed
from zmqtasks.cli._feed import Feed, groups
from zmqtasks.cli._jobs import JobRequest
from zmqtasks.cli._outcomes import Tally
from zmqtasks.cli._targets import ByName
from zmqtasks.submitter.results import Job, Source, end, finish


class Owner:
    accept = payload.ALL_CODECS

    def check_usable(self):
        pass

    def attend(self):
        pass


SOURCE = Source(Owner(), bytes(12), "f")


class Sender:
    """Ends jobs in another thread, in the order of submission, or, if `stuck`, only when they are cancelled."""

    def __init__(self, *, stuck=False):
        self.calls, self.jobs, self.flushed = [], [], 0
        self.most_open = 0
        self.refuse = ""  # what the scheduler says to every task that is known by name only
        self._stuck = stuck

    def submit(self, target, calls, **options):
        self.calls.append((target, [args for args, _ in calls], options))
        jobs = [Job(SOURCE, len(self.jobs) + i) for i in range(len(calls))]
        self.jobs += jobs
        self.most_open = max(self.most_open, sum(not job.done() for job in self.jobs))
        if not self._stuck:
            threading.Thread(target=self._end, args=(target, jobs, calls)).start()
        return jobs

    def _end(self, target, jobs, calls):
        if self.refuse and not callable(target):
            for job in jobs:
                end(job, states.ABORTED, payload.failure("TaskNotRegistered", self.refuse))
            return
        for job, (args, kwargs) in zip(jobs, calls, strict=True):
            try:
                value = target(*args, **kwargs) if callable(target) else None
                finish([job], [payload.encode_result("pickle", value, "f")], "pickle")
            except Exception as error:  # noqa: BLE001  (whatever the test raises)
                end(job, states.FAILED, payload.encode_exception(error))

    def flush(self, timeout):
        self.flushed += 1

    def forget(self):
        pass

    def cancel(self, jobs):
        for job in jobs[1:]:  # the first one has started
            end(job, states.CANCELLED, payload.failure("JobCancelled", "somebody asked"))
        return [False] + [True] * (len(jobs) - 1)


class Jobs:
    fd = None

    def __init__(self, requests):
        self.requests = list(requests)
        self.total = len(self.requests)

    @property
    def ended(self):
        return not self.requests

    def take(self, limit):
        out, self.requests = self.requests[:limit], self.requests[limit:]
        return out


def request(line, target="f", *args, own_id=None, **options):
    return JobRequest(line, target, list(args), {}, own_id, options)


def make(sender, requests, resolve=lambda text: lambda *args: args, tick=lambda feed: None):
    return Feed(sender, resolve, Jobs(requests), Tally(None, ""), tick)


def test_all_jobs_are_submitted_in_groups_and_waited_for():
    sender = Sender()
    feed = make(sender, (request(i, "f", i) for i in range(1, 1201)))
    feed.run()
    assert [len(args) for _, args, _ in sender.calls] == [500, 500, 200]
    assert feed.tally.states == {"succeeded": 1200}
    assert (feed.submitted, feed.open) == (1200, 0)


def test_no_more_than_the_window_is_open(monkeypatch):
    monkeypatch.setattr(_feed, "WINDOW", 700)
    sender = Sender()
    feed = make(sender, (request(i, "f", i) for i in range(1, 3001)))
    feed.run()
    assert feed.tally.ended == 3000
    assert sender.most_open <= 700


def test_a_failed_job_is_counted_and_its_neighbours_are_not():
    def resolve(text):
        return lambda x: 1 / x

    feed = make(Sender(), (request(i, "f", i - 3) for i in range(1, 6)), resolve)
    feed.run()
    assert feed.tally.states == {"succeeded": 4, "failed": 1}
    assert feed.tally.first_errors[0].startswith("line 3: ZeroDivisionError")


def test_neighbours_travel_together_unless_they_differ():
    jobs = [request(1), request(2), request(3, queue="q"), request(4, "g"), request(5, "g", own_id="a")]
    jobs.append(request(6, "g"))
    assert [[job.line for job in group] for group in groups(jobs)] == [[1, 2], [3], [4], [5], [6]]


def test_a_name_fails_if_nobody_knows_it_unless_told_otherwise():
    sender = Sender()
    feed = make(sender, [request(1, "t"), request(2, "t", on_unknown="wait"), request(3, "t", own_id="x")], ByName)
    feed.run()
    assert [options for _, _, options in sender.calls] == [
        {"on_unknown": "fail"},
        {"on_unknown": "wait"},
        {"on_unknown": "fail", "job_id": "x"},
    ]


def test_without_waiting_the_ids_of_accepted_jobs_are_told():
    sender, told = Sender(stuck=True), []
    feed = make(sender, (request(i, "f", i) for i in range(1, 12_001)))
    feed.run_accepted(lambda lines: told.append((sender.flushed, lines)))
    assert [one for _, lines in told for one in lines] == [(i, job.id) for i, job in enumerate(sender.jobs, start=1)]
    assert all(flushed > i for i, (flushed, _) in enumerate(told))
    assert feed.submitted == 12_000


def test_ctrl_c_cancels_what_has_not_started(monkeypatch):
    monkeypatch.setattr(_feed, "LAST_RESULTS", 600)  # what runs is not waited for
    monkeypatch.setattr(_feed, "WINDOW", 100)

    def interrupt_when_full(feed):
        if feed.open == 100 and not feed.interrupted:
            signal.raise_signal(signal.SIGINT)

    feed = make(Sender(stuck=True), (request(i) for i in range(1, 1000)), tick=interrupt_when_full)
    before = signal.getsignal(signal.SIGINT)
    feed.run()
    assert feed.interrupted
    assert (feed.submitted, feed.cancelled_at_once, feed.open) == (100, 99, 1)
    assert not feed.source_ended
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_ends_it_at_once(monkeypatch):
    monkeypatch.setattr(_feed, "LAST_RESULTS", 30)

    def interrupt(feed):
        signal.raise_signal(signal.SIGINT)

    class Stubborn(Sender):
        def cancel(self, jobs):
            threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
            return [True] * len(jobs)

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        make(Stubborn(stuck=True), [request(1)], tick=interrupt).run()
    assert time.monotonic() - begin < 10


def test_waiting_for_what_was_cancelled_takes_no_time_of_the_processor(monkeypatch):
    monkeypatch.setattr(_feed, "LAST_RESULTS", 0.5)
    looks = []

    class Silent(Sender):
        def cancel(self, jobs):
            looks.clear()
            return [True] * len(jobs)

    class Counting(Feed):
        def _take_in(self):
            looks.append(None)
            return super()._take_in()

    source = Jobs([request(1)])
    feed = Counting(
        Silent(stuck=True),
        lambda text: text,
        source,
        Tally(None, ""),
        lambda _: signal.raise_signal(signal.SIGINT) if not feed.interrupted else None,
    )
    feed.run()
    assert feed.open == 1
    assert 1 < len(looks) < 50
