"""Queues of workers over real processes: -Q, -X, declared ones, and those that change while they run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import BOUND, Site, until
from zmqtasks import App, Exchange, PayloadError, Queue

APP = """\
from time import sleep

from zmqtasks import App, Exchange, Queue, current_job

app = App(
    "routed",
    task_queues=[Queue("high", Exchange("high"), "high"), Queue("feeds", Exchange("feeds", "topic"), "feed.#"), "low"],
    task_create_missing_queues=False,
    task_default_queue="low",
    accept_content=["json", "msgpack"],
    task_routes={"routed.pay": {"queue": "high"}, "routed.load": {"exchange": "feeds", "routing_key": "feed.new"}},
)

def where():
    return current_job().worker

pay = app.task(name="routed.pay")(where)
load = app.task(name="routed.load")(where)
rest = app.task(name="routed.rest")(where)
echo = app.task(name="routed.echo")(lambda text: text)
rare = app.task(name="routed.rare", rate_limit="1/h")(where)
single = app.task(name="routed.single", concurrency_limit=1, queue="high")(sleep)
"""


def command(site: Site, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zmqtasks", *arguments, "--broker", site.url],
        capture_output=True, text=True, timeout=BOUND, check=False, cwd=site.folder,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def queues(site: Site) -> dict[str, list[str]]:
    return {
        worker["name"]: sorted(worker["queues"]) for worker in json.loads(command(site, "status", "--json"))["workers"]
    }


def test_workers_take_from_the_queues_that_they_are_told(site: Site) -> None:
    Path(site.folder, "routed.py").write_text(APP, encoding="utf-8")
    data = ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--data", str(site.folder / "data")]
    scheduler = site.start("scheduler", data)
    site.worker("-A", "routed", "-c", "1", "-n", "first", "-Q", "high,feeds", cwd=site.folder)
    site.worker("-A", "routed", "-c", "1", "-n", "second", "-X", "high,feeds", cwd=site.folder)
    until(lambda: queues(site) == {"first": ["feeds", "high"], "second": ["low"]}, "both have joined")
    told = command(site, "worker", "-A", "routed", "-c", "1", "-Q", "hihg", code=2)
    assert "queue 'hihg' is not declared in task_queues" in told
    assert "did you mean high?" in told

    app = App(
        "routed", broker=site.url, task_default_queue="low",
        task_queues=[Queue("high"), Queue("feeds", Exchange("feeds", "topic"), "feed.#")],
        task_routes=[("routed.pay", "high"), ("routed.load", {"exchange": "feeds", "routing_key": "feed.new"})],
    )  # fmt: skip
    try:
        names = ("routed.pay", "routed.load", "routed.rest")
        assert [app.send_task(name).get(BOUND) for name in names] == ["first", "first", "second"]

        assert '"result": "first"' in command(site, "-A", "routed", "submit", "routed.pay", "--wait")

        # A rate that only the workers know holds for whoever submits.
        first, second = (app.send_task("routed.rare") for _ in range(2))
        assert first.get(BOUND) == "second"
        until(lambda: "may start once in 1 h" in command(site, "explain", second.id), "its rate holds the next one up")

        # And so does a cap.
        runs, waits = (app.send_task("routed.single", (seconds,), queue="high") for seconds in (60, 0))
        held = f"1 may run at once; 1 does: {runs.id} on first."
        until(lambda: held in command(site, "explain", waits.id), "it is told who holds the cap")
        runs.revoke(terminate=True)
        assert waits.get(BOUND) is None

        text = "x" * 100_000  # which travels in a few hundred bytes
        packed = app.send_task("routed.echo", (text,), compression="gzip", result_compression="gzip")
        assert packed.get(BOUND) == text
        with pytest.raises(PayloadError, match=r"codec 'pickle' is not accepted here \(accepted: json, msgpack\)"):
            app.send_task("routed.echo", (text,), serializer="pickle").get(BOUND)
        with pytest.raises(PayloadError, match="codec 'cloudpickle' is not accepted here"):
            app.client.options(queue="low").submit(lambda: 1).result(BOUND)

        assert "1 worker asked to take from queue extra" in command(
            site, "control", "add_consumer", "extra", "-d", "second"
        )
        assert app.send_task("routed.rest", queue="extra").get(BOUND) == "second"
        assert json.loads(command(site, "control", "cancel_consumer", "feeds", "--json"))["workers"] == 2
        assert queues(site) == {"first": ["high"], "second": ["extra", "low"]}
        assert "no worker is called 'third'" in command(site, "control", "add_consumer", "x", "-d", "third", code=2)

        scheduler.kill()  # the workers tell the next one what they take from
        scheduler.wait()
        site.start("scheduler", data)
        until(lambda: queues(site) == {"first": ["high"], "second": ["extra", "low"]}, "both are back")
        waits = app.send_task("routed.load")
        command(site, "control", "add_consumer", "feeds", "-d", "second")
        assert waits.get(BOUND) == "second"
        assert app.send_task("routed.rest", queue="extra").get(BOUND) == "second"
    finally:
        app.close()
