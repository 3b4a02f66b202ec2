"""App and Task over real sockets, against a scheduler that the test has in its hands."""

import asyncio
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import App, CurrentJob, Task, current_job, errors, payload, wire
from zmqtasks.task import set_current

TASKS: dict[str, Task] = {}


def run_tasks(submit: wire.Submit, _functions: dict[bytes, bytes]) -> list[bytes | BaseException]:
    """What a worker with the app does."""
    out: list[bytes | BaseException] = []
    for data in submit.args:
        args, kwargs = payload.decoder(submit.codec)(data)
        try:
            out.append(payload.encode_result(submit.codec, TASKS[submit.task](*args, **kwargs), submit.task))
        except Exception as error:  # noqa: BLE001
            out.append(error)
    return out


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[FakeScheduler]:
    with FakeScheduler(f"ipc://{tmp_path}/s", run_tasks) as fake:
        yield fake


@pytest.fixture
def app(scheduler: FakeScheduler) -> Iterator[App]:
    made = App("photos", broker=scheduler.url)
    made.tasks = TASKS
    TASKS.clear()
    yield made
    made.close()


def test_a_task_runs_here_when_it_is_called_and_there_when_it_is_submitted(app: App, scheduler: FakeScheduler) -> None:
    @app.task
    def add(x: int, y: int = 1) -> int:
        """Add."""
        return x + y

    assert add(1, 2) == 3
    assert add.name.endswith("add")
    assert add.__doc__ == "Add."
    assert add.submit(1, y=2).result(10) == 3
    assert [job.result(10) for job in add.map(range(3))] == [1, 2, 3]
    assert [job.result(10) for job in add.starmap([(1, 2), (3, 4)])] == [3, 7]
    assert [job.result(10) for job in app.submit_many(add, [((1,), {"y": 5})])] == [6]
    first = scheduler.of(wire.Submit)[0]
    assert (first.task, first.function, first.codec, first.spec) == (add.name, b"", "msgpack", wire.Spec())


def test_delay_gives_celerys_kind_of_result(app: App, scheduler: FakeScheduler) -> None:
    @app.task(name="divide")
    def divide(x: int, y: int) -> float:
        return x / y

    scheduler.hold = True
    result = divide.delay(1, 2)
    assert (result.state, result.ready(), result.result) == ("PENDING", False, None)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    scheduler.release()
    assert result.get(timeout=10) == 0.5
    assert (result.state, result.ready(), result.successful(), result.failed()) == ("SUCCESS", True, True, False)
    assert app.AsyncResult(result.id).get(10) == 0.5

    failed = divide.apply_async((1, 0))
    with pytest.raises(ZeroDivisionError):
        failed.get(10)
    assert isinstance(failed.get(10, propagate=False), ZeroDivisionError)
    assert (failed.state, failed.failed(), failed.successful()) == ("FAILURE", True, False)
    assert "ZeroDivisionError" in (failed.traceback or "")
    assert result.traceback is None

    scheduler.hold = True
    revoked = divide.delay(1, 3)
    revoked.job.accepted(10)
    assert revoked.revoke()
    assert revoked.state == "REVOKED"
    assert app.AsyncResult(result.id) == result
    with pytest.raises(TypeError, match="pass its id"):
        pickle.dumps(result)


def test_what_a_task_declares_reaches_the_scheduler(app: App, scheduler: FakeScheduler) -> None:
    @app.task(
        name="t", queue="high", autoretry_for=(OSError,), max_retries=5, retry_backoff=True, retry_backoff_max=60,
        crash_budget=0, result_ttl=9, serializer="json",
    )  # fmt: skip
    def task(x: int) -> int:
        return x

    assert task.submit(1).result(10) == 1
    assert task.options(queue="low", retries=1, countdown=0).submit(2).result(10) == 2
    assert task.apply_async([3], queue="low", task_id="mine").get(10) == 3
    first, second, third = scheduler.of(wire.Submit)
    assert first.spec == wire.Spec("high", "", 5, 1.0, 60.0, 0, 9.0, jitter=True)
    assert (second.spec.queue, second.spec.retries) == ("low", 1)
    assert second.spec.not_before > 0
    assert first.codec == "json"
    assert third.prefix != first.prefix
    assert task.queue == "high"
    assert task.autoretry_for == (OSError,)


def test_retries_count_only_with_exceptions_to_retry(app: App, scheduler: FakeScheduler) -> None:
    @app.task(name="t", max_retries=5, ignore_result=True, acks_late=False, durability="os")
    def task() -> None:
        pass

    assert task.submit().result(10) is None
    (submit,) = scheduler.of(wire.Submit)
    assert (submit.spec.retries, submit.spec.result_ttl) == (0, 0.0)
    assert (submit.spec.acks_late, submit.spec.durability) == (False, "os")


