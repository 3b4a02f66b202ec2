"""Modules, classes, objects, dicts, variables and zmqtasks.toml as sources of settings."""

import logging
from pathlib import Path

import pytest

from zmqtasks import errors
from zmqtasks.conf.settings import Conf, broker_in_file

MODULE = """\
import os
from datetime import timedelta
from os import path as task_routs

HOST = "head"
port = 5555
broker_url = f"tcp://{HOST}:{port}"
CELERY_TASK_RESULT_EXPIRES = timedelta(minutes=1)
CELERYD_CONCURRENCY = 2
if HOST:
    try:
        CELERY_TASK_SERIALIZER = "pickle"
        CELERY_TASK_SERIALIZER = "json"
    except ValueError:
        task_acks_late = True

_task_rutes = 3

def helper():
    submit_timeout = 3
"""


class Base:
    task_serializer = "json"
    CELERYD_CONCURRENCY = 2

    def method(self):
        self.submit_timeout = 3


class Derived(Base):
    CELERYD_CONCURRENCY = 3


def origin(conf, name):
    return str(conf.given(name).origin)


# ------------------------------------------------------------------------------------------------ modules


def test_a_module_in_mixed_spellings(conf, module):
    conf.from_object(module("celeryconfig", MODULE))
    assert (conf.broker_url, conf.result_expires, conf.worker_concurrency) == ("tcp://head:5555", 60.0, 2)
    assert conf.task_serializer == "json"
    assert origin(conf, "broker_url") == "celeryconfig.py, line 7"
    assert origin(conf, "result_expires") == "celeryconfig.py, line 8"
    assert origin(conf, "task_serializer") == "celeryconfig.py, line 13"
    assert sorted(conf.others) == ["HOST", "port"]
    assert conf.unknown == []
    assert conf.submit_timeout == 30.0


def test_a_module_itself(conf, module):
    import importlib

    conf.from_object(importlib.import_module(module("celeryconfig_two", "task_serializer = 'json'")))
    assert (conf.task_serializer, origin(conf, "task_serializer")) == ("json", "celeryconfig_two.py, line 1")


@pytest.mark.parametrize("text", ["inner:Config", "inner.Config", "inner:made", "inner:told"])
def test_something_in_a_module(conf, module, text):
    module(
        "inner", "class Config:\n    task_serializer = 'json'\nmade = Config()\ntold = {'task_serializer': 'json'}\n"
    )
    conf.from_object(text)
    assert conf.task_serializer == "json"
    assert origin(conf, "task_serializer") == ("inner:told" if text == "inner:told" else "inner.py, line 2")


def test_names_from_another_module(conf, module):
    module("base", "task_serializer = 'json'\n")
    conf.from_object(module("overlay", "from base import *\nsubmit_timeout = 1\n"))
    assert (origin(conf, "task_serializer"), origin(conf, "submit_timeout")) == ("overlay.py", "overlay.py, line 2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere", "there is no configuration 'nowhere': No module named 'nowhere'"),
        ("nowhere.at_all", "there is no configuration 'nowhere.at_all': No module named 'nowhere'"),
        ("broken", r"the configuration 'broken' cannot be imported: ZeroDivisionError: division by zero"),
        ("needs", "the configuration 'needs' cannot be imported: No module named 'nowhere'"),
        ("empty:Config", "there is no configuration 'empty:Config': empty has no 'Config'"),
        ("empty.Config", "there is no configuration 'empty.Config': empty has no 'Config'"),
        ("empty.py", "empty has no 'py'"),
    ],
)
def test_what_cannot_be_imported(conf, module, text, told):
    module("broken", "1 / 0")
    module("needs", "import nowhere")
    module("empty", "")
    with pytest.raises(errors.BadOption, match=told):
        conf.from_object(text)


def test_all_that_is_wrong_in_a_module_is_told_at_once(conf, module):
    module("bad", "submit_timeout = 'x'\ntask_rutes = {}\nCELERY_TASK_RUTES = {}\ntask_serializer = 'json'\n")
    with pytest.raises(errors.BadOption) as caught:
        conf.from_object("bad")
    own = " If it is something else, begin its name with _."
    assert caught.value.args == (
        "bad.py, line 2: there is no setting task_rutes; did you mean task_routes?" + own,
        "bad.py, line 3: there is no setting CELERY_TASK_RUTES; did you mean CELERY_TASK_ROUTES?" + own,
        "bad.py, line 1: submit_timeout is a number of seconds above 0, or a timedelta, not 'x'",
    )
    assert conf.task_serializer == "msgpack"


