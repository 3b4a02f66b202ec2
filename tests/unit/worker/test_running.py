"""One claim after the other in a slot: what is reported of jobs that ask to be tried again, and who is told what."""

import logging
import socket

import pytest

from zmqtasks import payload
from zmqtasks.errors import MaxRetriesExceeded, Retry
from zmqtasks.ids import job_id
from zmqtasks.task import TaskBase, current_job, set_current
from zmqtasks.wire import FAILED, RETRYABLE, UNLIMITED
from zmqtasks.worker import failures
from zmqtasks.worker.claims import Claim, Piece
from zmqtasks.worker.functions import Functions
from zmqtasks.worker.gpus import Visible
from zmqtasks.worker.running import Runner, Surroundings

PREFIX = b"p" * 12


class Cells:
    words = [0, 0]  # noqa: RUF012  (as the shared ones)


class Slot:
    """A slot without a process. Jobs are numbered from 1, their counters from 0.

    Attributes:
        ends: by number.
        values: results by number.
    """

    def __init__(self, *tasks, accept=payload.ALL_CODECS):
        self.ends, self.values = {}, {}
        functions = Functions({task.name: task for task in tasks}, "w1", accept)
        ours, self.others = socket.socketpair()
        visible = Visible(alone=True)
        around = Surroundings(
            Cells(), ours, functions, self.take, lambda _: None, lambda: None, lambda: None, visible, True, "w1", "h"
        )  # fmt: skip
        self.runner = Runner(0, around)
        ours.close()
        self.others.close()
        set_current(self.runner.current, None, self.runner.request)

    def take(self, report):
        for run in report.runs:
            for number, data in enumerate(run.results, run.first):
                self.values[number] = payload.decoder("pickle")(data)
        self.ends.update((end.number, end) for end in report.ends)

    def run(self, name, *calls, retried=None, max_payload=10_000, shipped=None, again=()):
        """One claim of jobs with these positional arguments."""
        self.ends.clear()
        self.values.clear()
        args = [payload.encoder("pickle")((call, {})) for call in calls]
        piece = Piece(1, 100, PREFIX, list(range(len(args))), args)
        digest, blob = (shipped.digest, shipped.blob) if shipped else (b"", b"")
        claim = Claim(7, name, digest, blob, "pickle", max_payload, [piece], retried or {})
        claim.queue, claim.priority, claim.again = "high", 7, list(again)
        words, runner = Cells.words, self.runner
        words[0] = claim.id
        runner._run(claim, -1)
        words[:] = [0, 0]
        return self

    def told(self, number=1):
        """Kind, delay, limit, and what the submitter is told if that is final."""
        end = self.ends[number]
        failure = payload.read_failure(end.payload)
        return end.kind, end.delay, end.limit, f"{failure.type_name.removeprefix('builtins.')}: {failure.text}"


@pytest.fixture(autouse=True)
def nothing_runs():
    yield
    set_current(None)


def task(fn, **declared):
    kind = declared.pop("kind", TaskBase)
    return kind(fn, **{"name": "t.f", "bind": True, **declared})


def give_up(retries=3):
    return f"job {job_id(PREFIX, 0)} (t.f) asks to be tried again, and no retry is left: it was tried again {retries}"


# ------------------------------------------------------------------------------------------------ when, how often


def test_a_job_that_asks_to_be_tried_again_says_when_and_how_often():
    def work(self, how):
        raise self.retry(exc=OSError("no line"), throw=False, **how)

    slot = Slot(task(work, default_retry_delay=30))
    slot.run("t.f", ({},), ({"countdown": 5},), ({"countdown": -5},), ({"max_retries": 9},))
    assert [slot.told(n) for n in (1, 2, 3, 4)] == [
        (RETRYABLE, 30.0, 3, "OSError: no line"),
        (RETRYABLE, 5.0, 3, "OSError: no line"),
        (RETRYABLE, 0.0, 3, "OSError: no line"),
        (RETRYABLE, 30.0, 9, "OSError: no line"),
    ]


def test_the_log_tells_of_an_error_only_where_there_is_one():
    slot = Slot(task(lambda self, exc: self.retry(exc=exc, countdown=4), max_retries=1))
    slot.run("t.f", (None,), (OSError("no line"),), (None,), retried={3: 1})
    assert [failures.told(slot.ends[number]) for number in (1, 2)] == [
        "asks to be tried again in 4.0 s",
        "OSError: no line (to be tried again in 4.0 s)",
    ]
    assert failures.told(slot.ends[3]).endswith("no retry is left: it was tried again 1 time")


