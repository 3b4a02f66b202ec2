"""Queues and exchanges: what may be declared, and where an exchange and a key lead."""

from types import SimpleNamespace

import pytest

from zmqtasks import Broadcast, Exchange, Queue, errors
from zmqtasks.queues import Binding, Queues, direct, name_of, owner, read, topic_matches


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("feed.import", "feed.import", True),
        ("feed.import", "feed", False),
        ("feed.*", "feed.import", True),
        ("feed.*", "feed", False),
        ("feed.*", "feed.import.now", False),
        ("*.import", "feed.import", True),
        ("feed.#", "feed", True),
        ("feed.#", "feed.import.now", True),
        ("#", "", True),
        ("#", "a.b", True),
        ("#.now", "feed.import.now", True),
        ("#.now", "feed.import", False),
        ("a.#.z", "a.z", True),
        ("a.#.b.#.z", "a.x.b.y.z", True),
        ("a.#.b.#.z", "a.x.y.z", False),
        ("*", "", False),
        ("", "", True),
        ("a.b*", "a.bc", False),  # a star is a word, not part of one
        ("#.#.#.#.#.#.#.#.#.#.x", ".".join("y" * 60), False),
    ],
)
def test_topics(pattern, key, matches):
    assert topic_matches(pattern, key) is matches


KOMBU = SimpleNamespace(name="k", exchange=SimpleNamespace(name="media", type="topic"), routing_key="k.#")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a", "b"], {"a": (Binding(),), "b": (Binding(),)}),
        ((Queue("a", Exchange("x", type="topic"), "a.*"),), {"a": (Binding("x", "topic", "a.*"),)}),
        ([Queue("a", Exchange("x"), routing_key="a", durable=True)], {"a": (Binding("x", "direct", "a"),)}),
        ([Queue("a", "x")], {"a": (Binding("x"),)}),
        ([KOMBU], {"k": (Binding("media", "topic", "k.#"),)}),
        ([{"name": "a", "exchange": "x"}], {"a": (Binding("x"),)}),
        (
            {"a": {"exchange": "x", "exchange_type": "topic", "binding_key": "a.*"}, "b": None, "c": KOMBU},
            {"a": (Binding("x", "topic", "a.*"),), "b": (Binding(),), "c": (Binding("media", "topic", "k.#"),)},
        ),
        ({}, {}),
    ],
)
def test_what_may_be_declared(given, found):
    assert read(given) == found


def test_a_queue_of_kombu_that_is_bound_twice():
    media = SimpleNamespace(name="media", type="direct")
    twice = [SimpleNamespace(exchange=media, routing_key=key) for key in ("video", "audio")]
    queue = SimpleNamespace(name="k", exchange=SimpleNamespace(name="", type="direct"), routing_key="", bindings=twice)
    queues = Queues(read([queue]))
    assert (queues.reach("media", "video"), queues.reach("media", "audio")) == ("k", "k")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("a", "'a' is no list of queues"),
        ([""], "a queue has a name, a text, not ''"),
        ([{"exchange": "x"}], "a queue has a name, a text, not None"),
        ([3], "a queue has a name, a text, not None"),
        ({"a": 3}, "queue 'a' is declared by a queue or a dict, not by 3"),
        (["a", Queue("a")], "queue 'a' is declared twice"),
        ([Queue("a", Exchange("x", "headers"))], "queue 'a': there are exchanges of type direct, topic, fanout"),
        ({"a": {"exchange": 3, "routing_key": "a"}, "b": {"routing_key": 3}}, "exchange and routing_key are texts"),
        (
            [Queue("a", Exchange("x")), Queue("b", Exchange("x", "topic"))],
            "exchange 'x' is declared as direct and as topic",
        ),
    ],
)
def test_what_may_not(given, told):
    with pytest.raises(errors.BadOption, match=told):
        read(given)


def test_a_queue_and_an_exchange_are_values():
    assert Queue("a", Exchange("x"), "k") == Queue("a", "x", "k") != Queue("a", "x")
    assert len({Queue("a", "x"), Queue("a", "x"), Exchange("x"), Exchange("x"), Exchange("x", "topic")}) == 3
    assert repr(Queue("a", "x")) == "<Queue a, bound to x by a>"
    assert repr(Exchange("x", "topic")) == "<Exchange x (topic)>"
    with pytest.raises(errors.BadOption, match="a queue has a name"):
        Queue("")


# ------------------------------------------------------------------------------------------------ where things go

