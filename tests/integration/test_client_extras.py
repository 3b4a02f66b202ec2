"""What a client tells besides results: progress, what it knows, and errors in a forked child."""

import concurrent.futures
import os
import threading
import time

import msgspec
import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import errors, wire
from zmqtasks.submitter.aio import AsyncClient
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.job import Job
from zmqtasks.submitter.results import as_completed


@pytest.fixture
def scheduler(tmp_path):
    with FakeScheduler(f"ipc://{tmp_path}/s") as fake:
        yield fake


@pytest.fixture
def client(scheduler):
    with Client(scheduler.url) as made:
        yield made


def until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"in 10 s it was never true that {what}"
        time.sleep(0.002)


def double(x):
    return 2 * x


def fail(x):
    message = f"no {x}"
    raise ValueError(message)


# ------------------------------------------------------------------------------------------------ progress


def tell(scheduler, job, value):
    """What the scheduler passes on from a running job."""
    data = value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    prefix, counter = job.pair
    scheduler.do(lambda: scheduler.send(scheduler.routes[-1], wire.Progressed(prefix, [counter], [data])))


def test_a_running_job_tells_how_far_it_is(scheduler, client):
    scheduler.hold = True
    job = client.submit(double, 1)
    result = AsyncResult.of(job)
    client.flush(10)
    assert (job.progress, job.meta, job.state, job.running(), result.state, result.info) == (
        None,
        None,
        "submitted",
        False,
        "PENDING",
        None,
    )
    tell(scheduler, job, {"done": 3, "total": 10})
    until(lambda: job.progress == (3, 10), "progress came")
    assert (job.state, job.running(), result.state, result.info) == (
        "running",
        True,
        "PROGRESS",
        {"done": 3, "total": 10},
    )
    tell(scheduler, job, {"state": "LOADING", "meta": {"file": "a"}})
    until(lambda: job.meta == {"file": "a"}, "meta came")
    assert (job.progress, result.state, result.info, result.result) == ((3, 10), "LOADING", {"file": "a"}, None)
    tell(scheduler, job, b"\xc1 nonsense")
    tell(scheduler, job, {"done": 0.5, "total": None})
    until(lambda: job.progress == (0.5, None), "nonsense harmed nobody")
    scheduler.release()
    assert job.result(10) == 2
    assert (job.state, job.running(), result.state, result.info) == ("succeeded", False, "SUCCESS", 2)
    tell(scheduler, job, {"done": 9, "total": 10})
    client.submit(double, 1).result(10)
    assert job.progress == (0.5, None), "a job that is over tells nothing more"


def test_progress_callbacks_run_in_the_callback_thread_in_order(scheduler, client, caplog):
    scheduler.hold = True
    job = client.submit(double, 1)
    seen = []
    job.add_progress_callback(lambda _: 1 / 0)
    job.add_progress_callback(lambda one: seen.append((one.progress, threading.current_thread().name)))
    client.flush(10)
    for done in (1, 2):
        tell(scheduler, job, {"done": done, "total": 2})
        until(lambda: len(seen) == done, "the callback was called")  # noqa: B023
    assert seen == [((1, 2), "zmqtasks callbacks"), ((2, 2), "zmqtasks callbacks")]
    assert "a callback of job" in caplog.text
    scheduler.release()
    assert job.result(10) == 2


def test_progress_of_a_job_that_a_stream_watches_loses_no_result(scheduler, client):
    scheduler.hold = True
    jobs = client.submit_many(double, [((i,), {}) for i in range(3)])
    client.flush(10)
    done = as_completed(jobs, 10)
    threading.Timer(0.01, lambda: (tell(scheduler, jobs[1], {"done": 1}), scheduler.release())).start()
    assert {job.result() for job in done} == {0, 2, 4}


# ------------------------------------------------------------------------------------------------ results


def test_gather_gives_exceptions_in_their_places(client):
    jobs = [client.submit(double, 1), client.submit(fail, 2), client.submit(double, 3)]
    values = client.gather(jobs, 10, return_exceptions=True)
    assert values[::2] == [2, 6]
    assert isinstance(values[1], ValueError)
    with pytest.raises(ValueError, match="no 2"):
        client.gather(jobs)


