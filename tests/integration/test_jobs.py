"""What a job sees and says: itself, how far it has come, its output; and what a hostile one does to its child."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helpers.worker_side import PREFIX, Host, ScriptedScheduler
from zmqtasks import payload
from zmqtasks.config import MAX_PROGRESS
from zmqtasks.errors import RemoteError
from zmqtasks.ids import job_id
from zmqtasks.wire import CANCELLED, CRASHED, FAILED, LOST, RETRYABLE, SUSPECT, Assign, Function, Kill, Progress, Work


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


def start(scheduler: ScriptedScheduler, fn: Any, *args: Any) -> int:
    return scheduler.assign(payload.ship(fn), [(args, {})])[0]


def one(scheduler: ScriptedScheduler, fn: Any, *args: Any) -> int:
    """Run one job to its end; its number."""
    number = start(scheduler, fn, *args)
    scheduler.until_over([number])
    return number


def raised(scheduler: ScriptedScheduler, number: int) -> Exception:
    """What the submitter's result() would raise."""
    return payload.decode_exception(scheduler.ends[number].payload)


def told(scheduler: ScriptedScheduler, number: int) -> list[Any]:
    """What a job told of itself, in order."""
    return [
        msgspec.msgpack.decode(value)
        for message in scheduler.messages
        if isinstance(message, Progress)
        for at, value in zip(message.numbers, message.values, strict=True)
        if at == number
    ]


def running(scheduler: ScriptedScheduler) -> list[int]:
    beats = [m for m in scheduler.messages if hasattr(m, "running")]
    return sorted(beats[-1].running) if beats else []


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.001)


def who() -> Any:
    import zmqtasks

    return zmqtasks.current_job()


def pid() -> int:
    return os.getpid()


# ------------------------------------------------------------------------------------------------ itself


def test_a_job_knows_how_often_it_was_retried(scheduler, host):
    host(name="w1")
    fn, data = payload.ship(who), payload.encoder("pickle")(((), {}))
    work = Work(PREFIX, fn.name, fn.digest, "pickle", [0, 1, 2], [data] * 3)
    scheduler.send(Assign(1, 900, [work], [Function(*fn)], [(2, 4)]))
    scheduler.until_over([1, 2, 3])
    seen = [scheduler.value(n) for n in (1, 2, 3)]
    assert [job.retries for job in seen] == [0, 4, 0]
    assert [(job.id, job.attempt) for job in seen] == [(job_id(PREFIX, i), 900 + i) for i in range(3)]
    assert {(job.worker, job.host, job.deadline) for job in seen} == {("w1", os.uname().nodename, None)}


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_threads_that_a_job_starts(scheduler, host, pool):
    host(concurrency=2, pool=pool)

    def job():
        import zmqtasks

        seen = []
        thread = threading.Thread(target=lambda: seen.append(zmqtasks.current_job()))
        thread.start()
        thread.join()
        return zmqtasks.current_job(), seen[0]

    mine, threads = scheduler.value(one(scheduler, job))
    assert threads == (mine if pool == "processes" else None)


# ------------------------------------------------------------------------------------------------ tried again

RETRIES = """
import zmqtasks

app = zmqtasks.App("t")

class Told(zmqtasks.Task):
    default_retry_delay = 7
    max_retries = 1

    def before_start(self, task_id, args, kwargs): self.tell("before_start", args, kwargs)
    def on_success(self, retval, task_id, args, kwargs): self.tell("on_success", retval)
    def on_failure(self, exc, task_id, args, kwargs, einfo): self.tell("on_failure", exc, einfo.type.__name__)
    def on_retry(self, exc, task_id, args, kwargs, einfo): self.tell("on_retry", exc, einfo.type.__name__)
    def after_return(self, status, retval, task_id, args, kwargs, einfo): self.tell("after_return", status, retval)

    def tell(self, *what):
        assert zmqtasks.current_job().id == self.request.id
        print("told", self.request.retries, *what)

    def __call__(self, *args, **kwargs):
        print("told around")
        return super().__call__(*args, **kwargs)

@app.task(base=Told, bind=True)
def work(self, how, **more):
    print("told work")
    if how == "fails":
        raise KeyError(how)
    if how == "again":
        try:
            raise OSError(how)
        except OSError as error:
            self.retry(**more)
    return [how, self.request.hostname, self.request.args, self.request.kwargs]

@app.task(bind=True)
def inner(self, **more):
    self.retry(**more)

@app.task(bind=True)
def outer(self, how):
    if how == "helper":
        helper(self)
    if how == "exc":
        inner(exc=KeyError("inner"))
    inner(countdown=3)

def helper(task):
    task.retry(countdown=2, max_retries=9)
"""


