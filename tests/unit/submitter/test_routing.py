"""Where the jobs of an app go: calls before tasks before routes before settings."""

import pickle

import pytest

from zmqtasks import App, Exchange, Queue, errors

CALLS = []


def nothing(x=None):
    return x


def by_size(name, args, kwargs, options, task=None, **kw):
    CALLS.append(name)
    return {"queue": "large"} if args and args[0] > 100 else None


@pytest.fixture
def app():
    CALLS.clear()
    return App("t", broker="ipc:///nowhere")


def options_of(task, *args, **given):
    sending = task.options(**given) if given else task
    return sending.keyed(args, {})._given


def queue_of(task, *args, **given):
    return options_of(task, *args, **given).get("queue", "default")


def test_the_order_is_celerys(app):
    app.conf.update(
        task_default_queue="normal",
        task_default_priority=1,
        task_routes={"t.*": {"queue": "routed", "priority": 5}, "own.*": {"queue": "routed", "priority": 5}},
    )
    plain, routed = app.task(name="plain")(nothing), app.task(name="t.routed")(nothing)
    own = app.task(name="own.own", queue="own")(nothing)
    assert [queue_of(task) for task in (plain, routed, own)] == ["normal", "routed", "own"]
    assert [options_of(task)["priority"] for task in (plain, routed, own)] == [1, 5, 5]
    assert options_of(own, queue="called", priority=9)["priority"] == 9
    assert queue_of(own, queue="called") == queue_of(routed, queue=Queue("called")) == "called"
    assert [task.queue for task in (plain, routed, own)] == ["normal", "routed", "own"]


def test_celerys_queues_of_three_priorities(app):
    app.conf.update(
        CELERY_QUEUES=(
            Queue("high", Exchange("high"), routing_key="high"),
            Queue("normal", Exchange("normal"), routing_key="normal"),
            Queue("low", Exchange("low"), routing_key="low"),
        ),
        CELERY_DEFAULT_QUEUE="normal",
        CELERY_DEFAULT_EXCHANGE="normal",
        CELERY_DEFAULT_ROUTING_KEY="normal",
        CELERY_ROUTES={"high.*": {"queue": "high"}, "low": {"exchange": "low", "routing_key": "low"}},
    )
    tasks = [app.task(name=name)(nothing) for name in ("high.a", "low", "other")]
    assert [queue_of(task) for task in tasks] == ["high", "low", "normal"]
    assert queue_of(tasks[2], exchange="high", routing_key="high") == "high"
    assert queue_of(tasks[0], exchange=Exchange("low")) == "low"
    assert app.routing.queues.names == ["high", "normal", "low"]
    assert {name: plan.why for name, plan in app.plans().items()} == {
        "high.a": "task_routes, high.*",
        "low": "task_routes, low",
        "other": "task_default_queue",
    }


def test_a_route_may_hold_every_option_of_a_job(app):
    route = {"retries": 5, "backoff": 2, "rate_limit": "9/s", "rate_key": "one", "countdown": 3, "serializer": "json"}
    app.conf.task_routes = {"a": route}
    task, own = app.task(name="a")(nothing), app.task(name="b")(nothing)
    told = options_of(task)
    assert {name: told[name] for name in ("retries", "backoff", "rate_limit", "rate_key", "countdown")} == {
        "retries": 5, "backoff": 2, "rate_limit": "9/s", "rate_key": "one", "countdown": 3,
    }  # fmt: skip
    assert (task.serializer, own.serializer, "retries" in options_of(own)) == ("json", "msgpack", False)
    keyed = app.task(name="c", rate_limit="1/s", rate_key="x", autoretry_for=(OSError,), max_retries=2)(nothing)
    app.conf.task_routes = {"c": route}
    assert options_of(keyed, 7)["rate_key"] == "7"
    assert options_of(keyed, 7)["retries"] == 2
    app.conf.worker_disable_rate_limits = True
    app.conf.task_routes = {"a": route}
    assert "rate_key" not in options_of(task)


def test_a_route_of_the_settings_holds_for_tasks_that_are_there_already(app):
    task = app.task(name="a")(nothing)
    app.conf.task_routes = {"a": {"queue": "high", "expires": 60}}
    assert (task.queue, options_of(task)["expires"]) == ("high", 60)
    app.conf.task_routes = None
    assert (task.queue, "expires" in options_of(task)) == (None, False)


def test_functions_are_asked_with_the_arguments_of_each_job(app):
    app.conf.task_routes = [{"sure": "sure"}, by_size, {"late": "late"}]
    sure, late, own = (app.task(name="sure")(nothing), app.task(name="late")(nothing), app.task(name="own")(nothing))
    assert queue_of(sure, 1000) == "sure"
    assert CALLS == []
    assert not sure.by_arguments
    assert [queue_of(late, size) for size in (1000, 1)] == ["large", "late"]
    assert queue_of(own, 1000, queue="called") == "called"
    assert late.keyed((1000,), {}) is late.keyed((1001,), {})  # what they share is made once
    assert CALLS == ["late", "late", "own", "late", "late"]
    plans = app.plans()
    assert (plans["late"].usual, plans["late"].why) == ("late", "task_routes, function by_size; else task_routes, late")
    assert (plans["own"].usual, plans["own"].why) == (
        "default",
        "task_routes, function by_size; else task_default_queue",
    )
    assert "late" in app._queues()  # workers take from it