def test_gather_does_not_take_a_timeout_for_a_result(scheduler, client):
    scheduler.hold = True
    with pytest.raises(errors.JobTimeout):
        client.gather([client.submit(double, 1)], 0.01, return_exceptions=True)


def test_a_cancelled_job_raises_what_a_cancelled_future_raises(scheduler, client):
    scheduler.hold = True
    job = client.submit(double, 1)
    assert job.cancel()
    assert job.cancel()
    assert concurrent.futures.wait([job], 10).done == {job}
    with pytest.raises(concurrent.futures.CancelledError):
        job.result()
    with pytest.raises(errors.JobCancelled):
        job.exception()
    scheduler.release()
    done = client.submit(double, 1)
    assert done.result(10) == 2
    assert not done.cancel()
    assert not done.cancel(force=True)


def test_what_is_not_sent_yet_is_cancelled_without_the_scheduler(scheduler, client):
    scheduler.close()
    until(lambda: not client.connection.connected, "the connection is gone")
    jobs = client.submit_many(double, [((i,), {}) for i in range(1200)])
    assert client.cancel(jobs, timeout=5) == [True] * 1200
    assert client.info().open_jobs == 0
    scheduler._url = scheduler.url
    scheduler._open()


def test_info_costs_nothing_and_tells_what_is_known(scheduler, client):
    scheduler.hold = True
    info = client.info()
    assert (info.url, info.connected, info.scheduler_release, info.scheduler_epoch) == (scheduler.url, True, "fake", 1)
    assert (info.durable, info.max_payload, info.open_jobs, info.pending_jobs) == (False, 64 << 20, 0, 0)
    job = client.submit(double, 1)
    assert job.id.startswith(info.session)
    client.flush(10)
    assert (client.info().open_jobs, client.info().pending_jobs, client.info().pending_bytes) == (1, 0, 0)


# ------------------------------------------------------------------------------------------------ fork


def test_no_use_of_a_parents_client_hangs_in_a_forked_child(scheduler, client):
    scheduler.hold = True
    job: Job[int] = client.submit(double, 4)
    watched = client.submit(double, 5)
    watched.add_done_callback(lambda _: None)
    client.flush(10)

    async def wait_for():
        return await job

    def run_async():
        import asyncio

        asyncio.run(wait_for())

    def stream_async():
        import asyncio

        async def stream():
            async with asyncio.timeout(5):
                return [one async for one in AsyncClient(scheduler.url).as_completed([job])]

        asyncio.run(stream())

    uses = {
        "submit": lambda: client.submit(double, 1),
        "submit_many": lambda: client.submit_many(double, [((1,), {})]),
        "map": lambda: list(client.map(double, [1])),
        "result": lambda: job.result(1),
        "exception": lambda: watched.exception(1),
        "accepted": lambda: job.accepted(1),
        "cancel": job.cancel,
        "add_done_callback": lambda: job.add_done_callback(print),
        "as_completed": lambda: list(as_completed([job], 1)),
        "futures.wait": lambda: concurrent.futures.wait([watched], 1),
        "await": run_async,
        "async as_completed": stream_async,
        "gather": lambda: client.gather([job], 1),
        "flush": lambda: client.flush(1),
        "job": lambda: client.job(job.id),
        "cancel_many": lambda: client.cancel([job]),
    }
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        told = []
        for name, use in uses.items():
            try:
                use()
            except errors.ClientClosed as error:
                if "forked; make a new one in the child" not in str(error):
                    told.append(f"{name}: {error}")
            except BaseException as error:  # noqa: BLE001
                told.append(f"{name}: {error!r}")
            else:
                told.append(f"{name}: nothing was raised")
        client.close()
        with Client(scheduler.url) as own:  # a client of its own works
            own.submit(double, 1)
            own.flush(5)
        os.write(write, "\n".join(told).encode() or b"fine")
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told_here:
        assert told_here.read().decode() == "fine"
    os.waitpid(pid, 0)
    scheduler.release()
    assert job.result(10) == 8