def assign_retried(scheduler: ScriptedScheduler, task: str, calls: list[tuple[tuple, dict]], retries: int) -> list[int]:
    """Jobs that were tried again so often before."""
    encode = payload.encoder("msgpack")
    work = Work(PREFIX, task, b"", "msgpack", list(range(len(calls))), [encode(call) for call in calls])
    numbers = list(range(scheduler.next, scheduler.next + len(calls)))
    scheduler.send(Assign(scheduler.next, (9 << 32) + scheduler.next, [work], [], [(n, retries) for n in numbers]))
    scheduler.next += len(calls)
    scheduler.until_over(numbers)
    return numbers


def of(scheduler: ScriptedScheduler, number: int) -> tuple[int, float, int, str]:
    """Kind, delay, limit and type of a failure."""
    end = scheduler.ends[number]
    return end.kind, end.delay, end.limit, scheduler.failure(number).type_name.removeprefix("builtins.")


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_a_job_that_asks_is_tried_again_and_its_class_is_told_in_order(scheduler, host, tmp_path, pool):
    (tmp_path / "t.py").write_text(RETRIES)
    worker = host(app="t", cwd=tmp_path, pool=pool, name="w1")
    calls = [(("well",), {}), (("fails",), {}), (("again",), {}), (("again",), {"countdown": 0.5, "max_retries": 5})]
    good, bad, again, other = assign_retried(scheduler, "t.work", calls, 0)
    last, more = assign_retried(scheduler, "t.work", calls[2:], 1)
    assert scheduler.value(good, "msgpack") == ["well", "w1", ["well"], {}]
    assert of(scheduler, bad) == (RETRYABLE, -1.0, -1, "KeyError")
    assert of(scheduler, again) == (RETRYABLE, 7.0, 1, "OSError")
    assert of(scheduler, other) == (RETRYABLE, 0.5, 5, "OSError")
    assert of(scheduler, last) == (FAILED, -1.0, -1, "OSError")
    assert of(scheduler, more) == (RETRYABLE, 0.5, 5, "OSError")
    log = host.log_of(worker)
    assert sum("(t.work): OSError: again (to be tried again in 7.0 s)" in line for line in log) == 1
    told = [line.partition(" told ")[2] for line in log if " told " in line]
    once = "0 before_start ('{0}',) {{}}|around|work|"
    assert "|".join(told) == "|".join([
        once.format("well") + f"0 on_success {['well', 'w1', ('well',), {}]}",
        f"0 after_return SUCCESS {['well', 'w1', ('well',), {}]}",
        once.format("fails") + "0 on_failure 'fails' KeyError|0 after_return FAILURE 'fails'",
        once.format("again") + "0 on_retry again OSError",
        "0 before_start ('again',) {'countdown': 0.5, 'max_retries': 5}|around|work|0 on_retry again OSError",
        "1 before_start ('again',) {}|around|work|1 on_failure again OSError|1 after_return FAILURE again",
        "1 before_start ('again',) {'countdown': 0.5, 'max_retries': 5}|around|work|1 on_retry again OSError",
    ])  # fmt: skip


