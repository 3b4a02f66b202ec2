"""What an app's settings do: to its tasks, to their jobs, to its connection, and when it travels."""

import logging
import pickle
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import App, Exchange, Queue, Task, errors, payload, wire
from zmqtasks.conf import saying
from zmqtasks.request import Request, delivery_info
from zmqtasks.task import set_current


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[FakeScheduler]:
    def run(submit: wire.Submit, _functions: dict[bytes, bytes]) -> list[bytes | BaseException]:
        return [payload.encode_result(submit.codec, submit.codec, submit.task) for _ in submit.args]

    with FakeScheduler(f"ipc://{tmp_path}/s", run) as fake:
        yield fake


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    monkeypatch.setattr(saying, "_said", set())


@pytest.fixture
def app(scheduler: FakeScheduler) -> Iterator[App]:
    made = App("photos", broker=scheduler.url)
    yield made
    made.close()


def nothing() -> None:
    pass


def submitted(scheduler: FakeScheduler, task: Task) -> wire.Submit:
    task.submit().result(10)
    return scheduler.of(wire.Submit)[-1]


# ------------------------------------------------------------------------------------------------ tasks


def test_settings_are_the_defaults_of_tasks(app: App, scheduler: FakeScheduler) -> None:
    app.conf.update(
        task_acks_late=False, CELERY_RESULT_EXPIRES=60, default_queue="normal", task_serializer="json",
        task_reject_on_worker_lost=False,
    )  # fmt: skip
    submit = submitted(scheduler, app.task(name="t")(nothing))
    assert submit.codec == "json"
    assert submit.spec == wire.Spec(queue="normal", crash_budget=0, result_ttl=60.0, acks_late=False)


def test_what_a_task_says_counts_more(app: App, scheduler: FakeScheduler) -> None:
    app.conf.update(
        task_acks_late=False, result_expires=60, default_queue="normal", task_serializer="json",
        task_reject_on_worker_lost=False, task_ignore_result=True,
    )  # fmt: skip
    own = app.task(
        name="t", acks_late=True, result_ttl=5, queue="high", serializer="pickle", crash_budget=2
    )(nothing)  # fmt: skip
    submit = submitted(scheduler, own)
    assert submit.codec == "pickle"
    assert submit.spec == wire.Spec(queue="high", crash_budget=2, result_ttl=5.0, acks_late=True)
    kept = app.task(name="kept", ignore_result=False)(nothing)
    assert submitted(scheduler, kept).spec.result_ttl == 60.0
    assert submitted(scheduler, app.task(name="ignored")(nothing)).spec.result_ttl == 0.0


def test_a_change_holds_for_tasks_that_are_there_already(app: App, scheduler: FakeScheduler) -> None:
    task = app.task(name="t")(nothing)
    own = app.task(name="own", queue="own")(nothing)
    assert submitted(scheduler, task).spec == wire.Spec()
    app.conf.task_default_queue = "normal"
    app.conf.accept_content = ["json"]
    assert (task.queue, task.serializer, own.queue) == ("normal", "json", "own")
    submit = submitted(scheduler, task)
    assert (submit.spec.queue, submit.codec) == ("normal", "json")
    assert submitted(scheduler, own).spec.queue == "own"


def test_tasks_that_only_workers_know_have_the_same_defaults(app: App, scheduler: FakeScheduler) -> None:
    app.conf.update(task_default_queue="normal", task_acks_late=False, serializer="json")
    assert app.send_task("there.only").get(10) == "json"
    assert app.send_task("there.only", queue="high", acks_late=True).get(10) == "json"
    first, second = (submit.spec for submit in scheduler.of(wire.Submit))
    assert (first.queue, first.acks_late) == ("normal", False)
    assert (second.queue, second.acks_late) == ("high", True)


