"""`zmqtasks submit` up to the client, which is a fake that runs jobs in this process."""

import io
import json
import os
import re
import signal
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.unit.cli.test_feed import Sender
from zmqtasks import errors
from zmqtasks.cli import main
from zmqtasks.cli._targets import ByName


@pytest.fixture(autouse=True)
def client(monkeypatch, tmp_path):
    """The fake client; nothing is sent, so `calls` shows what would have been."""
    sender = Sender()
    sender.urls = []

    @contextmanager
    def connect(url, make=None):
        sender.urls.append(url)
        yield sender

    monkeypatch.setattr("zmqtasks.cli._sender.connect", connect)
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    monkeypatch.chdir(tmp_path)
    return sender


def jobs_file(tmp_path, lines):
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


def err(capsys):
    return [line.removeprefix("zmqtasks: ") for line in capsys.readouterr().err.splitlines()]


def results(text):
    return [json.loads(line) for line in text.splitlines()]


def test_one_job_with_its_result_on_stdout(capsys, client):
    assert main(["submit", "math:hypot", "--args", "[3, 4]", "--wait"]) == 0
    captured = capsys.readouterr()
    assert results(captured.out) == [{"line": 1, "id": "0" * 32, "state": "succeeded", "result": 5.0}]
    assert captured.err.startswith("zmqtasks: 1 job: 1 succeeded in ")
    assert client.urls == ["tcp://127.0.0.1:5555"]


def test_without_wait_the_ids_are_printed(capsys, client, tmp_path):
    assert main(["submit", "math:sqrt", "--jobs", jobs_file(tmp_path, [{"args": [i]} for i in range(3)])]) == 0
    captured = capsys.readouterr()
    assert captured.out.split() == [job.id for job in client.jobs]
    assert captured.err.startswith("zmqtasks: 3 jobs accepted in ")


def test_options_of_all_jobs(client, tmp_path):
    words = ["--queue", "high", "--priority", "9", "--expires", "60", "--serializer", "json", "--retries", "2"]
    assert main(["submit", "t", *words, "--eta", "2026-07-04T12:00:00Z"]) == 0
    jobs = jobs_file(tmp_path, [{"eta": 5}, {"priority": 1}])
    assert main(["submit", "t", "--jobs", jobs, "--countdown", "7", "--priority", "3"]) == 0
    one, first, second = (options for _, _, options in client.calls)
    assert one.pop("eta").timestamp() == 1_783_166_400
    told = {"queue": "high", "priority": 9, "expires": 60.0, "serializer": "json", "retries": 2}
    assert {name: one[name] for name in told} == told
    assert (first["eta"], first["priority"], "countdown" in first) == (5, 3, False)
    assert (second["countdown"], second["priority"]) == (7.0, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--priority", "10"], "10 is not in the range"),
        (["--eta", "noon"], "'noon' is no time; write it like 2026-07-04T12:00:00Z"),
        (["--eta", "2026-07-04T12:00"], "names no time zone; write it like 2026-07-04T12:00:00Z or "),
        (["--eta", "5", "--countdown", "5"], "give eta= or countdown=, not both"),
        (["--expires", "-1"], "option expires=-1.0 is over before the job may start"),
        (["--serializer", "yaml"], "option serializer=: no codec is called 'yaml'"),
        (["--queue", "a,b"], "queue 'a,b' has ',' in its name"),
    ],
)
def test_options_that_cannot_be(words, says, capsys, client):
    assert main(["submit", "t", *words]) == 2
    (line,) = err(capsys)
    assert says in line
    assert client.urls == []


def test_one_job_without_wait(capsys, client):
    assert main(["submit", "math:sqrt", "--args", "[4]"]) == 0
    assert capsys.readouterr().out.split() == [job.id for job in client.jobs] == ["0" * 32]


def test_a_failure_is_told_once(capsys):
    """Where the outcome is on stdout, stderr has only the sum; of one job there is no rate."""
    assert main(["submit", "math:sqrt", "--args", "[-1]", "--wait"]) == 1
    captured = capsys.readouterr()
    assert results(captured.out)[0]["error"]["type"] == "ValueError"
    assert re.fullmatch(r"zmqtasks: 1 job: 1 failed in [0-9.]+ s\n", captured.err)


def test_the_failure_of_one_job_names_no_line(capsys):
    assert main(["submit", "math:sqrt", "--args", "[-1]", "--output", "results.jsonl"]) == 1
    assert err(capsys)[0].startswith("ValueError: ")