def test_a_point_in_time_becomes_a_delay(monkeypatch):
    monkeypatch.setattr(failures, "time", lambda: 1_000.0)
    slot = Slot(task(lambda self, eta: self.retry(eta=eta)))
    slot.run("t.f", (1_060.5,), (10.0,))
    assert [slot.told(n)[1] for n in (1, 2)] == [60.5, 0.0]


def test_by_hand_is_the_same():
    def work(self, how):
        raise Retry(**how)

    slot = Slot(task(work, max_retries=None), task(work, name="t.g", bind=True, max_retries=1))
    slot.run("t.f", ({"countdown": 5},), ({"exc": KeyError("k")},), ({"max_retries": 0},), retried={2: 70})
    assert slot.told(1)[:3] == (RETRYABLE, 5.0, UNLIMITED)
    assert slot.told(2) == (RETRYABLE, 180.0, UNLIMITED, "KeyError: 'k'")
    assert slot.told(3) == (FAILED, -1.0, -1, "MaxRetriesExceeded: " + give_up("0 times").replace("0 (", "2 (", 1))
    slot.run("t.g", ({},), ({"exc": KeyError("k")},), retried={1: 1, 2: 1})
    assert slot.told(1)[3] == "MaxRetriesExceeded: " + give_up("1 time").replace("t.f", "t.g")
    assert slot.told(2) == (FAILED, -1.0, -1, "KeyError: 'k'")


def test_the_last_retry_is_followed_by_the_error_and_nothing_tries_that_again():
    def work(self, exc):
        self.retry(exc=exc)

    declared = {"autoretry_for": (Exception,), "max_retries": 2}
    slot = Slot(task(work, **declared), task(lambda self: self.retry(), name="t.g", bind=True))
    for exc, told in ((OSError("no line"), "OSError: no line"), (None, "zmqtasks.errors.MaxRetriesExceeded: job ")):
        slot.run("t.f", (exc,), retried={1: 2})
        assert slot.told()[:3] == (FAILED, -1, -1)
        assert slot.told()[3].startswith(told)
    trace = payload.read_failure(slot.ends[1].payload).traceback
    assert trace.splitlines()[1].endswith("in work")
    assert slot.run("t.g", (), retried={1: 2}).told()[:3] == (RETRYABLE, 180.0, 3)


def test_one_that_catches_it_goes_on():
    def work(self):
        try:
            self.retry()
        except MaxRetriesExceeded:
            return "enough"

    assert Slot(task(work, max_retries=0)).run("t.f", ()).values == {1: "enough"}


def test_asking_goes_before_the_rules_for_exceptions():
    def work(self, error):
        raise error

    slot = Slot(task(work, autoretry_for=(OSError,), dont_autoretry_for=(Retry, FileNotFoundError)))
    slot.run("t.f", (Retry(),), (OSError(),), (FileNotFoundError(),), (KeyError(),))
    assert [slot.told(n)[:3] for n in (1, 2, 3, 4)] == [
        (RETRYABLE, 180.0, 3),
        (RETRYABLE, -1.0, -1),
        (FAILED, -1.0, -1),
        (FAILED, -1.0, -1),
    ]


def test_a_shipped_function_has_the_retries_of_its_options():
    def work(how):
        raise Retry(**how)

    slot = Slot().run("f", ({"countdown": 5},), ({},), ({"max_retries": 0},), shipped=payload.ship(work))
    assert slot.told(1)[:3] == (RETRYABLE, 5.0, -1)
    assert slot.told(2)[:3] == (RETRYABLE, -1.0, -1)
    assert slot.told(1)[3].endswith("no retry is left; a function has as many as the option retries= gives it")
    assert slot.told(3)[0] == FAILED


def test_without_throw_the_job_goes_on_and_is_tried_again_whatever_it_comes_to():
    def work(self, end):
        if end != "plain":
            self.retry(throw=False, countdown=5)
        return {"plain": 1, "value": 2}[end]

    slot = Slot(task(work)).run("t.f", ("plain",), ("value",), ("plain",), ("error",), ("plain",))
    assert slot.values == {1: 1, 3: 1, 5: 1}
    assert [slot.told(n)[:3] for n in (2, 4)] == [(RETRYABLE, 5.0, 3)] * 2
    assert slot.run("t.f", ("plain",)).values == {1: 1}


