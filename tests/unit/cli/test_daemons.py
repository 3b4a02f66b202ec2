"""What `zmqtasks scheduler` and `zmqtasks worker` hand to the processes that they start."""

import socket
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zmqtasks.cli import main
from zmqtasks.cli.worker import worker_name
from zmqtasks.config import BUSY_POLL, SchedulerSettings


class Options:
    def __init__(self, **given):
        self.given = given


@pytest.fixture
def started(monkeypatch):
    """Replaces the processes; the list of what they were started with."""
    seen = []

    def run(options):
        seen.append(options.given)
        return 0

    for name, kind in (("zmqtasks.scheduler.daemon", "Scheduler"), ("zmqtasks.worker.agent", "Worker")):
        module = ModuleType(name)
        setattr(module, f"{kind}Options", Options)
        setattr(module, f"run_{kind.lower()}", run)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("zmqtasks.logs.setup", lambda level, logfile=None: seen.append((level, logfile)))
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    return seen


def test_a_scheduler_without_options(started, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert main(["scheduler"]) == 0
    assert started == [
        ("info", None),
        {
            "bind": ("tcp://127.0.0.1:5555",),
            "data": Path("/state/zmqtasks/scheduler-5555"),
            "plaintext": (),
            "lifeline_fd": None,
            "pidfile": None,
            "busy_poll": BUSY_POLL,
            "settings": SchedulerSettings(),
        },
    ]


def test_a_scheduler_with_options(started, tmp_path):
    words = (
        "scheduler --bind tcp://127.0.0.1:1 --bind ipc:///tmp/x --in-memory --plaintext 10.0.0.0/8 --plaintext ::1/128"
    )
    words += f" -l DEBUG --logfile {tmp_path}/log --pidfile {tmp_path}/pid --busy-poll 0 --lifeline-fd 7"
    assert main(words.split()) == 0
    assert started == [
        ("debug", f"{tmp_path}/log"),
        {
            "bind": ("tcp://127.0.0.1:1", "ipc:///tmp/x"),
            "data": None,
            "plaintext": ("10.0.0.0/8", "::1/128"),
            "lifeline_fd": 7,
            "pidfile": f"{tmp_path}/pid",
            "busy_poll": 0.0,
            "settings": SchedulerSettings(),
        },
    ]


@pytest.mark.parametrize(
    ("bind", "folder"),
    [
        ("tcp://0.0.0.0:7000", "scheduler-7000"),
        ("tcp://[::1]:7000", "scheduler-7000"),
        ("tcp://127.0.0.1:0", "scheduler"),
        ("ipc:///tmp/a/b.sock", "scheduler-tmp-a-b.sock"),
    ],
)
def test_each_port_has_a_journal_of_its_own(started, monkeypatch, bind, folder):
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert main(["scheduler", "--bind", bind]) == 0
    assert started[1]["data"] == Path("/state/zmqtasks") / folder


def test_a_journal_of_choice_and_what_it_keeps(started, tmp_path):
    words = f"scheduler --data {tmp_path} --durability os --durability metrics=memory"
    assert main(words.split()) == 0
    assert started[1]["data"] == tmp_path
    assert started[1]["settings"] == SchedulerSettings(durability=(("", "os"), ("metrics", "memory")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--data x --in-memory", "give one of them"),
        ("--in-memory --durability os", "--in-memory keeps none"),
        ("--durability tape", "'tape' is none of disk, os, memory"),
        ("--durability a=os --durability a=disk", "a is given twice"),
        ("--durability os --durability disk", "the default is given twice"),
    ],
)
def test_wrong_words_about_the_journal(started, capsys, words, said):
    assert main(["scheduler", *words.split()]) == 2
    assert said in capsys.readouterr().err
    assert started == []


def test_a_worker_with_options(started):
    words = "worker -A shop:app -b tcp://head:1 -c 3 -P prefork -Q a,b,,a -n w@%h -l warning --shutdown-timeout 5"
    assert main(words.split()) == 0
    assert started[0] == ("warning", None)
    assert {
        "broker": "tcp://head:1",
        "name": f"w@{socket.gethostname()}",
        "concurrency": 3,
        "queues": ("a", "b"),
        "app": "shop:app",
        "shutdown_timeout": 5.0,
        "loglevel": "warning",
        "lifeline_fd": None,
    }.items() <= started[1].items()


def test_celerys_order(started):
    assert main(["-A", "shop", "-b", "tcp://head:1", "worker", "-l", "info"]) == 0
    assert (started[1]["app"], started[1]["broker"]) == ("shop", "tcp://head:1")


def test_options_of_celerys_worker_that_are_not_needed(started, capsys):
    words = "worker -E --without-gossip --without-mingle -O fair --prefetch-multiplier=4 -l INFO --hostname w@%n"
    assert main(words.split()) == 0
    assert (started[0], started[1]["name"]) == (("info", None), worker_name("w@%n"))
    assert capsys.readouterr().err == (
        "zmqtasks: not needed: -E (events come later); "
        "--without-gossip, --without-mingle (the scheduler knows at once which workers there are); "
        "-O, --prefetch-multiplier (how many jobs a worker holds in advance follows from how long they take)\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-B", "-B / --beat of Celery's worker is not available: periodic tasks come later"),
        ("--autoscale 10,3", "workers that grow and shrink come later"),
        ("-D --pidfile x", "a worker stays in the foreground"),
        ("-I shop.tasks", "name the modules in include= of the app"),
        ("--discard", "zmqtasks purge QUEUE does it"),
    ],
)
def test_options_of_celerys_worker_that_promise_something(started, capsys, words, told):
    assert main(["worker", *words.split()]) == 2
    assert told in capsys.readouterr().err
    assert started == []