def test_the_name_of_a_function_as_a_task_gets_a_hint(capsys, client):
    client.refuse = "no worker of queue 'default' knows a task 'math.sqrt'; they know: no task"
    assert main(["submit", "math.sqrt", "--args", "[4]", "--wait"]) == 1
    assert err(capsys)[0] == "a function that can be imported is written MODULE:FUNCTION; did you mean math:sqrt?"


def test_after_ctrl_c_what_was_cancelled_is_no_failure(capsys, tmp_path, monkeypatch):
    class Interrupting(Sender):
        def submit(self, target, calls, **options):
            if self.jobs:
                self._stuck = True
                threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
            return super().submit(target, calls, **options)

    @contextmanager
    def connect(url, make=None):
        yield Interrupting()

    monkeypatch.setattr("zmqtasks.cli._sender.connect", connect)
    monkeypatch.setattr("zmqtasks.cli._feed.LAST_RESULTS", 0.2)
    jobs = [{"args": [-1]}] * 7 + [{"args": [4], "retries": 1}] * 9
    words = ["submit", "math:sqrt", "--jobs", jobs_file(tmp_path, jobs), "--output", "results.jsonl", "--progress"]
    assert main(words) == 130
    said = capsys.readouterr().err
    assert "7 failed 8 cancelled" in said
    lines = [line.partition("zmqtasks: ")[2] for line in said.splitlines()]
    assert "… and 2 more that failed, see results.jsonl" in lines
    assert lines[-1] == "interrupted: 8 jobs cancelled before the start, 1 had started and goes on; until then 7 failed"


def test_options_of_the_command_line_and_of_the_lines(client, tmp_path):
    path = jobs_file(tmp_path, [{}, {"queue": "mine", "task": "other", "countdown": 2}])
    assert main(["submit", "t", "--jobs", path, "--queue", "q", "--retries", "3", "--wait"]) == 0
    assert client.calls == [
        (ByName("t"), [()], {"queue": "q", "retries": 3, "on_unknown": "fail"}),
        (ByName("other"), [()], {"queue": "mine", "retries": 3, "countdown": 2, "on_unknown": "fail"}),
    ]


def test_a_name_may_wait_for_its_worker(client):
    assert main(["submit", "t", "--on-unknown", "wait", "--wait"]) == 0
    assert client.calls == [(ByName("t"), [()], {"on_unknown": "wait"})]


def test_a_file_alone(client, tmp_path):
    path = jobs_file(tmp_path, [{"task": "math:sqrt", "args": [4]}])
    assert main(["submit", path, "--wait"]) == 0
    assert [args for _, args, _ in client.calls] == [[(4,)]]


def test_a_failed_job_is_exit_code_1(capsys, tmp_path):
    path = jobs_file(tmp_path, [{"args": [4]}, {"args": [-1]}, {"args": [9]}])
    output = tmp_path / "results.jsonl"
    assert main(["submit", "math:sqrt", "--jobs", path, "--output", str(output)]) == 1
    told = results(output.read_text())
    assert [(one["line"], one["state"]) for one in told] == [(1, "succeeded"), (2, "failed"), (3, "succeeded")]
    assert told[1]["error"]["type"] == "ValueError"
    said = err(capsys)
    assert said[0].startswith("line 2: ValueError: ")
    assert said[-1].startswith("3 jobs: 2 succeeded, 1 failed in ")


def test_many_errors_are_not_all_shown(capsys, tmp_path):
    path = jobs_file(tmp_path, [{"args": [-1]}] * 20)
    assert main(["submit", "math:sqrt", "--jobs", path, "--output", "results.jsonl"]) == 1
    said = err(capsys)
    assert len(said) == 7
    assert said[5] == "… and 15 more that failed, see results.jsonl"


@pytest.mark.parametrize("line", ["{broken", '{"args": 3}', '{"arks": [3]}', "[]", '{"task": "no_such_module:f"}'])
def test_a_broken_line_17_is_told_before_anything_is_submitted(line, capsys, client, tmp_path):
    path = jobs_file(tmp_path, [{"args": [1]}] * 16 + [line] + [{"args": [1]}] * 3)
    output = tmp_path / "results.jsonl"
    assert main(["submit", "math:sqrt", "--jobs", path, "--output", str(output)]) == 2
    (said,) = err(capsys)
    assert said.startswith(f"{path} line 17: ")
    assert said.endswith("; nothing was submitted")
    assert client.calls == []
    assert client.urls == []
    assert not output.exists()


