"""The client over real sockets, against a scheduler that the test has in its hands."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import errors, payload, wire
from zmqtasks.clock import Now
from zmqtasks.submitter.client import Client, broker_url, named_broker
from zmqtasks.submitter.effects import Effects
from zmqtasks.submitter.job import Job
from zmqtasks.submitter.results import as_completed
from zmqtasks.task import before_outcomes


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[FakeScheduler]:
    with FakeScheduler(f"ipc://{tmp_path}/s") as fake:
        yield fake


@pytest.fixture
def client(scheduler: FakeScheduler) -> Iterator[Client]:
    with Client(scheduler.url) as made:
        yield made


def wait_until(condition: Callable[[], object], what: str) -> None:
    end_time = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end_time, f"in 10 s it was never true that {what}"
        time.sleep(0.002)


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    message = f"no {x}"
    raise ValueError(message)


# ------------------------------------------------------------------------------------------------ connecting


def test_no_scheduler_is_a_clear_error_in_time(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(errors.SchedulerUnreachable, match=r"ipc://.*/s within 0\.2 s; start one with: zmqtasks sched"):
        Client(f"ipc://{tmp_path}/s", connect_timeout=0.2)
    assert time.monotonic() - begin < 2
    assert not [t for t in threading.enumerate() if t.name.startswith(f"zmqtasks ipc://{tmp_path}")]


@pytest.mark.parametrize("url", ["head:5555", "tcp://head", "http://head:1", "tcp://head:99999"])
def test_bad_urls_are_named(url: str) -> None:
    with pytest.raises(errors.BadUrl, match=url):
        Client(url)


def test_where_the_scheduler_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    assert broker_url() == "local://"
    assert named_broker() is None
    Path("zmqtasks.toml").write_text("", encoding="utf-8")
    assert named_broker() is None
    Path("zmqtasks.toml").write_text('broker = "tcp://file:1"', encoding="utf-8")
    assert broker_url() == named_broker() == "tcp://file:1"
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://env:1")
    assert broker_url() == "tcp://env:1"
    assert broker_url("tcp://given:1") == "tcp://given:1"
    monkeypatch.delenv("ZMQTASKS_BROKER")
    for broken in ("broker = ", "broker = 3"):
        Path("zmqtasks.toml").write_text(broken, encoding="utf-8")
        with pytest.raises(errors.BadUrl, match=r"zmqtasks\.toml"):
            broker_url()


@pytest.mark.parametrize(
    ("code", "error"), [("protocol", errors.ProtocolMismatch), ("authorization", errors.NotAuthorized)]
)
def test_a_refusal_is_raised_at_once(scheduler: FakeScheduler, code: str, error: type[Exception]) -> None:
    scheduler.greeting = wire.Refused(code, "it speaks 9, you speak 1", 9, "9.0")
    with pytest.raises(error, match="speaks 9"):
        Client(scheduler.url)


# ------------------------------------------------------------------------------------------------ submitting


def test_submit_ships_the_function_once_and_brings_the_value(scheduler: FakeScheduler, client: Client) -> None:
    assert client.submit(pow, 2, 10).result(10) == 1024
    assert client.submit(pow, exp=3, base=2).result(10) == 8
    submits = scheduler.of(wire.Submit)
    assert [len(m.functions) for m in submits] == [1, 0]
    assert submits[0].spec == wire.Spec(python=payload.python_version())
    assert submits[0].codec == "cloudpickle"


@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_job_that_exits_does_not_end_the_script(scheduler: FakeScheduler, client: Client, chunksize: int) -> None:
    scheduler.run = _run_anything
    values = client.map(leave, [1, 0, 2], chunksize=chunksize)
    assert next(values) == 1
    with pytest.raises(errors.RemoteError, match="SystemExit: out") as caught:
        next(values)
    assert "in leave" in str(caught.value.__cause__)
    assert client.submit(double, 2).result(10) == 4


def leave(x: int) -> int:
    return x or sys.exit("out")


def _run_anything(submit: wire.Submit, functions: dict[bytes, bytes]) -> list[bytes | BaseException]:
    """As a worker does, which outlives what its jobs raise."""
    out: list[bytes | BaseException] = []
    fn = payload.unship(functions[submit.function])
    for data in submit.args:
        args, kwargs = payload.decoder(submit.codec)(data)
        try:
            out.append(payload.encode_result(submit.codec, fn(*args, **kwargs), submit.task))
        except BaseException as error:  # noqa: BLE001
            out.append(error)
    return out


def test_async_functions_are_refused_before_anything_is_sent(scheduler: FakeScheduler, client: Client) -> None:
    async def fetch(x: int) -> int:
        return x

    for use in (
        lambda: client.submit(fetch, 1),
        lambda: client.submit_many(fetch, [((1,), {})]),
        lambda: client.map(fetch, [1]),
        lambda: client.map(fetch, [1], chunksize=2),
    ):
        with pytest.raises(errors.NotAvailable, match=r"async functions are not supported yet: .*fetch"):
            use()
    assert scheduler.of(wire.Submit) == []


def test_exceptions_come_as_themselves(client: Client) -> None:
    job = client.submit(fail, 3)
    with pytest.raises(ValueError, match="no 3"):
        job.result(10)
    assert job.state == "failed"


def test_submit_many_is_one_batch(scheduler: FakeScheduler, client: Client) -> None:
    client.submit(double, 0).result(10)
    jobs = client.submit_many(double, [((i,), {}) for i in range(1200)])
    assert client.gather(jobs, timeout=10) == [2 * i for i in range(1200)]
    submits = scheduler.of(wire.Submit)[1:]
    assert [(m.first, len(m.args), m.batch) for m in submits] == [(1, 500, 1), (501, 500, 1), (1001, 200, 1)]
    assert client.submit_many(double, []) == []


def test_a_batch_that_cannot_be_encoded_names_the_item_and_is_taken_back(
    scheduler: FakeScheduler, client: Client
) -> None:
    scheduler.hold = True
    items = [((i,), {}) for i in range(600)]
    items[599] = ((threading.Lock(),), {})  # type: ignore[assignment]
    with pytest.raises(errors.PayloadError, match=r"double, item 599: argument 1 \(lock\)"):
        client.submit_many(double, items)
    wait_until(lambda: client.connection.open_count == 0, "the part that went out was cancelled")
    with pytest.raises(TypeError, match=r"item 1 of the batch is 3"):
        client.submit_many(double, [((1,), {}), 3])  # type: ignore[list-item]


def test_what_cannot_be_pickled_is_named_at_submit(client: Client) -> None:
    lock = threading.Lock()
    with pytest.raises(errors.PayloadError, match=r"argument 2 \(lock\)"):
        client.submit(pow, 1, lock)
    with pytest.raises(errors.PayloadError, match=r"lambda.*lock"):
        client.submit(lambda: lock)
    with pytest.raises(errors.PayloadError, match="cannot be called"):
        client.submit(3)  # type: ignore[arg-type]
    job = client.submit(double, 1)
    with pytest.raises(errors.PayloadError, match=r"pass job\.result\(\)"):
        client.submit(double, job)  # type: ignore[arg-type]
    assert job.result(10) == 2


def test_what_is_too_large_is_refused_here(scheduler: FakeScheduler) -> None:
    scheduler.max_payload = 10_000
    with Client(scheduler.url) as client:
        with pytest.raises(errors.PayloadTooLarge, match=r"20,0\d\d bytes.*at most 10,000"):
            client.submit(len, bytes(20_000))
        with pytest.raises(errors.PayloadTooLarge, match="item 1"):
            client.submit_many(len, [((b"",), {}), ((bytes(20_000),), {})])
        big = bytes(20_000)
        with pytest.raises(errors.PayloadTooLarge, match="function"):
            client.submit(lambda: big)
        assert client.submit(len, b"123").result(10) == 3


def test_large_payloads_travel(client: Client) -> None:
    data = os.urandom(3_000_000)
    jobs = [client.submit(bytes.upper, data) for _ in range(3)]
    assert all(job.result(10) == data.upper() for job in jobs)


def test_options_reach_the_scheduler(scheduler: FakeScheduler, client: Client) -> None:
    assert client.options(queue="high", retries=2).submit(double, 4).result(10) == 8
    assert client.submit.options(queue="low").options(retries=1)(double, 4).result(10) == 8
    assert client.options(countdown=60).submit(double, 4).result(10) == 8
    high, low, later = (m.spec for m in scheduler.of(wire.Submit))
    assert (high.queue, high.retries) == ("high", 2)
    assert (low.queue, low.retries) == ("low", 1)
    assert later.not_before == pytest.approx(time.time() + 60, abs=10)
    with pytest.raises(errors.BadOption, match="did you mean queue"):
        client.options(quue="x")


def test_an_id_of_ones_own_names_one_job(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    first = client.options(job_id="night-run").submit(double, 4)
    second = client.options(job_id="night-run").submit(double, 4)
    other = client.options(job_id="night-run").submit(double, 5)
    with pytest.raises(errors.JobConflict):
        other.result(10)
    scheduler.release()
    assert (first.result(10), second.result(10)) == (8, 8)
    assert first.id == second.id
    assert len(scheduler.of(wire.Submit)) == 1
    assert client.job("night-run").result(10) == 8
    assert client.job(first.id).result(10) == 8
    with pytest.raises(errors.UnknownJob, match=r"knows nothing of it"):
        client.job("night-walk").result(10)
    with pytest.raises(errors.BadOption, match="for one job"):
        client.options(job_id="x").submit_many(double, [((1,), {})])


def test_a_task_is_sent_by_its_name(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.run = lambda m, _: [payload.encode_result("msgpack", m.task, "")]
    assert client.send_task("photos.smooth", (1,), {"sigma": 2}).result(10) == "photos.smooth"
    (submit,) = scheduler.of(wire.Submit)
    assert (submit.function, submit.codec, submit.spec.python) == (b"", "msgpack", "")


# ------------------------------------------------------------------------------------------------ map


def test_map_keeps_the_order(client: Client) -> None:
    assert list(client.map(double, range(2500))) == [2 * i for i in range(2500)]
    assert list(client.map(pow, [2, 3], [4, 5, 6])) == [16, 243]
    assert list(client.starmap(pow, [(2, 3), (3, 2)])) == [8, 9]
    assert list(client.map(double, [])) == []


def test_map_unordered_yields_all(client: Client) -> None:
    assert sorted(client.map(double, range(2500), ordered=False, window=100)) == [2 * i for i in range(2500)]


@pytest.mark.parametrize("ordered", [True, False])
def test_map_reads_no_further_than_its_window(client: Client, *, ordered: bool) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for i in range(100_000):
            read = i + 1
            yield i

    values = client.map(double, items(), window=700, ordered=ordered)
    assert read == 0
    for taken in range(1, 2000):
        next(values)
        assert read - taken < 700
    values.close()


def test_closing_map_cancels_what_is_left(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    values = client.map(double, range(1000), window=600)
    threading.Timer(0.1, scheduler.release_one).start()
    assert next(values) == 0
    values.close()
    wait_until(lambda: scheduler.of(wire.Cancel), "the rest was cancelled")
    wait_until(lambda: client.connection.open_count == 0, "nothing is open")


@pytest.mark.parametrize("chunksize", ["auto", 1, 3])
def test_map_raises_each_exception_at_its_place(client: Client, chunksize: int | str) -> None:
    values = client.map(lambda x: 6 // x, [3, 2, 1, 0, 1], chunksize=chunksize)
    assert [next(values) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_in_chunks_gives_the_same_with_fewer_jobs(scheduler: FakeScheduler, client: Client) -> None:
    assert list(client.map(double, range(100), chunksize=8)) == [2 * i for i in range(100)]
    assert sum(len(m.args) for m in scheduler.of(wire.Submit)) == 13
    assert sorted(client.map(double, range(100), chunksize=8, ordered=False)) == [2 * i for i in range(100)]


def test_each_item_of_a_map_is_a_job_where_limits_count_jobs(scheduler: FakeScheduler, client: Client) -> None:
    for limit in ({"rate_limit": "1000/s"}, {"concurrency_limit": 1}):
        scheduler.received.clear()
        assert list(client.options(**limit).map(double, range(50))) == [2 * i for i in range(50)]
        assert sum(len(submit.args) for submit in scheduler.of(wire.Submit)) == 50
    with pytest.raises(errors.BadOption, match=r"chunksize=2 puts 2 items into each job, and rate_limit= counts jobs"):
        client.options(rate_limit="1/s").map(double, [1], chunksize=2)
    assert list(client.options(rate_limit=0).map(double, [1, 2], chunksize=2)) == [2, 4]


def test_map_tells_wrong_use_at_once(client: Client) -> None:
    with pytest.raises(errors.BadOption, match="chunksize"):
        client.map(double, [1], chunksize=0)
    with pytest.raises(errors.BadOption, match="window"):
        client.map(double, [1], window=0)
    lock = threading.Lock()
    with pytest.raises(errors.PayloadError):
        client.map(lambda x: (x, lock), [1])


def test_a_slow_input_is_not_waited_for(client: Client) -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        yield 2
        assert gate.wait(10)  # the first value must leave before the input goes on
        yield 3

    jobs = client.map(double, _pausing(items(), 0.05))
    assert next(jobs) == 2
    gate.set()
    assert list(jobs) == [4, 6]


def _pausing(items: Iterator[int], seconds: float) -> Iterator[int]:
    for count, item in enumerate(items):
        if count == 1:
            time.sleep(seconds)
        yield item


def test_map_with_a_progress_bar(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert sum(client.map(double, range(10), progress=True)) == 90
    assert "double" in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------ room, and leaving


def test_submit_nowait_does_not_wait_for_room(scheduler: FakeScheduler) -> None:
    scheduler.accepting = False
    with Client(scheduler.url, max_pending=3, submit_timeout=1000) as client:  # a wait would end by the test's time-out
        jobs = [client.submit(double, i) for i in range(3)]
        with pytest.raises(errors.QueueFull):
            client.submit_nowait(double, 3)
        assert client.cancel(jobs) == [True] * 3


def test_submit_waits_for_room_and_then_gives_up(scheduler: FakeScheduler) -> None:
    scheduler.accepting = False
    with Client(scheduler.url, max_pending=3, submit_timeout=0.1) as client:
        jobs = [client.submit(double, i) for i in range(3)]
        with pytest.raises(errors.QueueFull, match=r"3 jobs .* wait to be accepted"):
            client.submit(double, 3)
        with pytest.raises(errors.JobTimeout, match="3 jobs were not accepted"):
            client.flush(0.05)
        with pytest.raises(errors.JobTimeout, match="accepted"):
            jobs[0].accepted(0.05)
        assert client.cancel(jobs) == [True] * 3
        client.flush(10)
        assert client.submit_nowait(double, 3).state == "submitted"
        with pytest.raises(errors.JobTimeout, match="1 jobs were not accepted"):
            client.close(0.05)


def test_a_waiting_submit_goes_on_when_there_is_room(scheduler: FakeScheduler) -> None:
    with Client(scheduler.url, max_pending=100) as client:
        jobs = client.submit_many(double, [((i,), {}) for i in range(3000)])
        assert client.gather(jobs, 10) == [2 * i for i in range(3000)]


def test_flush_and_accepted_return_when_the_scheduler_has_it(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    jobs = client.submit_many(double, [((i,), {}) for i in range(700)])
    client.flush(10)
    assert sum(len(m.args) for m in scheduler.of(wire.Submit)) == 700
    assert jobs[-1].accepted(10)
    assert jobs[-1].state == "submitted"
    scheduler.release()
    assert [job.result(10) for job in jobs][-1] == 1398


def test_the_outcome_of_a_job_waits_for_what_the_job_has_submitted(
    scheduler: FakeScheduler, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker does before it tells the outcome."""
    scheduler.hold = True
    client.submit_many(double, [((i,), {}) for i in range(700)])
    for settle in before_outcomes:
        settle()
    assert sum(len(m.args) for m in scheduler.of(wire.Submit)) == 700
    assert client.info().pending_jobs == 0
    monkeypatch.setattr("zmqtasks.submitter.client._SETTLE", 0.05)
    scheduler.accepting = False
    job = client.submit(double, 1)
    for settle in before_outcomes:
        settle()
    assert client.info().pending_jobs == 1
    assert job.cancel()


