"""self.retry and self.request: in a job, called directly, and one inside the other."""

import pickle
import threading
from datetime import UTC, datetime

import pytest

import zmqtasks
from zmqtasks import payload
from zmqtasks.errors import BadOption, MaxRetriesExceeded, Retry
from zmqtasks.request import ErrorInfo, Request
from zmqtasks.task import TaskBase, set_current

ID = "0" * 31 + "1"


class Running:
    """A job of a task runs in this process. `later`: what was asked for with throw=False."""

    def __init__(self, task, retries=0, args=(1,), kwargs=None):
        self.later = []
        self.decoded = 0
        self.request = Request(
            id=ID, task=task.name, retries=retries, attempt=9, hostname="w1",
            arguments=lambda: self.decode(args, kwargs or {}), retry_later=self.later.append,
        )  # fmt: skip
        set_current(None, None, lambda: self.request)

    def decode(self, args, kwargs):
        self.decoded += 1
        return list(args), kwargs


@pytest.fixture(autouse=True)
def nothing_runs():
    yield
    set_current(None)


def task(fn=lambda self: None, **declared):
    return TaskBase(fn, **{"name": "shop.buy", "bind": True, **declared})


def fail(error):
    raise error


def handling(error, buy, **given):
    """What `retry` does while an exception is being handled."""
    try:
        fail(error)
    except type(error):
        buy.retry(**given)


# ------------------------------------------------------------------------------------------------ in a job


def test_it_is_tried_again_after_the_delay_of_the_task_or_of_the_call():
    buy = task()
    Running(buy)
    for given in ({}, {"countdown": 5}, {"countdown": 0}, {"eta": 2e9}, {"eta": datetime(2040, 1, 1, tzinfo=UTC)}):
        with pytest.raises(Retry) as caught:
            buy.retry(**given)
        assert (caught.value.countdown, caught.value.eta) == (given.get("countdown"), given.get("eta"))
        assert caught.value.exc is None


def test_what_is_being_handled_is_what_went_wrong_unless_it_is_said():
    buy = task()
    Running(buy)
    with pytest.raises(Retry) as caught:
        handling(KeyError("k"), buy)
    assert isinstance(caught.value.exc, KeyError)
    with pytest.raises(Retry) as caught:
        handling(KeyError("k"), buy, exc=OSError("told"))
    assert str(caught.value) == "the job is to be tried again: OSError('told')"
    with pytest.raises(Retry) as caught:
        handling(Retry(exc=OSError("inner")), buy)
    assert str(caught.value.exc) == "inner"


def test_when_none_is_left_the_error_that_was_told_is_raised_or_the_one_at_hand_or_that():
    buy = task(max_retries=2)
    running = Running(buy, retries=2)
    told = OSError("told")
    with pytest.raises(OSError, match="told") as caught:
        buy.retry(exc=told)
    assert caught.value is told is running.request.given_up
    with pytest.raises(KeyError) as caught:
        handling(KeyError("k"), buy)
    assert caught.value is running.request.given_up
    with pytest.raises(OSError, match="told") as caught:
        handling(KeyError("k"), buy, exc=told)
    assert isinstance(caught.value.__context__, KeyError)
    with pytest.raises(MaxRetriesExceeded) as caught:
        buy.retry()
    said = f"job {ID} (shop.buy) asks to be tried again, and no retry is left: it was tried again 2 times"
    assert str(caught.value) == said
    assert caught.value is running.request.given_up


def test_a_call_may_have_a_limit_of_its_own():
    buy = task(max_retries=2)
    running = Running(buy, retries=2)
    with pytest.raises(Retry) as caught:
        buy.retry(max_retries=3)
    assert caught.value.max_retries == 3
    assert running.request.given_up is None
    running.request.retries = 0
    with pytest.raises(MaxRetriesExceeded):
        buy.retry(max_retries=0)


def test_without_a_limit_there_is_always_one_more():
    buy = task(max_retries=None)
    Running(buy, retries=10_000)
    with pytest.raises(Retry):
        buy.retry()


