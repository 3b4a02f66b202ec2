"""What a task and its class declare about retries, and what their jobs get of it."""

import pickle
import re
import sys
import types

import pytest

from zmqtasks import App, Task
from zmqtasks.errors import BadOption
from zmqtasks.submitter import declaring
from zmqtasks.submitter.tasks import _speaks_of_retries
from zmqtasks.task import FOREVER

KNOWN = frozenset({"base", "name", "bind", "queue", "autoretry_for", "max_retries", "retry_backoff", "key"})


class Common:
    autoretry_for = (OSError,)
    queue = "low"


class Base(Common, Task):
    name = "not that of a task"
    max_retries = 5
    retry_backoff = 2.0
    unknown = 1

    def key(self):
        """A method by the name of an option."""


class Below(Base):
    max_retries = None
    queue = "high"

    @property
    def retry_backoff(self):
        return 3


def test_a_class_declares_options_by_attributes_of_their_names():
    told = {"autoretry_for": (OSError,), "queue": "low", "max_retries": 5, "retry_backoff": 2.0}
    assert declaring.of_class(Base, KNOWN) == told
    assert declaring.of_class(Below, KNOWN) == {"autoretry_for": (OSError,), "queue": "high", "max_retries": None}
    assert declaring.of_class(Task, KNOWN) == declaring.of_class(None, KNOWN) == {}


@pytest.mark.parametrize("base", [object, Common, 3, "Base", Base.key])
def test_a_base_is_a_class_of_tasks(base):
    with pytest.raises(BadOption, match=r"task option base= is a class derived from zmqtasks\.Task, not "):
        declaring.of_class(base, KNOWN)


def test_retries_are_checked_and_none_is_for_ever():
    checked = declaring.checked_retries
    assert checked({}) == checked({"default_retry_delay": None}) == {}
    assert checked({"max_retries": None, "default_retry_delay": 3}) == {"max_retries": None, "default_retry_delay": 3.0}
    assert checked({"max_retries": 0}) == {"max_retries": 0}
    for given in (
        {"max_retries": -1}, {"max_retries": "3"}, {"max_retries": True}, {"default_retry_delay": -1},
        {"default_retry_delay": float("nan")}, {"default_retry_delay": True}, {"default_retry_delay": "3"},
    ):  # fmt: skip
        with pytest.raises(BadOption, match=f"task option {next(iter(given))}= is a number of "):
            checked(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, {}),
        ({"max_retries": 5}, {}),
        ({"autoretry_for": (OSError,)}, {"retries": 3}),
        ({"autoretry_for": (OSError,), "max_retries": 0}, {"retries": 0}),
        ({"autoretry_for": (OSError,), "max_retries": None}, {"retries": FOREVER}),
        ({"retry_backoff": True}, {"backoff": 1.0, "jitter": True}),
        (
            {"retry_backoff": 2, "retry_backoff_max": 9, "retry_jitter": False, "default_retry_delay": 5.0},
            {"backoff": 2, "backoff_max": 9, "jitter": False},
        ),
        ({"default_retry_delay": 5.0}, {"backoff": 5.0, "backoff_max": 5.0}),
    ],
)
def test_what_jobs_get_of_it(given, told):
    assert {name: value for name, value in declaring.retry_options(given).items() if value is not None} == told


@pytest.mark.parametrize("name", sorted(declaring.TASK_OPTIONS))
def test_every_option_of_a_task_is_explained(name):
    assert re.search(rf"\b{name}\b", App.task.__doc__)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"retry_backoff": -1}, "retry_backoff= is True, or a number of seconds, 0 or more, not -1"),
        ({"retry_backoff": "5"}, "retry_backoff= is True, or a number of seconds, 0 or more, not '5'"),
        ({"retry_backoff": float("nan")}, "retry_backoff= is True, or a number of seconds, 0 or more, not nan"),
        ({"retry_backoff_max": True}, "retry_backoff_max= is a number of seconds, 0 or more, not True"),
        ({"retry_backoff": 9, "retry_backoff_max": 5}, "retry_backoff=9 is more than retry_backoff_max=5$"),
        ({"retry_backoff": True, "retry_backoff_max": 0.5}, "retry_backoff=True is more than retry_backoff_max=0.5"),
        ({"retry_backoff": 3600}, "retry_backoff=3600 is more than retry_backoff_max=600.0, which is the default"),
        ({"retry_jitter": "x"}, "retry_jitter= is True or False, not 'x'"),
        ({"ignore_result": 1}, "ignore_result= is True or False, not 1"),
        ({"bind": "yes"}, "bind= is True or False, not 'yes'"),
        ({"ignore_result": True, "result_ttl": 60}, "ignore_result=True keeps no result, and result_ttl=60 does"),
        ({"rate_limit": "1/s", "burst": 0}, "burst= is a number of starts at once, 1 or more, not 0"),
        ({"expires": -1}, "expires=-1 is over before the job may start"),
        ({"queue": "high, low"}, "queue=: queue 'high, low' has ',' in its name"),
        ({"max_retries": "3"}, "max_retries= is a number of attempts"),
    ],
)
def test_what_cannot_be_is_told_in_the_words_of_whoever_says_it(given, told):
    app = App("t", broker="ipc:///nowhere")
    with pytest.raises(BadOption, match=f"^task option {told}"):
        app.task(name="t", **given)(function)
    assert app.tasks == {}
    if "bind" not in given:  # it is no matter of annotations
        app.task(name="t")(function)
        with pytest.raises(BadOption, match=f"^task_annotations, t: option {told}"):
            app.conf.task_annotations = {"t": given}


