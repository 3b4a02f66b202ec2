import asyncio
import concurrent.futures
import pickle
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import pytest
from msgspec.msgpack import encode as msgpack

from zmqtasks import errors, payload
from zmqtasks.states import ABORTED, CANCELLED, FAILED
from zmqtasks.submitter.job import RUN, Job, Pair, Source, Stream
from zmqtasks.submitter.results import as_completed, end, finish, tell, unwatch, watch

PREFIX = bytes(range(12))


class Owner:
    """A connection that remembers what it was asked."""

    def __init__(self) -> None:
        self.accept = payload.ALL_CODECS
        self.usable = True
        self.accepted = True
        self.cancelled: list[tuple[list[Pair], float, bool]] = []
        self.said = ""

    def check_usable(self) -> None:
        if not self.usable:
            message = "forked"
            raise errors.ClientClosed(message)

    def lead(self, done: Callable[[], bool], timeout: float | None) -> None:
        self.check_usable()

    def attend(self) -> None:
        pass

    def hint(self, sources: Iterable[Source] = ()) -> str:
        return self.said

    def wait_accepted(self, job: Pair, timeout: float | None) -> bool:
        return self.accepted

    def cancel(self, jobs: Iterable[Pair], timeout: float, *, force: bool) -> list[bool]:
        self.cancelled.append((list(jobs), timeout, force))
        return [True]


def job(counter: int = 1, owner: Owner | None = None) -> Job:
    return Job(Source(owner or Owner(), PREFIX, "mod.fn"), counter)


def value(of: object) -> bytes:
    return pickle.dumps(of)


def done(of: object) -> Job:
    made = job()
    finish([made], [value(of)], "pickle")
    return made


def in_thread(fn) -> threading.Thread:
    thread = threading.Thread(target=fn)
    thread.start()
    return thread


def test_a_job_is_told_by_its_id_task_and_state() -> None:
    made = job(255)
    assert made.id == PREFIX.hex() + "000000ff"
    assert made.state == "submitted"
    assert repr(made) == f"<Job {made.id} mod.fn submitted>"
    finish([made], [value(1)], "pickle")
    assert made.state == "succeeded"
    assert made.done()
    assert not made.running()


def test_a_value_is_decoded_once_by_whoever_asks() -> None:
    made = done([1, 2])
    assert made.result() is made.result()
    assert made.exception() is None


def test_a_job_is_a_future() -> None:
    assert isinstance(job(), concurrent.futures.Future)


def test_a_job_that_nobody_waits_for_costs_little() -> None:
    source = Source(Owner(), PREFIX, "t")
    jobs: list[Job | None] = [None] * 1000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        jobs[:] = source.jobs(1_000_000, 1000)
        each = (tracemalloc.get_traced_memory()[0] - before) / 1000
    finally:
        tracemalloc.stop()
    assert each < 130, f"{each} bytes"


@pytest.mark.parametrize("first", [0, 1, RUN - 2, 10 * RUN, 2**32 - 3 * RUN])
def test_jobs_that_follow_one_another_have_ids_that_do(first: int) -> None:
    source = Source(Owner(), PREFIX, "t", "mine")
    made = source.jobs(first, 3) + source.jobs(first + 3, 2 * RUN) + source.jobs(first + 3 + 2 * RUN, 1)
    assert [each.pair for each in made] == [(PREFIX, first + i) for i in range(2 * RUN + 4)]
    assert {(each._source.task, each._source.given) for each in made} == {("t", "mine")}
    assert len({each._source for each in made}) <= 4
    assert source.jobs(first, 0) == []


def test_a_source_serves_counters_in_any_order() -> None:
    source = Source(Owner(), PREFIX, "t")
    for counter in (0, RUN - 1, RUN, 5, 7 * RUN, 3, 4, 2**32 - 1):
        (made,) = source.jobs(counter, 1)
        assert made.pair == (PREFIX, counter)
        assert 0 <= counter - source.at(counter).first < RUN


