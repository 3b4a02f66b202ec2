"""Settings with real processes: `zmqtasks check`, workers that take them over, local:// that knows them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFIG = """\
BROKER_URL = "tcp://127.0.0.1:1"
CELERYD_CONCURRENCY = 3
CELERY_TASK_SERIALIZER = "json"
worker_pool = "threads"
CELERY_RESULT_BACKEND = "redis://"
worker_send_task_events = True
"""
APP = """\
import os
import sys

from zmqtasks import App

print("the app is loaded")
app = App("photos")
app.config_from_object("celeryconfig")


@app.task
def pool():
    import threading

    return threading.current_thread() is not threading.main_thread()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "celeryconfig.py").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "photos.py").write_text(APP, encoding="utf-8")
    return tmp_path


def run(folder: Path, *words: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    import os

    clean = {name: value for name, value in os.environ.items() if name != "ZMQTASKS_BROKER"}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=clean | env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def test_check_shows_what_holds_and_why(folder: Path) -> None:
    done = run(folder, "-m", "zmqtasks", "check", "-A", "photos")
    assert done.stderr == ""
    for line in (
        r"^task_serializer +json +celeryconfig.py, line 3$",
        r"^worker_concurrency +3 +celeryconfig.py, line 2$",
        r"^ +\(CELERYD_CONCURRENCY\)$",
        r"^submit_timeout +30.0 +default$",
        r"^Kept, but without effect yet$",
        r"^worker_send_task_events +True +events +celeryconfig.py, line 6$",
        r"^Not needed$",
        r"^Routes$",
        r"^photos.pool +default +task_default_queue$",
        r"^Nothing is wrong\.$",
    ):
        assert re.search(line, done.stdout, re.MULTILINE), (line, done.stdout)
    shown = json.loads(run(folder, "-m", "zmqtasks", "-A", "photos", "check", "--json").stdout.partition("\n")[2])
    assert shown["settings"]["worker_pool"]["value"] == "threads"
    assert list(shown["not_needed"]) == ["result_backend"]


def test_check_says_what_is_wrong(folder: Path) -> None:
    with (folder / "celeryconfig.py").open("a") as file:
        file.write("task_rutes = {}\nCELERYD_POOL = 'fibers'\n")
    done = run(folder, "-m", "zmqtasks", "check", "-A", "photos", code=1)
    own = "If it is something else, begin its name with _."
    assert done.stderr.splitlines() == [
        f"zmqtasks: celeryconfig.py, line 7: there is no setting task_rutes; did you mean task_routes? {own}",
        "zmqtasks: celeryconfig.py, line 8: CELERYD_POOL is one of processes, threads, solo, not 'fibers'",
    ]
    run(folder, "-m", "zmqtasks", "check", "-A", "no_such_app_anywhere", code=2)


def test_what_does_nothing_is_said_once_in_a_script(folder: Path) -> None:
    done = run(folder, "-c", "import photos\nphotos.app.conf.result_backend = 'x'")
    assert done.stdout == "the app is loaded\n"
    assert done.stderr.splitlines() == [
        "not needed: CELERY_RESULT_BACKEND (there is no result backend: the scheduler keeps the results)",
        "kept, but without effect yet: worker_send_task_events (events)",
    ]


@pytest.mark.parametrize(("words", "slots"), [((), 3), (("-c", "2"), 2)])
def test_a_worker_takes_the_settings_of_its_app(folder: Path, words: tuple[str, ...], slots: int) -> None:
    script = f"""
import os, signal, subprocess, sys, time, zmqtasks
with zmqtasks.LocalCluster(workers=1) as cluster:
    worker = subprocess.Popen(
        [sys.executable, "-m", "zmqtasks", "worker", "-A", "photos", "-b", cluster.url, "-n", "theirs", "-Q", "own",
         *{list(words)}],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    for line in worker.stdout:
        if line.startswith("zmqtasks worker theirs ready"):
            print(line, end="")
            break
    import photos
    photos.app.conf.update(broker_url=cluster.url)
    print(photos.pool.apply_async(queue="own").get(timeout=20))
    photos.app.close()
    worker.send_signal(signal.SIGTERM)
    print(worker.wait(20))
"""
    lines = run(folder, "-c", script).stdout.splitlines()
    assert re.match(rf"zmqtasks worker theirs ready: {slots} slots, ", lines[0]), lines
    assert lines[-2:] == ["True", "0"]


def test_a_cluster_of_the_script_takes_them_too(folder: Path) -> None:
    script = """
import photos
photos.app.conf.update(broker_url="local://")
print(photos.pool.delay().get(timeout=20))
import json, subprocess, sys
told = subprocess.run([sys.executable, "-m", "zmqtasks", "status", "--json", "-b", photos.app.client.url],
                      capture_output=True, text=True, check=True).stdout
print([worker["slots"] for worker in json.loads(told)["workers"]])
"""
    done = run(folder, "-c", script)
    assert done.stdout.splitlines() == ["the app is loaded", "True", "[3]"]
    assert done.stderr.count("not needed: ") == 1, done.stderr
