"""What a claim calls, and how many shipped functions stay loaded."""

import pytest

from zmqtasks import payload
from zmqtasks.task import TaskBase
from zmqtasks.worker import functions
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.functions import Functions, Unrunnable


def claim(name="t.f", shipped=None):
    digest, blob = (shipped.digest, shipped.blob) if shipped else (b"", b"")
    return Claim(1, name, digest, blob, "pickle", 1000, [])


def numbered(count):
    return [payload.ship(lambda n=n: n) for n in range(count)]


def test_the_functions_used_last_stay_loaded(monkeypatch):
    monkeypatch.setattr(functions, "MAX_FUNCTIONS", 3)
    loads = []
    unship = payload.unship
    monkeypatch.setattr(payload, "unship", lambda blob, accept: loads.append(blob) or unship(blob, accept))
    cache = Functions({}, "w1")
    shipped = numbered(4)
    for which in (0, 1, 2, 0, 3, 0, 1):  # 3 pushes out 1, the one unused for longest; then 1 pushes out 2
        assert cache.find(claim(shipped=shipped[which]))[0]() == which
    assert loads == [shipped[i].blob for i in (0, 1, 2, 3, 1)]
    assert len(cache) == 3


def test_one_that_came_in_a_file_is_read_from_there_only_if_it_is_not_loaded(tmp_path):
    cache = Functions({}, "w1")
    shipped = numbered(1)[0]
    (tmp_path / "f").write_bytes(shipped.blob)
    alone = claim(shipped=payload.Shipped(shipped.digest, shipped.name, b""))
    with (tmp_path / "f").open("rb") as file:
        assert cache.find(alone, file.fileno())[0]() == 0
        assert file.tell() == 0
    assert cache.find(alone, 10_000)[0]() == 0  # there is no such descriptor


def test_however_many_come_the_cache_is_bounded():
    cache = Functions({}, "w1")
    for shipped in numbered(functions.MAX_FUNCTIONS + 50):
        cache.find(claim(shipped=shipped))
    assert len(cache) == functions.MAX_FUNCTIONS


def test_one_that_cannot_be_loaded_is_not_kept():
    cache = Functions({}, "w1")
    broken = payload.Shipped(b"b" * 16, "m.f", b"cno_such_module\nf\n.")
    with pytest.raises(Unrunnable) as one:
        cache.find(claim("m.f", broken))
    told = payload.read_failure(one.value.failure)
    assert told.text.startswith("function m.f cannot be loaded on worker w1: ModuleNotFoundError: ")
    assert "ship the module along: Client(url, ship=[module])" in told.text
    assert len(cache) == 0


def test_a_module_that_raises_anything_at_all_is_told(tmp_path, monkeypatch):
    (tmp_path / "leaves_at_import.py").write_text("raise SystemExit('no\\udcff')")
    monkeypatch.syspath_prepend(tmp_path)
    shipped = payload.Shipped(b"b" * 16, "m.f", b"cleaves_at_import\nf\n.")
    with pytest.raises(Unrunnable) as one:
        Functions({}, "w1").find(claim("m.f", shipped))
    assert "SystemExit: no\\udcff" in payload.read_failure(one.value.failure).text


def test_a_bound_task_gets_itself():
    task = TaskBase(lambda self, x: (self.name, x), name="t.f", bind=True, autoretry_for=(KeyError,))
    call, retry, never, found = Functions({"t.f": task}, "w1").find(claim())
    assert call(3) == ("t.f", 3)
    assert (retry, never, found) == ((KeyError,), (), task)


def test_a_function_is_not_unpickled_where_pickles_are_not_accepted():
    cache = Functions({}, "w1", frozenset({"json", "msgpack"}))
    with pytest.raises(Unrunnable) as one:
        cache.find(claim("m.f", payload.Shipped(b"b" * 16, "m.f", b"cno_such_module\nf\n.")))
    told = payload.read_failure(one.value.failure).text
    assert "codec 'cloudpickle' is not accepted here (accepted: json, msgpack)" in told
    assert "no_such_module" not in told
