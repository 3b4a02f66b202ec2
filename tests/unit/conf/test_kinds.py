"""What settings may be."""

from datetime import UTC, timedelta

import pytest

from zmqtasks import errors
from zmqtasks.payload import ALL_CODECS


class Queue:
    def __init__(self, name):
        self.name = name


def route(name, args, kwargs, options):
    return None


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("broker_url", "ipc:///tmp/s", "ipc:///tmp/s"),
        ("broker_connection_timeout", 4, 4.0),
        ("broker_connection_timeout", timedelta(minutes=1), 60.0),
        ("task_serializer", "application/json", "json"),
        ("task_serializer", "application/x-python-serialize", "pickle"),
        ("accept_content", ["application/json", "pickle"], {"json", "pickle"}),
        ("accept_content", "json", {"json"}),
        ("accept_content", ["pickle", "json", "msgpack", "yaml"], {"pickle", "json", "msgpack"}),
        ("result_accept_content", {"application/x-msgpack"}, {"msgpack"}),
        ("result_accept_content", None, ALL_CODECS),
        ("task_reject_on_worker_lost", None, True),
        ("result_expires", timedelta(hours=2), 7200.0),
        ("result_expires", None, None),
        ("task_compression", "zlib", "gzip"),
        ("result_compression", "application/x-gzip", "gzip"),
        ("imports", "one", ("one",)),
        ("include", ["a.b", "c"], ("a.b", "c")),
        ("worker_concurrency", None, None),
        ("worker_pool", "prefork", "processes"),
        ("worker_pool", "threads", "threads"),
        ("task_routes", route, route),
        ("task_routes", ({"a": "b"}, "mod.Router", route), ({"a": "b"}, "mod.Router", route)),
        ("task_routes", [("a.*", {"queue": "b"})], [("a.*", {"queue": "b"})]),
        ("task_queues", {"a": {"exchange": "a"}}, {"a": {"exchange": "a"}}),
        ("task_queues", None, None),
        ("task_annotations", [{"a": {}}], [{"a": {}}]),
        ("task_default_rate_limit", 10, 10),
        ("task_default_rate_limit", "1.5/s", "1.5/s"),
        ("beat_schedule", {"x": {"task": "t", "schedule": 10.0}}, {"x": {"task": "t", "schedule": 10.0}}),
        ("timezone", "UTC", "UTC"),
        ("timezone", UTC, UTC),
        ("broker_use_ssl", {"ca_certs": "x"}, {"ca_certs": "x"}),
    ],
)
def test_values_as_they_are_kept(conf, name, value, kept):
    setattr(conf, name, value)
    assert getattr(conf, name) == kept