def test_in_nested_calls_only_the_job_itself_can_be_tried_again(scheduler, host, tmp_path):
    (tmp_path / "t.py").write_text(RETRIES)
    host(app="t", cwd=tmp_path)
    helper, exc, inner = assign_retried(scheduler, "t.outer", [(("helper",), {}), (("exc",), {}), (("inner",), {})], 3)
    assert of(scheduler, helper) == (RETRYABLE, 2.0, 9, "MaxRetriesExceeded")
    assert of(scheduler, exc) == (RETRYABLE, -1.0, -1, "KeyError")  # raised, and what Spec and scheduler say holds
    assert of(scheduler, inner) == (FAILED, -1.0, -1, "MaxRetriesExceeded")
    number = assign_retried(scheduler, "t.outer", [(("inner",), {})], 2)[0]
    assert of(scheduler, number) == (RETRYABLE, 3.0, 3, "MaxRetriesExceeded")


def test_a_shipped_function_asks_by_hand(scheduler, host):
    host()

    def ask(countdown):
        import zmqtasks

        raise zmqtasks.Retry(countdown=countdown, exc=KeyError("k"))

    assert of(scheduler, one(scheduler, ask, 4)) == (RETRYABLE, 4.0, -1, "KeyError")
    assert isinstance(raised(scheduler, scheduler.next - 1), KeyError)


# ------------------------------------------------------------------------------------------------ progress


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_progress_comes_through_and_the_last_one_always(scheduler, host, tmp_path, pool):
    host(concurrency=2, pool=pool)
    door = str(tmp_path / "door")

    def job(path, bound):
        import zmqtasks

        for i in range(bound):
            zmqtasks.progress(i, bound)
        while not Path(path).exists():
            time.sleep(0.001)

    numbers = [start(scheduler, job, door, 300), start(scheduler, job, door, 200)]
    for number, bound in zip(numbers, (300, 200), strict=True):
        last = {"done": bound - 1, "total": bound}
        scheduler.until(lambda n=number, last=last: last in told(scheduler, n), "the last one")
        assert told(scheduler, number)[0] == {"done": 0, "total": bound}
        assert len(told(scheduler, number)) < 100
    Path(door).touch()
    scheduler.until_over(numbers)
    assert all(n in scheduler.results for n in numbers)


def test_states_in_celerys_manner_and_numbers_of_any_kind(scheduler, host, tmp_path):
    (tmp_path / "t.py").write_text(
        "import os, time\nfrom fractions import Fraction\nimport zmqtasks\napp = zmqtasks.App('t')\n"
        "class Count:\n    def __index__(self): return 7\n"
        "@app.task(bind=True)\ndef work(self):\n"
        "    self.update_state(state='LOADING', meta={'file': 'a'})\n    wait('1')\n"
        "    zmqtasks.current_job().progress(Count())\n    wait('2')\n"
        "    zmqtasks.progress(Fraction(1, 2), 1)\n    wait('3')\n"
        "    zmqtasks.progress(1, 1)\n    wait('4')\n"
        "def wait(name):\n    while not os.path.exists(name): time.sleep(0.001)\n"
    )
    host(app="t", cwd=tmp_path)
    number = scheduler.assign("t.work", [((), {})], "msgpack")[0]
    expected = [
        {"state": "LOADING", "meta": {"file": "a"}},
        {"done": 7, "total": None},
        {"done": 0.5, "total": 1},
        {"done": 1, "total": 1},
    ]
    for count in range(1, 5):  # the newest may replace one that nobody has seen
        scheduler.until(lambda count=count: told(scheduler, number) == expected[:count], f"{count} of {expected}")
        (tmp_path / str(count)).touch()
    scheduler.until_over([number])
    assert told(scheduler, number) == expected


def test_progress_that_cannot_be_is_the_jobs_error(scheduler, host):
    host()
    for code, error, text in [
        ("zmqtasks.current_job().update_state(meta='x' * 5000)", "ValueError", f"it may have {MAX_PROGRESS}"),
        ("zmqtasks.current_job().update_state(meta=object())", "PayloadError", "no plain data"),
        ("zmqtasks.progress('half')", "TypeError", "in numbers, not in str"),
    ]:
        failure = scheduler.failure(one(scheduler, exec, f"import zmqtasks\n{code}"))
        assert failure.type_name.endswith(error)
        assert text in failure.text


