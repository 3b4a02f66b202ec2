"""Conf: attributes, spellings, whose word counts, what is said once."""

import copy
import logging
from pathlib import Path

import pytest

from zmqtasks import errors
from zmqtasks.conf import saying
from zmqtasks.conf.celery import REASONS
from zmqtasks.conf.origin import Layer
from zmqtasks.conf.settings import Conf


class Settings:
    task_default_queue = "object"


def origin(conf, name):
    return str(conf.given(name).origin)


# ------------------------------------------------------------------------------------------------ reading and changing


def test_defaults(conf):
    assert conf.broker_url is None
    assert (conf.task_serializer, conf.task_default_queue, conf.submit_timeout) == ("msgpack", "default", 30.0)
    assert (conf.task_acks_late, conf.task_ignore_result, conf.result_expires) == (True, False, None)
    assert not conf.is_given("task_serializer")


def test_short_names_are_the_same_settings(conf):
    conf.update(serializer="json", default_queue="q", connect_timeout=1)
    conf.accept = ["json"]
    assert (conf.task_serializer, conf.task_default_queue, conf.broker_connection_timeout) == ("json", "q", 1.0)
    conf.task_default_queue = "r"
    assert conf.default_queue == "r"
    assert (conf.accept, conf.broker) == (frozenset({"json"}), None)
    assert Conf.task_serializer.aliases == ("serializer",)
    assert Conf.serializer is Conf.task_serializer


def test_settings_as_attributes_and_as_items(conf):
    conf.CELERY_TASK_SERIALIZER = "json"
    conf["CELERYD_CONCURRENCY"] = 3
    assert (conf.task_serializer, conf["worker_concurrency"], conf.CELERYD_CONCURRENCY) == ("json", 3, 3)
    assert conf.get("nonsense", 5) == 5
    assert conf.get("submit_timeout", 5) == 30.0
    assert "nonsense" not in conf
    assert 3 not in conf
    assert {"task_serializer", "task_routes"} <= set(conf)
    assert repr(conf) == "<Conf, 2 settings given>"
    with pytest.raises(KeyError, match="there is no setting task_rutes; did you mean task_routes"):
        conf["task_rutes"]
    with pytest.raises(AttributeError, match="there is no setting task_rutes; did you mean task_routes"):
        _ = conf.task_rutes
    assert not hasattr(conf, "_nonsense")


def test_what_is_not_needed_can_be_read_all_the_same(conf):
    assert conf.result_backend is None
    conf.CELERY_RESULT_BACKEND = "redis://"
    assert conf.result_backend == "redis://"


def test_people_add_to_a_dict_that_nobody_gave(conf):
    assert not conf.is_given("beat_schedule")
    conf.beat_schedule["x"] = {"task": "t", "schedule": 10}
    assert conf.is_given("beat_schedule")
    assert list(conf.beat_schedule) == ["x"]
    assert Conf().beat_schedule == {}


def test_a_copy_is_one_of_its_own(conf):
    conf.task_serializer = "json"
    other = copy.deepcopy(conf)
    other.task_serializer = "pickle"
    assert (conf.task_serializer, other.task_serializer) == ("json", "pickle")


def test_an_update_is_whole_or_not_at_all(conf):
    with pytest.raises(errors.BadOption) as caught:
        conf.update(task_serializer="json", worker_concurrency=0, task_rutes=1)
    assert len(caught.value.args) == 2
    assert "task_rutes; did you mean task_routes?; " in str(caught.value)
    assert conf.task_serializer == "msgpack"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("task_rutes", "task_routes"),
        ("brokr_url", "broker_url"),
        ("acceptcontent", "accept_content"),
        ("submit_timout", "submit_timeout"),
        ("CELERY_ROUTS", "CELERY_ROUTES"),
        ("CELERY_TASK_RUTES", "CELERY_TASK_ROUTES"),
        ("CELERYD_CONCURENCY", "CELERYD_CONCURRENCY"),
        ("BROKER_ULR", "BROKER_URL"),
        ("TASK_ROUTES", "CELERY_TASK_ROUTES"),
    ],
)
def test_an_unknown_name_gets_a_suggestion(conf, wrong, meant):
    with pytest.raises(
        errors.BadOption, match=f"test_conf.py, line .*: there is no setting {wrong}; did you mean {meant}"
    ):
        conf.update({wrong: 1})


def test_an_unknown_name_that_is_like_none(conf):
    with pytest.raises(errors.BadOption, match=r"there is no setting xyzzy$"):
        conf.xyzzy = 1
    with pytest.raises(errors.BadOption, match=r"a setting has a name, not 3$"):
        conf.update({3: 1})


def test_a_setting_given_twice(conf):
    told = r"line \d+: task_routes and CELERY_ROUTES are the same setting, with different values; keep one of them"
    with pytest.raises(errors.BadOption, match=told):
        conf.update(task_routes={"a": "b"}, CELERY_ROUTES={"a": "c"})
    conf.update(task_routes={"a": "b"}, CELERY_ROUTES={"a": "b"}, accept=["json"], CELERY_ACCEPT_CONTENT=("json",))
    assert conf.task_routes == {"a": "b"}


def test_values_that_cannot_be_compared_are_different(conf):
    class Odd(dict):
        def __eq__(self, other):
            raise RuntimeError

        __hash__ = None

    with pytest.raises(errors.BadOption, match="with different values"):
        conf.update(task_routes=Odd(), CELERY_ROUTES=Odd())


# ------------------------------------------------------------------------------------------------ derived ones


