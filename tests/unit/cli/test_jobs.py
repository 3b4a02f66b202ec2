"""Job lines: every kind of broken line is told by file, number and reason."""

import json

import pytest

from zmqtasks.cli._jobs import MAX_LINE, OPTIONS, BadLine, JobLines
from zmqtasks.cli.submit import command
from zmqtasks.errors import ZmqTasksError
from zmqtasks.submitter.options import KNOWN


def check_target(text):
    if text == "nowhere:f":
        raise ZmqTasksError("cannot import nowhere")


def lines(target="m:f", options=None):
    return JobLines("jobs.jsonl", target, options or {}, check_target)


def parse(line, **keywords):
    return lines(**keywords).parse(17, line if isinstance(line, bytes) else json.dumps(line).encode())


def test_a_line_needs_nothing():
    request = parse({})
    assert (request.line, request.target, request.args, request.kwargs, request.id) == (17, "m:f", [], {}, None)
    assert request.options == {}


def test_a_whole_line():
    request = parse({"args": [1, "é"], "kwargs": {"x": None}, "task": "t", "id": "a", "queue": "q", "retries": 2})
    assert (request.target, request.args, request.kwargs, request.id) == ("t", [1, "é"], {"x": None}, "a")
    assert request.options == {"queue": "q", "retries": 2}


def test_a_line_goes_before_the_command_line():
    options = {"queue": "slow", "retries": 1}
    assert parse({"queue": "q"}, options=options).options == {"queue": "q", "retries": 1}
    assert parse({}, options=options).options == options


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"args": [1,', 'is no JSON: input data was truncated: {"args": [1,'),
        (b"hello", "is no JSON"),
        (b'{"args": ["\xff"]}', "is not UTF-8 (byte 11)"),
        ([1, 2], "expected object, got array"),
        ({"args": 1}, '"args": expected array, got int'),
        ({"args": None}, '"args": expected array, got null'),
        ({"kwargs": [1]}, '"kwargs": expected object, got array'),
        ({"queue": 7}, '"queue": expected str, got int'),
        ({"queue": ""}, '"queue": expected str of length >= 1'),
        ({"retries": -1}, '"retries": expected int >= 0'),
        ({"retries": 1.5}, '"retries": expected int, got float'),
        ({"countdown": "soon"}, '"countdown": expected float, got str'),
        ({"quue": "x"}, "no field is called 'quue'; did you mean 'queue'?"),
        ({"zzzzz": 1}, "no field is called 'zzzzz'; there are: args, kwargs, task, id, queue"),
        ({"time_limit": 1}, "the option 'time_limit' is not available yet"),
        ({"priority": 10}, '"priority": expected int <= 9'),
        ({"on_unknown": "maybe"}, '"on_unknown" is "wait" or "fail", not \'maybe\''),
        ({"resources": {"gpu": -1}}, '"resources": resource gpu is a number'),
        ({"resources": {"gpu": None}}, '"resources[...]": expected float | str, got null'),
        ({"eta": 1, "countdown": 1}, 'has both "eta" and "countdown"'),
        ({"countdown": 60, "expires": 5}, "option expires=5.0 is over before the job may start"),
        ({"eta": "2026-07-04T12:00:00"}, "option eta= is a datetime with its time zone"),
        ({"rate_limit": 1, "burst": 0}, "option burst= is a number of starts at once, 1 or more"),
        ({"id": "x" * 1_001}, '"id": expected str of length <= 1000'),
        ({"queue": "a b"}, "option queue=: queue 'a b' has ' ' in its name"),
        ({"serializer": "yaml"}, "option serializer=: no codec is called 'yaml'"),
        ({"rate_key": "x"}, "option rate_key= needs rate_limit="),
        ({"task": "nowhere:f"}, "cannot import nowhere"),
        (b'{"args": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"id": "' + b"x" * MAX_LINE + b'"}', "is longer than 128 MiB"),
    ],
)
def test_a_broken_line(line, says):
    with pytest.raises(BadLine, match=r"^jobs\.jsonl line 17: ") as caught:
        parse(line)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "`" not in str(caught.value)


def test_a_line_must_say_its_task_if_nobody_else_does():
    with pytest.raises(BadLine, match='has no "task", and no TASK or MODULE:FUNCTION was given'):
        parse({}, target=None)
    assert parse({"task": "t"}, target=None).target == "t"


def test_the_eta_of_a_line():
    assert parse({"eta": 1_783_166_400}).options == {"eta": 1_783_166_400}
    told = parse({"eta": "2026-07-04T12:00:00Z"}).options["eta"]
    assert told.timestamp() == 1_783_166_400
    with pytest.raises(BadLine, match='"eta": '):
        parse({"eta": "noon"})


def test_a_line_has_every_option_of_a_job():
    assert {*OPTIONS, "job_id"} == KNOWN
    told = command.help
    assert [name for name in OPTIONS if f'"{name}"' not in told] == []


def test_a_target_is_checked_once():
    seen = []
    reader = JobLines("jobs.jsonl", "m:f", {}, seen.append)
    for number in range(3):
        reader.parse(number, b"{}")
    assert seen == ["m:f"]