def test_one_setting_twice_in_a_module(conf, module):
    module("twice", "CELERY_ROUTES = {'a': 'b'}\n\ntask_routes = {'a': 'c'}\n")
    with pytest.raises(
        errors.BadOption,
        match=r"^twice.py, line 1 and twice.py, line 3: CELERY_ROUTES and task_routes are the same setting",
    ):
        conf.from_object("twice")


def test_what_may_be_somebody_elses_is_said_once_and_kept_apart(conf, module, caplog):
    caplog.set_level(logging.INFO)
    text = "CELERY_MY_OWN = 1\nCELERY_WORKER_POOL_RE = 3\nCELERYD_FORCE = True\nDATABASES = {}\nTIME_ZONE = 'UTC'\n"
    conf.from_object(module("settings", text))
    Conf().from_object("settings")
    assert [str(one) for one in conf.unknown] == [
        "settings.py, line 1: there is no setting CELERY_MY_OWN",
        "settings.py, line 2: there is no setting CELERY_WORKER_POOL_RE; did you mean CELERY_WORKER_POOL?",
        "settings.py, line 3: there is no setting CELERYD_FORCE",
    ]
    assert conf.others == ["DATABASES", "TIME_ZONE"]
    (record,) = caplog.records
    assert (record.levelname, record.action) == ("WARNING", "settings-unknown")
    assert record.getMessage().startswith("without effect: settings.py, line 1: there is no setting CELERY_MY_OWN; ")


# ------------------------------------------------------------------------------------------------ namespaces


def test_a_namespace_takes_only_its_own(conf, module):
    text = (
        "CELERY_TASK_SERIALIZER = 'json'\nCELERY_ROUTES = {}\nBROKER_URL = 'x'\nsubmit_timeout = ''\nCELERYD_POOL = 3\n"
    )
    conf.from_object(module("django_like", text), namespace="CELERY")
    assert (conf.task_serializer, conf.task_routes, conf.broker_url) == ("json", {}, None)
    assert conf.others == []


def test_a_namespace_of_ones_own(conf):
    given = {"PHOTOS_SUBMIT_TIMEOUT": 3, "photos_task_serializer": "json", "CELERY_X": 1}
    conf.from_object(given, namespace="photos_")
    assert (conf.submit_timeout, conf.task_serializer) == (3.0, "json")
    with pytest.raises(errors.BadOption, match="no setting PHOTOS_TASK_RUTES; did you mean PHOTOS_TASK_ROUTES"):
        conf.from_object({"PHOTOS_TASK_RUTES": 1}, namespace="PHOTOS")


def test_helpers_behind_a_namespace_are_no_errors(conf, module):
    conf.from_object(module("helping", "CELERY_REDIS_URL = 'x'\nCELERY_BROKER_URL = 'tcp://a:1'\n"), namespace="CELERY")
    assert conf.broker_url == "tcp://a:1"
    assert [one.name for one in conf.unknown] == ["CELERY_REDIS_URL"]


# ------------------------------------------------------------------------------------------------ objects, dicts


@pytest.mark.parametrize("source", [Derived, Derived()])
def test_a_class_and_an_object_of_it(conf, source):
    conf.from_object(source)
    assert (conf.task_serializer, conf.worker_concurrency) == ("json", 3)
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    first, second = (lines.index(f"    {text}") + 1 for text in ('task_serializer = "json"', "CELERYD_CONCURRENCY = 3"))
    assert origin(conf, "task_serializer") == f"{__file__}, line {first}"
    assert origin(conf, "worker_concurrency") == f"{__file__}, line {second}"


def test_an_object_with_values_of_its_own(conf):
    source = Base()
    source.task_serializer = "pickle"
    conf.from_object(source)
    assert (conf.task_serializer, origin(conf, "task_serializer")) == ("pickle", __file__)