def test_a_job_that_is_over_or_forked_tells_nothing(scheduler, host):
    host()

    def keep():
        import zmqtasks

        sys.kept = zmqtasks.current_job()

    def use():
        try:
            sys.kept.progress(1)
        except RuntimeError as error:
            return str(error)

    def fork():
        import zmqtasks

        read, write = os.pipe()
        if not os.fork():
            try:
                zmqtasks.progress(1)
            except RuntimeError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.wait()
        return os.read(read, 1000).decode()

    one(scheduler, keep)
    assert re.fullmatch("job [0-9a-f]{32} is over", scheduler.value(one(scheduler, use)))
    assert "runs in the process that forked this one" in scheduler.value(one(scheduler, fork))


# ------------------------------------------------------------------------------------------------ threads


def test_fifty_jobs_that_wait_run_together_in_threads(scheduler, host):
    host(concurrency=50, pool="threads")

    def meet(count):
        sys.here = getattr(sys, "here", None) or threading.Barrier(count)
        sys.here.wait(30)
        return who(), os.getpid()

    numbers = scheduler.assign(payload.ship(meet), [((50,), {})] * 50)
    scheduler.until_over(numbers)
    jobs, pids = zip(*map(scheduler.value, numbers), strict=True)
    assert [job.id for job in jobs] == [job_id(PREFIX, i) for i in range(50)]
    assert len(set(pids)) == 1
    numbers = scheduler.assign(payload.ship(lambda x: x + 1), [((i,), {}) for i in range(2000)])
    scheduler.until_over(numbers)
    assert [scheduler.value(n) for n in numbers] == list(range(1, 2001))


def test_killing_one_job_of_threads_ends_their_process_and_charges_nobody(scheduler, host):
    host(concurrency=3, pool="threads")
    numbers = scheduler.assign(payload.ship(time.sleep), [((1000,), {})] * 3)
    scheduler.until(lambda: running(scheduler) == numbers, "the start of all three")
    scheduler.send(Kill([(numbers[1], 1)]))
    scheduler.until_over(numbers)
    assert [scheduler.ends[n].kind for n in numbers] == [LOST, CANCELLED, LOST]
    assert scheduler.value(one(scheduler, len, "abc")) == 3


def test_jobs_that_shared_a_process_that_died_are_suspects(scheduler, host, tmp_path):
    host(concurrency=3, pool="threads")
    door = str(tmp_path / "door")
    numbers = [start(scheduler, time.sleep, 1000), start(scheduler, time.sleep, 1000)]
    numbers += [start(scheduler, lambda path: (wait_for(path), os._exit(3)), door)]
    scheduler.until(lambda: running(scheduler) == numbers, "the start of all three")
    Path(door).touch()
    scheduler.until_over(numbers)
    assert [scheduler.ends[n].kind for n in numbers] == [SUSPECT] * 3
    assert "ended with exit code 3 with 3 jobs in it while running time.sleep" in scheduler.failure(numbers[0]).text
    lone = one(scheduler, os._exit, 4)
    assert scheduler.ends[lone].kind == CRASHED
    assert scheduler.value(one(scheduler, len, "abc")) == 3


# ------------------------------------------------------------------------------------------------ output


def test_what_a_job_prints_and_logs_names_it(scheduler, host):
    worker = host(concurrency=2)

    def job(word):
        import logging
        import warnings

        print("says", word)
        print("unfinished", end="")
        print("error", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)
        os.write(1, b"from below\n")
        subprocess.run(["echo", "from a program"], stdout=sys.stdout, check=True)
        logging.getLogger("shop").warning("logged", extra={"task": "mine"})
        logging.getLogger("shop").warning("logged twice")

    numbers = [one(scheduler, job, "hello"), one(scheduler, job, "again")]
    lines = host.log_of(worker)
    for number, word in zip(numbers, ("hello", "again"), strict=True):
        mark = f"[{job_id(PREFIX, number - 1)} {payload.function_name(job)}]"
        own = [line for line in lines if mark in line]
        assert own[0] == f"{mark} says {word}"
        assert f"{mark} error" in own
        assert f"{mark} unfinished" in own
        assert any("UserWarning: careful" in line for line in own)
        assert any(re.fullmatch(rf".* WARNING shop\[\d+\] {re.escape(mark)}: logged twice", line) for line in own)
    assert lines.count("from below") == lines.count("from a program") == 2
    assert sum("mine]: logged" in line for line in lines) == 2


