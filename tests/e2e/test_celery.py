"""Applications written for Celery, as they stand but for their imports and URLs, on real workers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.processes import BOUND, Site, until

SMOOTHER = Path(__file__).parents[2] / "examples" / "smoother"
ROOT = Path(__file__).parents[2]

CONF = """
import os
from zmqtasks.celery import Celery, Task

class Noted(Task):
    autoretry_for = (ConnectionError,)
    retry_kwargs = {"max_retries": 2, "countdown": 0}

    def on_success(self, retval, task_id, args, kwargs):
        note("on_success", self.name, task_id)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("on_failure", self.name, task_id)

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        note("on_retry", self.name, task_id)

def note(*words):
    with open("hooks", "a") as file:
        print(*words, file=file)

app = Celery("photos", broker=os.environ["URL"], backend="redis://cache:6379/1", task_cls=Noted)
app.config_from_object({"CELERY_TASK_SERIALIZER": "json", "celery_enable_utc": True}, namespace="CELERY")
app.autodiscover_tasks(["shop"])
app.conf.task_routes = {"shop.tasks.add": "low-priority"}
app.conf.task_annotations = {"shop.tasks.limited": {"rate_limit": "1/h"}}

@app.task(bind=True, max_retries=3, default_retry_delay=0.05)
def fetch(self, page):
    try:
        if self.request.retries < 2 or page == "gone":
            raise TimeoutError(f"no answer from {page}")
    except TimeoutError as error:
        raise self.retry(exc=error)
    return [page, self.request.retries, self.request.id, self.request.args, self.request.called_directly]

@app.task(bind=True)
def hopeless(self):
    try:
        self.retry(countdown=0, max_retries=0)
    except self.MaxRetriesExceededError:
        return "gave up"

@app.task
def flaky(path):
    with open(path, "a") as file:
        file.write(".")
    with open(path) as file:
        tried = len(file.read())
    if tried < 3:
        raise ConnectionError("not yet")
    return tried
"""

TASKS = """
import os
import time
from zmqtasks.celery import current_app, current_task, shared_task
from zmqtasks.celery.utils.log import get_task_logger

log = get_task_logger(__name__)

@shared_task
def add(x, y):
    log.info("adding %d and %d", x, y)
    return [x + y, current_app.main, current_task.name, current_task.request.hostname]

@shared_task
def hold(sign):
    while not os.path.exists(sign):
        time.sleep(0.01)

@shared_task
def limited():
    pass

@shared_task(bind=True)
def later(self):
    self.retry(countdown=600)

@shared_task(bind=True, priority=6)
def dies_once(self):
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), 9)
    return self.request.delivery_info

@shared_task(bind=True, name="shop.told", ignore_result=False, trail=True)
def told(self, sign):
    self.update_state(state="PROGRESS", meta={"done": 1})
    hold(sign)
"""

SCRIPT = """
import json, sys, time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import shop.tasks
from photos_conf import app, fetch, flaky, hopeless
from zmqtasks.celery import current_app, states
from zmqtasks.celery.exceptions import TaskRevokedError, TimeoutError
from zmqtasks.celery.result import AsyncResult
from zmqtasks.operators import Operator


def state_of(queue):
    with Operator(app.client.url) as operator:
        return next((seen.paused, seen.weight) for seen in operator.status().queues if seen.name == queue)


found = {"route": app.tasks["shop.tasks.add"].queue}
limited = [shop.tasks.limited.delay() for _ in range(2)]
waiting = shop.tasks.told.delay("go")
held, again = shop.tasks.hold.delay("go"), shop.tasks.later.delay()
try:
    waiting.get(timeout=0.1)
except TimeoutError as error:
    found["timeout"] = type(error).__name__
naive = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=0.2)  # in app.timezone, which is UTC
later = shop.tasks.add.apply_async((1, 2), eta=naive, retry=True, expires=datetime.utcnow() + timedelta(hours=1))
never = shop.tasks.add.apply_async(args=[1, 2], countdown=600)
found["revoked"] = never.revoke(), never.state, never.failed()
try:
    never.get()
except TaskRevokedError:
    found["revoked"] += ("TaskRevokedError",)
for result, state in (held, states.STARTED), (again, states.RETRY):
    until = time.monotonic() + 30
    while result.state != state:
        assert time.monotonic() < until, (result.state, state)
        time.sleep(0.05)
look = app.control.inspect()
name = next(iter(look.ping()))
while len(active := sorted(job["name"] for job in look.active()[name])) < 2:
    assert time.monotonic() < until, active
    time.sleep(0.05)