def test_bind_passes_the_task(app: App) -> None:
    @app.task(bind=True, name="who")
    def who(self: Task, x: int) -> list[object]:
        return [self.name, x]

    assert who(1) == ["who", 1]
    assert who.delay(2).get(10) == ["who", 2]


def test_wrong_declarations_are_named(app: App) -> None:
    def fn() -> None:
        pass

    for given, told in (
        ({"quue": "x"}, "task option quue=; did you mean queue"),
        ({"serializer": "yaml"}, "serializer=.*yaml"),
        ({"autoretry_for": ValueError}, "autoretry_for= is a tuple of exceptions"),
        ({"max_retries": -1}, "max_retries"),
        ({"queue": 3}, "queue="),
        ({"resources": {"mem": "2 quarts"}}, "task option resources=: resource mem: there is no unit 'quarts'"),
    ):
        with pytest.raises(errors.BadOption, match=told):
            app.task(**given)(fn)  # type: ignore[arg-type]
    for later in ("time_limit", "soft_time_limit", "key"):
        with pytest.raises(errors.NotAvailable, match=f"task option {later}= is not available yet"):
            app.task(**{later: 1})
    with pytest.raises(errors.BadOption, match="acks_late= is True or False"):
        app.task(acks_late=1)(fn)
    with pytest.raises(errors.BadOption, match='durability= is "disk", "os" or "memory"'):
        app.task(durability="tape")(fn)
    with pytest.raises(errors.BadOption, match="not of 3"):
        app.task(3)  # type: ignore[call-overload]
    with pytest.raises(errors.BadOption, match="setting brokr_url; did you mean broker_url"):
        app.conf.update(brokr_url="x")


def test_two_tasks_of_one_name(app: App) -> None:
    @app.task(name="same")
    def one() -> None:
        pass

    with pytest.raises(errors.ZmqTasksError, match=r"two tasks are called 'same'.*one and .*two"):

        @app.task(name="same")
        def two() -> None:
            pass

    app.task(name="same")(one.fn)  # the same one again, as in a notebook


def test_arguments_that_the_serializer_refuses_are_named(app: App) -> None:
    @app.task(name="t")
    def task(x: object) -> None:
        pass

    with pytest.raises(errors.PayloadError, match=r't: argument 1 \(object\).*serializer="pickle"'):
        task.submit(object())
    with pytest.raises(errors.PayloadError, match="item 1"):
        task.map([1, object()])


def test_a_task_is_sent_by_name_even_if_only_workers_know_it(app: App, scheduler: FakeScheduler) -> None:
    scheduler.run = lambda m, _: [payload.encode_result(m.codec, m.task, "")]
    result = app.send_task("there.only", [1], {"a": 2}, queue="q", task_id="mine")
    assert result.get(10) == "there.only"
    (submit,) = scheduler.of(wire.Submit)
    assert submit.spec.queue == "q"
    app.task(name="here", queue="own")(lambda: None)
    app.send_task("here").get(10)
    assert scheduler.of(wire.Submit)[-1].spec.queue == "own"


def test_asubmit_does_not_block_the_loop(app: App) -> None:
    @app.task(name="t")
    def task(x: int) -> int:
        return x

    async def main() -> int:
        job = await task.asubmit(5)
        return await job

    assert asyncio.run(main()) == 5


def test_delay_can_be_awaited(app: App) -> None:
    @app.task(name="t")
    def task(x: int) -> float:
        return 1 / x

    async def main() -> float:
        with pytest.raises(ZeroDivisionError):
            await task.delay(0)
        result = task.delay(4)
        first = await result
        assert await app.AsyncResult(result.id) == first
        return first

    assert asyncio.run(main()) == 0.25


def test_async_tasks_are_refused_when_they_are_declared(app: App) -> None:
    async def fetch() -> None:
        pass

    for declare in (app.task, app.task(name="fetch")):
        with pytest.raises(errors.NotAvailable, match=r"async functions are not supported yet: .*fetch"):
            declare(fetch)
    assert not app.tasks


def test_an_unknown_job_is_told_by_the_id_that_was_given(app: App) -> None:
    result = app.AsyncResult("nope")
    with pytest.raises(errors.UnknownJob, match=r"^job nope \([0-9a-f]{32}\): the scheduler knows nothing of it"):
        result.get(10)
    assert result.state == "FAILURE"


def test_tasks_of_the_script_itself_are_refused_elsewhere(app: App) -> None:
    def fn() -> None:
        pass

    fn.__module__ = "__main__"
    task = app.task(fn)
    with pytest.raises(errors.TaskNotRegistered, match=r"__main__.*fn.*-A MODULE.*client\.submit"):
        task.submit()


