"""The command line with real processes: a scheduler and a worker started by it, and what people do with them."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TASKS = """
import time
from zmqtasks import App

app = App("shop")

@app.task(name="shop.resize")
def resize(width, height=1):
    return width * height

@app.task(name="shop.sleep")
def sleep(seconds):
    time.sleep(seconds)
    return "slept"
"""

PLAIN = """
import time

def divide(a, b=1):
    return a / b

def sleep(seconds):
    time.sleep(seconds)

def odd():
    return {1, 2} | {3}
"""


def wait_until(condition, what, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)
    return value


class Process:
    """A `zmqtasks` command with its output in files."""

    started = 0

    def __init__(self, folder, words, *, stdin=subprocess.DEVNULL, **keywords):
        Process.started += 1
        self.out, self.err = (folder / f"{Process.started}.{kind}" for kind in ("out", "err"))
        self.words = words
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zmqtasks", *words],
                cwd=folder,
                stdin=stdin,
                stdout=out,
                stderr=err,
                start_new_session=True,
                **keywords,
            )

    def told(self):
        return f"{self.words} → {self.process.poll()}\n{self.out.read_text()}\n{self.err.read_text()}"

    def wait(self, seconds=30):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"did not end: {self.told()}")

    def line(self, pattern):
        """Wait for a line on stdout."""

        def found():
            match = re.search(pattern, self.out.read_text(), re.MULTILINE)
            assert match or self.process.poll() is None, self.told()
            return match

        return wait_until(found, self.told)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def results(self):
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def errors(self):
        return self.err.read_text().splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
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
        worker = Process(folder, ["-A", "shop", "worker", "-b", url, "-c", "2", "-n", "w1@%h"])
        worker.line(r"^zmqtasks worker w1@\S+ ready: 2 slots, .* 2 tasks")
        yield url
    finally:
        codes = [process.stop() for process in (worker, scheduler) if process]
    assert codes == [0, 0], (worker.told(), scheduler.told())


def run(folder, *words, code=0, **keywords):
    process = Process(folder, words, **keywords)
    assert process.wait() == code, process.told()
    return process


def jobs_file(path, jobs):
    path.write_text("".join(json.dumps(job) + "\n" for job in jobs))
    return str(path)


def status(folder, url):
    return json.loads(run(folder, "status", "-b", url, "--json").out.read_text())


# ------------------------------------------------------------------------------------------------ submit


def test_a_function_with_its_result(folder, url):
    done = run(folder, "submit", "plain:divide", "--args", "[1]", "--kwargs", '{"b": 4}', "--wait", "-b", url)
    (told,) = done.results()
    assert (told["line"], told["state"], told["result"]) == (1, "succeeded", 0.25)
    (line,) = done.errors()
    assert re.fullmatch(r"zmqtasks: 1 job: 1 succeeded in [0-9.]+ s", line)


def test_a_batch_with_failures(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [6, i]} for i in (1, 0, 2, 0, 3)] * 200)
    output = tmp_path / "results.jsonl"
    done = run(folder, "submit", "plain:divide", "--jobs", path, "--output", str(output), "-b", url, code=1)
    told = sorted((json.loads(line) for line in output.read_text().splitlines()), key=lambda one: one["line"])
    assert [one["line"] for one in told] == list(range(1, 1001))
    assert [one.get("result") for one in told] == [6.0, None, 3.0, None, 2.0] * 200
    error = told[1]["error"]
    assert (told[1]["state"], error["type"], error["message"]) == ("failed", "ZeroDivisionError", "division by zero")
    assert "return a / b" in error["traceback"] or "in divide" in error["traceback"]
    assert "zmqtasks/worker" not in error["traceback"]
    assert "1,000 jobs: 600 succeeded, 400 failed in" in done.errors()[-1]
    assert len(done.errors()) == 7


def test_tasks_by_name_and_options_of_lines(folder, url, tmp_path):
    jobs = [{"args": [3]}, {"kwargs": {"width": 2, "height": 5}}, {"task": "plain:odd"}, {"args": [7], "id": "mine"}]
    done = run(folder, "submit", "shop.resize", "--jobs", jobs_file(tmp_path / "j", jobs), "--wait", "-b", url)
    assert [one["result"] for one in sorted(done.results(), key=lambda one: one["line"])] == [
        3,
        10,
        {"repr": "{1, 2, 3}"},
        7,
    ]


def test_a_registered_task_as_module_and_function(folder, url):
    done = run(folder, "submit", "shop:resize", "--args", "[8]", "--wait", "-b", url)
    assert done.results()[0]["result"] == 8


@pytest.mark.parametrize("wait", [["--wait"], []])
def test_an_unknown_task_is_told_at_once_with_near_names(folder, url, wait):
    done = run(folder, "submit", "shop.resise", *wait, "-b", url, code=1)
    told = done.results()[0]["error"] if wait else done.errors()[0]
    assert "TaskNotRegistered" in str(told)
    assert "did you mean shop.resize" in str(told)
    assert "MODULE:FUNCTION" not in done.err.read_text()


def test_a_function_where_a_task_is_wanted(folder, url):
    done = run(folder, "submit", "math.sqrt", "--args", "[4]", "--wait", "-b", url, code=1)
    assert done.errors()[0].endswith("did you mean math:sqrt?")


def test_without_wait_the_ids_come_and_the_jobs_go_on(folder, url, tmp_path):
    before = status(folder, url)["workers"][0]["done"]
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [i]} for i in range(1200)])
    done = run(folder, "submit", "shop.resize", "--jobs", path, "-b", url)
    ids = done.out.read_text().split()
    assert len(set(ids)) == 1200
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)
    assert "1,200 jobs accepted in" in done.errors()[-1]
    wait_until(lambda: status(folder, url)["workers"][0]["done"] == before + 1200, lambda: status(folder, url))


def test_a_stream_is_worked_on_while_it_comes(folder, url):
    process = Process(folder, ["submit", "shop.resize", "--jobs", "-", "--wait", "-b", url], stdin=subprocess.PIPE)
    try:
        for number in range(1, 4):
            process.process.stdin.write(b'{"args": [%d]}\n' % number)
            process.process.stdin.flush()
            wait_until(lambda count=number: len(process.results()) == count, process.told)
        process.process.stdin.write(b"oh dear\n")
        process.process.stdin.close()
        assert process.wait() == 2
    finally:
        process.stop()
    assert [one["result"] for one in process.results()] == [1, 2, 3]
    assert process.errors()[0].startswith("zmqtasks: 3 jobs: 3 succeeded in ")
    assert process.errors()[1].startswith("zmqtasks: stdin line 4: is no JSON: ")


def test_a_broken_line_of_a_stream_costs_no_other_job_its_result(folder, url):
    """Neither those that came together with it, nor those that still run when it comes."""
    lines = b"".join(b'{"task": "shop.sleep", "args": [%.1f]}\n' % seconds for seconds in (0.5, 0.1, 0.0))
    done = Process(folder, ["submit", "--jobs", "-", "--wait", "-b", url], stdin=subprocess.PIPE)
    try:
        done.process.stdin.write(lines + b"oh dear\n" + lines)
        done.process.stdin.close()
        assert done.wait() == 2
    finally:
        done.stop()
    assert sorted(one["line"] for one in done.results()) == [1, 2, 3]
    assert {one["state"] for one in done.results()} == {"succeeded"}
    assert done.errors()[-1].startswith("zmqtasks: stdin line 4: is no JSON: ")
    assert done.errors()[-1].endswith("; nothing from there on was submitted")


def test_a_broken_line_17_and_nothing_is_submitted(folder, url, tmp_path):
    before = status(folder, url)["workers"][0]["done"]
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"args": [1]}\n' * 16 + '{"args": [1}\n' + '{"args": [1]}\n')
    done = run(folder, "submit", "shop.resize", "--jobs", str(path), "--wait", "-b", url, code=2)
    (line,) = done.errors()
    assert line.startswith(f"zmqtasks: {path} line 17: is no JSON")
    assert status(folder, url)["workers"][0]["done"] == before


def test_ctrl_c_cancels_what_has_not_started(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [1.0]}] * 50)
    process = Process(folder, ["submit", "shop.sleep", "--jobs", path, "--wait", "-b", url])
    wait_until(lambda: sum(worker["running"] for worker in status(folder, url)["workers"]) == 2, process.told)
    process.process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    (line,) = process.errors()
    found = re.match(r"zmqtasks: interrupted: (\d+) jobs cancelled before the start", line)
    assert found, process.told()
    assert int(found[1]) >= 40
    states = [one["state"] for one in process.results()]
    assert states.count("cancelled") == int(found[1])

    def nothing_left():
        jobs = status(folder, url)["jobs"]
        return jobs["ready"] == jobs["assigned"] == jobs["running"] == 0

    wait_until(nothing_left, lambda: status(folder, url))


def test_a_reader_that_ends_is_no_traceback(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [i]} for i in range(5000)])
    command = f"{sys.executable} -m zmqtasks submit shop.resize --jobs {path} --wait -b {url} | head -n 1"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["state"] == "succeeded"
    assert done.stderr == ""


def test_local_brings_its_own_cluster(folder):
    done = run(folder, "submit", "plain:divide", "--args", "[1, 2]", "--wait", "--broker", "local://")
    assert done.results()[0]["result"] == 0.5


def test_no_scheduler_is_exit_code_3(folder):
    done = run(folder, "submit", "math:sqrt", "--args", "[4]", "-b", "tcp://127.0.0.1:1", code=3)
    assert len(done.errors()) == 1
    assert "no scheduler answered at tcp://127.0.0.1:1 within 5 s" in done.errors()[0]


def in_terminal(folder, words, columns=80, ctrl_c_at=None, stdout=None):
    """Run a command whose output is a terminal; what it shows, drawing included, and its exit code.

    `ctrl_c_at` is a text at which Ctrl-C is pressed; `stdout` is a file that takes what would go to stdout.
    """
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(COLUMNS=str(columns), TERM="xterm")
        if stdout is not None:
            os.dup2(os.open(stdout, os.O_WRONLY | os.O_CREAT), 1)
        os.execv(sys.executable, [sys.executable, "-m", "zmqtasks", *words])
    shown = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not chunk:
            break
        shown += chunk
        if ctrl_c_at is not None and ctrl_c_at in shown.decode(errors="ignore"):
            os.write(fd, b"\x03")
            ctrl_c_at = None
    os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n"), code


def test_a_bar_in_a_terminal(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [i]} for i in range(3000)])
    output = tmp_path / "results.jsonl"
    shown, code = in_terminal(folder, ["submit", "shop.resize", "--jobs", path, "--output", str(output), "-b", url])
    assert code == 0
    assert "3000/3000" in shown
    assert "3,000 jobs: 3,000 succeeded in" in shown
    assert len(output.read_text().splitlines()) == 3000


def lines_of(shown):
    """What is left of the lines of a terminal after all the drawing; each drawing begins at the left."""
    return [line.rsplit("\r", 1)[-1] for line in shown.rstrip("\n").split("\n")]


def test_what_the_scheduler_says_stands_above_the_bar(folder, url, tmp_path):
    words = ["submit", "math:sqrt", "--args", "[4]", "--queue", "lonely", "--output", str(tmp_path / "r"), "-b", url]
    shown, code = in_terminal(folder, words, ctrl_c_at="zmqtasks worker -Q lonely")
    assert code == 130
    (line,) = (line for line in lines_of(shown) if "lonely" in line)
    assert re.match(
        r"\d{4}-\d\d-\d\d .* WARNING .* notice: the scheduler at \S+ says: 1 job waits: no worker takes", line
    )
    assert line.endswith("start one with: zmqtasks worker -Q lonely")
    assert lines_of(shown)[-1] == "zmqtasks: interrupted: 1 job cancelled before the start"


def test_ctrl_c_in_a_terminal(folder, url, tmp_path):
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": ["no number"]}] * 2 + [{"args": [0.3]}] * 60)
    words = ["submit", "shop.sleep", "--jobs", path, "--wait", "-b", url]
    shown, code = in_terminal(folder, words, columns=120, ctrl_c_at='"slept"')
    assert code == 130
    lines = lines_of(shown)
    assert "did not succeed" not in shown
    found = re.search(
        r"interrupted: (\d+) jobs cancelled before the start.*; until then \d+ succeeded, 2 failed$", lines[-1]
    )
    assert found, shown
    assert f"2 failed {found[1]} cancelled" in lines[-2]
    bars = [line for line in lines if "/62" in line]
    assert bars == [lines[-2]], shown  # it stands there once
    assert all(json.loads(line) for line in lines[:-2])


def test_ids_go_to_the_file_that_the_user_names(folder, url, tmp_path):
    """A bar on the terminal must not take them away."""
    path = jobs_file(tmp_path / "jobs.jsonl", [{"args": [i]} for i in range(70)])
    words = ["submit", "shop.resize", "--jobs", path, "-b", url]
    shown, code = in_terminal(folder, words, stdout=tmp_path / "ids")
    assert code == 0
    assert "70/70" in shown
    assert len((tmp_path / "ids").read_text().split()) == 70


# ------------------------------------------------------------------------------------------------ status, demo


def test_status_in_a_terminal(folder, url):
    shown, code = in_terminal(folder, ["status", "-b", url])
    assert code == 0
    assert max(len(line) for line in shown.splitlines()) <= 80
    for word in (url, "w1@", "default", "journal of", "disk"):
        assert word in shown


def test_status_as_json(folder, url):
    told = status(folder, url)
    (worker,) = told["workers"]
    assert (told["url"], told["durable"], worker["slots"], worker["state"]) == (url, True, 2, "up")
    assert worker["tasks"] == ["shop.resize", "shop.sleep"]


def test_the_demo(folder):
    shown, code = in_terminal(folder, ["demo"])
    assert code == 0, shown
    for word in ("400/400", "1,000,000,007", "ZeroDivisionError: division by zero", "at the second attempt"):
        assert word in shown


# ------------------------------------------------------------------------------------------------ daemons


def test_a_port_in_use(folder, url):
    done = run(folder, "scheduler", "--bind", url, code=2)
    (line,) = done.errors()
    assert line.startswith(f"zmqtasks: {url} is in use by another process")


def test_an_app_that_does_not_import(folder, url):
    (folder / "broken_app.py").write_text("import not_there_at_all\n")
    done = run(folder, "worker", "-A", "broken_app", "-b", url, code=2)
    (line,) = done.errors()
    assert "broken_app" in line
    assert "not_there_at_all" in line


def test_pidfile_and_logfile(folder, tmp_path):
    pidfile, logfile = tmp_path / "s.pid", tmp_path / "s.log"
    words = ["scheduler", "--bind", f"ipc://{tmp_path}/s.ipc", "--pidfile", str(pidfile), "--logfile", str(logfile)]
    scheduler = Process(folder, words)
    try:
        scheduler.line(f"^zmqtasks scheduler ready on ipc://{tmp_path}/s.ipc$")
        assert int(pidfile.read_text()) == scheduler.process.pid
    finally:
        assert scheduler.stop() == 0
    assert not pidfile.exists()
    assert scheduler.errors() == []
    assert re.match(r"^\d{4}-\d\d-\d\d [\d:.]+ [A-Z]+ scheduler\S*\[\d+\]", logfile.read_text())


def test_a_process_whose_owner_died_ends(folder, url):
    read, write = os.pipe()
    worker = Process(folder, ["worker", "-b", url, "-n", "orphan", "--lifeline-fd", str(read)], pass_fds=(read,))
    os.close(read)
    try:
        worker.line(r"^zmqtasks worker orphan ready")
    finally:
        os.close(write)
        worker.wait(5)


def test_the_module_and_the_command_are_the_same():
    command = Path(sys.executable).with_name("zmqtasks")
    for start in ([sys.executable, "-m", "zmqtasks"], [str(command)]):
        done = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
        assert re.fullmatch(r"zmqtasks \d+\.\d+\.\d+\S*\n", done.stdout)


def test_a_worker_takes_the_broker_that_its_app_names(folder, url):
    """As in Celery: `zmqtasks -A app worker` needs no --broker where the app says it."""
    (folder / "named.py").write_text(f"from zmqtasks import App\napp = App('named', broker={url!r})\n")
    worker = Process(folder, ["-A", "named", "worker", "-c", "1", "-n", "named"])
    try:
        worker.line("^zmqtasks worker named ready")
    finally:
        assert worker.stop() == 0