def test_what_annotations_say_must_fit_what_a_task_declares():
    app = App("t", broker="ipc:///nowhere", task_annotations={"t": {"retry_backoff_max": 5, "ignore_result": True}})
    with pytest.raises(BadOption, match=r"^task option retry_backoff=9 is more than retry_backoff_max=5$"):
        app.task(name="t", retry_backoff=9)(function)
    assert app.task(name="t", result_ttl=60)(function).defaults["result_ttl"] == 0.0


# ------------------------------------------------------------------------------------------------ tasks of a class


class Counting(Task):
    def __init__(self):
        super().__init__()
        self.count = 0

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.count += 1


def function(n):
    return n


def test_a_task_of_a_class_and_its_own_start():
    task = Counting.make(object(), function, name="t", max_retries=7)
    assert isinstance(task, Counting)
    assert (task.name, task.max_retries, task.count, task(3), task.hooked) == ("t", 7, 0, 3, True)
    plain = Task.make(object(), function, name="t")
    assert (type(plain), plain.max_retries, plain.default_retry_delay, plain.hooked) == (Task, 3, 180.0, False)
    with pytest.raises(BadOption, match=r"a task is made by @app\.task"):
        Task()


def test_a_task_of_a_class_travels_by_value(monkeypatch):
    module = types.ModuleType("somewhere")
    monkeypatch.setitem(sys.modules, "somewhere", module)
    task = Counting.make(1, function, name="t")
    task.__module__ = "somewhere"
    there = pickle.loads(pickle.dumps(task))
    assert (type(there), there.name, there.count, there.hooked) == (Counting, "t", 0, True)


def test_a_function_that_speaks_of_retries_goes_with_its_task():
    def plain(task):
        task.submit()

    def asks(task):
        task.retry()

    def by_hand():
        raise Retry  # noqa: F821  (only its name counts)

    assert [_speaks_of_retries(fn) for fn in (plain, asks, by_hand, len)] == [False, True, True, False]


# ------------------------------------------------------------------------------------------------ in an app


def test_a_task_says_how_long_results_are_kept_and_its_class_no_more():
    class Silent(Task):
        ignore_result = True

    app = App("t", broker="ipc:///nowhere")
    assert app.task(name="t.kept", base=Silent, result_ttl=60)(lambda: None).defaults["result_ttl"] == 60
    assert app.task(name="t.silent", base=Silent)(lambda: None).defaults["result_ttl"] == 0.0


def test_an_app_takes_both_and_the_task_goes_before_its_class():
    app = App("t", broker="ipc:///nowhere")

    @app.task(base=Base, name="t.one")
    def one():
        pass

    @app.task(base=Below, name="t.two", autoretry_for=(KeyError,), default_retry_delay=7, queue="own")
    def two():
        pass

    assert (type(one), one.name, one.autoretry_for, one.max_retries) == (Base, "t.one", (OSError,), 5)
    told = {"queue": "low", "retries": 5, "backoff": 2.0, "jitter": True}
    assert {name: one.defaults[name] for name in told} == told
    assert (two.autoretry_for, two.max_retries, two.default_retry_delay) == ((KeyError,), None, 7.0)
    told = {"queue": "own", "retries": FOREVER, "backoff": 7.0, "backoff_max": 7.0}
    assert {name: two.defaults[name] for name in told} == told
    plain = app.task(lambda: None)
    assert (plain.max_retries, plain.default_retry_delay, "retries" in plain.defaults) == (3, 180.0, False)


def test_what_a_class_declares_is_checked():
    class Wrong(Task):
        queue = 3

    app = App("t", broker="ipc:///nowhere")
    for given, told in (
        ({"base": Wrong}, "task option queue= is the name of a queue, not 3"),
        ({"base": int}, r"task option base= is a class derived from zmqtasks\.Task"),
        ({"max_retries": "3"}, "max_retries= is a number of attempts, 0 or more, or None for ever, not '3'"),
        ({"default_retry_delay": -1}, "default_retry_delay= is a number of seconds, 0 or more, not -1"),
    ):
        with pytest.raises(BadOption, match=told):
            app.task(**given)
