"""What `zmqtasks worker` takes from the app's settings where its command line says nothing."""

import os
from pathlib import Path

import pytest

from zmqtasks import errors
from zmqtasks.cli import _settings
from zmqtasks.cli._settings import WorkerSettings, worker_settings


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_without_an_app_the_file_tells():
    assert worker_settings(None) == WorkerSettings(None, "processes")
    Path("zmqtasks.toml").write_text('CELERYD_CONCURRENCY = 3\nworker_pool = "threads"\n')
    assert worker_settings(None) == WorkerSettings(3, "threads")
    Path("zmqtasks.toml").write_text("worker_concurrency = 0\n")
    with pytest.raises(errors.BadOption, match=r"zmqtasks.toml, line 1: worker_concurrency"):
        worker_settings(None)


def ask(app):
    """What the process that imports the app does, here."""
    reading, writing = os.pipe()
    _settings.tell(app, writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_an_app_is_asked(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    Path("app_of_settings.py").write_text("from zmqtasks import App\napp = App('x', worker_concurrency=5)\n")
    assert ask("app_of_settings") == "5 processes"
    assert ask("no_such_app_anywhere") == ""


def test_an_app_is_asked_in_a_process_of_its_own():
    Path("own.py").write_text(
        "import os, sys, threading\nfrom zmqtasks import App\nprint('hello')\nsys.stderr.write('hello')\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "app = App('x', worker_concurrency=5, CELERYD_POOL='threads')\n"
    )
    assert worker_settings("own") == WorkerSettings(5, "threads")
    assert worker_settings("no_such_app_anywhere") == WorkerSettings(None, "processes")
