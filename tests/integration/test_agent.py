"""A real agent with real children, against a scripted scheduler."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.worker_side import PREFIX, Host, ScriptedScheduler, start_worker
from zmqtasks import payload
from zmqtasks.ids import job_id
from zmqtasks.wire import CANCELLED, CRASHED, FAILED, LOST, RETRYABLE, Draining, Goodbye, Heartbeat, Kill, Retract

APP = """
import zmqtasks

app = zmqtasks.App("t")

@app.task
def double(x): return 2 * x

@app.task(bind=True, queue="high")
def whoami(self): return self.name

@app.task(autoretry_for=(KeyError,))
def fail(kind): raise {"key": KeyError, "value": ValueError}[kind]("no")

@app.task
def unencodable(): return object()
"""


@pytest.fixture
def scheduler() -> Iterator[ScriptedScheduler]:
    made = ScriptedScheduler("tcp://127.0.0.1:0")
    yield made
    made.close()


@pytest.fixture
def host(scheduler: ScriptedScheduler) -> Iterator[Host]:
    made = Host(scheduler)
    yield made
    made.stop()


def until(condition: Callable[[], Any], what: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.01)


def family(worker: subprocess.Popen) -> list[psutil.Process]:
    """Fork server and children, in the order of their age."""
    return sorted(psutil.Process(worker.pid).children(recursive=True), key=lambda p: p.create_time())


def gone(processes: list[psutil.Process]) -> bool:
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def one(scheduler: ScriptedScheduler, fn: Any, *args: Any) -> int:
    """Run one job to its end; its number."""
    target = fn if isinstance(fn, str) else payload.ship(fn)
    number = scheduler.assign(target, [(args, {})])[0]
    scheduler.until_over([number])
    return number


# ------------------------------------------------------------------------------------------------ results


def test_a_shipped_function_runs_and_its_values_come_back_in_order(scheduler, host):
    worker = host(concurrency=2, name="w1", queues=("a", "b"))
    numbers = scheduler.assign(payload.ship(lambda x, y=0: x + y), [((i,), {"y": 1}) for i in range(1000)])
    scheduler.until_over(numbers)
    assert [scheduler.value(n) for n in numbers] == [i + 1 for i in range(1000)]
    assert worker.stdout.readline() == f"zmqtasks worker w1 ready: 2 slots, queues a,b, 0 tasks, pid {worker.pid}\n"
    hello = scheduler.hello
    assert (hello.slots, hello.credit, hello.queues, hello.pid) == (2, 4000, ["a", "b"], worker.pid)


def test_two_slots_run_two_jobs_at_once_and_heartbeats_tell(scheduler, host, tmp_path):
    host(concurrency=2)

    def meet(mine, other):
        Path(mine).touch()
        while not Path(other).exists():
            time.sleep(0.001)

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    numbers = scheduler.assign(payload.ship(meet), [((a, b), {}), ((b, a), {}), ((a, b + "c"), {})])
    scheduler.until_over(numbers[:2])
    scheduler.until(lambda: any(m.running == [3] for m in beats(scheduler)), "a heartbeat that tells what runs")
    assert beats(scheduler)[-1].held == [(3, 1)]
    Path(b + "c").touch()
    scheduler.until_over(numbers)


def beats(scheduler: ScriptedScheduler) -> list[Heartbeat]:
    return [m for m in scheduler.messages if isinstance(m, Heartbeat)]


def test_tasks_of_the_app_run(scheduler, host, tmp_path):
    (tmp_path / "t.py").write_text(APP)
    host(app="t", cwd=tmp_path)
    assert scheduler.hello.tasks == ["t.double", "t.fail", "t.unencodable", "t.whoami"]
    assert scheduler.hello.queues == ["default", "high"]
    numbers = scheduler.assign("t.double", [((i,), {}) for i in range(3)], "msgpack")
    numbers += scheduler.assign("t.whoami", [((), {})], "msgpack")
    scheduler.until_over(numbers)
    assert [scheduler.value(n, "msgpack") for n in numbers] == [0, 2, 4, "t.whoami"]


def test_a_job_can_ask_who_it_is(scheduler, host):
    host(name="w1")

    def job():
        import zmqtasks

        return zmqtasks.current_job()

    numbers = scheduler.assign(payload.ship(job), [((), {})] * 50)
    scheduler.until_over(numbers)
    told = [scheduler.value(n) for n in numbers]
    assert [t.id for t in told] == [job_id(PREFIX, i) for i in range(50)]
    assert [t.attempt for t in told] == [(7 << 32) + n for n in numbers]
    assert {(t.task.rpartition(".")[2], t.worker) for t in told} == {("job", "w1")}


def test_a_large_argument_result_and_function_pass(scheduler, host):
    host(concurrency=2)
    ballast = os.urandom(300_000)
    data = os.urandom(1_000_000)
    numbers = scheduler.assign(payload.ship(lambda x: (x[::-1], len(ballast))), [((data,), {})] * 8)
    scheduler.until_over(numbers)
    assert all(scheduler.value(n) == (data[::-1], 300_000) for n in numbers)


def test_results_older_than_a_millisecond_do_not_wait_for_their_neighbour(scheduler, host, tmp_path):
    host()
    door = str(tmp_path / "door")

    def job(path, seconds=0.0):
        time.sleep(seconds)
        while path and not Path(path).exists():
            time.sleep(0.001)

    fn = payload.ship(job)
    scheduler.until_over(scheduler.assign(fn, [(("",), {})] * 300))
    calls = [(("",), {})] * 5 + [(("", 0.002), {}), ((door,), {}), (("",), {})]  # too few for two claims
    numbers = scheduler.assign(fn, calls)
    scheduler.until_over(numbers[:6])
    assert not scheduler.over() & set(numbers[6:])
    Path(door).touch()
    scheduler.until_over(numbers)


# ------------------------------------------------------------------------------------------------ failures


def test_an_exception_comes_back_with_the_users_frames_only(scheduler, host):
    host()

    def job(x):
        return {}[x]

    number = one(scheduler, job, "nothing")
    told = scheduler.failure(number)
    assert scheduler.ends[number].kind == RETRYABLE
    assert (told.type_name, told.text) == ("builtins.KeyError", "'nothing'")
    assert "return {}[x]" in told.traceback
    assert "worker/child.py" not in told.traceback
    error = payload.decode_exception(scheduler.ends[number].payload)
    assert isinstance(error, KeyError)


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "raise KeyboardInterrupt", "import sys; sys.exit()"])
def test_what_would_end_a_process_ends_the_job_only(scheduler, host, code):
    worker = host()
    number = one(scheduler, exec, code)
    assert scheduler.ends[number].kind == FAILED
    before = family(worker)
    assert scheduler.value(one(scheduler, len, "abc")) == 3
    assert family(worker) == before


def test_failures_of_tasks_name_the_culprit(scheduler, host, tmp_path):
    (tmp_path / "t.py").write_text(APP)
    host(app="t:app", name="w1", cwd=tmp_path)
    calls = [("t.fail", ("key",)), ("t.fail", ("value",)), ("t.unencodable", ()), ("t.doubel", (1,)), ("t.double", ())]
    numbers = [scheduler.assign(task, [(args, {})], "msgpack")[0] for task, args in calls]
    scheduler.until_over(numbers)
    kinds = [scheduler.ends[n].kind for n in numbers]
    told = [scheduler.failure(n) for n in numbers]
    assert kinds == [RETRYABLE, FAILED, FAILED, FAILED, RETRYABLE]
    assert told[2].type_name == "PayloadError"
    assert "t.unencodable: the result (object) cannot be encoded as msgpack" in told[2].text
    assert (told[3].type_name, told[3].text) == (
        "TaskNotRegistered", "worker w1 knows no task 't.doubel'; did you mean 't.double'?",
    )  # fmt: skip
    assert told[4].type_name == "builtins.TypeError"


def test_what_cannot_be_decoded_fails_alone(scheduler, host):
    host(name="w1")
    fn = payload.ship(len)
    numbers = scheduler.assign_encoded(fn, [b"garbage", payload.encoder("pickle")((("abc",), {}))], "pickle")
    broken = payload.Shipped(b"b" * 16, "m.f", b"cno_such_module\nf\n.")
    numbers += scheduler.assign_encoded(broken, [b"x"], "pickle")
    scheduler.until_over(numbers)
    assert scheduler.value(numbers[1]) == 3
    assert "arguments cannot be decoded as pickle" in scheduler.failure(numbers[0]).text
    told = scheduler.failure(numbers[2])
    assert told.type_name == "PayloadError"
    assert "function m.f cannot be loaded on worker w1: ModuleNotFoundError" in told.text
    assert "make its module importable" in told.text


def test_a_result_above_the_schedulers_limit_fails_alone(host, scheduler):
    scheduler.max_payload = 1000
    host()
    numbers = scheduler.assign(payload.ship(bytes), [((n,), {}) for n in (1, 2000, 3)])
    scheduler.until_over(numbers)
    assert [scheduler.value(n) for n in (numbers[0], numbers[2])] == [bytes(1), bytes(3)]
    assert scheduler.failure(numbers[1]).type_name == "PayloadTooLarge"


# ------------------------------------------------------------------------------------------------ deaths


@pytest.mark.parametrize(
    ("death", "evidence"),
    [("os._exit(3)", "ended with exit code 3"), ("os.kill(os.getpid(), 9)", "was killed by SIGKILL")],
)
def test_a_child_that_dies_costs_its_job_and_nothing_else(scheduler, host, death, evidence):
    worker = host(concurrency=2)
    quick = payload.ship(lambda x: eval(x, {"os": os}))
    numbers = scheduler.assign(quick, [(("1",), {})] * 300)
    scheduler.until_over(numbers)
    numbers = scheduler.assign(quick, [((death if i == 50 else "1",), {}) for i in range(300)])
    scheduler.until_over(numbers)
    crashed = numbers[50]
    assert scheduler.ends[crashed].kind == CRASHED
    told = scheduler.failure(crashed)
    assert told.type_name == "WorkerLost"
    assert evidence in told.text
    assert "while running" in told.text
    assert {scheduler.ends[n].kind for n in numbers if n in scheduler.ends and n != crashed} <= {LOST}
    assert all(n in scheduler.results for n in numbers[51:])
    until(lambda: len(family(worker)) == 3, "a new child")


def test_a_job_that_kills_its_process_group_leaves_the_worker_alone(scheduler, host):
    host()
    number = one(scheduler, os.killpg, 0, signal.SIGKILL)
    assert scheduler.ends[number].kind == CRASHED
    assert scheduler.value(one(scheduler, len, "abc")) == 3


def test_what_a_job_started_dies_with_its_child(scheduler, host):
    worker = host()
    number = one(scheduler, lambda: subprocess.Popen(["sleep", "1000"]).pid)
    sleeper = psutil.Process(scheduler.value(number))
    one(scheduler, os._exit, 1)
    until(lambda: gone([sleeper]), "the end of what the dead child had started")
    assert worker.poll() is None


def test_children_that_die_outside_a_job_are_replaced(scheduler, host):
    worker = host(concurrency=2)
    until(lambda: len(family(worker)) == 3, "two children")
    for child in family(worker)[1:]:
        child.kill()
    assert scheduler.value(one(scheduler, len, "abc")) == 3
    until(lambda: len(family(worker)) == 3, "two new children")


def test_the_fork_server_is_replaced(scheduler, host):
    worker = host()
    number = scheduler.assign(payload.ship(time.sleep), [((1000,), {})])[0]
    scheduler.until(lambda: any(m.running == [number] for m in beats(scheduler)), "the start of the job")
    before = family(worker)
    before[0].kill()
    scheduler.until_over([number])
    assert scheduler.ends[number].kind == CRASHED
    assert "its fork server was killed by SIGKILL" in scheduler.failure(number).text
    assert scheduler.value(one(scheduler, len, "abc")) == 3
    assert gone(before)


@pytest.mark.parametrize("who", ["agent", "agent and fork server"])
def test_kill_9_of_the_agent_leaves_nothing(scheduler, host, who):
    worker = host(concurrency=2)
    one(scheduler, lambda: subprocess.Popen(["sleep", "1000"]).pid)
    scheduler.assign(payload.ship(time.sleep), [((1000,), {})])
    everybody = family(worker)
    if who == "agent and fork server":
        everybody[0].kill()
    worker.kill()
    until(lambda: gone(everybody), "the end of everybody", timeout=2.0)


def test_the_end_of_the_lifeline_ends_the_worker(scheduler, host):
    read, write = os.pipe()
    os.set_inheritable(read, True)
    worker = host(lifeline_fd=read, pass_fds=(read,))
    os.close(read)
    everybody = family(worker)
    os.close(write)
    assert worker.wait(2.0) == 1
    assert gone(everybody)


# ------------------------------------------------------------------------------------------------ taking back


def test_retract_takes_back_what_no_child_has_begun(scheduler, host, tmp_path):
    host()
    door = str(tmp_path / "door")
    blocked = payload.ship(wait_for)
    numbers = scheduler.assign(blocked, [((door,), {})] * 10)
    scheduler.until(lambda: any(m.running == numbers[:1] for m in beats(scheduler)), "the start of the first")
    scheduler.send(Retract([(numbers[0], 10)]))
    scheduler.until(lambda: scheduler.retracted == set(numbers[1:]), "the return of the other nine")
    Path(door).touch()
    scheduler.until_over(numbers)
    assert numbers[0] in scheduler.results


def wait_for(path):
    while not Path(path).exists():
        time.sleep(0.001)


def test_kill_ends_a_running_job_and_nothing_else(scheduler, host):
    host()
    fn = payload.ship(time.sleep)
    numbers = scheduler.assign(fn, [((1000,), {}), ((0,), {}), ((0,), {})])
    scheduler.until(lambda: any(m.running == numbers[:1] for m in beats(scheduler)), "the start of the first")
    scheduler.send(Kill([(numbers[0], 2)]))
    scheduler.until_over(numbers)
    assert scheduler.ends[numbers[0]].kind == CANCELLED
    assert scheduler.retracted == {numbers[1]}
    assert numbers[2] in scheduler.results


# ------------------------------------------------------------------------------------------------ the connection


def test_outcomes_survive_a_scheduler_that_was_away(tmp_path):
    url = f"ipc://{tmp_path}/s"  # a TCP port that is free for a moment may be taken by somebody else
    with contextlib.ExitStack() as stack:
        scheduler = ScriptedScheduler(url)
        stack.callback(scheduler.close)
        host = Host(scheduler)
        stack.callback(host.stop)
        host()
        door = str(tmp_path / "door")
        numbers = scheduler.assign(payload.ship(wait_for), [((door,), {})] * 3)
        scheduler.until(lambda: beats(scheduler), "a heartbeat")
        scheduler.close()
        Path(door).touch()
        again = ScriptedScheduler(url)
        stack.callback(again.close)
        again.until(lambda: again.hello, "another hello")
        assert [h.number for h in again.hello.held] == numbers
        again.until_over(numbers)
        assert again.hello.seen == 3


# ------------------------------------------------------------------------------------------------ the end


def test_sigterm_hands_back_finishes_and_says_goodbye(scheduler, host, tmp_path):
    worker = host()
    door = str(tmp_path / "door")
    numbers = scheduler.assign(payload.ship(wait_for), [((door,), {})] * 5)
    scheduler.until(lambda: any(m.running == numbers[:1] for m in beats(scheduler)), "the start of the first")
    everybody = family(worker)
    worker.terminate()
    scheduler.until(lambda: scheduler.retracted == set(numbers[1:]), "the return of what has not started")
    assert any(isinstance(m, Draining) for m in scheduler.messages)
    Path(door).touch()
    scheduler.until(lambda: isinstance(scheduler.messages[-1], Goodbye), "the goodbye")
    assert numbers[0] in scheduler.results
    assert worker.wait(5.0) == 0
    assert gone(everybody)


@pytest.mark.parametrize(("timeout", "signals", "code"), [(60.0, 2, 143), (0.1, 1, 1)])
def test_a_second_signal_or_the_time_out_stops_what_runs_without_a_charge(scheduler, host, timeout, signals, code):
    worker = host(shutdown_timeout=timeout)
    numbers = scheduler.assign(payload.ship(time.sleep), [((1000,), {})])
    scheduler.until(lambda: any(m.running == numbers for m in beats(scheduler)), "the start of the job")
    everybody = family(worker)
    worker.terminate()
    if signals == 2:
        scheduler.until(lambda: isinstance(scheduler.messages[-1], Draining), "the drain")
        worker.terminate()
    scheduler.until_over(numbers)
    assert scheduler.ends[numbers[0]].kind == LOST
    assert worker.wait(5.0) == code
    assert gone(everybody)


def test_ctrl_c_in_the_foreground_group_lets_the_running_job_finish(scheduler, host, tmp_path):
    worker = host(process_group=0)
    door = str(tmp_path / "door")
    numbers = scheduler.assign(payload.ship(wait_for), [((door,), {})])
    scheduler.until(lambda: any(m.running == numbers for m in beats(scheduler)), "the start of the job")
    os.killpg(worker.pid, signal.SIGINT)
    for child in family(worker):
        child.terminate()  # as a service manager does, to every process
    scheduler.until(lambda: isinstance(scheduler.messages[-1], Draining), "the drain")
    Path(door).touch()
    scheduler.until_over(numbers)
    assert numbers[0] in scheduler.results
    assert worker.wait(5.0) == 0


def test_a_worker_without_a_scheduler_stops_at_once(host, scheduler):
    scheduler.welcome = False
    worker = start_worker("tcp://127.0.0.1:1")
    until(lambda: psutil.Process(worker.pid).children(), "the fork server")
    worker.terminate()
    assert worker.wait(5.0) == 0
    host.workers.append(worker)


# ------------------------------------------------------------------------------------------------ the app


@pytest.mark.parametrize(
    ("files", "app", "told"),
    [
        ({}, "nosuch", "cannot import 'nosuch': ModuleNotFoundError: No module named 'nosuch'"),
        ({"broken.py": "x = 1\n1 / 0\n"}, "broken", "cannot import 'broken': ZeroDivisionError: division by zero"),
        ({"quits.py": "import sys\nsys.exit('bye')\n"}, "quits", "cannot import 'quits': SystemExit: bye"),
        (
            {"empty.py": ""},
            "empty",
            "module 'empty' holds no App; write app = App(...), or name it: -A MODULE:ATTRIBUTE",
        ),
        ({"t.py": APP}, "t:nothing", "module 't' has no attribute 'nothing'"),
        ({"t.py": APP}, "t:APP", "module 't' has no attribute 'APP'"),
        ({"t.py": APP}, "t:double", "t:double is a Task, not an App"),
        (
            {"t.py": APP + "app.include = ['t_more']\n", "t_more.py": "import t_deep", "t_deep.py": "nope"},
            "t",
            "cannot import 't_more': NameError: name 'nope' is not defined",
        ),
    ],
)
def test_an_app_that_does_not_load_ends_the_worker_with_one_line(scheduler, host, tmp_path, files, app, told):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    worker = host(app=app, cwd=tmp_path, wait=False)
    assert worker.wait(10.0) == 2
    lines = worker.stderr.read().splitlines()
    assert len(lines) == 1, lines
    assert told in lines[0]


def test_an_app_that_starts_threads_gets_children_that_are_not_forked(scheduler, host, tmp_path):
    (tmp_path / "t_threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    )
    (tmp_path / "t.py").write_text(APP + "app.include = ['t_threads']\n")
    worker = host(app="t", cwd=tmp_path)
    numbers = scheduler.assign("t.double", [((i,), {}) for i in range(3)], "msgpack")
    scheduler.until_over(numbers)
    assert [scheduler.value(n, "msgpack") for n in numbers] == [0, 2, 4]
    number = scheduler.assign(payload.ship(os._exit), [((5,), {})])[0]
    scheduler.until_over([number])
    assert "ended with exit code 5" in scheduler.failure(number).text
    worker.terminate()
    scheduler.until(lambda: isinstance(scheduler.messages[-1], Goodbye), "the goodbye")
    assert worker.wait(5.0) == 0
    assert "importing t_threads started 1 threads" in worker.stderr.read()