def test_routes_and_queues_reach_the_scheduler(app: App, scheduler: FakeScheduler) -> None:
    def by_size(name: str, args: tuple[int, ...], *_: object, **_kw: object) -> str | None:
        return "large" if args and args[0] > 9 else None

    app.conf.update(
        task_queues=[Queue("high", Exchange("high"), "high"), "large", "low"],
        task_routes=[{"routed": {"exchange": "high", "routing_key": "high", "priority": 4}}, by_size],
    )
    routed, sized = app.task(name="routed")(nothing), app.task(name="sized")(lambda size: size)
    routed.delay().get(10)
    routed.apply_async(queue="low", priority=1).get(10)
    app.send_task("routed").get(10)
    app.send_task("there.only", (10,)).get(10)
    app.send_task("there.only", (10,), exchange="high").get(10)
    [job.result(10) for job in sized.map([1, 100, 2])]
    submits = scheduler.of(wire.Submit)
    told = [(submit.task, submit.spec.queue, submit.spec.priority, len(submit.args)) for submit in submits]
    assert told == [
        ("routed", "high", 4, 1),
        ("routed", "low", 1, 1),
        ("routed", "high", 4, 1),
        ("there.only", "large", 0, 1),
        ("there.only", "high", 0, 1),
        ("sized", "default", 0, 2),
        ("sized", "large", 0, 1),
    ]


def test_serializers_and_compressions_reach_the_scheduler(app: App, scheduler: FakeScheduler) -> None:
    app.conf.update(task_serializer="json", result_compression="gzip")
    task = app.task(name="t", compression="zlib")(lambda text: text)
    assert task.apply_async(("x" * 9_000,)).get(10) == "json+gzip+gzip"
    assert task.apply_async(("x",), serializer="application/x-python-serialize", compression="none").get(10)
    assert app.send_task("there.only", (1,), serializer="msgpack", result_compression="none").get(10) == "msgpack"
    assert app.client.options(compression="gzip").submit(nothing).result(10) == "cloudpickle+gzip+none"
    first, *others = scheduler.of(wire.Submit)
    assert len(first.args[0]) < 200
    assert payload.decoder(first.codec)(first.args[0]) == [["x" * 9_000], {}]
    assert [submit.codec for submit in others] == ["pickle+none+gzip", "msgpack", "cloudpickle+gzip+none"]


def test_a_job_that_submits_hands_its_priority_on_if_the_settings_say_so(app: App, scheduler: FakeScheduler) -> None:
    plain, own = app.task(name="t")(nothing), app.task(name="u", priority=4)(nothing)

    def send() -> list[int]:
        before = len(scheduler.of(wire.Submit))
        results = [plain.delay(), plain.apply_async(priority=2), own.delay(), app.send_task("there.only")]
        assert [result.get(10) for result in results]
        return [submit.spec.priority for submit in scheduler.of(wire.Submit)[before:]]

    set_current(lambda: None, None, lambda: Request(delivery_info=delivery_info("q", 7, redelivered=False)))
    try:
        assert send() == [0, 2, 4, 0]
        app.conf.task_inherit_parent_priority = True
        assert send() == [7, 2, 4, 7]
    finally:
        set_current(None)
    assert send() == [0, 2, 4, 0]  # no job is running here


def test_a_serializer_that_nobody_would_decode_is_told_where_it_is_declared(app: App) -> None:
    app.conf.accept_content = ["json"]
    told = "task option serializer= is pickle, and accept_content holds only json: its jobs would be refused"
    with pytest.raises(errors.BadOption, match=told):
        app.task(name="t", serializer="pickle")(nothing)
    called = "^option serializer= is pickle, and accept_content holds only json: its jobs would be refused$"
    task = app.task(name="t")(nothing)
    for send in (task.apply_async, task.options, partial(app.send_task, "there.only")):
        with pytest.raises(errors.BadOption, match=called):
            send(serializer="application/x-python-serialize")
    app.conf.accept_content = ["json", "pickle"]
    app.task(name="t", serializer="cloudpickle")(nothing)  # who unpickles the one unpickles the other
    with pytest.raises(errors.BadOption, match="serializer= is cloudpickle, and accept_content holds only json"):
        app.conf.accept_content = ["json"]
    assert app.conf.accept_content == {"json", "pickle"}
    for option in ("serializer", "compression"):
        with pytest.raises(errors.BadOption, match=rf"task option {option}=: .*'yaml' \(there are: "):
            app.task(name="u", **{option: "yaml"})(nothing)


def test_an_app_that_nobody_needs_is_gone_at_once() -> None:
    app = App("photos")
    gone, conf = weakref.ref(app), app.conf
    del app
    assert gone() is None
    conf.task_serializer = "json"


# ------------------------------------------------------------------------------------------------ the connection


