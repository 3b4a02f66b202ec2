"""`zmqtasks check`: what it shows of an app's settings, and its exit codes."""

import json
import sys
from pathlib import Path

import pytest

from zmqtasks.cli import main

CONFIG = """\
HOST = "127.0.0.1"
broker_url = f"tcp://{HOST}:5555"
CELERY_ROUTES = {"a.*": {"queue": "high"}}
CELERYD_CONCURRENCY = 3
CELERY_REDIS_PASSWORD = "very secret"
security_key_password = "very secret"
"""
APP = """\
from zmqtasks import App
app = App('photos', default_queue='normal', include=['colorsys'])
app.config_from_object('settings_of')
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    path = list(sys.path)
    yield
    for name in ("photos_app", "settings_of"):  # only the test's own: what zmqtasks imports late must stay as it is
        sys.modules.pop(name, None)
    sys.path[:] = path


@pytest.fixture
def photos():
    def write(config=CONFIG, app=APP):
        Path("settings_of.py").write_text(config, encoding="utf-8")
        Path("photos_app.py").write_text(app, encoding="utf-8")

    write()
    return write


def told(capsys, *words):
    code = main(["check", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_people_see_where_each_setting_was_written(photos, capsys):
    code, out, err = told(capsys, "-A", "photos_app")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["broker_url", "tcp://127.0.0.1:5555", "settings_of.py,", "line", "2"] in lines
    assert ["submit_timeout", "30.0", "default"] in lines
    assert ["task_default_queue", "normal", "photos_app.py,", "line", "2"] in lines
    assert ["(default_queue)"] in lines
    assert ["include", "colorsys", "photos_app.py,", "line", "2"] in lines
    assert "Settings of app photos\n" in out
    assert "Kept, but without effect yet\n" in out
    assert "Not needed\n" in out
    assert "redis_password" in out
    assert "security_key_password" in out
    assert "very secret" not in out
    assert "No settings, and left alone: HOST\n" in out
    assert out.endswith("Nothing is wrong.\n")


def test_machines_see_the_same(photos, capsys):
    code, out, err = told(capsys, "-A", "photos_app:app", "--json")
    assert (code, err) == (0, "")
    shown = json.loads(out)
    assert (shown["app"], shown["name"], shown["problems"]) == ("photos_app:app", "photos", [])
    assert shown["settings"]["worker_concurrency"] == {
        "value": 3,
        "kind": "config_from_object",
        "where": "settings_of.py, line 4",
        "spelled": "CELERYD_CONCURRENCY",
    }
    assert shown["settings"]["accept_content"]["value"] == ["cloudpickle", "json", "msgpack", "pickle"]
    assert shown["settings"]["task_routes"]["value"] == {"a.*": {"queue": "high"}}
    assert shown["later"]["security_key_password"]["why"].startswith("keys")
    assert "value" not in shown["not_needed"]["redis_password"]
    assert shown["no_settings"] == ["HOST"]
    assert "very secret" not in out


def test_celerys_order(photos, capsys):
    assert main(["-A", "photos_app", "check"]) == 0
    assert "Settings of app photos" in capsys.readouterr().out
    sys.modules.pop("photos_app")
    photos(app="from zmqtasks.celery import Celery\napp = Celery('shop', include=['colorsys'])\n")
    assert main(["-A", "photos_app", "check", "--json"]) == 0
    include = json.loads(capsys.readouterr().out)["settings"]["include"]
    assert (include["value"], include["where"]) == (["colorsys"], "photos_app.py, line 2")


def test_without_an_app_only_the_file_is_looked_at(capsys):
    code, out, _ = told(capsys)
    assert code == 0
    assert "local:// (in zmqtasks worker:" in out
    assert out.endswith("Nothing is wrong, and nothing is without effect.\n")
    Path("zmqtasks.toml").write_text('task_serializer = "json"\n')
    code, out, _ = told(capsys)
    assert ["task_serializer", "json", "zmqtasks.toml,", "line", "1"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ("task_rutes = {}", ["settings_of.py, line 1: there is no setting task_rutes; did you mean task_routes?"]),
        (
            "\nsubmit_timeout = 'x'\nworker_pool = 3\n",
            ["settings_of.py, line 2: submit_timeout is a ", "settings_of.py, line 3: worker_pool is one of "],
        ),
        ("CELERY_OWN = 3", ["settings_of.py, line 1: there is no setting CELERY_OWN; nothing reads it"]),
        ("broker_url = 'tcp://head'", ["settings_of.py, line 1: bad URL 'tcp://head'"]),
        (
            "accept_content = ['json']\ntask_serializer = 'pickle'\n",
            ["settings_of.py, line 2: task_serializer is pickle, which is not accepted (json is)"],
        ),
    ],
)
def test_what_is_wrong_is_told_with_exit_code_1(photos, capsys, config, lines):
    photos(config)
    code, out, err = told(capsys, "-A", "photos_app")
    assert code == 1
    assert all(line.startswith(f"zmqtasks: {said}") for line, said in zip(err.splitlines(), lines, strict=True)), err
    assert out.endswith(f"{len(lines)} thing{'s'[: len(lines) - 1]} to mend.\n")
    sys.modules.pop("photos_app", None)
    sys.modules.pop("settings_of", None)
    code, out, _ = told(capsys, "-A", "photos_app", "--json")
    assert code == 1
    assert all(problem.startswith(said) for problem, said in zip(json.loads(out)["problems"], lines, strict=True))


ROUTED = """\
import zmqtasks