def test_threads_print_under_their_own_names(scheduler, host):
    worker = host(concurrency=8, pool="threads")

    def job(i):
        for _ in range(10):  # the log is a pipe that nobody reads meanwhile
            print("I am", end=" ")
            print(i)

    numbers = scheduler.assign(payload.ship(job), [((i,), {}) for i in range(16)])
    scheduler.until_over(numbers)
    lines = [line for line in host.log_of(worker) if "I am" in line]
    name = payload.function_name(job)
    assert sorted(lines) == sorted(f"[{job_id(PREFIX, i)} {name}] I am {i}" for i in range(16) for _ in range(10))


def test_a_log_file_takes_what_jobs_print_and_log(scheduler, host, tmp_path):
    worker = host(logfile=str(tmp_path / "w.log"))

    def job():
        import logging

        os.chdir("/")
        print("printed")
        logging.getLogger("shop").warning("logged")

    number = one(scheduler, job)
    mark = f"[{job_id(PREFIX, number - 1)} {payload.function_name(job)}]"
    lines = (tmp_path / "w.log").read_text().splitlines()
    assert lines[0] == f"{mark} printed"
    assert lines[1].endswith(f"{mark}: logged")
    assert not any(mark in line for line in host.log_of(worker))


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_a_full_disk_stops_no_job(scheduler, host, tmp_path, pool):
    """The log is a file that may not grow beyond 16 KiB; stdout is a device that is always full."""
    code = (
        "import os, resource, sys; log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND);"
        "os.dup2(log, 2); os.dup2(os.open('/dev/full', os.O_WRONLY), 1);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384));"
        "from zmqtasks.cli import main; sys.argv[1:] = sys.argv[2:]; sys.exit(main())"
    )
    command = ["worker", "--broker", scheduler.url, "-c", "2", "-P", pool, "-l", "info"]
    worker = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log"), *command],
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    try:
        scheduler.until(lambda: scheduler.hello or worker.poll() is not None, "a hello")

        def job(i):
            import logging

            print("x" * 1000)
            logging.getLogger("shop").warning("y" * 1000)
            return i

        numbers = scheduler.assign(payload.ship(job), [((i,), {}) for i in range(100)])
        failing = scheduler.assign(payload.ship(abs), [(("text",), {})] * 30)
        scheduler.until_over(numbers + failing)
        assert [scheduler.value(n) for n in numbers] == list(range(100))
        assert (tmp_path / "log").stat().st_size == 16384
        worker.terminate()
        scheduler.until(lambda: worker.poll() is not None, "the end of the worker")
        assert worker.returncode == 0
    finally:
        worker.kill()
        worker.wait()


# ------------------------------------------------------------------------------------------------ hostile exceptions

HOSTILE = """
import sys
class NeedsTwo(Exception):
    def __init__(self, one, two): super().__init__(one)
class BadReduce(Exception):
    def __reduce__(self): raise KeyboardInterrupt
class BadStr(Exception):
    def __str__(self): raise SystemExit
class BadTrace(Exception):
    def with_traceback(self, trace): raise OSError
    @property
    def __class__(self): raise MemoryError
class Huge(Exception): pass
def deep(n):
    value = []
    for _ in range(n): value = [value]
    return value
def recurse(n=0): return recurse(n + 1)
def chain():
    try: {}['inner']
    except KeyError as error: raise ValueError('outer') from error
def group(): raise ExceptionGroup('several', [ValueError('v'), ExceptionGroup('more', [KeyError('k')])])
def surrogate(): raise OSError(2, 'no file', 'a\\udcffb')
def unload():
    import os
    os.unlink(__file__)
"""