class Stdin:
    """A pipe as standard input."""

    def __init__(self, data):
        read, write = os.pipe()
        os.write(write, data)
        os.close(write)
        self.buffer = open(read, "rb", buffering=0)  # noqa: PTH123, SIM115  (closed by the test)


@pytest.fixture
def stdin(monkeypatch):
    opened = []

    def give(data):
        opened.append(Stdin(data))
        monkeypatch.setattr(sys, "stdin", opened[-1])

    yield give
    for one in opened:
        one.buffer.close()


def test_jobs_from_stdin(stdin, capsys):
    stdin(b'{"args": [4]}\n{"args": [9]}\n')
    assert main(["submit", "math:sqrt", "--jobs", "-", "--wait"]) == 0
    assert [one["result"] for one in results(capsys.readouterr().out)] == [2.0, 3.0]


def test_a_broken_line_of_a_stream(stdin, capsys, client, monkeypatch):
    monkeypatch.setattr("zmqtasks.cli._feed.GROUP", 4)
    stdin(b'{"args": [4]}\n' * 16 + b"oh dear\n")
    assert main(["submit", "math:sqrt", "--jobs", "-", "--wait"]) == 2
    said = err(capsys)
    assert said[0].startswith("16 jobs: 16 succeeded in ")
    assert said[1].startswith("stdin line 17: is no JSON: ")
    assert len(client.jobs) == 16


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "give MODULE:FUNCTION, the name of a task, or --jobs FILE"),
        (["math:sqrt", "--args", "[1"], "is no JSON: "),
        (["math:sqrt", "--args", '{"x": 1}'], "must be a JSON list, like '[1, 2]'"),
        (["math:sqrt", "--kwargs", "[1]"], "must be a JSON object"),
        (["math:sqrt", "--args", "[1]", "--jobs", "x"], "--args and --kwargs are for one job"),
        (["math:sqrt", "--jobs", "missing.jsonl"], "cannot read missing.jsonl: No such file or directory"),
        (["math:sqrt", "--wait", "--output", "nowhere/x"], "cannot write nowhere/x: No such file or directory"),
        (["math:sqroot"], "module math has no 'sqroot'; did you mean 'sqrt'?"),
        (["no_such_module:f"], "cannot import no_such_module"),
        (["math:sqrt", "--retries", "-1"], "-1 is not in the range"),
        (["math:sqrt", "--broker", "redis://x"], "bad URL 'redis://x'"),
    ],
)
def test_wrong_use(words, says, capsys, client):
    assert main(["submit", *words]) == 2
    (said,) = err(capsys)
    assert says in said
    assert client.calls == []


def test_the_output_may_not_be_the_input(capsys, client, tmp_path):
    path = jobs_file(tmp_path, [{}])
    assert main(["submit", "math:sqrt", "--jobs", path, "--output", path]) == 2
    assert "--output would overwrite" in err(capsys)[0]
    assert (tmp_path / "jobs.jsonl").read_text() == "{}\n"


def test_an_empty_file(capsys, client, tmp_path):
    assert main(["submit", "math:sqrt", "--jobs", jobs_file(tmp_path, []), "--wait"]) == 0
    assert err(capsys)[0].startswith("0 jobs: nothing to do in ")


def test_a_progress_bar_on_request(capsys, tmp_path):
    path = jobs_file(tmp_path, [{"args": [4]}] * 3)
    assert main(["submit", "math:sqrt", "--jobs", path, "--wait", "--progress"]) == 0
    assert "3/3" in capsys.readouterr().err


def test_an_unreachable_scheduler_is_exit_code_3(monkeypatch, capsys):
    def connect(url, make=None):
        raise errors.SchedulerUnreachable("no scheduler answered")

    monkeypatch.setattr("zmqtasks.cli._sender.connect", connect)
    assert main(["submit", "math:sqrt", "--args", "[4]"]) == 3
    assert err(capsys) == ["no scheduler answered"]


def test_results_of_a_closed_pipe(client, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as gone:  # noqa: PTH123  (a file descriptor)
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(gone, write_through=True))
        assert main(["submit", "math:sqrt", "--args", "[4]", "--wait"]) == 1
