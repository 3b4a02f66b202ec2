"""``python photos.py worker -c 3``: the command that becomes of it."""

import os
import runpy
import sys
from types import ModuleType, SimpleNamespace

import pytest

from zmqtasks.celery import Celery
from zmqtasks.errors import AppNotLoaded


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """The script photos.py with an app; the commands that it runs, and their PYTHONPATH."""
    seen = []

    def run_module(name, run_name):
        assert (name, run_name) == ("zmqtasks", "__main__")
        seen.append((sys.argv[1:], os.environ.get("PYTHONPATH")))
        raise SystemExit(sys.argv.count("fail"))

    monkeypatch.setattr(runpy, "run_module", run_module)
    monkeypatch.setenv("PYTHONPATH", "/lib")
    script = ModuleType("__main__")
    script.__file__ = str(tmp_path / "photos.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    return seen


def app_of(module, **given):
    app = Celery("photos", broker="tcp://head:1", **given)
    app._module = module.__name__
    module.shop = app
    return app


def test_a_script_becomes_a_module_that_workers_find(ran, monkeypatch, tmp_path):
    app = app_of(sys.modules["__main__"])
    monkeypatch.setattr(sys, "argv", ["photos.py", "worker", "-l", "info", "-c", "3"])
    assert app.start() == 0
    assert ran == [(["-A", "photos:shop", "worker", "-l", "info", "-c", "3"], f"{tmp_path}:/lib")]
    assert (sys.argv[0], os.environ["PYTHONPATH"]) == ("photos.py", "/lib")


@pytest.mark.parametrize(("spec", "name"), [("shop.main", "shop.main"), ("shop.__main__", "shop")])
def test_a_module_that_is_run_keeps_its_name(ran, spec, name):
    script = sys.modules["__main__"]
    script.__spec__ = SimpleNamespace(name=spec)
    app_of(script).worker_main(["-c", "1"])
    assert ran == [(["-A", f"{name}:shop", "worker", "-c", "1"], "/lib")]


def test_an_app_of_another_module(ran, monkeypatch):
    module = ModuleType("face_proj")
    monkeypatch.setitem(sys.modules, "face_proj", module)
    app = app_of(module)
    app.worker_main(["celery", "worker"])
    app.start(["-A", "other", "worker"])
    app.start(["status", "--json"])
    app.start([])
    assert [words for words, _ in ran] == [
        ["-A", "face_proj:shop", "worker"],
        ["-A", "other", "worker"],
        ["-b", "tcp://head:1", "status", "--json"],
        [],
    ]


def test_an_app_without_a_place_to_import_it_from(ran):
    app = app_of(sys.modules["__main__"])
    del sys.modules["__main__"].shop
    with pytest.raises(AppNotLoaded, match="is no global variable of __main__"):
        app.worker_main([])
    app = app_of(sys.modules["__main__"])
    del sys.modules["__main__"].__file__
    with pytest.raises(AppNotLoaded, match="write it into a file"):
        app.worker_main([])
    assert ran == []


def test_another_exit_code_is_that_of_the_process(ran):
    with pytest.raises(SystemExit) as end:
        app_of(sys.modules["__main__"]).start(["fail"])
    assert end.value.code == 1