def test_where_it_says_what_went_wrong_the_traceback_begins_with_the_users_code():
    def work(self):
        {}["k"]

    class Wrapped(TaskBase):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs)

    class Told(TaskBase):
        def on_retry(self, *args):
            pass

    for kind, frames in ((TaskBase, ["work"]), (Wrapped, ["__call__", "__call__", "run", "work"]), (Told, ["work"])):
        slot = Slot(task(work, kind=kind)).run("t.f", ())
        trace = payload.read_failure(slot.ends[1].payload).traceback
        assert [line.split()[-1] for line in trace.splitlines() if line.startswith("  File")] == frames
        slot.run("t.f", (1,))
        if kind is not Wrapped:
            assert f"the worker runs {__file__}" in payload.read_failure(slot.ends[1].payload).traceback


# ------------------------------------------------------------------------------------------------ the request


def test_a_job_sees_its_own_request_and_the_next_one_another():
    seen = []

    def work(self, *args):
        seen.append((self.request, self.request))

    slot = Slot(task(work)).run("t.f", (1, 2), (3,), retried={2: 4}, again=[2])
    (one, same), (two, _) = seen
    assert one is same is not two
    assert [(r.id, r.args, r.kwargs, r.retries, r.attempt, r.hostname) for r in (one, two)] == [
        (job_id(PREFIX, 0), (1, 2), {}, 0, 100, "w1"),
        (job_id(PREFIX, 1), (3,), {}, 4, 101, "w1"),
    ]
    came = {"exchange": "", "routing_key": "high", "priority": 7}
    assert [r.delivery_info for r in (one, two)] == [{**came, "redelivered": False}, {**came, "redelivered": True}]
    assert slot.runner.request() is None


def test_what_jobs_have_submitted_is_there_before_their_outcomes_are_told(monkeypatch):
    told = []
    monkeypatch.setattr("zmqtasks.worker.running.before_outcomes", [lambda: told.append(dict(slot.values))])
    slot = Slot(task(lambda self, n: n))
    slot.run("t.f", (1,))
    assert (told, slot.values) == ([{}], {1: 1})


def test_nothing_is_made_for_jobs_that_do_not_ask(monkeypatch):
    def made(*_, **__):
        raise AssertionError

    monkeypatch.setattr("zmqtasks.worker.running.Request", made)
    monkeypatch.setattr("zmqtasks.worker.running.Hooks", made)
    monkeypatch.setattr("zmqtasks.worker.running.CurrentJob", made)
    assert Slot(task(lambda self, n: n)).run("t.f", (1,), (2,)).values == {1: 1, 2: 2}


# ------------------------------------------------------------------------------------------------ hooks

said = []


class Hooked(TaskBase):
    """Tells of everything; a hook that is named in `broken` raises."""

    broken = ()

    def _tell(self, hook, *told):
        assert told.count(current_job().id) == 1 if hook != "before_start" else told[0] == current_job().id
        said.append((hook, *[one for one in told if one != current_job().id]))
        if hook in self.broken:
            raise SystemExit(hook)

    def before_start(self, task_id, args, kwargs):
        self._tell("before_start", task_id, args, kwargs)

    def on_success(self, retval, task_id, args, kwargs):
        self._tell("on_success", retval, task_id, args, kwargs)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        assert einfo.exception is exc
        self._tell("on_failure", repr(exc), task_id, args, kwargs, einfo.traceback.splitlines()[-1:])

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        self._tell("on_retry", repr(exc), task_id, args, kwargs, einfo.type)

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        self._tell("after_return", status, repr(retval), task_id, args, kwargs, einfo is None)


def hooked(fn, broken=(), **declared):
    said.clear()
    made = task(fn, kind=Hooked, **declared)
    made.broken = broken
    return made


def test_hooks_of_a_success():
    slot = Slot(hooked(lambda self, n: said.append("runs") or n)).run("t.f", (3,))
    assert slot.values == {1: 3}
    assert said == [
        ("before_start", (3,), {}),
        "runs",
        ("on_success", 3, (3,), {}),
        ("after_return", "SUCCESS", "3", (3,), {}, True),
    ]


def test_hooks_of_a_failure():
    def work(self, n):
        raise KeyError(n)

    slot = Slot(hooked(work)).run("t.f", (3,))
    assert slot.told() == (RETRYABLE, -1.0, -1, "KeyError: 3")  # by its Spec, which the worker does not know
    assert said == [
        ("before_start", (3,), {}),
        ("on_failure", "KeyError(3)", (3,), {}, ["KeyError: 3"]),
        ("after_return", "FAILURE", "KeyError(3)", (3,), {}, False),
    ]


