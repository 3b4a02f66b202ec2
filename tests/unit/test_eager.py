"""A task that runs where it is called does what it would do on a worker."""

import asyncio

import pytest

from zmqtasks import App, Retry, Task, current_job, errors
from zmqtasks.eager import MOST_RETRIES, run

app = App("eager", broker="tcp://127.0.0.1:1")  # nobody is there
told = []


class Telling(Task):
    """Tells of its hooks, and of the call that is put around its jobs."""

    def __call__(self, *args, **kwargs):
        told.append(("call", self.request.retries))
        return super().__call__(*args, **kwargs)

    def before_start(self, task_id, args, kwargs):
        told.append(("before_start", task_id, args, kwargs))

    def on_success(self, retval, *_):
        told.append(("on_success", retval))

    def on_retry(self, exc, *_):
        told.append(("on_retry", repr(exc)))

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        told.append(("on_failure", repr(exc), einfo.type))

    def after_return(self, status, *_):
        told.append(("after_return", status))


@pytest.fixture(autouse=True)
def fresh():
    told.clear()


def task(fn=None, **options):
    return app.task(name=f"t{len(app.tasks)}", **options)(fn)


def test_a_value():
    thing = object()
    same = task(lambda self, x, *, y: (x, y, self.request, current_job()), bind=True, base=Telling)
    result = run(same, (thing,), {"y": 2})
    x, y, request, job = result.get(timeout=0)
    assert (x, y, job) == (thing, 2, None)  # the very argument
    assert (request.id, request.is_eager, request.called_directly, request.retries) == (result.id, True, False, 0)
    assert (request.args, request.kwargs, request.delivery_info["is_eager"]) == ((thing,), {"y": 2}, True)
    assert (result.state, result.successful(), result.failed(), result.ready()) == ("SUCCESS", True, False, True)
    assert (result.traceback, len(result.task_id), result.name) == (None, 32, same.name)
    assert asyncio.run(_awaited(result))[0] is thing
    assert [words[0] for words in told] == ["before_start", "call", "on_success", "after_return"]
    assert told[0] == ("before_start", result.id, (thing,), {"y": 2})


async def _awaited(result):
    return await result


def test_an_error():
    def broken():
        raise KeyError("k")

    result = run(task(broken, base=Telling), (), {}, "mine")
    assert (result.id, result.state, result.successful(), result.failed()) == ("mine", "FAILURE", False, True)
    assert repr(result.get(propagate=False)) == repr(result.info) == "KeyError('k')"
    assert result.traceback.startswith('Traceback (most recent call last):\n  File "' + __file__)
    assert told[-2:] == [("on_failure", "KeyError('k')", KeyError), ("after_return", "FAILURE")]
    with pytest.raises(KeyError, match="k"):
        result.get()
    with pytest.raises(errors.NotAvailable, match="of no job"):
        result.job.cancel()
    assert result.revoke() is False
    with pytest.raises(KeyboardInterrupt):
        run(task(_interrupted), (), {})


def _interrupted():
    raise KeyboardInterrupt


def test_it_is_tried_again_at_once_as_often_as_it_may():
    def asks(self, times):
        if self.request.retries < times:
            raise self.retry(countdown=600)
        return self.request.retries

    asking = task(asks, bind=True, max_retries=2, base=Telling)
    assert run(asking, (2,), {}).get() == 2
    assert [words[1] for words in told if words[0] == "call"] == [0, 1, 2]
    assert [words[0] for words in told].count("on_retry") == 2
    with pytest.raises(errors.MaxRetriesExceeded, match=r"job mine .* no retry is left: it was tried again 2 times"):
        run(asking, (3,), {}, "mine").get()
    assert run(asking, (3,), {}, retries=3).get() == 3


def test_it_is_tried_again_after_errors_and_whatever_it_comes_to():
    tries = []

    def flaky():
        tries.append(1)
        raise OSError(len(tries))

    flaking = task(flaky, autoretry_for=(OSError,), dont_autoretry_for=(BlockingIOError,), retry_backoff=600)
    assert repr(run(flaking, (), {}).result) == "OSError(4)"

    def later(self):
        again = self.request.retries == 0 and self.retry(throw=False, countdown=600)
        return bool(again), self.request.retries

    assert run(task(later, bind=True), (), {}).get() == (False, 1)

    def for_ever():
        tries.append(1)
        raise Retry

    tries.clear()
    assert run(task(for_ever, max_retries=None), (), {}).failed()
    assert len(tries) == MOST_RETRIES + 1


def test_delay_runs_it_where_the_setting_says_so():
    local = App("always", broker="tcp://127.0.0.1:1")

    @local.task(bind=True)
    def half(self, x):
        self.update_state(state="PROGRESS", meta={})  # there is nobody to tell
        return 1 / (x - 1)

    local.conf.task_always_eager = True
    assert half.delay(3).get() == 0.5
    assert half.apply_async((5,), task_id="mine", queue="high", countdown=600).get() == 0.25
    assert local.send_task(half.name, (2,)).state == "SUCCESS"
    assert isinstance(half.delay(1).result, ZeroDivisionError)
    with pytest.raises(errors.BadOption, match="there is no option"):
        half.apply_async((1,), nonsense=1)
    local.conf.task_eager_propagates = True
    with pytest.raises(ZeroDivisionError):
        half.delay(1)
    assert isinstance(local.run_here(half, (1,), {}, throw=False).result, ZeroDivisionError)
