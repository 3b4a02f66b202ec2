"""What people read when their app does not load."""

import sys
from pathlib import Path

import pytest

from zmqtasks import App, Broadcast, Queue
from zmqtasks.errors import AppNotLoaded, BadOption, PayloadError, RemoteTraceback
from zmqtasks.payload import unship
from zmqtasks.worker.loading import (
    caps_of,
    chosen_queues,
    closed_queues,
    innermost,
    is_direct,
    load_app,
    queues_of,
    rates_of,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("t_"):
            del sys.modules[name]


def failure(folder: Path, app: str, **files: str) -> str:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.raises(AppNotLoaded) as caught:
        load_app(app, str(folder))
    return str(caught.value)


def test_a_wrong_option_is_told_with_the_users_line(folder):
    shop = "import zmqtasks\napp = zmqtasks.App('shop')\n\n@app.task(retries=3)\ndef buy():\n    pass\n"
    told = failure(folder, "t_shop", t_shop=shop)
    assert told.startswith("cannot import 't_shop': BadOption: there is no task option retries=")
    assert told.endswith(f"({folder}/t_shop.py, line 4)")


def test_an_error_behind_which_there_is_none_on_purpose_is_the_one_to_tell(folder):
    shop = "import zmqtasks\napp = zmqtasks.App('shop')\napp.task(serializer='yaml')(len)\n"
    told = failure(folder, "t_shop", t_shop=shop)
    assert "BadOption: task option serializer=: no codec is called 'yaml'" in told
    assert told.endswith(f"({folder}/t_shop.py, line 3)")


def test_a_module_that_is_not_there_is_told_with_the_line_that_wants_it(folder):
    gone = "cannot import 't_gone': ModuleNotFoundError: No module named 't_gone'"
    assert failure(folder, "t_gone") == f"{gone}: it is neither in {folder} nor installed"
    told = failure(folder, "t_one", t_one="import t_two\n", t_two="\nimport t_three\n")
    wanted = "cannot import 't_one': ModuleNotFoundError: No module named 't_three'"
    assert told == f"{wanted} ({folder}/t_two.py, line 2)"


def test_a_file_in_place_of_a_module_is_told_so(folder):
    told = "'/srv/t_shop.py' is a file, and -A names a module: write -A t_shop in the folder /srv"
    assert failure(folder, "/srv/t_shop.py") == told
    assert failure(folder, "t_shop.py") == "'t_shop.py' is a file, and -A names a module: write -A t_shop"


def test_an_error_that_an_own_cluster_told_already_is_told_once(folder):
    raises = "from zmqtasks.errors import AppNotLoaded\nraise AppNotLoaded({!r})\n"
    own = "cannot import 't_noguard': ZeroDivisionError: division by zero (t_noguard.py, line 2)"
    assert failure(folder, "t_noguard", t_noguard=raises.format(own)) == own
    other = "cannot import 't_other': SystemExit"
    assert failure(folder, "t_shop", t_shop=raises.format(other)) == f"cannot import 't_shop': {other}"


def test_no_place_in_the_library_is_ever_told():
    with pytest.raises(ModuleNotFoundError) as caught:
        unship(b"cgmod\ng\n.")
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # without this test's own frame
    assert innermost(caught.value) == "ModuleNotFoundError: No module named 'gmod'"


def test_a_root_without_a_place_of_the_users_takes_that_of_what_it_caused():
    def fails():
        try:
            unship(b"cgmod\ng\n.")
        except ModuleNotFoundError as error:
            error.__traceback__ = error.__traceback__.tb_next
            raise PayloadError("outer") from error

    with pytest.raises(PayloadError) as caught:
        fails()
    told = innermost(caught.value)
    assert told.startswith("ModuleNotFoundError: No module named 'gmod' (")
    assert f"({__file__}, line " in told


def test_a_remote_traceback_is_not_the_cause():
    error = KeyError("k")
    error.__cause__ = RemoteTraceback("Traceback …")
    assert innermost(error) == "KeyError: 'k'"


# ------------------------------------------------------------------------------------------------ queues


def test_the_queues_of_an_app():
    app = App("shop", broker="ipc:///nowhere", task_routes={"routed": "routed"})
    for name, own in (("a", {"queue": "own"}), ("routed", {}), ("plain", {})):
        app.task(name=name, **own)(lambda: None)
    assert (queues_of(app), closed_queues(app)) == (["default", "own", "routed"], [])
    app.conf.task_queues = [Queue("high"), "low"]
    assert (queues_of(app), closed_queues(app)) == (["high", "low"], [])
    app.conf.task_create_missing_queues = False
    assert closed_queues(app) == ["high", "low"]
    assert (queues_of(None), closed_queues(None)) == (["default"], [])
    assert [is_direct(None), is_direct(app)] == [False, False]
    app.conf.worker_direct = True
    assert is_direct(app)
    app.conf.update(worker_direct=False, task_queues=[Queue("high"), Broadcast("news")])
    assert is_direct(app)


def test_the_queues_of_a_worker(caplog):
    assert chosen_queues(["a", "b", "c"], ["b"], []) == ("a", "c")
    assert not caplog.records
    assert chosen_queues(["a"], ["b"], ["a", "b"]) == ("a",)
    assert "-X names b, which this worker would not take from anyway" in caplog.text
    with pytest.raises(BadOption, match=r"queue 'hihg' is not declared in task_queues.*did you mean high\?"):
        chosen_queues(["hihg"], [], ["high", "low"])
    with pytest.raises(BadOption, match="no queue is left to take from: -X leaves out a, b"):
        chosen_queues(["a", "b"], ["a", "b"], [])


def test_the_limits_of_tasks_that_their_submitters_need_not_know():
    routes = {"routed": {"rate_limit": "1/s", "rate_key": "k", "concurrency_limit": 1, "concurrency_key": "k"}}
    app = App("shop", broker="ipc:///nowhere", task_routes=routes)
    both = {"rate_limit": "10/m", "burst": 3, "concurrency_limit": 4}
    for name, own in (("both", both), ("keyed", {**both, "rate_key": "x", "concurrency_key": "x"}), ("routed", {})):
        app.task(name=name, **own)(lambda x: None)
    assert rates_of(app.tasks) == [("both", 1 / 6, 3)]
    assert caps_of(app.tasks) == [("both", 4)]