def test_a_worker_without_options(started):
    assert main(["worker"]) == 0
    given = started[1]
    assert given["concurrency"] >= 1
    assert (given["broker"], given["app"]) == ("", None)  # the agent takes what the app names, or this machine's
    assert given["name"] == f"worker@{socket.gethostname()}"


@pytest.mark.parametrize(
    ("words", "pool", "concurrency"),
    [
        ("-c 3", "processes", 3),
        ("-c 3 -P prefork", "processes", 3),
        ("-c 50 -P threads", "threads", 50),
        ("-P solo", "processes", 1),
        ("-P solo -c 1", "processes", 1),
    ],
)
def test_pools(started, words, pool, concurrency):
    assert main(["worker", *words.split()]) == 0
    assert (started[1]["pool"], started[1]["concurrency"]) == (pool, concurrency)


def test_a_solo_pool_has_one_slot(started, capsys):
    assert main(["worker", "-P", "solo", "-c", "2"]) == 2
    assert "pool solo is one slot, not 2" in capsys.readouterr().err


def test_resources(started):
    assert main(["worker", "--resource", "gpu=2", "--resource", "mem=64GiB", "--resource", "it=0"]) == 0
    assert started[1]["resources"] == (("gpu", 20_000), ("mem", 64 * 1024**3 * 10_000))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gpu", "'gpu' names no amount; write it like gpu=2 or mem=64GiB"),
        ("gpu=-1", "resource gpu is a number"),
        ("mem=3lots", "there is no unit 'lots'"),
        ("gpu=1 --resource gpu=1", "gpu is given twice"),
    ],
)
def test_resources_that_cannot_be(started, capsys, words, said):
    for command in ("worker", "submit math:sqrt"):
        assert main(f"{command} --resource {words}".split()) == 2
        assert said in capsys.readouterr().err
    assert started == []


def test_a_workers_log_file_is_for_its_jobs_too(started, tmp_path):
    assert main(["worker", "--logfile", f"{tmp_path}/w.log"]) == 0
    assert started[1]["logfile"] == f"{tmp_path}/w.log"


def test_names(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "head.example.org")
    assert worker_name("w%%@%h/%n/%d") == "w%@head.example.org/head/example.org"


def test_the_exit_code_of_the_process_is_ours(started, monkeypatch):
    monkeypatch.setattr(sys.modules["zmqtasks.worker.agent"], "run_worker", lambda options: 2)
    assert main(["worker"]) == 2
