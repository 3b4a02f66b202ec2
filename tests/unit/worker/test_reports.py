"""What a child tells its agent about jobs that run: not too often, but always the newest."""

import os
import socket
import threading

import pytest

from tests.helpers.processes import until
from zmqtasks.worker import reports
from zmqtasks.worker.claims import Report, decode_report
from zmqtasks.worker.reports import Progress, Reports


class Told:
    """A Progress, with a thread or by hand. `sent`: (claim, number, value) in order; `over`: numbers that ended."""

    def __init__(self, *, by_hand):
        self.sent = []
        self.over = set()
        self.within = None  # what a signal's handler tells while the next report is written
        self.interrupted = False
        self.progress = Progress(
            self.take, lambda slot, number: number not in self.over, lambda: self.interrupted, by_hand=by_hand
        )

    def take(self, report):
        assert (report.runs, report.ends, report.finished) == ([], [], False)
        self.sent += [(report.claim, *item) for item in report.progress]
        if self.within is not None:
            self.interrupted = True
            self.tell(1, self.within, at_once=True)
            self.within, self.interrupted = None, False

    def tell(self, number, value, *, slot=0, at_once=False):
        self.progress.tell(slot, 7, number, value, at_once=at_once)


@pytest.fixture
def told():
    made = Told(by_hand=False)
    yield made
    made.progress.close()


@pytest.fixture
def by_hand():
    return Told(by_hand=True)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(reports, "monotonic", lambda: now[0])
    return now


def test_the_first_goes_at_once_and_the_next_when_its_time_has_come(by_hand, clock):
    by_hand.tell(1, b"a")
    by_hand.tell(1, b"b")
    assert by_hand.sent == [(7, 1, b"a")]
    clock[0] += reports.INTERVAL
    by_hand.tell(1, b"c")
    assert by_hand.sent == [(7, 1, b"a"), (7, 1, b"c")]


def test_what_waits_is_sent_once_when_its_time_has_come(by_hand, clock):
    assert by_hand.progress.send_due() is None
    by_hand.tell(1, b"a")
    by_hand.tell(1, b"b")
    assert by_hand.progress.send_due() == pytest.approx(reports.INTERVAL)
    assert by_hand.sent == [(7, 1, b"a")]
    clock[0] += reports.INTERVAL
    assert by_hand.progress.send_due() is None
    assert by_hand.progress.send_due() is None
    assert by_hand.sent == [(7, 1, b"a"), (7, 1, b"b")]


def test_what_a_handler_tells_while_its_thread_writes_a_report_waits(by_hand, clock):
    by_hand.within = b"b"
    by_hand.tell(1, b"a")
    assert by_hand.sent == [(7, 1, b"a")]
    clock[0] += reports.INTERVAL
    assert by_hand.progress.send_due() is None
    assert by_hand.sent == [(7, 1, b"a"), (7, 1, b"b")]


def test_the_thread_ends_when_it_is_closed():
    told = Told(by_hand=False)
    told.tell(1, b"a")
    told.tell(1, b"b")
    thread = told.progress._thread
    assert thread.is_alive()
    told.progress.close()
    assert not thread.is_alive()


def test_what_is_final_does_not_wait(by_hand, clock):
    told = by_hand
    told.tell(1, b"a")
    told.tell(1, b"b", at_once=True)
    told.tell(1, b"b", at_once=True)
    assert told.sent == [(7, 1, b"a"), (7, 1, b"b")]


def test_slots_and_jobs_have_their_own_times(by_hand, clock):
    told = by_hand
    told.tell(1, b"a")
    told.tell(2, b"a", slot=1)
    told.tell(3, b"a")
    assert [number for _, number, _ in told.sent] == [1, 2, 3]


def test_the_newest_is_sent_even_if_the_job_says_nothing_more(told):
    for i in range(1000):
        told.tell(1, b"%d" % i)
    until(lambda: told.sent[-1] == (7, 1, b"999"), "the last one")
    assert len(told.sent) < 100


def test_nothing_is_sent_of_a_job_that_is_over(told):
    told.tell(1, b"a")
    told.tell(1, b"b")
    told.over.add(1)
    told.tell(2, b"c", slot=1)
    told.tell(2, b"d", slot=1)
    until(lambda: told.sent[-1] == (7, 2, b"d"), "the other job's last one")
    assert (7, 1, b"b") not in told.sent


def test_reports_of_many_threads_do_not_mix():
    ours, theirs = socket.socketpair()
    stream = Reports(theirs)
    big = b"x" * 300_000  # more than a socket takes at once

    def work(number):
        for _ in range(10):
            stream.send(Report(number, [], [], False, [(number, big)]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    with ours, theirs, ours.makefile("rb") as read:
        claims = []
        for _ in range(40):
            length = int.from_bytes(read.read(8), "little")
            report = decode_report(read.read(length))
            assert report.progress == [(report.claim, big)]
            claims.append(report.claim)
        for thread in threads:
            thread.join()
    assert sorted(claims) == sorted([0, 1, 2, 3] * 10)


def test_a_process_that_a_job_forked_may_not_write_to_the_stream(told, monkeypatch):
    assert told.progress.usable
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not told.progress.usable