def test_queues_may_be_objects(conf):
    queues = (Queue("a"), Queue("b"))
    conf.task_queues = queues
    assert conf.task_queues is queues


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("broker_url", "redis://h/0", "is the URL of a zmqtasks scheduler, tcp://HOST:PORT, ipc://PATH or local://"),
        ("broker_url", "head:5555", "is tcp://HOST:PORT, ipc://PATH or local://, or None, not 'head:5555'"),
        ("broker_url", ["tcp://a:1"], "not ['tcp://a:1']"),
        ("broker_connection_timeout", 0, "is a number of seconds above 0, or a timedelta, not 0"),
        ("submit_timeout", "30", "not '30'"),
        ("submit_timeout", float("inf"), "not inf"),
        ("submit_timeout", float("nan"), "not nan"),
        ("submit_timeout", True, "not True"),
        ("task_serializer", "yaml", "is one of cloudpickle, json, msgpack, pickle, or its MIME type, not 'yaml'"),
        ("accept_content", ["jsn"], "is a list of some of cloudpickle, json, msgpack, pickle, or their MIME types"),
        ("accept_content", [], "not []"),
        ("accept_content", ["yaml"], "not ['yaml']"),
        ("accept_content", [["json"]], "is a list of some of"),
        ("accept_content", 3, "not 3"),
        ("task_default_queue", "", "is the name of a queue, not ''"),
        ("task_default_queue", "a,b", "is the name of a queue, and this one has ',' in its name"),
        ("task_queues", ["a b"], "queue 'a b' has ' ' in its name"),
        ("task_routes", {"t": "a b"}, "queue 'a b' has ' ' in its name"),
        ("task_acks_late", 1, "is True or False, not 1"),
        ("task_acks_late", None, "is True or False, not None"),
        ("result_expires", 0, "Celery's 0 (results that never expire) there is not"),
        ("result_expires", -1, "above 0"),
        ("imports", [3], "is a list of names of modules, not [3]"),
        ("imports", {"a": 1}, "is a list of names"),
        ("worker_concurrency", 0, "is a number of jobs, 1 to 4096, or None (one per core), not 0"),
        ("worker_concurrency", 5000, "1 to 4096"),
        ("worker_concurrency", True, "not True"),
        ("worker_pool", "gevent", "is processes or threads (pool gevent comes later), not 'gevent'"),
        ("worker_pool", "fibers", "is one of processes, threads, solo, not 'fibers'"),
        ("worker_pool", 3, "is one of"),
        ("task_routes", 3, "is a dict of routes, a function, or a list of these, or None, not 3"),
        ("task_routes", [3], "(a route is a dict, a pair of a name and a queue, or a function, not 3), not [3]"),
        ("task_routes", {"a": 3}, "(the route of 'a' is the name of a queue, or a dict of options, not 3)"),
        ("task_routes", {"a": {"queue": 3}}, "(the route of 'a': queue is a text, not 3)"),
        ("task_queues", "a", "is a list of queues or of their names, or a dict of queues"),
        ("task_queues", [3], "not [3]"),
        ("task_queues", {"a": 3}, "(queue 'a' is declared by a queue or a dict, not by 3), not {'a': 3}"),
        ("task_queues", ["a", {"name": "a"}], "(queue 'a' is declared twice)"),
        ("task_queues", {"a": {"exchange_type": "headers"}}, "there are exchanges of type direct, topic, fanout"),
        ("task_default_exchange_type", "headers", "is one of direct, topic, fanout, not 'headers'"),
        ("task_annotations", "x", "is a dict of options by names of tasks"),
        ("task_annotations", {"a": {"rate_limit": "10/w"}}, "('a': '10/w' is no rate"),
        ("task_annotations", {"a": {"on_failure": print}}, "('a' has code for on_failure"),
        ("task_annotations", [{"a": {"@__call__": 1}}], "code for @__call__"),
        ("task_annotations", {"a": "10/s"}, "('a' has '10/s')"),
        ("task_default_rate_limit", "10/w", "is a number of jobs a second, or a text like 10/s, 100/m, 1000/h"),
        ("task_default_rate_limit", -1, "not -1"),
        ("task_default_priority", 256, "is a number, 0 to"),
        ("task_compression", 3, "(there is no compression 3 (there are: gzip, zstd, none))"),
        ("result_compression", "bzip2", "is one of gzip, zstd, none (there is no compression 'bzip2'"),
        ("beat_schedule", [], 'is a dict of entries, each a dict with "task" and "schedule", not []'),
        ("beat_schedule", {"x": {"task": "t"}}, "('x' is none)"),
        ("timezone", "Mars/Olympus", "is the name of a time zone, like Europe/Berlin, or a tzinfo, or None"),
        ("timezone", "../etc", "is the name of a time zone"),
        ("worker_max_tasks_per_child", 0, "is a number of jobs, 1 or more, or None, not 0"),
    ],
)
def test_values_that_are_refused(conf, name, value, told):
    with pytest.raises(errors.BadOption) as caught:
        conf[name] = value
    text = str(caught.value)
    assert text.startswith(f"{__file__}, line ")
    assert f": {name} is " in text
    assert told in text
    assert conf.given(name) is None


def test_a_long_value_is_cut(conf):
    with pytest.raises(errors.BadOption) as caught:
        conf.task_routes = [[0] * 1000]
    assert len(str(caught.value).replace(__file__, "")) < 500