def test_failures_raise_what_the_task_raised_with_its_remote_traceback() -> None:
    made = job()
    try:
        {}["missing"]
    except KeyError as error:
        end(made, FAILED, payload.encode_exception(error))
    assert made.state == "failed"
    with pytest.raises(KeyError) as caught:
        made.result()
    assert isinstance(caught.value.__cause__, errors.RemoteTraceback)
    assert "missing" in str(caught.value.__cause__)
    assert isinstance(made.exception(), KeyError)


def test_a_cancelled_job_raises_so() -> None:
    made = job()
    end(made, CANCELLED, payload.failure("JobCancelled", "somebody asked"))
    assert made.cancelled()
    assert made.state == "cancelled"
    for ask in (made.result, made.exception):
        with pytest.raises(errors.JobCancelled, match="somebody asked"):
            ask()
    assert made.cancel()


def test_an_aborted_job_raises_its_reason() -> None:
    made = job()
    end(made, ABORTED, payload.failure("UnknownJob", "never heard of it"))
    assert made.state == "aborted"
    assert isinstance(made.exception(), errors.UnknownJob)


def test_a_timeout_is_a_timeout_error_and_the_job_goes_on() -> None:
    made = job()
    with pytest.raises(errors.JobTimeout, match=r"mod\.fn.*0\.01 s"):
        made.result(0.01)
    with pytest.raises(TimeoutError):
        made.exception(0)
    finish([made], [value(3)], "pickle")
    assert made.result(0) == 3


def test_a_timeout_tells_what_the_scheduler_warned_of() -> None:
    owner = Owner()
    owner.said = "; the scheduler says: no worker"
    waiting = [job(n, owner) for n in range(2)]
    with pytest.raises(errors.JobTimeout, match=r"it goes on; the scheduler says: no worker$"):
        waiting[0].result(0.01)
    with pytest.raises(errors.JobTimeout, match=r"they go on; the scheduler says: no worker$"):
        list(as_completed(waiting, timeout=0.01))
    owner.accepted = False
    with pytest.raises(errors.JobTimeout, match=r"possible; the scheduler says: no worker$"):
        waiting[0].accepted(0.01)


def test_a_task_that_exits_ends_its_job_and_not_the_script() -> None:
    made = job()
    end(made, FAILED, payload.encode_exception(SystemExit(3)))
    with pytest.raises(errors.RemoteError, match="SystemExit: 3"):
        made.result(0)
    assert isinstance(made.exception(0), errors.RemoteError)


def test_a_job_is_told_by_the_id_that_was_given() -> None:
    made: Job = Job(Source(Owner(), PREFIX, "", "nope"), 1)
    assert str(made) == f"job nope ({made.id})"
    assert str(Job(Source(Owner(), PREFIX, "shop.buy", "nope"), 1)) == f"job nope ({made.id}, shop.buy)"
    end(made, ABORTED, payload.failure("UnknownJob", f"job {made.id}: never heard of it"))
    with pytest.raises(errors.UnknownJob, match=rf"^job nope \({made.id}\): never heard of it$"):
        made.result(0)
    assert str(Job(Source(Owner(), PREFIX, "", made.id.upper()), 1)) == f"job {made.id}"


def test_who_has_led_in_vain_waits_for_the_rest_of_the_time_only(monkeypatch):
    owner = Owner()
    job = Job(Source(owner, PREFIX, "t"), 7)
    clock = [1_000.0]
    owner.lead = lambda done, timeout: clock.__setitem__(0, clock[0] + timeout)  # it took all of it
    monkeypatch.setattr("zmqtasks.submitter.job.time", SimpleNamespace(monotonic=lambda: clock[0]))
    with pytest.raises(errors.JobTimeout, match="within 3600 s"):
        job.result(3_600)


def test_waiting_threads_are_woken() -> None:
    made = job()
    told: list[int] = []
    threads = [in_thread(lambda: told.append(made.result(10))) for _ in range(3)]
    finish([made], [value(3)], "pickle")
    for thread in threads:
        thread.join(10)
    assert told == [3, 3, 3]


def test_waiting_in_a_forked_child_raises() -> None:
    owner = Owner()
    owner.usable = False
    with pytest.raises(errors.ClientClosed):
        job(owner=owner).result()