def test_an_object_whose_property_has_no_value(conf):
    class Lazy:
        submit_timeout = 3

        @property
        def task_serializer(self):
            raise AttributeError

    conf.from_object(Lazy())
    assert conf.submit_timeout == 3.0


def test_a_class_without_a_file(conf):
    conf.from_object(type("Made", (), {"task_serializer": "json", "__module__": "nowhere"}))
    assert (conf.task_serializer, origin(conf, "task_serializer")) == ("json", "Made")


def test_a_dict_is_strict(conf):
    conf.from_object({"task_serializer": "json"})
    assert origin(conf, "task_serializer").startswith(f"a dict in {__file__}, line ")
    with pytest.raises(errors.BadOption, match=r"a dict in .*test_sources.py, line \d+: there is no setting port"):
        conf.from_object({"port": 3})


# ------------------------------------------------------------------------------------------------ a variable


def test_a_variable_names_a_module(conf, module, monkeypatch):
    assert conf.from_envvar("MY_SETTINGS") is False
    monkeypatch.setenv("MY_SETTINGS", module("by_variable", "task_serializer = 'json'"))
    assert conf.from_envvar("MY_SETTINGS") is True
    assert (conf.task_serializer, origin(conf, "task_serializer")) == ("json", "by_variable.py, line 1 ($MY_SETTINGS)")


# ------------------------------------------------------------------------------------------------ zmqtasks.toml

TOML = """\
broker = "tcp://head:1"
# submit_timeout = 5
submit_timeout = 3
'CELERYD_CONCURRENCY' = 4
CELERY_ACCEPT_CONTENT = ["json"]

[beat_schedule.hourly]
task = "t"
schedule = 3600

[task_routes]
"photos.*" = { queue = "high" }
"""


def test_the_file(conf):
    Path("zmqtasks.toml").write_text(TOML)
    assert (conf.broker_url, conf.submit_timeout, conf.worker_concurrency) == ("tcp://head:1", 3.0, 4)
    assert conf.task_routes == {"photos.*": {"queue": "high"}}
    assert {name: origin(conf, name) for name in ("submit_timeout", "worker_concurrency", "beat_schedule")} == {
        "submit_timeout": "zmqtasks.toml, line 3",
        "worker_concurrency": "zmqtasks.toml, line 4",
        "beat_schedule": "zmqtasks.toml, line 7",
    }
    assert origin(conf, "task_routes") == "zmqtasks.toml, line 11"


def test_the_file_is_read_once_and_its_place_is_kept(conf, tmp_path, monkeypatch):
    Path("zmqtasks.toml").write_text("submit_timeout = 3")
    assert conf.submit_timeout == 3.0
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert (conf.submit_timeout, origin(conf, "submit_timeout")) == (3.0, "zmqtasks.toml, line 1")
    assert Conf().submit_timeout == 30.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("broker = ", r"^zmqtasks.toml cannot be read: "),
        ("broker = 3", r"^zmqtasks.toml, line 1: broker is tcp://HOST:PORT"),
        ("\nport = 3", r"^zmqtasks.toml, line 2: there is no setting port"),
        ("task_rutes = 3", "did you mean task_routes"),
        ('broker = "tcp://a:1"\nbroker_url = "tcp://a:2"', "line 1 and zmqtasks.toml, line 2: broker and broker_url"),
    ],
)
def test_a_wrong_file_is_told_each_time(conf, text, told):
    Path("zmqtasks.toml").write_text(text)
    for _ in range(2):
        with pytest.raises(errors.BadOption, match=told):
            _ = conf.submit_timeout


@pytest.mark.parametrize("name", ["broker", "broker_url", "BROKER_URL", "CELERY_BROKER_URL"])
def test_the_broker_of_the_file_whatever_else_is_in_it(name, caplog):
    assert broker_in_file() is None
    Path("zmqtasks.toml").write_text(f"{name} = 'tcp://a:1'\nnonsense = 3\nresult_backend = 'x'\n")
    assert broker_in_file() == "tcp://a:1"
    assert not caplog.records
    Path("zmqtasks.toml").write_text(f"{name} = 3\n")
    with pytest.raises(errors.BadOption, match=f"zmqtasks.toml, line 1: {name} is tcp"):
        broker_in_file()