def test_the_broker_and_the_time_out_come_from_a_module(scheduler: FakeScheduler) -> None:
    Path("settings_a.py").write_text(f"CELERY_BROKER_URL = {scheduler.url!r}\nBROKER_CONNECTION_TIMEOUT = 9\n")
    app = App("photos", submit_timeout=3)
    assert app.config_from_object("settings_a", namespace=None)
    try:
        assert app.client.url == scheduler.url
        assert app.client.submit_timeout == 3.0
        assert app.conf.connect_timeout == 9.0
    finally:
        app.close()


def test_results_that_are_not_accepted_are_not_decoded(app: App) -> None:
    app.conf.update(result_accept_content=["json"])
    with pytest.raises(errors.PayloadError, match="codec 'cloudpickle' is not accepted here"):
        app.client.submit(nothing).result(10)


def test_the_broker_of_the_folder(scheduler: FakeScheduler) -> None:
    Path("zmqtasks.toml").write_text(f'broker = "{scheduler.url}"\ntask_default_queue = "of-the-file"\n')
    app = App("photos")
    try:
        assert submitted(scheduler, app.task(name="t")(nothing)).spec.queue == "of-the-file"
    finally:
        app.close()


# ------------------------------------------------------------------------------------------------ where they come from


def test_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App("photos")
    with pytest.raises(errors.BadOption, match="the environment variable PHOTOS is not set"):
        app.config_from_envvar("PHOTOS")
    assert app.config_from_envvar("PHOTOS", silent=True) is False
    monkeypatch.setenv("PHOTOS", "no_such_module_anywhere")
    assert app.config_from_envvar("PHOTOS", silent=True) is False
    with pytest.raises(errors.BadOption, match="no configuration 'no_such_module_anywhere'"):
        app.config_from_envvar("PHOTOS", force=True)
    Path("settings_b.py").write_text("task_serializer = 'json'")
    monkeypatch.setenv("PHOTOS", "settings_b")
    assert app.config_from_envvar("PHOTOS") is True
    assert app.conf.task_serializer == "json"


def test_a_module_that_is_not_there() -> None:
    app = App("photos")
    assert app.config_from_object("no_such_module_anywhere", silent=True, force=True) is False
    with pytest.raises(errors.BadOption, match="no configuration 'no_such_module_anywhere'"):
        app.config_from_object("no_such_module_anywhere")
    with pytest.raises(errors.BadOption, match="there is no setting nonsense"):
        app.config_from_object({"nonsense": 1}, silent=True)


def test_wrong_settings_of_the_app_itself_are_named() -> None:
    with pytest.raises(errors.BadOption, match=r"test_app_settings.py, line \d+: there is no setting quue"):
        App("photos", quue="x")
    with pytest.raises(errors.BadOption, match=r"broker_url is the URL of a zmqtasks scheduler"):
        App("photos", broker="amqp://guest@localhost//")


def test_includes_come_from_three_places() -> None:
    for name in ("first", "second", "third"):
        Path(f"module_{name}.py").write_text("", encoding="utf-8")
    app = App("photos", include=["module_first"])
    app.conf.update(imports=["module_second"], CELERY_INCLUDE=("module_third", "module_first"))
    assert app.include == ["module_first", "module_second", "module_third"]
    app.load()
    for name in app.include:
        assert sys.modules.pop(name)


# ------------------------------------------------------------------------------------------------ travelling


def test_settings_travel_with_the_app(app: App, scheduler: FakeScheduler, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.update(default_queue="normal", task_routes=[{"t": "high"}], result_backend="x", accept=["json"])
    app.conf.from_object({"submit_timeout": 3})
    caplog.clear()
    there = pickle.loads(pickle.dumps(app))
    assert (there.name, there.conf.broker_url) == ("photos", scheduler.url)
    assert (there.conf.task_default_queue, there.conf.submit_timeout) == ("normal", 3.0)
    assert (there.conf.task_serializer, there.conf.task_routes) == ("json", [{"t": "high"}])
    assert not caplog.records


def test_a_broker_of_the_environment_is_that_of_where_the_app_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://here:1")
    data = pickle.dumps(App("photos"))
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://there:1")
    assert pickle.loads(data).conf.broker_url == "tcp://there:1"


def test_what_does_nothing_is_said_where_the_app_is_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    App("photos", result_backend="redis://", task_time_limit=3)
    App("photos", result_backend="redis://", task_time_limit=3)
    assert [record.getMessage() for record in caplog.records] == [
        "not needed: result_backend (there is no result backend: the scheduler keeps the results)",
        "kept, but without effect yet: task_time_limit (time limits)",
    ]
