"""kombu's own queues and exchanges, where Celery's users have them, are read as ours are."""

import re

import pytest

from zmqtasks.celery import Celery
from zmqtasks.errors import BadOption
from zmqtasks.queues import Binding

kombu = pytest.importorskip("kombu", reason="pip install kombu: its queues cannot be read where there are none")
common = pytest.importorskip("kombu.common")
Exchange, Queue = kombu.Exchange, kombu.Queue


@pytest.fixture(params=["task_queues", "CELERY_QUEUES"])
def app(request):
    feed = Exchange("feed", type="topic")
    queues = (
        Queue("high", Exchange("high"), routing_key="high", max_priority=9, queue_arguments={"x-max-length": 3}),
        Queue("feeds", feed, routing_key="feed.#", consumer_arguments={"x-priority": 1}, durable=False),
        Queue("both", [kombu.binding(feed, routing_key="a.*"), kombu.binding(feed, routing_key="b")]),
        Queue("named", "photos", "key"),
        Queue("plain"),
        common.Broadcast("all"),
    )
    return Celery("a", broker="tcp://h:1", **{request.param: queues})


def queue_of(app, **given):
    return app.task(name=f"t{len(app.tasks)}", **given)(lambda: None).queue


def test_queues(app):
    assert app.routing.queues.declared == {
        "high": (Binding("high", "direct", "high"),),
        "feeds": (Binding("feed", "topic", "feed.#"),),
        "both": (Binding("feed", "topic", "a.*"), Binding("feed", "topic", "b")),
        "named": (Binding("photos", "direct", "key"),),
        "plain": (Binding(),),
        "all": (Binding("all", "fanout"),),
    }
    assert app.routing.queues.fans_out("all")
    assert app.routing.queues.binding("plain") == ("default", "direct", "plain")


def test_where_jobs_go(app):
    assert queue_of(app, queue=Queue("plain")) == "plain"
    assert queue_of(app, exchange=Exchange("feed", type="topic"), routing_key="feed.x.y") == "feeds"
    assert queue_of(app, exchange=Exchange("photos"), routing_key="key") == "named"
    app.conf.task_routes = (
        {"t9": {"queue": Queue("high")}, "t8": {"exchange": Exchange("feed"), "routing_key": "b"}},
        [(re.compile("t7"), {"queue": Queue("plain")})],
        lambda name, args, kwargs, options, task=None, **_: {"queue": Queue("named")} if name == "t6" else None,
    )
    app.conf.task_annotations = {"t5": {"queue": Queue("named"), "rate_limit": "1/s"}}
    tasks = {name: app.task(name=name)(lambda: None) for name in ("t5", "t6", "t7", "t8", "t9")}
    assert {name: tasks[name].queue for name in ("t5", "t7", "t8", "t9")} == {
        "t5": "named", "t7": "plain", "t8": "both", "t9": "high",
    }  # fmt: skip
    assert app.routing.of_job("t6", (), {}, {}, tasks["t6"]) == {"queue": "named"}
    assert tasks["t6"].options(queue=Queue("high"))._given["queue"] == "high"


def test_what_there_is_not_is_told():
    with pytest.raises(BadOption, match="none of type 'headers'"):
        Celery("a", task_queues=[Queue("q", Exchange("e", type="headers"))])
    with pytest.raises(BadOption, match="has code for queue"):
        Celery("a", task_annotations={"t": {"queue": lambda: "q"}})