CASES = [
    ("raise NeedsTwo('a', 'b')", RETRYABLE, "NeedsTwo", "a"),
    ("raise BadReduce('b')", RETRYABLE, "BadReduce", "b"),
    ("raise BadStr", RETRYABLE, "BadStr", "<BadStr whose __str__ fails>"),
    ("raise BadTrace('t')", RETRYABLE, "BadTrace", "t"),
    ("raise Huge('h' * 10_000_000)", RETRYABLE, "Huge", "characters left out"),
    ("e = Huge('small'); e.load = bytes(5_000_000); raise e", RETRYABLE, "Huge", "small"),
    ("recurse()", RETRYABLE, "RecursionError", "maximum recursion depth"),
    ("result = deep(100_000)", FAILED, "PayloadError", "cannot be encoded as pickle: maximum recursion depth"),
    ("result = (x for x in ())", FAILED, "PayloadError", "the result (generator) cannot be encoded as pickle"),
    ("surrogate()", RETRYABLE, "FileNotFoundError", "a\\udcffb"),
    ("chain()", RETRYABLE, "ValueError", "outer"),
    ("group()", RETRYABLE, "ExceptionGroup", "several (2 sub-exceptions)"),
    ("raise SystemExit(3)", FAILED, "SystemExit", "3"),
    ("raise KeyboardInterrupt", FAILED, "KeyboardInterrupt", ""),
    ("raise GeneratorExit('g')", FAILED, "GeneratorExit", "g"),
]


def run_code(code: str) -> Any:
    import hostile

    space = dict(vars(hostile))
    exec(code, space)
    return space.get("result")


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_hostile_exceptions_and_results_are_told_and_the_child_lives_on(scheduler, host, tmp_path, pool):
    (tmp_path / "hostile.py").write_text(HOSTILE)
    host(cwd=tmp_path, pool=pool, concurrency=2 if pool == "threads" else 1)
    before = scheduler.value(one(scheduler, pid))
    numbers = {code: one(scheduler, run_code, code) for code, *_ in CASES}
    for code, kind, name, text in CASES:
        failure = scheduler.failure(numbers[code])
        assert failure.type_name.endswith(name), code
        assert text in failure.text, code
        assert scheduler.ends[numbers[code]].kind == kind, code
        assert len(failure.text) <= payload.MAX_TEXT + 100, code
        assert len(scheduler.ends[numbers[code]].payload) < 600_000, code
        assert isinstance(raised(scheduler, numbers[code]), Exception), code
    trace = scheduler.failure(numbers["chain()"]).traceback
    assert "KeyError: 'inner'" in trace
    assert "direct cause" in trace
    assert "(the exception itself has 5" in scheduler.failure(numbers[CASES[5][0]]).traceback
    several = raised(scheduler, numbers["group()"])
    assert isinstance(several, ExceptionGroup)
    assert isinstance(several.exceptions[1].exceptions[0], KeyError)
    away = raised(scheduler, numbers[CASES[0][0]])
    assert isinstance(away, RemoteError)
    assert (away.type_name, away.text) == ("hostile.NeedsTwo", "a")
    assert scheduler.value(one(scheduler, pid)) == before


# ------------------------------------------------------------------------------------------------ hostile jobs

GOES_ON = {
    "replaces stdout": "import sys, io; sys.stdout = sys.stderr = io.StringIO()",
    "closes stdout": "import sys; sys.stdout.close(); sys.stderr.close()",
    "closes what it did not open": "import os; os.close(0); os.close(1); os.close(2)",
    "turns the garbage collector off": "import gc; gc.disable()",
    "takes signals": "import signal\nfor n in (2, 15): signal.signal(n, signal.SIG_DFL)",
    "leaves an alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.3)",
    "leaves threads": "import threading as t\nfor _ in range(200): t.Thread(target=t.Event().wait).start()",
    "changes the directory": "import os; os.chdir('/')",
    "clears the environment": "import os; os.environ.clear()",
    "comes back twice": "import os; os.fork()",
    "sets a trace": "import sys; sys.setprofile(lambda *_: None)",
}


