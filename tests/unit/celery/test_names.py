"""Celery's names: what they stand for, and what is said of those that there are not."""

import importlib
import pickle
import sys
import types

import pytest

import zmqtasks.celery
from zmqtasks import errors
from zmqtasks.celery import Celery, Task, current_app, current_task, exceptions, shared_task, states
from zmqtasks.celery.result import AsyncResult
from zmqtasks.celery.utils import uuid
from zmqtasks.celery.utils.log import get_task_logger


def test_errors_are_ours_under_celerys_names():
    assert exceptions.TimeoutError is errors.JobTimeout
    assert exceptions.MaxRetriesExceededError is Task.MaxRetriesExceededError is errors.MaxRetriesExceeded
    assert exceptions.Retry is errors.Retry
    kinds = [getattr(exceptions, name) for name in exceptions.__all__]
    assert all(issubclass(kind, (errors.ZmqTasksError, Warning)) for kind in kinds)


def test_states_compare_by_precedence():
    assert states.state("PENDING") < states.state("SUCCESS")
    assert states.state("STARTED") < states.state("PROGRESS") < states.state("FAILURE")
    assert states.READY_STATES | states.UNREADY_STATES >= states.ALL_STATES


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("", "group", "groups, chains and chords come later"),
        ("", "install", "write `from zmqtasks.celery import"),
        (".canvas", "chord", "groups, chains and chords come later"),
        (".schedules", "crontab", "periodic tasks come later"),
        (".signals", "task_prerun", "signals come later"),
        (".result", "GroupResult", "results of groups come later"),
        (".exceptions", "ChordError", "groups, chains and chords come later"),
    ],
)
def test_what_is_still_to_come_says_so_where_it_is_imported(module, name, told):
    with pytest.raises(ImportError, match=told) as caught:
        exec(f"from zmqtasks.celery{module} import {name}")
    assert isinstance(caught.value, errors.NotAvailable)
    assert not hasattr(importlib.import_module(f"zmqtasks.celery{module}"), "nonsense")


@pytest.mark.parametrize("kind", [exceptions.Ignore, exceptions.Reject])
def test_what_cannot_be_raised_may_be_caught(kind):
    with pytest.raises(errors.NotAvailable, match=f"{kind.__name__} cannot be raised: a job of zmqtasks always ends"):
        raise kind("because", requeue=True)
    assert issubclass(kind, exceptions.CeleryError)


def test_every_name_of_the_package_is_there():
    for name in zmqtasks.celery.__all__:
        assert getattr(zmqtasks.celery, name) is not None
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        from zmqtasks.celery import nonsense  # noqa: F401


@pytest.mark.parametrize("name", ["s", "si", "chunks", "replace"])
def test_what_a_task_has_not(name):
    task = Celery("a").task(name="t")(lambda: None)
    with pytest.raises(errors.NotAvailable, match=rf"task.{name} is not available: "):
        getattr(task, name)
    assert not hasattr(task, "nonsense")


def test_what_an_app_has_not():
    app = Celery("a")
    for name in ("signature", "add_periodic_task", "on_after_configure", "backend", "connection_for_write", "log"):
        with pytest.raises(errors.NotAvailable, match=rf"app.{name} is not available: "):
            getattr(app, name)
    for name, why in (("shutdown", "SIGTERM"), ("time_limit", "come later"), ("enable_events", "events come later")):
        with pytest.raises(errors.NotAvailable, match=rf"app.control.{name} is not available: .*{why}"):
            getattr(app.control, name)(destination=["w"])
    for name, why in (("conf", "zmqtasks check"), ("memdump", "psutil")):
        with pytest.raises(errors.NotAvailable, match=rf"inspect\(\).{name} is not available: .*{why}"):
            getattr(app.control.inspect(), name)()
    with pytest.raises(errors.NotAvailable, match="patterns are globs"):
        app.control.inspect(pattern="w.*", matcher="pcre")
    with pytest.raises(errors.NotAvailable, match="names of tasks"):
        app.control.inspect().registered("rate_limit")
    assert not hasattr(app, "nonsense")


# ------------------------------------------------------------------------------------------------ tasks


def test_options_of_a_task_can_be_read():
    class Urgent(Task):
        priority = 8

    app = Celery("a")
    task = app.task(name="t", rate_limit="10/m", acks_late=False, ignore_result=True)(lambda: None)
    read = (task.rate_limit, task.acks_late, task.ignore_result, task.priority, task.expires, task.time_limit)
    assert read == ("10/m", False, True, None, None, None)
    plain = app.task(name="p", base=Urgent)(lambda: None)
    assert (plain.priority, plain.rate_limit, plain.acks_late, plain.ignore_result) == (8, None, True, False)
    assert (Urgent.priority, Task.priority) == (8, None)
    with pytest.raises(errors.BadOption, match=r"write @app.task\(rate_limit='1/m'\)"):
        plain.rate_limit = "1/m"


def test_a_task_that_runs_here():
    app = Celery("a", broker="tcp://127.0.0.1:1")
    task = app.task(name="t", bind=True)(lambda self, x: (x, self.request.id, self.request.is_eager))
    done = task.apply((3,), task_id="mine", queue="high")
    assert (done.get(timeout=1, interval=0.1), done.id, done.state) == ((3, "mine", True), "mine", "SUCCESS")
    assert isinstance(done, AsyncResult)
    assert isinstance(task.apply().result, TypeError)
    with pytest.raises(TypeError):
        task.apply(throw=True)
    with pytest.raises(errors.NotAvailable, match="callbacks come later"):
        task.apply((1,), link=task)
    app.conf.update(task_always_eager=True)
    assert task.delay(1).get()[0] == 1
    assert task.apply_async((2,), task_id="m").get()[:2] == (2, "m")
    assert app.send_task("t", (3,)).get()[0] == 3