def test_cancel_one_and_many(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    one, *many = client.submit_many(double, [((i,), {}) for i in range(10)])
    client.flush(10)
    assert one.cancel()
    assert one.cancelled()
    with pytest.raises(errors.JobCancelled):
        one.result(0)
    assert client.cancel([one, *many]) == [True] * 10
    assert len(scheduler.of(wire.Cancel)) == 2
    scheduler.release()
    assert client.submit(double, 4).result(10) == 8


def test_closing_ends_open_jobs_and_later_use_is_refused(scheduler: FakeScheduler) -> None:
    scheduler.hold = True
    client = Client(scheduler.url)
    job = client.submit(double, 1)
    waiting: list[object] = []
    thread = threading.Thread(target=lambda: waiting.append(job.exception(10)))
    thread.start()
    client.close()
    thread.join(10)
    assert isinstance(waiting[0], errors.ClientClosed)
    for refused in (lambda: client.submit(double, 1), lambda: client.flush(1), lambda: client.job("x")):
        with pytest.raises(errors.ClientClosed, match="closed"):
            refused()
    client.close()
    assert not [t for t in threading.enumerate() if t.name == f"zmqtasks {scheduler.url}"]


def test_many_threads_share_a_client(client: Client) -> None:
    told: dict[int, int] = {}

    def work(start: int) -> None:
        for job in [client.submit(double, start + i) for i in range(200)]:
            told[start] = told.get(start, 0) + job.result(10)
        told[start] += sum(client.map(double, range(start, start + 100)))

    threads = [threading.Thread(target=work, args=(n * 1000,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for n in range(6):
        assert told[n * 1000] == sum(2 * (n * 1000 + i) for i in [*range(200), *range(100)])


def test_as_completed_streams(client: Client) -> None:
    jobs = client.submit_many(double, [((i,), {}) for i in range(1000)])
    assert sum(job.result() for job in as_completed(jobs, timeout=10)) == 999_000


# ------------------------------------------------------------------------------------------------ when it breaks


def test_jobs_survive_a_connection_that_breaks(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    job = client.submit(double, 4)
    client.flush(10)
    scheduler.restart(forget=False)
    later = client.submit(double, 5)
    client.flush(10)
    scheduler.release()
    assert (job.result(10), later.result(10)) == (8, 10)
    assert [m.counters for m in scheduler.of(wire.Ask)] == [[(0, 1)]]


def test_a_connection_that_is_back_is_told_as_often_as_one_that_is_lost(
    scheduler: FakeScheduler, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        scheduler.restart(forget=False)
        wait_until(lambda: not client.connection.connected or "lost" in caplog.text, "the break was noticed")
        client.submit(double, 4).result(10)
        wait_until(lambda: "again" in caplog.text, "it was told")
        told = [record.getMessage().partition(scheduler.url)[::2] for record in caplog.records]
        assert told == [
            ("lost the connection to the scheduler at ", " with 0 jobs open; reconnecting, they go on"),
            ("connected to the scheduler at ", told[1][1]),
        ]
        assert told[1][1].startswith(" again, with ")
        caplog.clear()


def test_a_timeout_tells_what_the_scheduler_warned_of(
    scheduler: FakeScheduler, client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler.hold = True
    job = client.submit(double, 4)
    client.flush(10)
    with pytest.raises(errors.JobTimeout, match=r"it goes on$"):
        job.result(0.01)
    others = wire.Notice("no worker takes from queue 'hgih'", "hgih")
    own = wire.Notice("no worker takes from queue 'default'", "default")
    for notice in (own, others):
        scheduler.do(partial(scheduler.send, scheduler.routes[0], notice))
    wait_until(lambda: "hgih" in caplog.text, "the notices came")
    with pytest.raises(errors.JobTimeout, match=r"; the scheduler says: no worker takes from queue 'default'$"):
        job.result(0.01)
    with pytest.raises(
        errors.JobTimeout, match=r"they go on; the scheduler says: no worker takes from queue 'default'$"
    ):
        list(as_completed([job], 0.01))
    monkeypatch.setattr("zmqtasks.submitter.connection._NEWS", -1.0)
    with pytest.raises(errors.JobTimeout, match="; the scheduler said 0 s ago: no worker"):
        job.result(0.01)
    scheduler.release()
    assert job.result(10) == 8


def test_a_scheduler_that_forgot_gets_the_jobs_again(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.hold = True
    jobs = client.submit_many(double, [((i,), {}) for i in range(600)])
    client.flush(10)
    scheduler.restart(forget=True)
    wait_until(lambda: len(scheduler.of(wire.SubmitterHello)) == 2, "it said hello again")
    client.flush(10)
    scheduler.release()
    assert client.gather(jobs, 10) == [2 * i for i in range(600)]


def test_the_submitter_waits_for_a_scheduler_that_is_away(scheduler: FakeScheduler, client: Client) -> None:
    scheduler.close()
    wait_until(lambda: not client.connection.connected, "the break was noticed")
    job = client.submit(double, 4)
    with pytest.raises(errors.JobTimeout, match="not connected"):
        client.flush(0.05)
    scheduler._open()
    assert job.result(10) == 8


def test_nonsense_from_the_scheduler_makes_a_new_connection(
    scheduler: FakeScheduler, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.hold = True
    job = client.submit(double, 4)
    client.flush(10)
    routes = list(scheduler.routes)
    scheduler.do(lambda: scheduler._router.send(routes[0], b"\xc1 nonsense"))
    wait_until(lambda: len(scheduler.of(wire.SubmitterHello)) == 2, "it connected anew")
    scheduler.release()
    assert job.result(10) == 8
    assert "cannot read" in caplog.text


def test_a_client_in_a_forked_child_says_so_instead_of_hanging(client: Client) -> None:
    job = client.submit(double, 4)
    assert job.result(10) == 8
    open_job: Job[int] = Job(job._source, 77)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = []
        for use in (lambda: client.submit(double, 1), lambda: open_job.result(1), lambda: client.map(double, [1])):
            try:
                list(use())  # type: ignore[call-overload]
            except errors.ClientClosed as error:
                told.append("forked" in str(error))
            except BaseException as error:  # noqa: BLE001
                told.append(repr(error))
        os.write(write, repr(told).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told_here:
        assert told_here.read() == b"[True, True, True]"
    os.waitpid(pid, 0)
    assert client.submit(double, 5).result(10) == 10


SCRIPT = """
import sys, time
from zmqtasks.clock import Now
from zmqtasks.submitter.client import Client
client = Client(sys.argv[1])
jobs = client.submit_many(pow, [((i, 2), {}) for i in range(2000)])
try:  # the signal comes when this was read, wherever the script is then
    print("submitted", flush=True)
    if sys.argv[2] == "wait":
        jobs[-1].result()
except KeyboardInterrupt:
    assert client.submit(pow, 2, 2).state == "submitted"
    print("interrupted", flush=True)
"""


def test_leaving_the_interpreter_flushes(scheduler: FakeScheduler) -> None:
    scheduler.hold = True
    subprocess.run([sys.executable, "-c", SCRIPT, scheduler.url, "leave"], check=True, timeout=30)
    assert sum(len(m.args) for m in scheduler.of(wire.Submit)) == 2000


def test_leaving_the_interpreter_is_bounded_and_says_what_did_not_get_through(scheduler: FakeScheduler) -> None:
    scheduler.accepting = False
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, scheduler.url, "leave"], check=True, timeout=30, stderr=subprocess.PIPE
    )
    assert b"zmqtasks: 2000 jobs were not accepted within 5 s" in done.stderr
    assert b"Traceback" not in done.stderr


def test_ctrl_c_in_a_waiting_thread_leaves_the_client_sane(scheduler: FakeScheduler) -> None:
    scheduler.hold = True
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, scheduler.url, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as script:
        assert script.stdout is not None
        assert script.stdout.readline() == b"submitted\n"
        wait_until(lambda: sum(len(m.args) for m in scheduler.of(wire.Submit)) == 2000, "all was sent")
        script.send_signal(signal.SIGINT)
        out, err = script.communicate(timeout=20)
    assert out == b"interrupted\n"
    assert err == b""
    assert sum(len(m.args) for m in scheduler.of(wire.Submit)) == 2001


def test_an_idle_loop_sleeps(client: Client) -> None:
    client.submit(double, 1).result(10)
    turns = 0
    core = client.connection._core
    tick = core.tick

    def counted(now: Now, fx: Effects) -> None:
        nonlocal turns
        turns += 1
        tick(now, fx)

    core.tick = counted  # type: ignore[method-assign]
    client.submit(double, 1).result(10)
    time.sleep(0.3)
    assert turns < 10