def test_a_function_that_names_no_queue_keeps_the_routes_behind_it_out(app):
    app.conf.task_routes = [lambda name, args, *_, **more: {"priority": 7}, {"a": {"queue": "behind", "retries": 2}}]
    given = options_of(app.task(name="a")(nothing), 1)
    assert (given.get("queue"), given["priority"], "retries" in given) == (None, 7, False)


def test_annotations_go_before_what_a_task_says(app):
    app.conf.task_annotations = [{"a": {"rate_limit": "10/m"}}, {"*": {"rate_limit": "1/s", "priority": 2}}]
    first, second = app.task(name="a", rate_limit="7/s", priority=7)(nothing), app.task(name="b")(nothing)
    assert (options_of(first)["rate_limit"], options_of(first)["priority"]) == ("10/m", 2)
    assert options_of(second)["rate_limit"] == "1/s"
    assert options_of(first, priority=3)["priority"] == 3
    app.conf.update(
        task_default_rate_limit="5/s",
        task_annotations={"a": {"rate_limit": None, "queue": "annotated", "max_retries": 7, "serializer": "json"}},
        task_routes={"*": "routed"},
    )
    assert "rate_limit" not in options_of(first)
    assert (first.queue, first.max_retries, first.serializer) == ("annotated", 7, "json")
    assert app.plans()["a"].why == "task_annotations, a"
    assert (second.queue, options_of(second)["rate_limit"]) == ("routed", "5/s")


def test_annotations_that_cannot_be(app):
    task = app.task(name="a", priority=3)(nothing)
    for said, kind, told in (
        (
            {"prioritty": 3},
            errors.BadOption,
            r"task_annotations, a: there is no option prioritty=; did you mean priority",
        ),
        ({"priority": 10}, errors.BadOption, r"task_annotations, a: option priority= is a number from 0 to 9, not 10"),
        ({"time_limit": 10}, errors.NotAvailable, r"task_annotations, a: option time_limit= is not available yet"),
        ({"rate_limit": "often"}, errors.BadOption, r"'a': 'often' is no rate"),
        ({"bind": True}, errors.BadOption, r"task_annotations, a: there is no option bind="),
    ):
        with pytest.raises(kind, match=told):
            app.conf.task_annotations = {"a": said}
        assert app.conf.task_annotations is None  # as if nobody had said it
    assert options_of(task)["priority"] == 3


def test_a_route_with_an_option_that_there_is_not(app):
    app.task(name="a")(nothing)
    with pytest.raises(
        errors.BadOption, match=r"task_routes, a: there is no option prioritty=; did you mean priority="
    ):
        app.conf.update(task_routes={"a": {"queue": "b", "prioritty": 3}}, task_default_queue="c")
    assert (app.conf.task_routes, app.conf.task_default_queue) == (None, "default")


def test_a_queue_that_is_not_declared_is_told_when_a_job_is_to_go_there(app):
    task = app.task(name="a")(nothing)
    app.conf.task_create_missing_queues = False  # settings may come one by one
    app.conf.task_routes = {"a": "hihg"}
    app.conf.task_queues = [Queue("high"), Queue("low")]
    told = r"task a \(task_routes, a\): queue 'hihg' is not declared in task_queues.*did you mean 'high'\?"
    with pytest.raises(errors.BadOption, match=told):
        task.prepared()
    with pytest.raises(errors.BadOption, match=told):
        app.send_task("a")
    with pytest.raises(errors.BadOption, match=r"task b \(task_default_queue\): queue 'default' is not declared"):
        app.send_task("b")
    with pytest.raises(errors.BadOption, match="queue 'lwo' is not declared"):
        task.apply_async(queue="lwo")
    assert queue_of(task, queue="low") == "low"
    assert (task.queue, str(app.plans()["a"].error)[:6]) == (None, "task a")


def test_a_route_to_nowhere(app):
    app.conf.update(
        task_queues=[Queue("video", Exchange("media"), "video"), Queue("all", Exchange("wide", "fanout"))],
        task_routes={"a": {"exchange": "media", "routing_key": "text"}, "b": "all"},
    )
    with pytest.raises(errors.BadOption, match=r"task a \(task_routes, a\): no queue takes routing key 'text' of exch"):
        app.task(name="a")(nothing).prepared()
    assert queue_of(app.task(name="b")(nothing)) == "all"


def test_a_script_that_brings_its_own_workers_tells_them_its_queues(app):
    app.conf.update(task_default_queue="normal", task_queues=["high"], task_routes={"t.*": "routed"})
    app.task(name="t.one")(nothing)
    assert app._queues() == ["default", "normal", "high", "routed"]


def test_routes_travel_with_the_app(app):
    app.conf.update(task_routes={"a": "high"}, task_queues=[Queue("high", Exchange("x", "topic"), "a.#")])
    there = pickle.loads(pickle.dumps(app))
    assert there.routing.plan("a", {}).queue == "high"
    assert there.routing.queues == app.routing.queues