def test_what_a_job_does_to_its_process_does_not_harm_the_next(scheduler, host):
    worker = host()

    def look():
        import gc
        import signal

        taken = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        print("still heard")
        return os.getpid(), gc.isenabled(), [getattr(each, "__name__", each) for each in taken]

    fn = payload.ship(look)
    before = scheduler.value(one(scheduler, pid))
    for what, code in GOES_ON.items():
        assert scheduler.value(one(scheduler, exec, code)) is None, what
        numbers = scheduler.assign(fn, [((), {})] * 20)
        scheduler.until_over(numbers)
        assert all(scheduler.value(n) == (before, True, ["let_pass", "let_pass"]) for n in numbers), what
    time.sleep(0.4)  # the alarm would have come by now
    assert scheduler.value(one(scheduler, pid)) == before
    assert sum("still heard" in line for line in host.log_of(worker)) == 20 * len(GOES_ON)


def test_a_timer_that_a_job_leaves_behind_raises_neither_in_its_report_nor_in_the_next_job(scheduler, host):
    host()

    def forget(size):
        import signal
        import sys
        import time

        def late(_number, frame):
            while frame is not None:
                if frame.f_code.co_name == "_report" or frame.f_locals.get("size") == 0:
                    raise TimeoutError("late")
                frame = frame.f_back

        assert signal.setitimer(signal.ITIMER_REAL, 0) == (0.0, 0.0)
        if size:
            signal.signal(signal.SIGALRM, late)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
            return bytes(size)
        time.sleep(0.005)
        return sys.getsizeof(late)

    numbers = scheduler.assign(payload.ship(forget), [((size,), {}) for size in (1, 0) * 20 + (20_000_000,)])
    scheduler.until_over(numbers)
    assert {n: scheduler.failure(n).text for n in scheduler.ends} == {}
    assert len(scheduler.value(numbers[-1])) == 20_000_000


def test_a_handler_that_tells_progress_may_interrupt_a_report(scheduler, host):
    host()

    def tell(size):
        import itertools
        import signal
        import threading

        import zmqtasks

        count = itertools.count()

        def handler(*_):
            if zmqtasks.current_job() is not None:
                zmqtasks.progress(next(count))

        def interrupt():
            while zmqtasks.current_job() is not None:
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.0002)

        signal.signal(signal.SIGUSR1, handler)
        threading.Thread(target=interrupt, daemon=True).start()
        return bytes(size)

    number = one(scheduler, tell, 40_000_000)
    assert len(scheduler.value(number)) == 40_000_000


def test_a_child_that_may_open_no_more_files_hands_large_arguments_to_another(scheduler, host):
    worker = host()

    def leak():
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        sys.kept = []
        try:
            while True:
                sys.kept.append(os.open("/dev/null", 0))
        except OSError:
            return os.getpid()

    first = scheduler.value(one(scheduler, leak))
    number = one(scheduler, len, bytes(3_000_000))
    assert scheduler.value(number) == 3_000_000
    assert scheduler.value(one(scheduler, pid)) != first
    log = host.log_of(worker)
    assert sum(f"this process (pid {first}) cannot take in its next jobs" in line for line in log) == 1
    assert not [line for line in log if "Traceback" in line]


@pytest.mark.parametrize("pool", ["processes", "threads"])
def test_a_child_whose_descriptors_a_job_closed_is_replaced(scheduler, host, pool):
    host(concurrency=2, pool=pool)
    number = one(scheduler, os.closerange, 3, 1000)
    assert scheduler.ends[number].kind == CRASHED
    assert "while running posix.closerange" in scheduler.failure(number).text
    assert scheduler.value(one(scheduler, len, "abc")) == 3


def test_arguments_that_do_not_unpickle_fail_alone(scheduler, host):
    host()
    data = [b"cno_such_module\nf\n.", b"\x80\x05K\x01.", payload.encoder("pickle")((("abc",), {}))]
    numbers = scheduler.assign_encoded(payload.ship(len), data, "pickle")
    scheduler.until_over(numbers)
    assert "arguments cannot be decoded as pickle: ModuleNotFoundError" in scheduler.failure(numbers[0]).text
    assert numbers[1] in scheduler.ends
    assert scheduler.value(numbers[2]) == 3
