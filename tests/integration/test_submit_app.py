"""`zmqtasks -A app submit`: what the app says of a task holds for its jobs, as if the app had sent them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.fake_scheduler import FakeScheduler
from zmqtasks import payload, wire
from zmqtasks.cli import main

APP = """\
from zmqtasks import App

def by_size(name, args, kwargs, options, task=None, **more):
    return {"queue": "long"} if name == "shop.film" and args[0] > 60 else None

app = App(
    "shop", task_annotations={"shop.pay": {"rate_limit": "10/m"}}, result_expires=60, task_serializer="json",
    task_routes=[by_size, {"shop.p*": {"queue": "high", "priority": 5}, "shop.far": "far"}],
)

@app.task(name="shop.pay", concurrency_limit=1, concurrency_key="account", serializer="pickle")
def pay(account, amount=1): ...
"""


@pytest.fixture
def scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeScheduler]:
    def run(submit: wire.Submit, _functions: dict[bytes, bytes]) -> list[bytes | BaseException]:
        return [payload.encode_result(submit.codec, "done", submit.task) for _ in submit.args]

    (tmp_path / "t_shop.py").write_text(APP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with FakeScheduler(f"ipc://{tmp_path}/s", run) as fake:
        monkeypatch.setenv("ZMQTASKS_BROKER", fake._url)
        yield fake
    sys.modules.pop("t_shop", None)


def test_routes_options_serializers_and_keys_are_the_apps(
    scheduler: FakeScheduler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"args": [account]} for account in (7, 8, 7)]
    lines += [{"args": [9], "queue": "own", "rate_limit": "1/s"}, {"args": [9], "id": "mine"}]
    lines += [{"task": "shop.far", "args": [n]} for n in range(3)]
    lines += [{"task": "shop.film", "args": [30]}, {"task": "shop.film", "args": [90]}]
    Path("jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert main(["-A", "t_shop", "submit", "shop.pay", "--jobs", "jobs.jsonl", "--wait"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(one["line"] for one in told) == list(range(1, 11))
    assert {one["result"] for one in told} == {"done"}

    came = scheduler.of(wire.Submit)
    own = [one.spec for one in came if one.task == "shop.pay" and one.spec.queue == "high" for _ in one.args]
    assert sorted(spec.cap_key for spec in own) == ["7", "7", "8", "9"]
    for spec in own:
        assert (spec.priority, spec.rate, spec.cap, spec.result_ttl, spec.fail_unknown) == (5, 10 / 60, 1, 60.0, True)
    (said,) = [one.spec for one in came if one.spec.queue == "own"]
    assert (said.rate, said.cap, said.cap_key) == (1.0, 1, "9")  # what the line says goes before
    codecs = {one.task: one.codec for one in came}
    assert codecs == {"shop.pay": "pickle", "shop.far": "json", "shop.film": "json"}
    queues = {task: [one.spec.queue for one in came if one.task == task for _ in one.args] for task in codecs}
    assert queues["shop.far"] == ["far"] * 3
    assert queues["shop.film"] == ["default", "long"]

    # A function is shipped as ever, and without the app its name is only a name.
    assert main(["submit", "-A", "t_shop:app", "math:sqrt", "--args", "[4]", "--queue", "far"]) == 0
    assert scheduler.of(wire.Submit)[-1].function
    assert main(["submit", "shop.pay", "--args", "[4]"]) == 0
    assert scheduler.of(wire.Submit)[-1].spec == wire.Spec(fail_unknown=True)


def test_what_is_wrong_with_the_app_is_told(scheduler: FakeScheduler, capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["-A", "t_nowhere", "submit", "t"], "cannot import 't_nowhere'"),
        (["-A", "t_shop", "submit", "t", "--broker", "5555x"], "bad URL '5555x'"),
        (["-A", "t_shop", "submit", "shop.pay"], "missing a required argument: 'account'"),
    ):
        assert main(words) == 2
        assert told in capsys.readouterr().err
    assert scheduler.of(wire.Submit) == []