def test_a_codec_that_is_not_accepted_is_not_decoded() -> None:
    owner = Owner()
    owner.accept = frozenset({"msgpack"})
    made = job(owner=owner)
    finish([made], [value(3)], "pickle")
    with pytest.raises(errors.PayloadError, match="pickle"):
        made.result()


def test_a_result_that_cannot_be_decoded_names_the_job() -> None:
    made = job()
    finish([made], [b"rubbish"], "pickle")
    with pytest.raises(errors.PayloadError, match=made.id):
        made.result()


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_standard_wait_works(when: str) -> None:
    jobs = [job(n) for n in range(4)]
    if when == "before":
        for one in jobs:
            finish([one], [value(1)], "pickle")
    else:
        threading.Timer(0.02, lambda: (finish(jobs[:3], [value(1)] * 3, "pickle"), _fail(jobs[3]))).start()
    told = concurrent.futures.wait(jobs, timeout=10)
    assert told.done == set(jobs)
    assert set(concurrent.futures.as_completed(jobs, timeout=10)) == set(jobs)


def _fail(one: Job) -> None:
    end(one, FAILED, payload.failure("WorkerLost", "gone"))


def test_the_standard_wait_for_the_first_exception() -> None:
    jobs = [job(n) for n in range(3)]
    threading.Timer(0.02, lambda: _fail(jobs[1])).start()
    told = concurrent.futures.wait(jobs, timeout=10, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert told.done == {jobs[1]}


def test_callbacks_run_in_one_thread_of_their_own() -> None:
    jobs = [job(n) for n in range(3)]
    seen: list[tuple[Job, str]] = []
    over = threading.Event()

    def note(one: Job) -> None:
        seen.append((one, threading.current_thread().name))
        if len(seen) == 3:
            over.set()

    for one in jobs:
        one.add_done_callback(note)
    finish(jobs, [value(0)] * 3, "pickle")
    assert over.wait(10)
    assert [one for one, _ in seen] == jobs
    assert {name for _, name in seen} == {"zmqtasks callbacks"}


def test_slow_progress_callbacks_pile_up_nothing() -> None:
    slow, other, third = (job(n) for n in range(3))
    at_work, goes_on, over = threading.Event(), threading.Event(), threading.Event()
    seen: list[tuple[str, Job, object]] = []

    def listen(one: Job) -> None:
        seen.append(("told", one, one.progress))
        at_work.set()
        assert goes_on.wait(10)

    def note(one: Job) -> None:
        seen.append(("over", one, one.progress))

    for one in (slow, other):
        one.add_progress_callback(listen)
    for one in (other, third):
        one.add_done_callback(note)
    tell(slow, msgpack({"done": 0}))
    assert at_work.wait(10)
    for number in range(1, 100):
        tell(slow, msgpack({"done": number}))
        tell(other, msgpack({"done": number}))
    finish([third, other], [value(0)] * 2, "pickle")
    slow.add_progress_callback(lambda _: over.set())
    goes_on.set()
    assert over.wait(10)
    assert seen == [
        ("told", slow, (0, None)),
        ("over", third, None),
        ("told", other, (99, None)),
        ("over", other, (99, None)),
        ("told", slow, (99, None)),
    ]


def test_a_callback_that_fails_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    one, over = job(), threading.Event()
    one.add_done_callback(lambda _: 1 / 0)
    one.add_done_callback(lambda _: over.set())
    finish([one], [value(0)], "pickle")
    assert over.wait(10)
    assert one.id in caplog.text
    later: list[Job] = []
    one.add_done_callback(later.append)
    assert later == [one]
    one.add_done_callback(lambda _: 1 / 0)


def test_as_completed_yields_each_job_once_in_the_order_of_their_ends() -> None:
    jobs = [job(n) for n in range(5)]
    finish([jobs[3]], [value(0)], "pickle")

    def later() -> None:
        finish([jobs[4], jobs[0]], [value(0)] * 2, "pickle")
        _fail(jobs[2])
        finish([jobs[1]], [value(0)], "pickle")

    threading.Timer(0.02, later).start()
    assert list(as_completed([*jobs, jobs[3]], timeout=10)) == [jobs[i] for i in (3, 4, 0, 2, 1)]


def test_as_completed_and_result_may_wait_for_the_same_job() -> None:
    one, told = job(), []
    watch(one, Stream())
    thread = in_thread(lambda: told.append(one.result(10)))
    other = in_thread(lambda: told.extend(as_completed([one], timeout=10)))
    finish([one], [value(3)], "pickle")
    thread.join(10)
    other.join(10)
    assert set(told) == {3, one}


def test_as_completed_gives_up_in_time() -> None:
    jobs = [job(n) for n in range(3)]
    finish([jobs[0]], [value(0)], "pickle")
    seen = []
    with pytest.raises(errors.JobTimeout, match="2 of 3 jobs"):
        seen.extend(as_completed(jobs, timeout=0.01))
    finish(jobs[1:], [value(0)] * 2, "pickle")
    assert list(as_completed(jobs, timeout=0)) == jobs


def test_unwatch_leaves_nothing_behind() -> None:
    one, first, second = job(), Stream(), Stream()
    watch(one, first)
    watch(one, second)
    unwatch(one, second)
    unwatch(one, first)
    finish([one], [value(0)], "pickle")
    assert not first.ready
    assert not second.ready


def test_a_job_can_be_awaited() -> None:
    one, failed, over = job(), job(), done(5)

    async def main() -> list[object]:
        threading.Timer(0.02, lambda: (finish([one], [value(3)], "pickle"), _fail(failed))).start()
        return list(await asyncio.gather(_get(one), _get(over), _get(failed), return_exceptions=True))

    async def _get(awaited: Job) -> object:
        return await awaited

    told = asyncio.run(main())
    assert told[:2] == [3, 5]
    assert isinstance(told[2], errors.WorkerLost)


def test_giving_up_an_await_does_not_cancel_the_job() -> None:
    owner = Owner()
    one = job(owner=owner)

    async def main() -> None:
        async def wait() -> None:
            await one

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait(), 0.01)

    asyncio.run(main())
    finish([one], [value(3)], "pickle")
    assert owner.cancelled == []
    assert one.result(0) == 3


