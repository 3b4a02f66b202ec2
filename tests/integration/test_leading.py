"""Whoever waits for a lone job leads the client's loop meanwhile: over real sockets, against a scheduler of the test's.

Waits are made in threads of their own: handlers of pytest's main thread may be of any kind.
"""

import concurrent.futures
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from tests.helpers.processes import until
from zmqtasks import errors, wire
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.effects import Submission
from zmqtasks.submitter.leading import TERM, guarded
from zmqtasks.submitter.results import as_completed
from zmqtasks.transport import Sleeper

BOUND = 20.0  # seconds for a result


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[FakeScheduler]:
    with FakeScheduler(f"ipc://{tmp_path}/s") as fake:
        yield fake


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[Client]:
    with Client(scheduler.url) as made:
        yield made


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as one:
        yield one


def double(x: int) -> int:
    return 2 * x


def one_after_the_other(client: Client, first: int, count: int) -> list[int]:
    return [client.submit(double, i).result(BOUND) for i in range(first, first + count)]


def led_by(client: Client) -> list[int]:
    """The threads that took in Results, from now on."""
    threads: list[int] = []
    core = client.connection._core
    handle = core.handle

    def noted(message: wire.ToSubmitter, *given: Any) -> None:
        if isinstance(message, wire.Results):
            threads.append(threading.get_ident())
        handle(message, *given)

    core.handle = noted  # type: ignore[method-assign]
    return threads


def leading(client: Client, thread: ThreadPoolExecutor) -> int:
    """Have the thread wait for lone jobs until it leads; its ident."""
    me = thread.submit(threading.get_ident).result(BOUND)
    threads = led_by(client)
    until(lambda: one_of(thread, client) and threads and threads[-1] == me, "a thread that waits leads")
    return me


def one_of(thread: ThreadPoolExecutor, client: Client) -> bool:
    return thread.submit(one_after_the_other, client, 5, 1).result(BOUND) == [10]


def test_whoever_waits_for_a_lone_job_leads(client: Client, thread: ThreadPoolExecutor) -> None:
    leading(client, thread)
    assert thread.submit(one_after_the_other, client, 0, 300).result(BOUND) == [2 * i for i in range(300)]