MEDIA = Queues(
    read(
        [
            Queue("high", Exchange("high"), routing_key="high"),
            Queue("video", Exchange("media"), "media.video"),
            Queue("audio", Exchange("media"), "media.audio"),
            Queue("feeds", Exchange("topics", type="topic"), "feed.#"),
            Queue("orders", Exchange("topics", type="topic"), "order.*"),
            Queue("paid", Exchange("topics", type="topic"), "*.paid"),
            Queue("bare"),
            Queue("all", Exchange("wide", type="fanout")),
        ]
    ),
    "normal",
    Binding("tasks", "topic", "task.default"),
)


@pytest.mark.parametrize(
    ("exchange", "key", "queue"),
    [
        ("high", "high", "high"),
        ("high", None, "high"),  # the only one
        ("media", "media.audio", "audio"),
        ("topics", "feed.import.now", "feeds"),
        ("topics", "invoice.paid", "paid"),
        ("tasks", "task.default", "normal"),
        ("tasks", None, "normal"),
        (None, "task.default", "normal"),
        (None, "bare", "bare"),  # bound to the default exchange by its name
        ("", "video", "video"),  # AMQP's own exchange
        ("new", "new", "new"),  # as a missing queue would be made
    ],
)
def test_an_exchange_and_a_key_lead_to_a_queue(exchange, key, queue):
    assert MEDIA.reach(exchange, key) == queue


@pytest.mark.parametrize(
    ("exchange", "key", "told"),
    [
        ("topics", "order.paid", r"leads to several queues \(orders, paid\), and a job goes to one: name it by queue="),
        (
            "media",
            "media.text",
            r"no queue takes routing key 'media.text' of exchange 'media' \(bound to it: video by 'media.video', audio",
        ),
        ("media", None, "no queue takes routing key 'task.default' of exchange 'media'"),
        ("new", "other", r"no queue is bound to exchange 'new' \(there are: high, media, tasks, topics, wide\)"),
    ],
)
def test_a_route_to_nowhere_is_told(exchange, key, told):
    with pytest.raises(errors.BadOption, match=told):
        MEDIA.reach(exchange, key)


def test_what_is_sent_to_a_fanout_queue_goes_to_every_worker_of_it():
    assert MEDIA.reach("wide", None) == MEDIA.reach("wide", "any key") == MEDIA.find("all") == "all"
    assert [name for name in ("all", "high", "bare", "normal", "new") if MEDIA.fans_out(name)] == ["all"]
    assert MEDIA.fanout
    assert not Queues().fanout
    everywhere = Queues(read(["a"]), "normal", Binding("tasks", "fanout"))
    assert everywhere.fans_out("normal")
    assert everywhere.fans_out("a")
    two = Queues(read([Broadcast("news"), Queue("more", Exchange("news", "fanout"))]))
    with pytest.raises(errors.BadOption, match=r"leads to several queues \(news, more\)"):
        two.reach("news", None)


def test_a_broadcast_is_known_by_its_alias():
    assert read([Broadcast("news")]) == {"news": (Binding("news", "fanout"),)}
    kombus = Broadcast("news")  # each process of kombu's gives it another name, and the same alias
    kombus.name, kombus.alias = "bcast.0b8f", "news"
    assert read([kombus]) == read([Broadcast("news", queue="bcast.0b8f", durable=False)])
    assert name_of(kombus) == "news"


def test_the_queue_of_a_single_worker_need_not_be_declared():
    assert owner(direct("worker.high@host")) == "worker.high@host"
    assert owner("news") == ""
    assert Queues(read(["high"]), "high", create_missing=False).find(direct("w")) == "w.dq2"


def test_queues_that_are_not_declared():
    assert MEDIA.find("anything") == "anything"
    assert (MEDIA.closed, Queues().names, MEDIA.names[:2]) == (None, [], ["high", "video"])
    closed = Queues(read(["high", "low"]), "high", create_missing=False)
    assert closed.find("low") == "low"
    with pytest.raises(errors.BadOption, match=r"queue 'hihg' is not declared .* is False; did you mean 'high'\?"):
        closed.find("hihg")
    with pytest.raises(errors.BadOption, match="there are: high, low"):
        closed.find("xyz")
    with pytest.raises(errors.BadOption, match="no queue is bound to exchange 'new'"):
        closed.reach("new", "new")
    alone = Queues(None, "normal", create_missing=False)
    assert (alone.closed, alone.find("normal")) == ({"normal"}, "normal")
