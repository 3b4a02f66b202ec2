"""Lines in the log, of each kind no more than a person can read."""

import logging

import pytest

from zmqtasks.scheduler.reporter import LINES, LONGEST, MINUTE, Reporter


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "zmqtasks.scheduler")
    return lambda: [record.getMessage() for record in caplog.records]


def test_what_strangers_cause_is_told_at_once_and_then_counted_once_a_minute(lines):
    reporter = Reporter()
    for number in range(1_000):
        reporter.tell(logging.WARNING, "malformed", "no", 100.0 + number / 1_000, f"10.0.0.{number % 5}")
    assert lines() == ["no (from 10.0.0.0)"]
    assert reporter.next_deadline() == 100.0 + MINUTE
    reporter.tick(159.9)
    assert len(lines()) == 1
    reporter.tick(160.0)
    assert lines()[1:] == [
        "999 more like that in a minute, from 10.0.0.1 (200), 10.0.0.2 (200), 10.0.0.3 (200) and 2 others"
    ]
    reporter.tell(logging.WARNING, "malformed", "no", 161.0)
    assert len(lines()) == 2
    reporter.tick(220.0)
    assert lines()[2:] == ["1 more like that in a minute"]
    reporter.tick(280.0)
    assert reporter.next_deadline() is None
    reporter.tell(logging.WARNING, "malformed", "again", 300.0)
    assert lines()[3:] == ["again"]


def test_of_other_kinds_there_are_more_lines(lines):
    reporter = Reporter()
    for number in range(LINES + 5):
        reporter.tell(logging.INFO, "worker-joined", f"worker {number} joined", 1.0)
    assert len(lines()) == LINES
    reporter.tick(1.0 + MINUTE)
    assert lines()[LINES:] == ["5 more like that in a minute"]


def test_a_line_is_short_whatever_a_peer_calls_itself(lines):
    Reporter().tell(logging.WARNING, "refused", "x" * 1_000_000, 1.0, "10.0.0.1")
    (line,) = lines()
    assert len(line) < LONGEST + 100
    assert line.endswith("(1,000,000 characters) (from 10.0.0.1)")


def test_sources_are_bounded():
    reporter = Reporter()
    for number in range(100_000):
        reporter.tell(logging.WARNING, "malformed", "no", 1.0, str(number))
    assert len(reporter._kinds["malformed"].sources) == 100
