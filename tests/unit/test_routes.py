"""Routes by name, by pattern and by function."""

import re

import pytest

from zmqtasks import Queue, errors
from zmqtasks.routes import Found, Routes, over

ASKED = []


def to_low(name, args, kwargs, options, task=None, **kw):
    ASKED.append((name, args, kwargs, options, task))
    return {"queue": "low", "priority": 3} if args else None


class Old:
    """A router of Celery 3."""

    def route_for_task(self, task, args=None, kwargs=None):
        return "old" if task.startswith("old.") else None


def queue_of(given, name):
    return Routes(given).of_task(name).options.get("queue")


@pytest.mark.parametrize(
    ("given", "name", "queue"),
    [
        ({"tasks.add": "low"}, "tasks.add", "low"),
        ({"tasks.add": {"queue": "low"}}, "tasks.add", "low"),
        ({"tasks.add": {"queue": Queue("low")}}, "tasks.add", "low"),
        ({"tasks.add": "low"}, "tasks.add2", None),
        ({"feed.tasks.*": "feeds"}, "feed.tasks.import", "feeds"),
        ({"feed.tasks.*": "feeds"}, "feed.tasks.", None),  # a star is a letter at least
        ({"feed.tasks.*": "feeds"}, "feedxtasks.import", None),
        ({"*.import": "feeds"}, "feed.import.now", None),
        ({"*": "all", "a": "one"}, "a", "one"),  # an exact name goes before patterns
        ({"a.*": "first", "a.b.*": "second"}, "a.b.c", "first"),  # of patterns the first
        ({re.compile(r"(video|image)\.tasks\..*"): "media"}, "image.tasks.crop", "media"),
        ([("feed.*", "feeds"), (re.compile("web"), {"queue": "web"})], "web.get", "web"),
        ([[("feed.*", "feeds"), ("web.*", "web")]], "web.get", "web"),  # Celery's form
        (({"a": "one"}, {"a": "two", "b": "three"}), "a", "one"),
        (({"a": "one"}, {"a": "two", "b": "three"}), "b", "three"),
        (None, "a", None),
        ({}, "a", None),
    ],
)
def test_what_a_name_leads_to(given, name, queue):
    assert queue_of(given, name) == queue


def test_what_has_only_a_meaning_in_amqp_is_left_out():
    given = {"a": {"exchange": "x", "exchange_type": "topic", "routing_key": "k", "delivery_mode": 1, "priority": None}}
    assert Routes(given).of_task("a") == Found({"exchange": "x", "routing_key": "k"}, "task_routes, a")


def test_functions_are_asked_for_each_job_and_what_stands_before_them_is_not():
    routes = Routes([{"a": "sure"}, to_low, {"b": "else"}])
    assert routes.of_task("a") == Found({"queue": "sure"}, "task_routes, a")
    behind = Found({"queue": "else"}, "task_routes, b")
    assert routes.of_task("b") == Found({}, "task_routes, function to_low", asked=True, otherwise=behind)
    ASKED.clear()
    found = routes.of_job("b", [1], {"x": 2}, {"countdown": 3}, "the task")
    assert found == Found({"queue": "low", "priority": 3}, "task_routes, function to_low")
    assert ASKED == [("b", (1,), {"x": 2}, {"countdown": 3}, "the task")]
    assert routes.of_job("b", [], {}, {}, None).options == {"queue": "else"}
    assert routes.of_job("c", [], {}, {}, None) == Found({})


@pytest.mark.parametrize("path", [f"{__name__}.to_low", f"{__name__}:to_low"])
def test_a_function_by_its_dotted_path(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(to_low=to_low))
    assert Routes(path).of_job("b", [1], {}, {}, None).options["queue"] == "low"


def test_routers_of_celery_3():
    for given in (Old(), [Old]):
        assert Routes(given).of_job("old.a", [], {}, {}, None).options == {"queue": "old"}
        assert Routes(given).of_job("new.a", [], {}, {}, None).options == {}


def test_what_a_function_raises_says_where():
    def route(name, args, kwargs, options, task=None, **kw):
        return args[0]

    with pytest.raises(IndexError) as caught:
        Routes(route).of_job("a", (), {}, {}, None)
    assert caught.value.__notes__ == [f"(task_routes, function {route.__qualname__}, asked for a job of a)"]


def test_a_function_that_cannot_be_imported_or_answers_nonsense():
    routes = Routes("no_such_module.route")
    with pytest.raises(errors.BadOption, match=r"'no_such_module.route' is to name a function.*ModuleNotFoundError"):
        routes.of_job("a", [], {}, {}, None)
    with pytest.raises(errors.BadOption, match="is no function"):
        Routes("zmqtasks.errors").of_job("a", [], {}, {}, None)
    with pytest.raises(errors.BadOption, match=r"what task_routes, function .* says of a is the name of a queue, or a"):
        Routes(lambda *_args, **_kw: 3).of_job("a", [], {}, {}, None)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (3, "a route is a dict, a pair of a name and a queue, or a function, not 3"),
        ([("a", "b", "c")], "not "),
        ({3: "a"}, "a route is for the name of a task, a glob or a compiled expression, not for 3"),
        ({"a": ["b"]}, "the route of 'a' is the name of a queue, or a dict of options"),
        ({"a": ""}, "the route of 'a' is the name of a queue"),
        ({"a": {"routing_key": 3}}, "the route of 'a': routing_key is a text, not 3"),
    ],
)
def test_what_is_no_route(given, told):
    with pytest.raises(errors.BadOption, match=told):
        Routes(given)


def test_a_destination_counts_as_a_whole():
    lower = {"exchange": "x", "routing_key": "k", "priority": 3, "expires": 1}
    assert over({"queue": "a", "priority": None}, lower) == {"queue": "a", "priority": 3, "expires": 1}
    assert over({"priority": 1}, {"queue": "b", "priority": 3}) == {"queue": "b", "priority": 1}