# ------------------------------------------------------------------------------------------------ apps


def test_a_broker_of_celerys_is_refused_with_what_to_write_instead():
    with pytest.raises(errors.BadOption, match=r"start `zmqtasks scheduler` on head and write tcp://head:5555\)"):
        Celery("a", broker="redis://:secret@head:6379/0")
    with pytest.raises(errors.BadOption, match=r"on localhost and write tcp://localhost:5555\)"):
        Celery("a").conf.broker_url = "amqp://guest@localhost//"


def test_a_backend_and_other_parts_are_not_needed():
    app = Celery("a", broker="tcp://h:1", backend="rpc://", loader="x", fixups=[], strict_typing=False, include="m")
    assert (app.conf.broker_url, app.include, app.main) == ("tcp://h:1", ["m"], "a")


def test_settings_of_an_app():
    app = Celery("a", changes={"task_default_queue": "q"}, namespace="SHOP", config_source={"SHOP_TIMEZONE": "UTC"})
    assert (app.conf.task_default_queue, app.conf.timezone) == ("q", "UTC")


def test_names_of_tasks():
    app = Celery("celery-demo")

    def add(): ...

    assert app.task(add).name == f"{__name__}.add"
    add.__module__ = "__main__"
    task = Celery("celery-demo").task(add)
    assert (task.name, task.in_main) == ("celery-demo.add", False)  # it goes by this name, where workers know it
    assert Celery().task(name="x")(add).name == "x"


def test_the_module_of_an_app_is_that_of_its_maker():
    class Own(Celery):
        def __init__(self):
            super().__init__("own")

    assert Celery("a").module == Own().module == __name__


def test_the_class_of_tasks_by_its_name():
    assert Celery("a", task_cls=f"{types.__name__}:SimpleNamespace").Task is types.SimpleNamespace
    with pytest.raises(errors.BadOption, match=r"task_cls='nowhere.Base' cannot be imported \(ModuleNotFoundError"):
        Celery("a", task_cls="nowhere.Base")


def test_packages_are_looked_into_when_somebody_asks(tmp_path, monkeypatch):
    for name, modules in (("shop_a", ("tasks",)), ("shop_b", ()), ("shop_c", ("jobs",))):
        (tmp_path / name).mkdir()
        for module in ("__init__", *modules):
            (tmp_path / name / f"{module}.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("a", include=["m"])
    app.autodiscover_tasks(lambda: ["shop_a", "shop_b"])
    app.autodiscover_tasks(["shop_c"], related_name="jobs", force=True)
    assert app.include == ["m", "shop_a.tasks", "shop_c.jobs"]
    assert "shop_c.jobs" in sys.modules
    assert "shop_a.tasks" not in sys.modules
    with pytest.raises(errors.BadOption, match="name them"):
        app.autodiscover_tasks()


def test_an_app_travels_as_what_it_is():
    app = Celery("a", broker="tcp://h:1", task_serializer="json")
    again = pickle.loads(pickle.dumps(app))
    assert (type(again), again.main, again.conf.broker_url, again.conf.task_serializer) == (
        Celery, "a", "tcp://h:1", "json",
    )  # fmt: skip
    assert current_app.main == "a"
    assert current_app == app


# ------------------------------------------------------------------------------------------------ the current app


def test_without_an_app_it_is_said_how_to_make_one():
    with pytest.raises(errors.ZmqTasksError, match="make one first"):
        current_app.send_task("x")
    assert not hasattr(current_app, "tasks")  # so a worker that looks for an app in a module goes on
    assert not current_task


def test_a_shared_task_is_in_every_app_and_goes_to_the_current_one():
    @shared_task
    def early(x):
        return x, current_task.name

    first = Celery("first")
    second = Celery("second", set_as_current=False)

    @shared_task(bind=True, name="late", queue="q")
    def late(self):
        return self.app

    assert first.tasks.keys() == second.tasks.keys() == {f"{__name__}.early", "late"}
    assert early(3) == (3, f"{__name__}.early")
    assert late() is first
    assert isinstance(late, Task)
    second.set_current()
    assert (late(), late.queue) == (second, "q")
    assert pickle.loads(pickle.dumps(late)) == second.tasks["late"]
    with pytest.raises(TypeError, match="twice"):
        shared_task(late)


def test_a_worker_makes_the_app_that_it_loads_the_current_one(monkeypatch):
    module = types.ModuleType("face_included")
    monkeypatch.setitem(sys.modules, "face_included", module)
    app = Celery("loaded", include=["face_included"])
    Celery("other")
    app.load()
    assert current_app == app


# ------------------------------------------------------------------------------------------------ results


def test_a_result_by_its_id_alone():
    result = AsyncResult("f" * 32, app=Celery("a"))
    assert (result.id, result.task_id, str(result), result.parent) == ("f" * 32, "f" * 32, "f" * 32, None)
    with pytest.raises(errors.NotAvailable, match="callback= of get"):
        result.get(timeout=1, interval=0.5, callback=print)


def test_small_things():
    assert len(uuid()) == 36
    assert get_task_logger("shop.tasks").name == "shop.tasks"