def test_includes_are_loaded_and_a_broken_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "included_one.py").write_text("import included_two", encoding="utf-8")
    (tmp_path / "included_two.py").write_text("raise KeyError('the innermost')", encoding="utf-8")
    with pytest.raises(errors.AppNotLoaded, match=r"included_one.*KeyError: 'the innermost'"):
        App("x", include=["included_one"]).load()
    (tmp_path / "included_two.py").write_text("", encoding="utf-8")
    App("x", include=["included_one"]).load()
    for name in ("included_one", "included_two"):
        sys.modules.pop(name, None)


def test_the_app_connects_on_first_use_and_again_after_close(app: App, scheduler: FakeScheduler) -> None:
    app.task(name="t")(lambda: 3)
    assert scheduler.of(wire.SubmitterHello) == []
    assert TASKS["t"].submit().result(10) == 3
    app.close()
    app.close()
    assert TASKS["t"].submit().result(10) == 3
    assert len(scheduler.of(wire.SubmitterHello)) == 2


def test_tasks_and_apps_can_travel_with_functions(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somewhere")
    monkeypatch.setitem(sys.modules, "somewhere", module)

    def fn(x: int) -> int:
        return -x

    fn.__module__, fn.__qualname__ = "somewhere", "fn"
    module.fn = app.task(fn)  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(module.fn)) is module.fn

    by_value = app.task(name="by value", bind=True)(_bound)
    there = pickle.loads(pickle.dumps(by_value))
    assert there is not by_value
    assert there(3) == ("by value", 3)
    assert there.app.name == "photos"
    assert there.app.conf.broker_url == app.conf.broker_url


def _bound(self: Task, x: int) -> tuple[str, int]:
    return self.name, x


def test_current_job_is_none_outside_of_a_worker() -> None:
    assert current_job() is None
    set_current(lambda: CurrentJob("00" * 12 + "00000003", 9, "t", "w1"))
    try:
        assert current_job() == CurrentJob("00" * 12 + "00000003", 9, "t", "w1")
    finally:
        set_current(None)


def test_import_is_light() -> None:
    import subprocess

    code = "import sys, zmqtasks; print([m for m in ('zmq', 'msgspec', 'cloudpickle', 'asyncio') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert told.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    import zmqtasks

    for name in zmqtasks.__all__:
        assert getattr(zmqtasks, name) is not None
    assert set(zmqtasks.__all__) <= set(dir(zmqtasks))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = zmqtasks.nonsense


def test_the_limits_of_a_task_have_keys_of_its_arguments(app: App, scheduler: FakeScheduler) -> None:
    @app.task(rate_limit="10/s", burst=3, rate_key="who", concurrency_limit=1, concurrency_key=lambda who, n: n % 2)
    def remind(who: str, n: int) -> str:
        return f"{who} {n}"

    jobs = remind.submit_many([(("ab"[n % 2], n), {}) for n in range(10)])
    assert [job.result(10) for job in jobs] == [f"{'ab'[n % 2]} {n}" for n in range(10)]
    assert remind.delay("c", 1).get(timeout=10) == "c 1"
    assert remind.apply_async(("c",), {"n": 2}).get(timeout=10) == "c 2"
    assert remind.options(priority=3, rate_key="own").submit("d", 3).result(10) == "d 3"
    specs = [submit.spec for submit in scheduler.of(wire.Submit)]
    keys = [(spec.rate, spec.burst, spec.rate_key, spec.cap, spec.cap_key, spec.priority) for spec in specs]
    assert keys == [
        (10.0, 3, "a", 1, "0", 0),
        (10.0, 3, "b", 1, "1", 0),
        (10.0, 3, "c", 1, "1", 0),
        (10.0, 3, "c", 1, "0", 0),
        (10.0, 3, "own", 1, "1", 3),
    ]
    with pytest.raises(errors.BadOption, match="cannot be computed"):
        remind.submit("only one")  # type: ignore[call-arg]
    with pytest.raises(errors.BadOption, match="has no argument of that name"):
        app.task(name="other", rate_limit="1/s", rate_key="nobody")(remind.fn)
    with pytest.raises(errors.BadOption, match="rate_key= needs rate_limit="):
        app.task(rate_key="who")


def test_settings_give_tasks_their_priority_and_rate(app: App, scheduler: FakeScheduler) -> None:
    app.conf.update(task_default_priority=4, task_default_rate_limit="6/m")

    @app.task(name="plain")
    def plain() -> int:
        return 1

    @app.task(name="own", priority=7, rate_limit="1/s")
    def own() -> int:
        return 2

    assert (plain.submit().result(10), own.submit().result(10)) == (1, 2)
    app.conf.worker_disable_rate_limits = True
    assert plain.submit().result(10) == 1
    specs = [submit.spec for submit in scheduler.of(wire.Submit)]
    assert [(spec.priority, spec.rate) for spec in specs] == [(4, 0.1), (7, 1.0), (4, 0.0)]
