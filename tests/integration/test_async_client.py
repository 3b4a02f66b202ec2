"""AsyncClient over real sockets, against a scheduler that the test has in its hands."""

import asyncio
import contextlib
import gc
import threading
import time

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import errors, wire
from zmqtasks.submitter import loops
from zmqtasks.submitter.aio import AsyncClient
from zmqtasks.submitter.client import Client


@pytest.fixture
def scheduler(tmp_path):
    with FakeScheduler(f"ipc://{tmp_path}/s") as fake:
        yield fake


@pytest.fixture
def calls(monkeypatch):
    """Calls from the I/O thread into event loops."""
    made = []
    call = loops.call

    def counted(loop, fn):
        made.append(fn)
        return call(loop, fn)

    monkeypatch.setattr(loops, "call", counted)
    return made


def double(x):
    return 2 * x


def fail(x):
    message = f"no {x}"
    raise ValueError(message)


async def until(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"in 10 s it was never true that {what}"
        await asyncio.sleep(0.002)


def run(main):
    return asyncio.run(asyncio.wait_for(main, 60))


# ------------------------------------------------------------------------------------------------ results


def test_ten_thousand_jobs_and_few_calls_into_the_loop(scheduler, calls):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            jobs = [await client.submit(double, i) for i in range(10_000)]
            assert await asyncio.gather(*jobs) == [2 * i for i in range(10_000)]
            jobs = await client.submit_many(double, [((i,), {}) for i in range(10_000)])
            assert await client.gather(jobs, 30) == [2 * i for i in range(10_000)]
            scheduler.hold = True
            jobs = await client.submit_many(double, [((i,), {}) for i in range(10_000)])
            await client.flush(10)
            waiting = [asyncio.ensure_future(client.gather([job])) for job in jobs]
            await asyncio.sleep(0)
            scheduler.release()
            assert [value for (value,) in await asyncio.gather(*waiting)] == [2 * i for i in range(10_000)]

    run(main())
    assert 0 < len(calls) < 1000, f"{len(calls)} calls into the loop for 30,000 jobs"


def test_a_job_can_be_awaited_with_all_of_asyncio(scheduler):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            job = await client.submit(double, 4)
            assert await job == await job == 8
            with pytest.raises(ValueError, match="no 1"):
                await (await client.submit(fail, 1))
            jobs = [await client.submit(double, i) for i in range(20)]
            assert sorted([await one for one in asyncio.as_completed(jobs)]) == [2 * i for i in range(20)]
            assert await asyncio.wait_for(await client.submit(double, 5), 10) == 10
            assert await asyncio.wrap_future(await client.submit(double, 6)) == 12
            assert {job.id async for job in client.as_completed([*jobs, jobs[0]])} == {job.id for job in jobs}

    run(main())


def test_giving_up_an_await_leaves_the_job_alone(scheduler):
    async def main():
        scheduler.hold = True
        async with AsyncClient(scheduler.url) as client:
            job = await client.submit(double, 1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(job, 0.01)
            waiting = [asyncio.ensure_future(client.gather([job])) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting[0]
            assert not scheduler.of(wire.Cancel)
            assert job.state == "submitted"
            scheduler.release()
            assert await waiting[1] == [2]
            assert job._sync is loops.waits()  # one stream, no lock

    run(main())


def test_a_cancelled_job_is_no_cancelled_coroutine(scheduler):
    async def main():
        scheduler.hold = True
        async with AsyncClient(scheduler.url) as client:
            jobs = await client.submit_many(double, [((i,), {}) for i in range(5)])
            await client.flush(10)
            waiting = asyncio.ensure_future(client.gather(jobs, return_exceptions=True))
            assert await client.cancel(jobs) == [True] * 5
            assert [type(error) for error in await waiting] == [errors.JobCancelled] * 5
            assert await client.cancel(jobs) == [True] * 5
            assert len(scheduler.of(wire.Cancel)) == 1

    run(main())


def test_gather_gives_up_in_time_and_tells_how_many_are_left(scheduler):
    async def main():
        scheduler.hold = True
        async with AsyncClient(scheduler.url) as client:
            jobs = await client.submit_many(double, [((i,), {}) for i in range(5)])
            with pytest.raises(errors.JobTimeout, match=r"5 of 5 jobs were not over within 0\.01 s; they go on"):
                await client.gather(jobs, 0.01, return_exceptions=True)
            scheduler.release()
            bad = await client.submit(fail, 1)
            told = await client.gather([jobs[4], bad], return_exceptions=True)
            assert told[0] == 8
            assert isinstance(told[1], ValueError)

    run(main())


def test_as_completed_gives_up_in_time_and_tells_how_many_are_left(scheduler):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            over = await client.submit(double, 1)
            await over
            scheduler.hold = True
            left = [await client.submit(double, x) for x in range(2)]
            stream = client.as_completed([*left, over], 0.05)
            assert await anext(stream) is over
            with pytest.raises(errors.JobTimeout, match=r"2 of 3 jobs were not over within 0\.05 s; they go on"):
                await anext(stream)
            scheduler.release()
            assert {job async for job in client.as_completed(left, 10)} == set(left)

    run(main())


def test_jobs_of_the_blocking_client_can_be_awaited_in_loops_of_many_threads(scheduler):
    with Client(scheduler.url) as client:
        scheduler.hold = True
        jobs = client.submit_many(double, [((i,), {}) for i in range(1000)])
        told = []
        waiting = threading.Barrier(4)

        async def main():
            tasks = [asyncio.ensure_future(asyncio.wait_for(job, 30)) for job in jobs]
            await asyncio.sleep(0)
            waiting.wait(10)
            told.append(await asyncio.gather(*tasks))

        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        waiting.wait(10)
        scheduler.release()
        for thread in threads:
            thread.join(30)
        assert told == [[2 * i for i in range(1000)]] * 3


def test_a_loop_that_is_closed_before_the_results_come_disturbs_nobody(scheduler, caplog):
    with Client(scheduler.url) as client:
        scheduler.hold = True
        job = client.submit(double, 1)

        async def leave():
            task = asyncio.ensure_future(asyncio.wait_for(job, 30))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(leave())
        loop = asyncio.new_event_loop()  # and one that forgets a coroutine in the middle of its wait
        waiting = job.__await__()

        async def begin():
            next(waiting)

        loop.run_until_complete(begin())
        loop.close()
        scheduler.release()
        assert job.result(10) == 2
        assert client.submit(double, 3).result(10) == 6
        waiting.close()
    gc.collect()
    assert not caplog.records


# ------------------------------------------------------------------------------------------------ room


def test_submit_suspends_while_there_is_no_room(scheduler):
    async def main():
        scheduler.accepting = False
        async with AsyncClient(scheduler.url, max_pending=3, submit_timeout=0.1) as client:
            jobs = [await client.submit(double, i) for i in range(3)]
            with pytest.raises(errors.QueueFull):
                client.submit_nowait(double, 3)
            with pytest.raises(errors.QueueFull, match=r"no room within 0\.1 s: 3 jobs .* \(connected\)"):
                await client.submit(double, 3)
            with pytest.raises(errors.JobTimeout, match=r"3 jobs were not accepted within 0\.01 s"):
                await client.flush(0.01)
            assert await client.cancel(jobs) == [True] * 3
            await client.flush(10)

    run(main())


def test_coroutines_that_wait_for_room_get_it_in_their_order(scheduler):
    async def main():
        scheduler.accepting = False
        async with AsyncClient(scheduler.url, max_pending=2) as client:
            first = [await client.submit(double, i) for i in range(2)]
            order = []

            async def submit(i):
                job = await client.submit(double, i)
                order.append(i)
                return await job

            waiting = [asyncio.ensure_future(submit(i)) for i in range(50)]
            given_up = waiting.pop(7)
            await asyncio.sleep(0.01)
            assert not order
            given_up.cancel()
            scheduler.accepting = True
            await client.cancel(first)
            assert await asyncio.gather(*waiting) == [2 * i for i in range(50) if i != 7]
            assert order == [i for i in range(50) if i != 7]

    run(main())


def test_other_coroutines_run_while_one_submits_on_and_on(scheduler):
    async def main():
        async with AsyncClient(scheduler.url, max_pending=500) as client:
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counter = asyncio.ensure_future(count())
            jobs = [await client.submit(double, i) for i in range(3000)]
            assert turns >= 10
            jobs += await client.submit_many(double, [((i,), {}) for i in range(3000)])
            assert await client.gather(jobs) == [2 * i for i in [*range(3000), *range(3000)]]
            counter.cancel()

    run(main())


def test_a_batch_that_is_given_up_is_taken_back(scheduler):
    async def main():
        scheduler.accepting = False
        async with AsyncClient(scheduler.url, max_pending=500, submit_timeout=0.05) as client:
            with pytest.raises(errors.QueueFull):
                await client.submit_many(double, [((i,), {}) for i in range(2000)])
            await until(lambda: client.info().open_jobs == 0, "all were taken back")

    run(main())


# ------------------------------------------------------------------------------------------------ map


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", ["auto", 7])
def test_map_gives_all_values(scheduler, ordered, chunksize):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            how = {"ordered": ordered, "chunksize": chunksize}
            values = [value async for value in client.map(double, range(3000), **how)]
            assert (values if ordered else sorted(values)) == [2 * i for i in range(3000)]
            values = [value async for value in client.starmap(pow, ((i, 2) for i in range(300)), **how)]
            assert (values if ordered else sorted(values)) == [i * i for i in range(300)]
            with pytest.raises(ValueError, match="no 3"):
                _ = [value async for value in client.map(fail, [3], **how)]

    run(main())


@pytest.mark.parametrize("ordered", [True, False])
def test_map_reads_no_further_than_its_window_and_takes_back_what_nobody_wants(scheduler, ordered):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            read = []

            def endless():
                for i in range(10**9):
                    read.append(i)
                    yield i

            values = client.map(double, endless(), window=20, ordered=ordered)
            got = [await anext(values) for _ in range(50)]
            assert len(set(got)) == 50
            assert len(read) <= 71
            scheduler.hold = True
            waiting = asyncio.ensure_future(_drain(values))
            await until(lambda: client.info().open_jobs == 20, "the window is full")
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await values.aclose()
            await until(lambda: client.info().open_jobs == 0, "all were taken back")

    run(main())


async def _drain(values):
    async for _ in values:
        pass


def test_map_tells_wrong_use_at_once(scheduler):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            with pytest.raises(errors.BadOption, match="chunksize="):
                client.map(double, [1], chunksize=0)
            with pytest.raises(errors.BadOption, match=r"rate_limit= counts jobs"):
                client.options(rate_limit="1/s").map(double, [1], chunksize=2)
            with pytest.raises(TypeError, match="submit its items as they come"):
                client.map(double, client.map(double, [1]))  # type: ignore[arg-type]

    run(main())


# ------------------------------------------------------------------------------------------------ the client


def test_options_tasks_and_ids(scheduler):
    async def main():
        async with AsyncClient(scheduler.url) as client:
            job = await client.options(queue="high", job_id="mine").submit(double, 2)
            assert await job == 4
            assert scheduler.of(wire.Submit)[0].spec.queue == "high"
            assert await (await client.job("mine")) == 4
            with pytest.raises(errors.UnknownJob, match="nobody"):
                await (await client.job("nobody"))
            scheduler.run = lambda m, _: [b"\x07"]
            assert await (await client.send_task("there.only", [1])) == 7
            assert client.info().scheduler_release == "fake"
            assert client.url == scheduler.url
            assert "connected" in repr(client)

    run(main())


def test_a_client_that_is_not_open_says_so(scheduler):
    async def main():
        client = AsyncClient(scheduler.url)
        for use in (client.submit(double, 1), client.flush(), client.job("x")):
            with pytest.raises(errors.ClientClosed, match="not open"):
                await use
        await client.close()
        assert await client.open() is client
        assert await (await client.submit(double, 1)) == 2
        await client.close()
        with pytest.raises(errors.ClientClosed, match="closed"):
            await client.submit(double, 1)
        assert "not open" in repr(client)

    run(main())


def test_giving_up_while_it_connects_leaves_no_connection(tmp_path):
    async def main():
        client = AsyncClient(f"ipc://{tmp_path}/nobody", connect_timeout=0.3)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.open(), 0.05)
        with pytest.raises(errors.SchedulerUnreachable):
            await client.open()
        await until(lambda: not _threads(str(tmp_path)), "both threads are gone")

    run(main())


def test_all_who_open_a_client_at_once_get_one_connection(scheduler):
    async def main():
        client = AsyncClient(scheduler.url)
        first, given_up, other = (asyncio.create_task(client.open()) for _ in range(3))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await asyncio.gather(first, other) == [client, client]
        assert given_up.cancelled()
        assert len(_threads(scheduler.url)) == 1
        assert await (await client.submit(double, 1)) == 2
        await client.close()
        await until(lambda: not _threads(scheduler.url), "the thread is gone")
        await client.open()
        assert await (await client.submit(double, 2)) == 4
        await client.close()

    run(main())


def _threads(name):
    return [thread for thread in threading.enumerate() if name in thread.name]
