import io
import json
from concurrent.futures import Future

import pytest

from zmqtasks import errors
from zmqtasks.cli._outcomes import FIRST_ERRORS, MAX_REPR, OutputError, Tally, describe, encode, outcome


class Job(Future):
    def __init__(self, state="succeeded", value=None, error=None):
        super().__init__()
        self.id, self.state = "ab" * 16, state
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)


def written(job, line=1):
    output = io.BytesIO()
    tally = Tally(output, "results.jsonl")
    tally.add(line, job)
    data = output.getvalue()
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    return json.loads(data)


def test_a_result():
    assert written(Job(value={"a": [1, "é", None]}), line=4) == {
        "line": 4,
        "id": "ab" * 16,
        "state": "succeeded",
        "result": {"a": [1, "é", None]},
    }


class Broken:
    def __repr__(self):
        raise RuntimeError

    def __reduce__(self):
        raise TypeError


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (1 + 2j, {"repr": "(1+2j)"}),
        (b"\0", {"repr": "b'\\x00'"}),
        (float("nan"), {"repr": "nan"}),
        ([float("inf")], {"repr": "[inf]"}),
        ({(1, 2): 3}, {"repr": "{(1, 2): 3}"}),
        (Broken(), {"repr": "<Broken whose __repr__ fails>"}),
        ("\ud800", "\ud800"),
        ((1, 2), [1, 2]),
    ],
)
def test_a_result_that_json_cannot_hold_is_told_by_its_repr(value, told):
    assert written(Job(value=value))["result"] == told


def test_a_circular_result_and_a_huge_repr():
    circle = []
    circle.append(circle)
    assert written(Job(value=circle))["result"] == {"repr": "[[...]]"}
    assert len(written(Job(value=b"x" * MAX_REPR))["result"]["repr"]) == MAX_REPR + 1


def failed(error, state="failed"):
    return outcome(1, Job(state, error=error))


def test_a_failure_has_type_message_and_the_workers_traceback():
    error = ZeroDivisionError("division by zero")
    error.__cause__ = errors.RemoteTraceback("Traceback …")
    assert failed(error) == {
        "line": 1,
        "id": "ab" * 16,
        "state": "failed",
        "error": {"type": "ZeroDivisionError", "message": "division by zero", "traceback": "Traceback …"},
    }


def test_a_failure_that_cannot_be_decoded_here():
    told = failed(errors.RemoteError("their.Error", "text", "Traceback …"))
    assert told["error"] == {"type": "their.Error", "message": "text", "traceback": "Traceback …"}


def test_errors_of_ours_and_of_others_are_named_as_people_know_them():
    assert describe(errors.WorkerLost("SIGKILL"))["type"] == "WorkerLost"
    assert describe(json.JSONDecodeError("x", "y", 0))["type"] == "json.decoder.JSONDecodeError"


def test_cancelled_and_aborted():
    assert failed(errors.JobCancelled("x"), "cancelled") == {"line": 1, "id": "ab" * 16, "state": "cancelled"}
    assert failed(errors.JobExpired("late"), "aborted")["state"] == "aborted"
    assert failed(errors.JobExpired("late"), "aborted")["error"]["type"] == "JobExpired"


def test_a_result_that_cannot_be_read_here_is_a_failure():
    class Unreadable(Job):
        def result(self, timeout=None):
            raise ModuleNotFoundError("No module named 'theirs'")

    told = outcome(1, Unreadable())
    assert (told["state"], told["error"]["type"]) == ("failed", "ModuleNotFoundError")


def test_the_first_few_errors_are_kept():
    tally = Tally(None, "")
    tally.add(1, Job())
    for line in range(2, 10):
        tally.add(line, Job("failed", error=ValueError(f"bad {line}")))
    tally.add(10, Job("cancelled", error=errors.JobCancelled("x")))
    assert (tally.ended, tally.bad, tally.failed, tally.cancelled) == (10, 9, 8, 1)
    assert len(tally.first_errors) == FIRST_ERRORS
    assert tally.first_errors[0] == f"line 2: ValueError: bad 2 (job {'ab' * 16})"


def test_an_output_that_cannot_be_written_is_named():
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write results\.jsonl: No space left on device"):
        Tally(Full(), "results.jsonl").add(1, Job())


def test_a_line_is_utf8():
    assert "Zürich".encode() in encode({"result": "Zürich"})