def test_a_job_that_takes_longer_comes_all_the_same(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    scheduler.hold = True
    job = client.submit(double, 4)
    waits = thread.submit(job.result, BOUND)
    time.sleep(2 * TERM)  # so long that nobody leads any more
    scheduler.release()
    assert waits.result(BOUND) == 8


def test_a_time_out_is_kept_while_a_thread_leads(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    scheduler.hold = True
    job = client.submit(double, 4)
    with pytest.raises(errors.JobTimeout, match=r"was not over within 0\.005 s"):
        thread.submit(job.result, 0.005).result(BOUND)
    scheduler.release()
    assert job.result(BOUND) == 8


def test_what_is_submitted_and_not_waited_for_goes_out(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    before = sum(len(m.args) for m in scheduler.of(wire.Submit))

    def submit_five() -> list[Any]:
        one_after_the_other(client, 0, 1)  # the loop's thread is parked now
        return [client.submit(double, i) for i in range(5)]

    jobs = thread.submit(submit_five).result(BOUND)
    until(lambda: sum(len(m.args) for m in scheduler.of(wire.Submit)) == before + 6, "all are sent")
    assert [job.result(BOUND) for job in jobs] == [0, 2, 4, 6, 8]


def test_whoever_waits_in_another_way_wakes_the_thread_that_is_parked(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    naps = client.connection._leading._nap

    def in_other_ways() -> list[int]:
        naps.wait = lambda *_: Sleeper.wait(naps, _[0], BOUND)  # type: ignore[method-assign]  # it does not look by itself
        one_after_the_other(client, 0, 1)
        told: list[int] = []
        over = threading.Event()
        called = client.submit(double, 1)
        called.add_done_callback(lambda job: (told.append(job.result()), over.set()))
        over.wait(BOUND)
        one_after_the_other(client, 0, 1)
        told += [job.result() for job in as_completed([client.submit(double, 2)], BOUND)]
        one_after_the_other(client, 0, 1)
        told += [job.result() for job in concurrent.futures.as_completed([client.submit(double, 3)], BOUND)]
        one_after_the_other(client, 0, 1)
        cancelled = client.submit(double, 4)
        cancelled.cancel(timeout=BOUND)
        return told

    begin = time.monotonic()
    assert thread.submit(in_other_ways).result(5 * BOUND) == [2, 4, 6]
    assert time.monotonic() - begin < BOUND


def test_many_threads_wait_for_lone_jobs(client: Client) -> None:
    with ThreadPoolExecutor(6) as threads:
        told = list(threads.map(lambda first: one_after_the_other(client, first, 150), range(0, 6_000, 1_000)))
    assert told == [[2 * i for i in range(first, first + 150)] for first in range(0, 6_000, 1_000)]


def test_a_scheduler_that_comes_back_is_found_by_whoever_leads(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    for _ in range(3):
        scheduler.hold = True
        job = client.submit(double, 4)
        waits = thread.submit(job.result, BOUND)
        scheduler.hold = False
        scheduler.restart(forget=False)
        assert waits.result(BOUND) == 8
        assert thread.submit(one_after_the_other, client, 0, 3).result(BOUND) == [0, 2, 4]


def test_a_connection_that_breaks_while_two_sleep_beside_it_is_made_anew(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    """The loop's thread has gone to sleep again when the caller begins to lead: both see the end of the connection."""
    for _ in range(8):
        scheduler.hold = True
        job = client.submit(double, 4)
        until(lambda: not client.connection._leading._led_lately(), "the loop's thread serves the connection")
        time.sleep(0.01)  # it sleeps
        waits = thread.submit(job.result, BOUND)
        time.sleep(0.004)  # so does the caller
        scheduler.hold = False
        scheduler.restart(forget=False)
        assert waits.result(BOUND) == 8


def test_closing_ends_the_wait_of_whoever_leads(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    leading(client, thread)
    scheduler.hold = True
    job = client.submit(double, 4)
    waits = thread.submit(job.result, BOUND)
    client.connection.close(0)
    with pytest.raises(errors.ClientClosed):
        waits.result(BOUND)


def test_what_fails_in_a_turn_of_a_caller_ends_the_client(
    client: Client, thread: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    leading(client, thread)

    def broken(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    client.connection._core.handle = broken  # type: ignore[method-assign]
    with pytest.raises(errors.ClientClosed, match="RuntimeError: a bug of ours"):
        thread.submit(one_after_the_other, client, 0, 1).result(BOUND)
    assert "all its jobs end with ClientClosed" in caplog.text


def printed(script: str, *arguments: str) -> str:
    """What a script prints that ends well and says nothing else."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, timeout=60, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


NOTED = """
import sys, threading
from zmqtasks.submitter.client import Client
client = Client(sys.argv[1])
led = set()
core = client.connection._core
handle = core.handle
def noted(message, *given):
    led.add(threading.current_thread().name)
    handle(message, *given)
core.handle = noted
"""

INTERRUPTED = """
import os, signal, time
armed = threading.Event()
def interrupt():  # one at a time, and only where it is caught
    for i in range(150):
        armed.wait()
        armed.clear()
        time.sleep(i % 10 * 0.0003)
        os.kill(os.getpid(), signal.SIGINT)
caught = done = 0
thread = threading.Thread(target=interrupt)
def work():
    global done
    while thread.is_alive() or caught < 150 or done < 150:
        value = client.submit(pow, done, 2).result(20)
        assert value == done ** 2, (value, done)
        done += 1
thread.start()
while True:
    try:
        armed.set()
        work()
        break
    except KeyboardInterrupt:
        caught += 1
assert client.submit(pow, 3, 2).result(20) == 9
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
print("MainThread" in led)
"""


def test_ctrl_c_never_ends_a_turn_in_its_middle(scheduler: FakeScheduler) -> None:
    assert printed(NOTED + INTERRUPTED, scheduler.url) == "True\n"


ALARMED = """
import signal
class Late(BaseException):
    pass
def late(number, frame):
    raise Late
signal.signal(signal.SIGALRM, late)
done = late_ones = 0
while done < 100 or late_ones < 20:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0003 + done % 7 * 0.0003)
        assert client.submit(pow, done, 2).result(20) == done ** 2
        done += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        late_ones += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert client.submit(pow, 3, 2).result(20) == 9
print("MainThread" in led)
"""


def test_handlers_that_raise_wait_for_the_end_of_a_turn(scheduler: FakeScheduler) -> None:
    assert printed(NOTED + ALARMED, scheduler.url) == "True\n"


GUARDED = """
import os, signal
from zmqtasks.submitter.leading import guarded
def act():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGUSR1)
    print("not interrupted", flush=True)
signal.signal(signal.SIGUSR1, lambda *_: print("called", flush=True))
try:
    guarded(act)
except KeyboardInterrupt:
    print("interrupted afterwards", flush=True)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(guarded(lambda: guarded(act)))
signal.signal(signal.SIGUSR2, print)
print(guarded(act))
signal.signal(signal.SIGUSR2, signal.SIG_DFL)
print(guarded(act), signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL)
"""


def test_handlers_wait_for_the_end_of_what_is_guarded() -> None:
    assert printed(GUARDED).splitlines() == [
        "not interrupted", "called", "interrupted afterwards", "not interrupted", "called", "True", "False",
        "not interrupted", "called", "True True",
    ]  # fmt: skip


FORKED = """
import os, signal, sys, threading, time
from zmqtasks.submitter.leading import guarded
forked, over = threading.Event(), threading.Event()
def act():
    forked.set()
    over.wait()
def fork():
    forked.wait()
    pid = os.fork()
    if not pid:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    over.set()
threading.Thread(target=fork).start()
guarded(act)
"""


def test_a_child_that_is_forked_meanwhile_can_be_interrupted() -> None:
    assert printed(FORKED) == "7\n"


def test_who_waits_in_the_middle_of_a_turn_waits_no_longer_than_told(
    scheduler: FakeScheduler, client: Client, thread: ThreadPoolExecutor
) -> None:
    """As the handler of a log may, or a finalizer."""
    leading(client, thread)
    scheduler.hold = True
    inner: list[int] = []
    core = client.connection._core
    submit = core.submit

    def waiting(submission: Submission, *given: Any) -> int:
        core.submit = submit  # type: ignore[method-assign]
        number = submit(submission, *given)
        with pytest.raises(errors.JobTimeout):
            submission.handles[0].result(0.05)
        inner.append(number)
        return number

    core.submit = waiting  # type: ignore[method-assign]
    job = thread.submit(client.submit, double, 2).result(BOUND)
    scheduler.release()
    assert job.result(BOUND) == 4
    assert len(inner) == 1


HANDLERS = """
import os, signal
from zmqtasks.submitter.leading import guarded
told = []
def graceful(number, frame):
    told.append("term")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    guarded(lambda: told.append("nested"))
def other(number, frame):
    told.append("never")
def act():
    for _ in range(300):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        sum(range(100))
    told.append(signal.getsignal(signal.SIGUSR2))
    signal.signal(signal.SIGUSR2, quiet)
def quiet(number, frame):
    pass
signal.signal(signal.SIGTERM, graceful)
signal.signal(signal.SIGUSR1, other)
signal.signal(signal.SIGUSR2, other)
guarded(act)
guarded(lambda: None)
print([one for one in told if isinstance(one, str)], signal.getsignal(signal.SIGUSR2) is quiet)
"""


def test_handlers_that_set_other_handlers_are_heeded() -> None:
    assert printed(HANDLERS) == "['term', 'nested'] True\n"


DEEP = """
import sys
from zmqtasks.submitter.client import Client
client = Client(sys.argv[1])
for i in range(50):
    assert client.submit(pow, i, 2).result(20) == i ** 2
def deep(left):
    if left:
        return deep(left - 1)
    return client.submit(pow, 3, 2).result(20)
sys.setrecursionlimit(400)
caught = 0
for left in range(250, 400):
    try:
        assert deep(left) == 9
    except RecursionError:
        caught += 1
sys.setrecursionlimit(1000)
assert client.submit(pow, 5, 2).result(20) == 25
print(caught > 0)
"""


def test_who_waits_at_the_end_of_the_stack_gets_the_error_and_the_client_goes_on(scheduler: FakeScheduler) -> None:
    assert printed(DEEP, scheduler.url) == "True\n"


def test_what_is_no_exception_reaches_the_caller_and_ends_the_client(
    client: Client, thread: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    leading(client, thread)

    def broken(*_: object) -> None:
        raise GeneratorExit

    client.connection._core.handle = broken  # type: ignore[method-assign]
    with pytest.raises((GeneratorExit, errors.ClientClosed)):
        thread.submit(one_after_the_other, client, 0, 1).result(BOUND)
    until(lambda: not client.connection.usable, "the client is closed")
    assert "GeneratorExit" in caplog.text


def test_threads_are_not_interrupted_anyway(thread: ThreadPoolExecutor) -> None:
    before = signal.signal(signal.SIGUSR1, print)
    done: list[int] = []
    act: Callable[[], None] = lambda: done.append(1)  # noqa: E731
    try:
        assert thread.submit(guarded, act).result(BOUND)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert done == [1]
