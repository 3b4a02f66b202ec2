"""The commands that look at jobs and act on them, with real processes: inspect, explain, story, result, revoke."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.test_cli import PLAIN, TASKS, Process, in_terminal, jobs_file, run, status, wait_until
from zmqtasks import App
from zmqtasks.cli import main
from zmqtasks.errors import BadOption


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("inspect")
    (path / "shop.py").write_text(TASKS)
    (path / "plain.py").write_text(PLAIN)
    return path


@pytest.fixture(scope="module")
def url(folder):
    """A scheduler and a worker with two slots."""
    scheduler = Process(folder, ["scheduler", "--bind", "tcp://127.0.0.1:0"])
    worker = None
    try:
        url = scheduler.line(r"^zmqtasks scheduler ready on (\S+)$")[1]
        worker = Process(folder, ["-A", "shop", "worker", "-b", url, "-c", "2", "-n", "w1"])
        worker.line(r"^zmqtasks worker w1 ready: 2 slots")
        yield url
    finally:
        codes = [process.stop() for process in (worker, scheduler) if process]
    assert codes == [0, 0], (worker.told(), scheduler.told())


class Asked:
    """Commands called in this process, which starts them a hundred times faster; the scheduler is a real one."""

    def __init__(self, url, capsys):
        self._url, self._capsys = url, capsys

    def __call__(self, *words, code=0):
        assert main([*words, "-b", self._url]) == code
        self.captured = self._capsys.readouterr()
        return self.captured.out

    def json(self, *words, code=0):
        return json.loads(self(*words, "--json", code=code))

    @property
    def errors(self):
        return self.captured.err.splitlines()


@pytest.fixture
def ask(url, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Asked(url, capsys)


def submit(folder, url, tmp_path, jobs):
    """Submit lines without waiting; their ids."""
    done = run(folder, "submit", "--jobs", jobs_file(tmp_path / "jobs", jobs), "-b", url, "--json")
    assert [one["state"] for one in done.results()] == ["accepted"] * len(jobs)
    return [one["id"] for one in sorted(done.results(), key=lambda one: one["line"])]


def test_the_life_of_jobs_that_run_wait_and_are_revoked(ask, folder, url, tmp_path):
    long = {"task": "shop.sleep", "args": [120]}
    ids = submit(folder, url, tmp_path, [long, long, long, {**long, "countdown": 3600, "id": "much-later"}])
    wait_until(lambda: ask.json("inspect", "active")["total"] == 2, lambda: status(folder, url))

    active = ask.json("inspect", "active")["jobs"]
    assert {one["id"] for one in active} == set(ids[:2])
    assert {(one["task"], one["worker"], one["state"]) for one in active} == {("shop.sleep", "w1", "running")}
    assert all(one["since"] > 0 for one in active)
    assert "2 jobs are running" in ask("inspect", "active")
    (scheduled,) = ask.json("inspect", "scheduled")["jobs"]
    assert scheduled["id"] == ids[3]

    assert "It runs on worker w1" in ask("explain", ids[0])
    assert "It is ready in queue 'default'; no job stands before it" in ask("explain", ids[2])
    assert "Not now: all slots are taken." in ask("explain", ids[2])
    assert "It is delayed for another 59 min" in ask("explain", "much-later")

    ask("result", ids[0], "--timeout", "0.1", code=5)
    assert "was not over within 1 s; it goes on" in ask.errors[0]

    goes_on = ask("revoke", ids[2], ids[0], "much-later", code=1).splitlines()
    assert goes_on == [
        f"{ids[2]}: cancelled",
        f"{ids[0]}: it goes on (running on worker w1); --force ends it",
        "much-later: cancelled",
    ]
    forced = ask.json("revoke", "--force", *ids[:2], "nobody", code=2)["jobs"]
    assert [(one["id"], one["state"]) for one in forced] == [
        (ids[0], "cancelled"),
        (ids[1], "cancelled"),
        ("nobody", None),
    ]
    assert ask.json("inspect", "active") == {"total": 0, "jobs": []}

    story = ask.json("story", ids[0])["story"]
    assert [one["state"] for one in story] == ["ready", "assigned", "running", "cancelled"]
    assert story[1]["cause"] == "given to worker w1"
    assert "assigned   given to worker w1" in ask("story", ids[0])
    ask("result", ids[0], code=1)
    assert ask.errors[0].startswith(f"zmqtasks: job {ids[0]} was cancelled: JobCancelled: cancelled while it ran")
    assert ask("revoke", ids[0]) == f"{ids[0]}: cancelled\n"


def test_results(ask, folder, url, tmp_path):
    jobs = [
        {"task": "shop.resize", "args": [6, 7], "id": "product"},
        {"task": "plain:odd"},
        {"task": "plain:divide", "args": [1, 0]},
        {"task": "codecs:lookup", "args": ["\x1b[31m"]},
    ]
    product, odd, wrong, red = submit(folder, url, tmp_path, jobs)
    assert ask("result", "product") == "42\n"
    assert ask("result", product) == "42\n"
    assert ask("result", odd) == "{1, 2, 3}\n"
    assert ask("result", wrong, code=1) == ""
    assert ask.errors[0] == "Traceback (most recent call last):"
    assert ask.errors[-1] == f"zmqtasks: job {wrong} failed: ZeroDivisionError: division by zero"
    ask("result", red, code=1)
    assert ask.errors[-1] == f"zmqtasks: job {red} failed: LookupError: unknown encoding: \N{REPLACEMENT CHARACTER}[31m"
    assert "\x1b" not in ask.captured.err, "control characters of a job do nothing to the terminal"
    assert ask.json("result", "product") == {"id": "product", "state": "succeeded", "result": 42}
    assert ask.json("result", odd)["result"] == {"repr": "{1, 2, 3}"}
    assert ask.json("result", wrong, code=1)["error"]["type"] == "ZeroDivisionError"
    assert "It failed: builtins.ZeroDivisionError: division by zero." in ask("explain", wrong)
    assert ask("revoke", wrong) == f"{wrong}: it was over already (failed)\n"


def test_a_result_is_waited_for(folder, url, tmp_path):
    (one,) = submit(folder, url, tmp_path, [{"task": "shop.sleep", "args": [0.5]}])
    assert run(folder, "result", one, "-b", url).out.read_text() == '"slept"\n'


@pytest.mark.parametrize("command", ["result", "explain", "story"])
def test_an_id_that_nobody_knows(ask, command):
    ask(command, "deadbeef", code=2)
    (line,) = ask.errors
    assert "deadbeef" in line
    assert line.endswith("a whole id has 32 hex digits, this one has 8")


@pytest.mark.parametrize("words", [["inspect", "active", "--timeout", "0.2"], ["explain", "x", "--timeout", "0.2"]])
def test_no_scheduler_is_exit_code_3(folder, words):
    done = run(folder, *words, "-b", "tcp://127.0.0.1:1", code=3)
    (line,) = done.errors()
    assert "no scheduler answered at tcp://127.0.0.1:1" in line


def test_sigterm_cancels_as_ctrl_c_does(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [1.0]}] * 50)
    process = Process(folder, ["submit", "shop.sleep", "--jobs", path, "--wait", "-b", url])
    wait_until(lambda: sum(worker["running"] for worker in status(folder, url)["workers"]) == 2, process.told)
    process.process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert re.match(r"zmqtasks: interrupted: \d+ jobs cancelled before the start", process.errors()[0])

    def nothing_left():
        jobs = status(folder, url)["jobs"]
        return jobs["ready"] == jobs["assigned"] == jobs["running"] == 0

    wait_until(nothing_left, lambda: status(folder, url))


def test_commands_find_the_broker_in_the_folder(folder, url, tmp_path, monkeypatch):
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    (tmp_path / "zmqtasks.toml").write_text(f'broker = "{url}"\n')
    assert json.loads(run(tmp_path, "status", "--json").out.read_text())["url"] == url
    assert run(tmp_path, "submit", "math:sqrt", "--args", "[4]", "--wait").results()[0]["result"] == 2.0
    worker = Process(tmp_path, ["worker", "-n", "by-file", "-c", "1"])
    try:
        worker.line("^zmqtasks worker by-file ready")
    finally:
        assert worker.stop() == 0
    (tmp_path / "zmqtasks.toml").write_text("broker = [")
    done = run(tmp_path, "status", code=2)
    assert done.errors()[0].startswith("zmqtasks: zmqtasks.toml cannot be read")


def test_what_operators_set_is_seen_and_names_that_nobody_knows_are_told(ask, url, folder, caplog):
    caplog.set_level("WARNING", logger="zmqtasks.control")
    assert "No rate is set" in ask("inspect", "rates")
    assert "start at most 10/m" in ask("control", "rate_limit", "shop.resiez", "10/m")
    nobody = "no worker knows a task 'shop.resiez', and no job of it is here; did you mean 'shop.resize'?"
    assert ask.errors == [f"zmqtasks: warning: {nobody}"]
    assert "is paused" in ask("control", "pause", "defualt")
    nobody = "no worker takes from queue 'defualt', and no job is in it; did you mean 'default'?"
    assert ask.errors == [f"zmqtasks: warning: {nobody}"]
    assert ask.json("purge", "defautl", "--yes")["warning"].endswith("did you mean 'default'?")
    app = App("steering", broker=url)
    try:
        app.control.rate_limit("shop.resize", 2, burst=3)
        app.control.weight("default", 2)
        assert (app.control.cancel_consumer("defautl"), caplog.messages) == (
            1, ["no worker that was asked takes from queue 'defautl'; did you mean 'default'?"],
        )  # fmt: skip
        rates = ask.json("inspect", "rates")["rates"]
        assert [(rate["task"], rate["rate"], rate["burst"]) for rate in rates] == [
            ("shop.resiez", 1 / 6, 1), ("shop.resize", 2.0, 3),
        ]  # fmt: skip
        assert all(abs(time.time() - rate["since"]) < 60 for rate in rates)
        assert re.search(r"^shop\.resize +2/s, burst 3 +\d", ask("status"), re.MULTILINE)
        app.control.pause("later")
        job = app.send_task("shop.resize", (1,), queue="later").job
        app.client.flush(30)
        assert (app.control.purge("later"), app.control.revoke(job.id)) == (1, [True])
        with pytest.raises(BadOption, match="a weight is a number above 0"):
            app.control.weight("default", 0)
        for wrong in ((3,), ("",), ("x" * 2_000,)):
            with pytest.raises(BadOption, match="has a name of 1 to 1,000 characters"):
                app.control.pause(*wrong)
        with pytest.raises(BadOption, match="a burst is a number of starts at once, 1 or more, not 0"):
            app.control.rate_limit("shop.resize", 1, burst=0)
        for task in ("shop.resiez", "shop.resize"):
            app.control.rate_limit(task, "default")
        for queue in ("defualt", "later"):
            app.control.resume(queue)
        app.control.weight("default", 1)
        assert ask.json("status")["rates"] == []
    finally:
        app.close()


def test_watching_in_a_terminal_ends_with_ctrl_c(folder, url):
    shown, code = in_terminal(folder, ["status", "--watch", "-b", url], ctrl_c_at="Queues")
    assert code == 0, shown
    assert url in shown
    assert "interrupted" not in shown


def test_watching_as_lines_of_json(folder, url):
    command = f"{sys.executable} -m zmqtasks status --watch --json -b {url} | head -n 2"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    assert [json.loads(line)["url"] for line in done.stdout.splitlines()] == [url, url]
    assert done.stderr == ""


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_everything_fits_the_terminal(ask, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    for words in (["status"], *(["inspect", what] for what in ("registered", "stats", "queues", "workers", "rates"))):
        lines = ask(*words).splitlines()
        assert max(map(len, lines)) <= columns
        assert not any("\x1b" in line for line in lines)