def test_without_throw_it_is_noted_and_the_job_goes_on():
    buy = task()
    running = Running(buy)
    again = buy.retry(throw=False, countdown=3)
    assert running.later == [again]
    assert again.countdown == 3


def test_the_arguments_stay_what_they_are():
    buy = task()
    running = Running(buy, args=(1, [2]), kwargs={"c": 3})
    for same in ({"args": (1, [2])}, {"args": [1, [2]], "kwargs": {"c": 3}}, {"kwargs": {"c": 3}}):
        with pytest.raises(Retry):
            buy.retry(**same)
    assert running.decoded == 1

    class Incomparable:
        def __eq__(self, other):
            raise ValueError("the truth of an array")

        __hash__ = None

    for other in ({"args": (2,)}, {"kwargs": {}}, {"args": (Incomparable(), [2])}, {"args": ()}):
        with pytest.raises(BadOption, match=r"shop\.buy: a job is tried again with its own arguments; submit another"):
            buy.retry(**other)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"countdown": "5"}, "countdown= is a number of seconds, not '5'"),
        ({"countdown": True}, "countdown= is a number of seconds"),
        ({"countdown": float("nan")}, "countdown= is a number of seconds"),
        ({"countdown": float("inf")}, "countdown= is a number of seconds"),
        ({"countdown": 10**400}, "countdown= is a number of seconds"),
        ({"eta": datetime(2040, 1, 1)}, "eta= is a datetime with its time zone"),  # noqa: DTZ001
        ({"eta": "tomorrow"}, "eta= is a datetime with its time zone, or Unix time"),
        ({"eta": 1.0, "countdown": 1.0}, "give eta= or countdown=, not both"),
        ({"max_retries": -1}, "max_retries= is a number of retries"),
        ({"max_retries": 1.5}, "max_retries= is a number of retries"),
        ({"max_retries": True}, "max_retries= is a number of retries"),
        ({"exc": "text"}, "exc= is an exception, not 'text'"),
    ],
)
def test_wrong_options_are_named(given, told):
    buy = task()
    Running(buy)
    with pytest.raises(BadOption, match=told):
        buy.retry(**given)


def test_a_retry_can_travel():
    error = Retry("wait", ValueError("v"), countdown=5, max_retries=2)
    there = pickle.loads(pickle.dumps(error))
    assert (str(there), there.countdown, there.eta, there.max_retries) == ("wait: ValueError('v')", 5, None, 2)
    assert isinstance(payload.decode_exception(payload.encode_exception(error)), Retry)
    last = payload.decode_exception(payload.failure("MaxRetriesExceeded", "none left"))
    assert isinstance(last, zmqtasks.MaxRetriesExceeded)
    assert str(last) == "none left"


# ------------------------------------------------------------------------------------------------ the request


def test_a_task_sees_its_job():
    buy = task()
    running = Running(buy, retries=2, args=(1, 2), kwargs={"c": 3})
    seen = buy.request
    assert seen is buy.request
    assert (seen.id, seen.task, seen.retries, seen.attempt, seen.hostname) == (ID, "shop.buy", 2, 9, "w1")
    assert running.decoded == 0
    assert (seen.args, seen.kwargs, seen.called_directly) == ((1, 2), {"c": 3}, False)
    assert running.decoded == 1
    assert (seen.is_eager, seen.timelimit, seen.eta, seen.expires) == (False, (None, None), None, None)
    assert (seen.root_id, seen.correlation_id, seen.parent_id, seen.group, seen.headers) == (ID, ID, None, None, None)
    assert seen.delivery_info == dict.fromkeys(("exchange", "routing_key", "priority", "redelivered"))
    assert (seen.get("retries"), seen.get("nonsense", "none")) == (2, "none")
    assert repr(seen) == f"<request of shop.buy, job {ID}>"


def test_another_task_sees_no_job():
    Running(task())
    seen = task(name="other").request
    assert (seen.id, seen.called_directly, seen.args, seen.kwargs, seen.retries) == (None, True, None, None, 0)