def test_the_codec_is_one_that_is_accepted(conf):
    conf.accept_content = ["json"]
    assert (conf.task_serializer, conf.result_accept_content) == ("json", {"json"})
    conf.accept_content = ["pickle", "json"]
    assert conf.task_serializer == "json"
    conf.accept_content = ["pickle"]
    assert conf.task_serializer == "pickle"
    conf.result_accept_content = ["json", "pickle"]
    assert conf.result_accept_content == {"json", "pickle"}
    conf.task_serializer = "msgpack"
    assert conf.task_serializer == "msgpack"


# ------------------------------------------------------------------------------------------------ whose word counts


def test_precedence(conf, module, monkeypatch):
    Path("zmqtasks.toml").write_text('task_default_queue = "file"\nsubmit_timeout = 7\n')
    monkeypatch.setenv("MY_SETTINGS", module("by_variable", "task_default_queue = 'variable'"))
    assert (conf.task_default_queue, origin(conf, "task_default_queue")) == ("file", "zmqtasks.toml, line 1")
    conf.from_object(Settings)
    assert conf.task_default_queue == "object"
    conf.update(task_default_queue="keyword")
    assert conf.from_envvar("MY_SETTINGS")
    assert conf.task_default_queue == "keyword"
    other = Conf()
    other.from_envvar("MY_SETTINGS")
    other.from_object(Settings)
    assert other.task_default_queue == "variable"
    assert origin(other, "task_default_queue") == "by_variable.py, line 1 ($MY_SETTINGS)"
    assert conf.submit_timeout == 7.0


def test_later_calls_count_more_than_earlier_ones_of_the_same_kind(conf):
    conf.from_object({"task_default_queue": "first", "submit_timeout": 1})
    conf.from_object({"task_default_queue": "second"})
    assert (conf.task_default_queue, conf.submit_timeout) == ("second", 1.0)
    conf.update(task_default_queue="third")
    conf.task_default_queue = "fourth"
    assert conf.task_default_queue == "fourth"


def test_the_broker_of_the_environment(conf, monkeypatch):
    Path("zmqtasks.toml").write_text('broker = "tcp://file:1"')
    assert conf.broker_url == "tcp://file:1"
    monkeypatch.setenv("ZMQTASKS_BROKER", "tcp://environment:1")
    assert (conf.broker_url, origin(conf, "broker_url")) == ("tcp://environment:1", "$ZMQTASKS_BROKER")
    conf.from_object({"BROKER_URL": "tcp://object:1"})
    assert conf.broker_url == "tcp://object:1"
    conf.broker_url = "tcp://attribute:1"
    assert conf.broker_url == "tcp://attribute:1"
    conf.update(broker_url=None)
    assert conf.broker_url == "tcp://object:1"
    conf.from_object({"broker_url": None})
    assert conf.broker_url == "tcp://environment:1"


def test_none_takes_a_value_back_where_it_means_something(conf):
    conf.from_object({"worker_concurrency": 4, "task_time_limit": 5})
    conf.update(worker_concurrency=None, task_time_limit=None)
    assert (conf.worker_concurrency, conf.task_time_limit) == (None, None)


def test_layers_are_in_this_order():
    assert [layer.name for layer in Layer] == ["SET", "ENVVAR", "OBJECT", "ENVIRONMENT", "FILE", "DEFAULT"]


# ------------------------------------------------------------------------------------------------ changes are told


def test_each_change_is_told():
    told = []
    conf = Conf(lambda: told.append(1))
    conf.task_serializer = "json"
    conf.update(task_serializer="json", submit_timeout=3)
    conf.from_object({})
    assert len(told) == 3
    assert conf.task_serializer == "json"
    assert len(told) == 3


# ------------------------------------------------------------------------------------------------ what is said


def test_what_has_no_effect_is_said_once(conf, caplog):
    caplog.set_level(logging.INFO)
    backend, pool = REASONS["redis_host"], REASONS["broker_pool_limit"]
    conf.update(
        CELERY_RESULT_BACKEND="redis://", redis_host="x", broker_pool_limit=3, task_time_limit=3, result_expires=3
    )
    conf.update(result_backend="redis://", task_time_limit=4, task_soft_time_limit=3)
    Conf().update(CELERY_RESULT_BACKEND="redis://", broker_pool_limit=4)
    assert [(record.levelname, record.action, record.getMessage()) for record in caplog.records] == [
        (
            "WARNING",
            "settings-not-needed",
            f"not needed: CELERY_RESULT_BACKEND, redis_host ({backend}); broker_pool_limit ({pool})",
        ),
        ("WARNING", "settings-later", "kept, but without effect yet: task_time_limit (time limits)"),
        ("WARNING", "settings-later", "kept, but without effect yet: task_soft_time_limit (time limits)"),
    ]


def test_what_has_an_effect_is_not_spoken_of(conf, caplog):
    for setting in conf.settings():
        if not setting.later:
            conf[setting.name] = setting.default
    assert not caplog.records


def test_nothing_is_said_while_somebody_looks(conf, caplog):
    with saying.quietly():
        conf.result_backend = "redis://"
    assert not caplog.records
    conf.result_backend = "redis://"
    assert len(caplog.records) == 1


def test_a_mark_is_all_that_keeps_a_setting_from_being_one_with_effect(conf, caplog, monkeypatch):
    """Whoever builds time limits takes out `later`, and nothing else."""
    monkeypatch.setattr(Conf.task_time_limit, "later", "")
    conf.task_time_limit = 3
    assert not caplog.records


def test_a_secret_is_not_shown(conf, monkeypatch):
    monkeypatch.setattr(Conf.security_key, "secret", True)
    with pytest.raises(errors.BadOption, match="security_key is a text, or None, not …"):
        conf.security_key = 12345
