import io
import json
import time

import pytest
from rich.console import Console

from zmqtasks import wire
from zmqtasks.cli import main
from zmqtasks.cli._status import as_dict, some_queues, tables
from zmqtasks.words import amount, duration, plural

URL = "tcp://head:5555"


def worker(name="w1@host", state="up", **other):
    fields = {
        "host": "host",
        "pid": 4_194_303,
        "slots": 128,
        "held": 12_345,
        "running": 128,
        "done": 123_456_789,
        "queues": ["high", "normal"],
        "tasks": ["t"],
        "silent": 0.4,
        **other,
    }
    return wire.WorkerStatus(name=name, state=state, **fields)


def status(**other):
    fields = {
        "epoch": 7,
        "release": "0.1.0",
        "pid": 42,
        "uptime": 7500.0,
        "durable": False,
        "workers": [worker("w2"), worker()],
        "queues": [wire.QueueStatus("normal", 1_234_567, 2), wire.QueueStatus("lonely", 5, 0)],
        "jobs": {"ready": 1_234_572, "running": 256, "succeeded": 3, "failed": 0},
        "submitters": 1,
        "counters": {"stale": 0},
        "warnings": ["no worker knows the task 'resise'; did you mean 'resize'?"],
        **other,
    }
    return wire.Status(**fields)


def shown(told, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in tables(URL, told):
        console.print(part)
    return console.file.getvalue()


def test_the_journal_is_told_to_machines():
    journal = wire.JournalStatus("/var/lib/zmqtasks", 12, 0, "")
    told = json.loads(json.dumps(as_dict(URL, status(durable=True, journal=journal))))
    assert told["journal"] == {"path": "/var/lib/zmqtasks", "size": 12, "pending": 0, "trouble": ""}
    assert as_dict(URL, status())["journal"] is None


def test_the_journal_is_shown():
    assert "in memory only" in shown(status())
    journal = wire.JournalStatus("/var/lib/zmqtasks", 12_345_678, 400, "")
    assert "journal of 12 MB · " in shown(status(durable=True, journal=journal))
    late = wire.JournalStatus("/var/lib/zmqtasks", 12_345_678, 3_400_000, "")
    assert "journal of 12 MB, 3.4 MB to be written" in shown(status(durable=True, journal=late))


def test_rates_that_operators_have_set_stand_beside_those_that_are_declared():
    now = time.time()
    rates = [
        wire.RateStatus("shop.mail", 10.0, 1, now - 3_600, 100.0, 5),
        wire.RateStatus("shop.sms", 0.0, 1, 0.0),
        wire.RateStatus("shop.tax", 1 / 60, 3, now - 65),
    ]
    lines = [line.split() for line in shown(status(rates=rates)).splitlines()]
    assert ["shop.mail", "10/s", "1", "h", "ago", "100/s,", "burst", "5"] in lines
    assert ["shop.sms", "no", "limit", "unknown"] in lines
    assert ["shop.tax", "1/m,", "burst", "3", "1", "min", "5", "s", "ago"] in lines
    told = json.loads(json.dumps(as_dict(URL, status(rates=rates))))["rates"]
    assert told[1] == {
        "task": "shop.sms", "rate": 0.0, "burst": 1, "since": 0.0, "declared": None, "declared_burst": 1,
    }  # fmt: skip
    assert "Rates" not in shown(status())


def test_queues_show_what_their_jobs_outlive():
    queues = [wire.QueueStatus("metrics", 1, 1, "memory"), wire.QueueStatus("orders", 1, 1, "disk")]
    lines = shown(status(queues=queues)).splitlines()
    assert any("metrics" in line and "memory" in line for line in lines)
    assert any("orders" in line and "disk" in line for line in lines)


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_000, "1.0 kB"), (12_345, "12 kB"), (999_600, "1.0 MB")],
)
def test_amounts_are_said_as_people_do(size, told):
    assert amount(size) == told


def test_people_see_everything_in_80_columns():
    text = shown(status())
    assert max(len(line) for line in text.splitlines()) <= 80
    for word in (
        URL,
        "up 2 h 5 min",
        "pid 42",
        "in memory only",
        "1 submitter\n",
        "1,234,572",
        "w1@host",
        "123,456,789",
    ):
        assert word in text
    assert "Warning: no worker knows the task 'resise'" in text
    assert text.index("w1@host") < text.index("w2")
    assert text.index("Jobs:") < text.index("Warning:") < text.index("Workers")
    assert "1,234,572 ready · 256 running" in text  # plain spaces: this is no terminal


def test_long_names_and_brackets_stay_whole():
    text = shown(status(workers=[worker("[red]" + "x" * 60, "suspect", silent=3.0)]))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "[red]" in text
    assert text.count("x") >= 60
    assert "suspect" in text


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], ""),
        (["default", "high"], "default, high"),
        (["default", "high", "a-long-name-of-a-queue", "x"], "default, high, +2"),
        (["q" * 40, "high"], "q" * 40 + ", +1"),
    ],
)
def test_a_worker_of_many_queues_takes_one_row(names, told):
    assert some_queues(names) == told


def test_nothing_has_happened_yet():
    text = shown(status(workers=[], queues=[], jobs={}, warnings=[]))
    assert "No worker has joined: start one with zmqtasks worker" in text
    assert "Warning" not in text


def test_json_is_stable_and_sorted():
    told = as_dict(URL, status())
    assert list(told) == [
        "url",
        "epoch",
        "release",
        "pid",
        "uptime",
        "durable",
        "workers",
        "queues",
        "jobs",
        "submitters",
        "counters",
        "warnings",
        "journal",
        "rates",
    ]
    assert [w["name"] for w in told["workers"]] == ["w1@host", "w2"]
    assert told["queues"][0] == {
        "name": "lonely", "ready": 5, "workers": 0, "durability": "", "paused": False, "weight": 1.0,
    }  # fmt: skip
    assert list(told["workers"][0]) == [
        "name",
        "host",
        "pid",
        "state",
        "slots",
        "held",
        "running",
        "done",
        "queues",
        "tasks",
        "silent",
        "python",
        "resources",
        "taken",
    ]


def test_the_command(monkeypatch, capsys):
    asked = []

    def ask(url, timeout):
        asked.append((url, timeout))
        return status()

    monkeypatch.setattr("zmqtasks.operators.ask_status", ask)
    assert main(["status", "--broker", URL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == as_dict(URL, status())
    assert main(["status", "--broker", URL, "--timeout", "1"]) == 0
    assert URL in capsys.readouterr().out
    assert asked == [(URL, 5.0), (URL, 1.0)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (1.26, "1.3 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (95.5, "1 min 35 s"),
        (7500, "2 h 5 min"),
        (352_800, "4 d 2 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_plural():
    assert [plural(1, "job"), plural(0, "job"), plural(1234, "job")] == ["1 job", "0 jobs", "1,234 jobs"]