def test_hooks_of_a_retry_and_of_the_last_one():
    def work(self, how):
        if how == "raise":
            raise OSError("down")
        self.retry(exc=None if how == "ask" else KeyError("k"))

    slot = Slot(hooked(work, autoretry_for=(OSError,), max_retries=1))
    for how, error in (("raise", "OSError('down')"), ("ask", "Retry('')"), ("tell", "KeyError('k')")):
        said.clear()
        assert slot.run("t.f", (how,)).told()[0] == RETRYABLE
        kind = {"raise": OSError, "ask": Retry, "tell": KeyError}[how]
        assert said == [("before_start", (how,), {}), ("on_retry", error, (how,), {}, kind)]
        said.clear()
        slot.run("t.f", (how,), retried={1: 1})
        assert [one[0] for one in said] == ["before_start", "on_failure", "after_return"]


def test_what_before_start_raises_is_the_jobs_own_error():
    slot = Slot(hooked(lambda self: said.append("runs"), broken=("before_start",))).run("t.f", ())
    assert slot.told() == (FAILED, -1.0, -1, "SystemExit: before_start")
    assert [one[0] for one in said] == ["before_start", "on_failure", "after_return"]


@pytest.mark.parametrize("ends", ["well", "badly", "again"])
def test_what_other_hooks_raise_is_logged_and_changes_nothing(ends, caplog):
    def work(self):
        if ends == "badly":
            raise KeyError("k")
        if ends == "again":
            raise Retry

    broken = ("on_success", "on_failure", "on_retry", "after_return")
    with caplog.at_level(logging.WARNING):
        slot = Slot(hooked(work, broken=broken)).run("t.f", ())
    assert slot.values == ({1: None} if ends == "well" else {})
    assert [end.kind for end in slot.ends.values()] == ([] if ends == "well" else [RETRYABLE])
    hooks = {"well": ["on_success", "after_return"], "badly": ["on_failure", "after_return"], "again": ["on_retry"]}
    assert [one[0] for one in said] == ["before_start", *hooks[ends]]
    assert [record.message.split(" raised SystemExit: ")[0] for record in caplog.records] == [
        f"{hook} of job {job_id(PREFIX, 0)} (t.f)" for hook in hooks[ends]
    ]


def test_a_result_that_cannot_travel_is_no_success():
    slot = Slot(hooked(lambda self, value: (x for x in ()) if value is None else value))
    slot.run("t.f", (None,), (b"x" * 20_000,), (1,))
    size = len(payload.encoder("pickle")(b"x" * 20_000))
    for number, told in (
        (1, "PayloadError: t.f: the result (generator) cannot be encoded as pickle: cannot pickle 'generator' object"),
        (2, f"PayloadTooLarge: t.f: the result has {size} bytes, the scheduler takes 10000"),
    ):
        assert slot.told(number)[::3] == (FAILED, told)
    assert [one[0] for one in said] == [
        *["before_start", "on_failure", "after_return"] * 2, "before_start", "on_success", "after_return",
    ]  # fmt: skip
    assert "PayloadError" in said[1][1]
    assert "PayloadTooLarge" in said[4][1]


def test_arguments_that_cannot_be_decoded_are_a_failure_without_arguments():
    slot = Slot(hooked(lambda self: None))
    runner, words = slot.runner, Cells.words
    words[0] = 7
    runner._run(Claim(7, "t.f", b"", b"", "pickle", 1000, [Piece(1, 100, PREFIX, [0], [b"\xff"])]), -1)
    assert "cannot be decoded as pickle" in slot.told()[3]
    assert [one[0] for one in said] == ["on_failure", "after_return"]
    assert said[0][2:4] == ((), {})


def test_without_throw_a_success_is_no_success():
    def work(self):
        self.retry(throw=False)
        return 3

    slot = Slot(hooked(work)).run("t.f", ())
    assert slot.told()[:3] == (RETRYABLE, 180.0, 3)
    assert [one[0] for one in said] == ["before_start", "on_retry"]


def test_the_other_half_of_a_job_that_forked_tells_nobody(monkeypatch):
    def work(self):
        monkeypatch.setattr("os.getpid", lambda: 4711)

    assert Slot(hooked(work)).run("t.f", ()).values == {1: None}
    assert [one[0] for one in said] == ["before_start"]


# ------------------------------------------------------------------------------------------------ codecs


def test_arguments_are_not_decoded_by_a_codec_that_is_not_accepted(monkeypatch):
    decoded = []
    monkeypatch.setitem(payload._DECODERS, "pickle", decoded.append)
    slot = Slot(task(lambda self: 1), accept=frozenset({"json", "msgpack"}))
    slot.run("t.f", (), ())
    assert [slot.told(n)[3] for n in (1, 2)] == [
        "PayloadError: t.f: codec 'pickle' is not accepted here (accepted: json, msgpack)"
    ] * 2
    assert decoded == []