# ------------------------------------------------------------------------------------------------ called directly


def test_called_as_a_function_it_raises_what_went_wrong():
    def call(self, exc=None):
        assert self.request.called_directly
        assert self.request.kwargs == {"exc": exc}
        assert self.request.args == ()
        raise self.retry(exc=exc, throw=False)

    buy = task(call)
    with pytest.raises(OSError, match="told"):
        buy(exc=OSError("told"))
    with pytest.raises(Retry, match=r"shop\.buy was called directly, so there is no job of it to try again"):
        buy(exc=None)
    with pytest.raises(Retry, match="called directly"):
        task().retry()


def test_its_request_is_gone_with_the_call():
    seen = []
    buy = task(lambda self, n: seen.append(self.request))
    buy(3)
    assert seen[0].args == (3,)
    assert repr(seen[0]) == "<request of shop.buy, called directly>"
    assert buy.request is not seen[0]
    assert buy.request.args is None


def test_a_task_that_a_job_calls_has_no_job_of_its_own_but_the_job_has():
    seen = []

    def inner(self):
        seen.append((self.request.called_directly, outer.request.id))
        self.retry(exc=KeyError("inner"))

    inner = task(inner, name="inner")
    outer = task(lambda self: inner(), name="outer")
    Running(outer)
    with pytest.raises(KeyError, match="inner"):
        outer.run()
    assert seen == [(True, ID)]
    assert outer.request.id == ID


def test_a_task_that_calls_itself_is_called_directly_there():
    seen = []

    def down(self, n):
        seen.append(self.request.id)
        if n:
            self(n - 1)
        seen.append(self.request.id)

    counting = task(down)
    Running(counting)
    counting.run(2)
    assert seen == [ID, None, None, None, None, ID]


def test_a_thread_of_a_job_sees_the_job():
    buy = task()
    Running(buy)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(buy.request.id))
    thread.start()
    thread.join()
    assert seen == [ID]


class Around(TaskBase):
    """What users do who want something around each call."""

    def __call__(self, *args, **kwargs):
        self.seen.append(("before", self.request.id))
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.seen.append(("after", self.request.id))


class Running2(TaskBase):
    def __call__(self, *args, **kwargs):
        return ["around", self.run(*args, **kwargs)]


def test_a_call_of_ones_own_around_the_job_is_the_job():
    around = Around(lambda self, n: self.seen.append(("inside", self.request.id)) or n, name="t", bind=True)
    around.seen = []
    Running(around)
    assert around.run_as_job(3) == 3
    assert around.seen == [("before", ID), ("inside", ID), ("after", ID)]
    around.seen.clear()
    assert around(3) == 3  # as a function, in the job
    assert [name for name, _ in around.seen] == ["before", "inside", "after"]
    assert around.seen[1] == ("inside", None)
    assert around.request.id == ID
    wrapped = Running2(lambda n: n, name="t")
    assert wrapped.run_as_job(3) == wrapped(3) == ["around", 3]


def test_the_hooks_that_a_class_has_are_known():
    class Plain(TaskBase):
        limit = 3

    class Hooked(Plain):
        def on_retry(self, *args):
            pass

    class Below(Hooked):
        pass

    assert [kind.hooked for kind in (TaskBase, Plain, Hooked, Below)] == [False, False, True, True]
    plain = task()
    for hook in ("before_start", "on_success", "on_failure", "on_retry", "after_return"):
        count = {"before_start": 3, "on_success": 4, "after_return": 6}.get(hook, 5)
        assert getattr(plain, hook)(*range(count)) is None


def test_what_went_wrong_is_told_like_in_celery():
    error = KeyError("k")
    info = ErrorInfo(error, "Traceback …")
    assert (info.exception, info.type, info.traceback, str(info)) == (error, KeyError, "Traceback …", "Traceback …")
    assert repr(info) == "<ErrorInfo KeyError('k')>"