found["seen"] = {
    "active": active,
    "reserved": look.reserved()[name],
    "scheduled": "shop.tasks.later" in [job["request"]["name"] for job in look.scheduled()["scheduler"]],
    "registered": "shop.tasks.add" in look.registered()[name],
    "stats": look.stats()[name]["pool"],
    "queues": sorted(queue["name"] for queue in look.active_queues()[name]),
    "asked": {one: told[0] for one, told in look.query_task(held.id)[name].items()} == {held.id: "active"},
    "ping": app.control.ping() == [{name: {"ok": "pong"}}],
    "one": app.control.inspect(name).ping(),
    "nobody": [app.control.inspect(["w@nowhere"]).active(), app.control.inspect(pattern="x@*").ping()],
}
found["redelivered"] = shop.tasks.dies_once.delay().get(timeout=30)
found["revoked again"] = app.control.revoke([again.id])
limited[0].get(timeout=30)
found["limited"] = [(limited[0].state, limited[1].ready())]
app.control.rate_limit("shop.tasks.limited", "1000/s")
found["consumers"] = [app.control.add_consumer("extra", destination=[shop.tasks.add.delay(1, 2).get(timeout=30)[3]])]
found["consumers"].append(shop.tasks.add.apply_async((2, 2), queue="extra").get(timeout=30)[0])
found["consumers"].append(app.control.cancel_consumer("extra"))
found["limited"].append(limited[1].get(timeout=30))
app.control.rate_limit("shop.tasks.limited", "default")
app.control.pause("extra"), app.control.weight("extra", 2)
paused = shop.tasks.add.apply_async((2, 2), queue="extra")
found["paused"] = state_of("extra")
app.control.resume("extra"), paused.revoke()
found["fetch"] = fetch.delay("index").get(timeout=30)
gone = fetch.apply_async(["gone"])
found["gone"] = repr(gone.get(timeout=30, propagate=False)), gone.state, gone.successful(), "retry" in gone.traceback
found["hopeless"] = hopeless.delay().get(timeout=30)
found["flaky"] = flaky.delay("flaky").get(timeout=30)
found["later"] = later.get(timeout=30), later.status == states.SUCCESS
found["by name"] = app.send_task("shop.tasks.add", args=(2, 3), task_id="sum-1").get(timeout=30)[0]
eager = shop.tasks.add.apply((2, 3))
found["eager"] = eager.get()[0], eager.state, eager.successful()
unwanted = flaky.apply_async(("flaky",), countdown=600, task_id="unwanted")
found["purged"] = unwanted.id, app.control.purge(), unwanted.state
found["by id"] = AsyncResult("sum-1").get(timeout=30)[0], app.AsyncResult("sum-1").task_id
found["told"] = waiting.state, waiting.info
Path("go").touch()
found["done"] = waiting.get(timeout=30), waiting.ready(), waiting.state
print(json.dumps(found))
"""


def run(folder: Path, *words: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True, text=True, timeout=2 * BOUND, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def test_an_application_of_celery_runs_as_it_stands(site: Site, tmp_path: Path) -> None:
    site.scheduler()
    (tmp_path / "shop").mkdir()
    write(tmp_path, photos_conf=CONF, script=SCRIPT)
    write(tmp_path / "shop", __init__="", tasks=TASKS)
    words = [
        "-A",
        "photos_conf",
        "worker",
        "--loglevel=info",
        "-c",
        "3",
        "-n",
        "w@%h",
        "--without-gossip",
        "-O",
        "fair",
    ]
    worker = site.start("worker", ["-m", "zmqtasks", *words], cwd=tmp_path, extra={"URL": site.url})

    found = json.loads(run(tmp_path, "script.py", URL=site.url).splitlines()[-1])

    host = os.uname().nodename
    assert found["route"] == "low-priority"
    assert found["limited"] == [["SUCCESS", False], None]
    assert found["timeout"] == "JobTimeout"
    assert found["revoked"] == [True, "REVOKED", False, "TaskRevokedError"]
    assert found["seen"] == {
        "active": ["shop.tasks.hold", "shop.told"],
        "reserved": [],
        "scheduled": True,
        "registered": True,
        "stats": {"max-concurrency": 3},
        "queues": ["default", "low-priority"],
        "asked": True,
        "ping": True,
        "one": {"ok": "pong"},
        "nobody": [None, None],
    }
    came = {"exchange": "", "routing_key": "default", "priority": 6, "redelivered": True}
    assert found["redelivered"] == came
    assert found["revoked again"] == [True]
    assert found["consumers"] == [1, 4, 1]
    assert found["paused"] == [True, 2.0]
    page, retries, job_id, args, directly = found["fetch"]
    assert (page, retries, len(job_id), args, directly) == ("index", 2, 32, ["index"], False)
    assert found["gone"] == ["TimeoutError('no answer from gone')", "FAILURE", False, True]
    assert found["hopeless"] == "gave up"
    assert found["flaky"] == 3
    assert found["later"] == [[3, "photos", "shop.tasks.add", f"w@{host}"], True]
    assert found["by name"] == 5
    assert found["eager"] == [5, "SUCCESS", True]
    assert found["purged"] == ["unwanted", 1, "REVOKED"]
    assert found["by id"] == [5, "sum-1"]
    assert found["told"] == ["PROGRESS", {"done": 1}]
    assert found["done"] == [None, True, "SUCCESS"]
    hooks = (tmp_path / "hooks").read_text().split("\n")
    assert sum(line.startswith("on_retry photos_conf.flaky") for line in hooks) == 2
    assert sum(line.startswith("on_success photos_conf.flaky") for line in hooks) == 1
    assert sum(line.startswith("on_failure photos_conf.fetch") for line in hooks) == 1
    said = site.said(worker)
    assert "not needed: --without-gossip (" in said
    assert "shop.tasks.add]: adding 1 and 2" in said
    assert "redis://" not in said


def test_the_smoother_in_its_celery_form(site: Site, tmp_path: Path) -> None:
    """Started by ``app.start()``, from another folder."""
    site.scheduler()
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(7).integers(0, 256, (300, 310, 3), dtype=np.uint8)).save(
        tmp_path / "in/a.png"
    )
    words = [str(SMOOTHER / "celery_conf.py"), "worker", "-l", "info", "-c", "3", "-E"]
    worker = site.start("worker", words, cwd=tmp_path, extra={"ZMQTASKS_BROKER": site.url})

    out = run(
        tmp_path,
        str(SMOOTHER / "smoother.py"),
        "--celery",
        "--pictures",
        "in",
        "--out",
        "out",
        ZMQTASKS_BROKER=site.url,
    )

    assert "equal to plain numpy in every pixel (max difference 0)" in out
    assert "worker@" in out
    worker.terminate()
    until(lambda: worker.poll() is not None, "the end of the worker")
    assert worker.returncode == 0, site.said(worker)
    assert "not needed" not in site.said(worker).partition(" ready")[2]
