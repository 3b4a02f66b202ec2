"""inspect, explain, story: what they show, from answers that are made here."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.unit.cli.test_status import status, worker
from zmqtasks import wire
from zmqtasks.cli import _sentences, _tables, main
from zmqtasks.cli._status import tables
from zmqtasks.cli.story import lines
from zmqtasks.errors import SchedulerUnreachable

ID = "0123456789abcdef01234567" + "00000007"
NOW = 1_800_000_000.0


def row(counter=7, state="running", **other):
    fields = {
        "task": "shop.resize", "queue": "default", "worker": "w1@host", "attempt": 2**62, "retries": 0, "crashes": 0,
        "due": 0.0, "submitter": "ann@laptop", "since": NOW - 65.0, **other,
    }  # fmt: skip
    return wire.JobStatus(id=ID[:24] + f"{counter:08x}", state=state, **fields)


class Operator:
    """Answers without a scheduler, and notes the questions."""

    def __init__(self, url, timeout):
        self.asked.append((url, timeout))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def status(self):
        return self.answers["status"]

    def jobs(self, states, limit, queue=""):
        self.asked.append((states, limit, queue))
        return self.answers["jobs"]

    def job(self, pair):
        self.asked.append(pair)
        return self.answers["job"]


@pytest.fixture(autouse=True)
def operator(monkeypatch):
    monkeypatch.setattr("zmqtasks.operators.Operator", Operator)
    monkeypatch.setattr(Operator, "answers", {"status": status()}, raising=False)
    monkeypatch.setattr(Operator, "asked", [], raising=False)
    monkeypatch.setattr("time.time", lambda: NOW)
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://head:5555")
    monkeypatch.setenv("COLUMNS", "80")
    return Operator


def fits(text, width=80):
    return max(map(len, text.splitlines())) <= width


# ------------------------------------------------------------------------------------------------ inspect


def test_active_jobs(operator, capsys):
    operator.answers["jobs"] = wire.Jobs([row(1), row(2, since=0.0)], 2)
    assert main(["inspect", "active"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 jobs are running")
    assert "1 min 5 s" in out
    assert out.count("w1@host") == 2
    assert fits(out)
    assert operator.asked == [("tcp://head:5555", 5.0), (["running"], 20, "")]


@pytest.mark.parametrize(("total", "says"), [(9, "… and 8 more (--limit)"), (-1, "… and more (--limit)"), (1, "")])
def test_more_than_the_limit(operator, capsys, total, says):
    operator.answers["jobs"] = wire.Jobs([row(state="assigned")], total)
    assert main(["inspect", "reserved", "--limit", "1", "-Q", "high"]) == 0
    out = capsys.readouterr().out
    assert says in out
    assert ("more" in out) == bool(says)
    assert operator.asked[1] == (["assigned"], 1, "high")


def test_scheduled_jobs_have_their_time(operator, capsys):
    operator.answers["jobs"] = wire.Jobs([row(state="delayed", worker="", due=NOW + 30.0, retries=2)], 1)
    assert main(["inspect", "scheduled"]) == 0
    out = capsys.readouterr().out
    assert _tables.clock(NOW + 30.0).split()[-1] in out
    assert "in 30 s," in out
    assert "retry 2" in " ".join(out.split())
    assert fits(out)


def test_nothing_is_there(operator, capsys):
    operator.answers.update(jobs=wire.Jobs([], 0), status=status(workers=[], queues=[], counters={}))
    for what, says in {
        "active": "No job is running.",
        "reserved": "No job is assigned.",
        "scheduled": "No job is delayed.",
        "registered": "No worker has joined",
        "stats": "No worker has joined",
        "queues": "There is no queue yet.",
        "workers": "No worker has joined",
    }.items():
        assert main(["inspect", what]) == 0
        assert says in capsys.readouterr().out


@pytest.mark.parametrize("what", ["registered", "stats", "queues", "workers"])
def test_long_names_fit(operator, capsys, what):
    long = worker("worker-" + "x" * 70, host="host" * 20, queues=["q" * 50, "r"], tasks=["t" * 90, "u"])
    operator.answers["status"] = status(workers=[long], queues=[wire.QueueStatus("q" * 90, 5, 0)])
    assert main(["inspect", what]) == 0
    assert fits(capsys.readouterr().out)


def test_workers_that_know_the_same_stand_together(operator, capsys):
    workers = [worker(f"w{n}", tasks=["b", "a"]) for n in (10, 2, 1)] + [worker("z", tasks=[])]
    operator.answers["status"] = status(workers=workers)
    assert main(["inspect", "registered"]) == 0
    out = capsys.readouterr().out
    assert "w1, w2, w10" in out
    assert "no task" in out
    assert main(["inspect", "registered", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in told["workers"]] == ["w1", "w2", "w10", "z"]
    assert told["workers"][0]["tasks"] == ["a", "b"]


@pytest.mark.parametrize(
    ("what", "keys"),
    [
        ("active", ["total", "jobs"]),
        ("registered", ["workers"]),
        ("stats", ["uptime", "workers", "jobs", "counters"]),
        ("queues", ["queues"]),
        ("workers", ["workers"]),
    ],
)
def test_json_of_inspect(operator, capsys, what, keys):
    operator.answers["jobs"] = wire.Jobs([row()], -1)
    assert main(["inspect", what, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == keys
    if what == "active":
        assert told["total"] is None
        assert list(told["jobs"][0]) == list(wire.JobStatus.__struct_fields__)


def test_a_queue_is_for_jobs(capsys):
    assert main(["inspect", "workers", "-Q", "high"]) == 2
    assert "--queue chooses jobs; inspect workers shows none" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ explain, story


def test_explain(operator, capsys):
    report = wire.JobReport(row(due=NOW + 5.0), ["It waits.", "\x1b[31mNobody\n comes."], [], b"\x81\xa4done\x07")
    operator.answers["job"] = report
    assert main(["explain", ID]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"Job {ID} (shop.resize): running",
        "  It waits.",
        "  \N{REPLACEMENT CHARACTER}[31mNobody\N{REPLACEMENT CHARACTER} comes.",
        f"  It may start at {_tables.clock(NOW + 5.0)}.",
        "  It says of itself: {'done': 7}.",
        "  It was submitted by ann@laptop.",
    ]
    assert operator.asked[1] == (bytes.fromhex(ID[:24]), 7)
    assert main(["explain", "mine", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["job"]["id"], told["progress"]) == ("mine", ID, {"done": 7})


@pytest.mark.parametrize("command", ["explain", "story"])
def test_an_id_that_nobody_knows(operator, capsys, command):
    operator.answers["job"] = wire.JobReport(None, ["The scheduler knows no job of this id."], [], b"")
    assert main([command, "deadbeef0"]) == 2
    assert capsys.readouterr().err == (
        "zmqtasks: deadbeef0: the scheduler knows no job of this id; a whole id has 32 hex digits, this one has 9\n"
    )
    assert main([command, "deadbeef0", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["job"] is None


def texts(job, moves):
    return [head + text for head, text in lines(ID, wire.JobReport(job, [], moves, b""))]


def test_a_story():
    moves = [wire.StoryLine(NOW, "ready", "accepted"), wire.StoryLine(NOW + 1.5, "assigned", "given to worker w")]
    told = texts(row(), moves)
    assert told[0] == f"Job {ID} (shop.resize): running"
    assert told[1] == f"  {_tables.exact(NOW)}                ready      accepted"
    assert told[2] == f"  {_tables.exact(NOW + 1.5)}      +1.500 s  assigned   given to worker w"
    assert texts(None, moves)[0] == f"Job {ID}: forgotten"
    assert "too long ago" in texts(row(), [])[1]


DIED = f"job {ID} (t) was running in 2 processes that died; its crash budget is 1"


@pytest.mark.parametrize(
    ("reason", "first", "deaths"),
    [
        ("It waits.", "It waits.", []),
        ("The system ended it: did you mean slow.prog?.", "The system ended it: did you mean slow.prog?", []),
        ("Death 1: worker w1 was lost.", "", ["death 1: worker w1 was lost."]),
        (
            f"It failed: WorkerLost: {DIED}. death 1: pid 7; signal 9; death 2: pid 8.",
            f"It failed: WorkerLost: {DIED}.",
            ["death 1: pid 7; signal 9.", "death 2: pid 8."],
        ),
    ],
)
def test_each_death_is_told_on_its_own(reason, first, deaths):
    assert _sentences.split(reason) == (first, deaths)


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("head", ["", "  ", "  2026-11-22 22:35:46.845                assigned   "])
def test_a_sentence_is_wrapped_between_words(width, head):
    text = f"given to worker w1 after {DIED} and so on"
    told = _sentences.wrapped(head, text, width).splitlines()
    assert max(map(len, told)) <= width
    assert told[0].startswith(head.rstrip())
    assert len({len(line) - len(line.lstrip()) for line in told[1:]}) <= 1  # one indent
    assert " ".join(told).split() == (head + text).split()


@pytest.mark.parametrize("width", [10, 30])
def test_what_is_longer_than_a_line_is_broken(width):
    told = _sentences.wrapped("  ", "x" * 100, width).splitlines()
    assert "".join(line.strip() for line in told) == "x" * 100
    assert max(map(len, told)) <= max(width, _sentences.NARROWEST)
    assert _sentences.wrapped("  2026  ready  ", "", width) == "  2026  ready"


@pytest.mark.parametrize("command", ["explain", "story"])
def test_a_terminal_gets_wrapped_lines_and_a_pipe_whole_sentences(operator, capsys, monkeypatch, command):
    sentence = "It was given to worker w1 " + "and so on " * 30
    moves = [wire.StoryLine(NOW, "ready", sentence)]
    operator.answers["job"] = wire.JobReport(row(), [sentence + "."], moves, b"")
    assert main([command, ID]) == 0
    assert sentence.strip() in capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main([command, ID]) == 0
    out = capsys.readouterr().out
    assert fits(out)
    assert sentence.strip() in " ".join(out.split())


def test_a_job_that_is_over_says_what_it_survived(operator, capsys):
    operator.answers["job"] = wire.JobReport(row(state="succeeded", crashes=2, retries=1), ["It succeeded."], [], b"")
    assert main(["explain", ID]) == 0
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "  It succeeded.",
        "  It failed 1 time before and was tried again.",
        "  It was running in 2 processes that died.",
    ]
    assert main(["explain", ID, "--json"]) == 0
    job = json.loads(capsys.readouterr().out)["job"]
    assert (job["crashes"], job["retries"]) == (2, 1)
    for state, reason in (("running", "It runs."), ("failed", "It failed: death 1: pid 7; death 2: pid 8.")):
        operator.answers["job"] = wire.JobReport(row(state=state, crashes=2), [reason], [], b"")
        assert main(["explain", ID]) == 0
        assert "died" not in capsys.readouterr().out


def test_a_story_as_json(operator, capsys):
    operator.answers["job"] = wire.JobReport(row(), [], [wire.StoryLine(NOW, "ready", "accepted")], b"")
    assert main(["story", ID, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["story"] == [{"time": NOW, "state": "ready", "cause": "accepted"}]


# ------------------------------------------------------------------------------------------------ status, large


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_large_cluster_fits_and_is_cut(width):
    told = status(
        workers=[worker(f"worker-{n}@a-host-with-a-long-name.example") for n in range(400)],
        queues=[wire.QueueStatus(f"queue-{n}", n, 1) for n in range(50)],
        warnings=[f"warning {n} " + "x" * 300 for n in range(200)],
    )

    def shown(**options):
        console = Console(file=io.StringIO(), width=width, highlight=False)
        for part in tables("tcp://head:5555", told, **options):
            console.print(part)
        return console.file.getvalue()

    text = shown()
    assert fits(text, width)
    for says in ("370 more workers (--all)", "20 more queues (--all)", "195 more warnings (--all)"):
        assert says in text
    assert "queue-49" in text  # those in which most jobs stand
    assert "queue-3 " not in text
    assert "warning 199 " in text
    everything = shown(everything=True)
    assert fits(everything, width)
    assert "queue-3 " in everything
    assert "(--all)" not in everything


@pytest.mark.parametrize("words", [["--json"], []])
def test_watching_goes_on_when_the_scheduler_is_away(operator, capsys, monkeypatch, words):
    away = SchedulerUnreachable("nobody is there")
    told = iter([status(), away, away, status(), KeyboardInterrupt()])

    def answer(_self):
        one = next(told)
        if isinstance(one, BaseException):
            raise one
        return one

    monkeypatch.setattr(operator, "status", answer)
    monkeypatch.setattr("zmqtasks.cli._watch.Operator", operator)
    monkeypatch.setattr("zmqtasks.cli._watch.EVERY", 0.0)
    assert main(["status", "--watch", *words]) == 0
    out, err = capsys.readouterr()
    assert out.count("tcp://head:5555") == 2
    assert err == "zmqtasks: nobody is there; it is asked again until it answers\n"


def test_a_scheduler_that_is_not_there_is_not_watched(operator, capsys, monkeypatch):
    def answer(_self):
        raise SchedulerUnreachable("nobody is there")

    monkeypatch.setattr(operator, "status", answer)
    monkeypatch.setattr("zmqtasks.cli._watch.Operator", operator)
    assert main(["status", "--watch", "--json"]) == 3
    assert capsys.readouterr().err == "zmqtasks: nobody is there\n"


def test_no_colours_and_no_blanks_at_the_ends_in_a_pipe(operator, capsys):
    assert main(["inspect", "workers"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())


# ------------------------------------------------------------------------------------------------ completion


@pytest.fixture(scope="module")
def script():
    command = [sys.executable, "-m", "zmqtasks", "completion", "bash"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def complete(script, words):
    """What bash would offer, by the script that `zmqtasks completion bash` prints."""
    ask = f"COMP_WORDS=({' '.join(words)})\nCOMP_CWORD={len(words) - 1}\n_zmqtasks_completion zmqtasks\n"
    folder = Path(sys.executable).parent
    done = subprocess.run(
        ["bash", "--norc", "-c", script + "\n" + ask + 'printf "%s\\n" "${COMPREPLY[@]}"'],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        (["zmqtasks", "in"], {"inspect"}),
        (["zmqtasks", "st"], {"status", "story"}),
        (["zmqtasks", "inspect", "s"], {"scheduled", "stats"}),
        (["zmqtasks", "status", "--wa"], {"--watch"}),
        (["zmqtasks", "worker", "-P", "s"], {"solo"}),
    ],
)
def test_bash_completes(script, words, offers):
    assert set(complete(script, words)) == offers


def test_files_are_completed():
    env = {**os.environ, "COMP_WORDS": "zmqtasks submit --jobs a", "COMP_CWORD": "3"}
    env["_ZMQTASKS_COMPLETE"] = "bash_complete"
    done = subprocess.run([sys.executable, "-m", "zmqtasks"], capture_output=True, text=True, check=True, env=env)
    assert done.stdout == "file,a\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_begins_with_how_to_install_it(shell, capsys):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# To install: ")
    assert "_ZMQTASKS_COMPLETE" in out