app = zmqtasks.App("photos", task_queues=["high", "low"], task_default_queue="normal")
app.conf.task_routes = {"pay": "high", "lost": {"exchange": "high", "routing_key": "low"}}
app.task(name="pay")(lambda: None)
app.task(name="own", queue="low")(lambda: None)
app.task(name="rest")(lambda: None)
"""


def test_where_tasks_go_and_why(photos, capsys):
    photos(app=ROUTED)
    code, out, err = told(capsys, "-A", "photos_app")
    assert (code, err) == (0, "zmqtasks: warning: task_routes: no task of this app is called 'lost'\n")
    assert out.endswith("Nothing is wrong; 1 thing to look at.\n")
    lines = [line.split() for line in out[out.index("Routes\n") :].splitlines()]
    assert ["pay", "high", "task_routes,", "pay"] in lines
    assert ["own", "low", "the", "task", "itself"] in lines
    assert "it is not in task_queues, so workers take from it only with -Q" in " ".join(out.split())
    sys.modules.pop("photos_app")
    photos(app=f'{ROUTED}\napp.task(name="lost")(lambda: None)\n')
    code, out, _ = told(capsys, "-A", "photos_app", "--json")
    assert code == 1
    shown = json.loads(out)
    assert shown["routes"]["pay"] == {"queue": "high", "why": "task_routes, pay", "by_arguments": False}
    assert shown["routes"]["lost"]["queue"] is None
    (problem,) = shown["problems"]
    assert problem == "task lost (task_routes, lost): no queue is bound to exchange 'high' (there are: normal)"


def test_names_that_are_no_task_of_the_app(photos, capsys):
    annotated = "{'*': {'priority': 1}, 'own': {'priority': 2}, 'rset': {'priority': 3}}"
    photos(app=f"{ROUTED}\napp.conf.task_annotations = {annotated}\n")
    code, out, _ = told(capsys, "-A", "photos_app", "--json")
    shown = json.loads(out)
    assert (code, shown["problems"]) == (0, [])
    assert shown["warnings"] == [
        "task_routes: no task of this app is called 'lost'",
        "task_annotations: no task of this app is called 'rset'; did you mean 'rest'?",
    ]


@pytest.mark.parametrize("text", ["broker = [", "nonsense = 3"])
def test_a_wrong_file_is_told(capsys, text):
    Path("zmqtasks.toml").write_text(text)
    code, _, err = told(capsys)
    assert code == 1
    assert err.startswith("zmqtasks: zmqtasks.toml")


def test_a_wrong_broker_of_the_environment_is_told(capsys, monkeypatch):
    monkeypatch.setenv("ZMQTASKS_BROKER", "redis://x")
    code, _, err = told(capsys)
    assert code == 1
    assert err.startswith("zmqtasks: $ZMQTASKS_BROKER: bad URL 'redis://x'")


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("1 / 0", "cannot import 'photos_app': ZeroDivisionError: division by zero"),
        ("x = 3", "module 'photos_app' holds no App"),
        ("class Odd:\n    tasks = {}\n    include = []\n    def load(self): pass\napp = Odd()\n", "is a Odd without"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_exit_code_2(photos, capsys, app, said):
    photos(app=app)
    code, out, err = told(capsys, "-A", "photos_app")
    assert (code, out) == (2, "")
    assert said in err


def test_a_long_value_and_many_names_are_cut(photos, capsys):
    names = "".join(f"OWN_{number} = 1\n" for number in range(12))
    photos(f"task_routes = {{'a{'b' * 100}': 'c'}}\n{names}")
    _, out, _ = told(capsys, "-A", "photos_app")
    assert "b" * 90 not in "".join(out.split())
    assert " …" in out
    assert "and 2 more\n" in out