def test_accepted_waits_for_the_scheduler() -> None:
    owner = Owner()
    assert job(owner=owner).accepted(1)
    owner.accepted = False
    with pytest.raises(errors.JobTimeout, match="accepted"):
        job(owner=owner).accepted(0.5)
    rejected = job()
    end(rejected, FAILED, payload.failure("QueueFull", "no more"))
    with pytest.raises(errors.QueueFull):
        rejected.accepted()
    lost = job()
    _fail(lost)
    assert lost.accepted()


def test_cancel_asks_the_scheduler() -> None:
    owner = Owner()
    one = job(owner=owner)
    assert one.cancel(force=True, timeout=2)
    assert owner.cancelled == [([one.pair], 2, True)]
    assert not done(1).cancel()


def test_only_the_scheduler_ends_a_job_and_none_is_pickled() -> None:
    for refused in (
        lambda: job().set_result(1),
        lambda: job().set_exception(ValueError()),
        lambda: job().set_running_or_notify_cancel(),
    ):
        with pytest.raises(RuntimeError, match="only the scheduler"):
            refused()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(job())


def test_jobs_that_threads_race_for_are_never_missed() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(300):
            jobs = [job(n) for n in range(4)]
            told: list[object] = []
            threads = [
                in_thread(lambda jobs=jobs, told=told: told.append(jobs[0].result(10))),
                in_thread(lambda jobs=jobs, told=told: told.append(len(list(as_completed(jobs, timeout=10))))),
                in_thread(lambda jobs=jobs, told=told: told.append(len(concurrent.futures.wait(jobs, 10).done))),
            ]
            finish(jobs, [value(7)] * 4, "pickle")
            for thread in threads:
                thread.join(10)
            assert sorted(told) == [4, 4, 7]  # type: ignore[type-var]
    finally:
        sys.setswitchinterval(before)
