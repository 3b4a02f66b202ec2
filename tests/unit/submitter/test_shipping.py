"""Modules that go by value."""

import importlib
import pickle
import subprocess
import sys
import types

import cloudpickle
import pytest

from zmqtasks import errors, payload
from zmqtasks.submitter import shipping
from zmqtasks.submitter.functions import Shipped, by_name

FILES = {
    "shapes/__init__.py": "from shapes.point import Point\nSCALE = 2\n",
    "shapes/point.py": """
from dataclasses import dataclass

@dataclass
class Point:
    x: int
""",
    "shapes/grow.py": """
import shapes.limits as limits
from shapes import point
from shapes.point import Point

FACTOR = 2

def helper(x):
    return min(x * FACTOR, limits.MOST)

def grow(p):
    return Point(helper(p.x))

def same(p):
    return isinstance(p, point.Point)
""",
    "shapes/limits.py": "MOST = 100\n",
}


@pytest.fixture
def grow(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("shapes.grow")
    for name in [name for name in sys.modules if name.partition(".")[0] == "shapes"]:
        del sys.modules[name]


@pytest.fixture
def package(grow):
    return sys.modules["shapes"]


def elsewhere(fn, *args, **kwargs):
    """The value of a call in a process that has none of these modules."""
    blob, call = payload.ship(fn).blob, payload.encode_call("cloudpickle", args, kwargs, "fn")
    script = (
        f"import pickle, sys; from zmqtasks import payload; fn = payload.unship({blob!r}); "
        f"args, kwargs = pickle.loads({call!r}); "
        "sys.stdout.buffer.write(payload.encode_result('cloudpickle', fn(*args, **kwargs), 'fn'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=False, cwd="/")
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def test_a_package_goes_with_all_its_modules_and_comes_back_as_itself(grow, package):
    point = package.Point(3)
    assert by_name(grow.grow)
    shipping.register([package])
    try:
        assert not by_name(grow.grow)
        assert elsewhere(grow.grow, point) == package.Point(6)
        assert type(elsewhere(grow.grow, package.Point(1000))) is package.Point
        assert elsewhere(grow.grow, package.Point(1000)).x == 100
        assert elsewhere(grow.same, point) is True
    finally:
        shipping.unregister([package])
    assert by_name(grow.grow)
    assert b"shapes.grow" in payload.ship(grow.grow).blob
    assert len(payload.ship(grow.grow).blob) < 100


def test_one_module_of_a_package_alone(grow):
    shipping.register([grow])
    try:
        assert not by_name(grow.grow)
        assert by_name(sys.modules["shapes.point"].Point)
    finally:
        shipping.unregister([grow])


def test_a_shipped_function_is_pickled_anew_when_what_it_reads_has_changed(grow, package):
    shipping.register([package])
    try:
        shipped = Shipped(grow.grow)
        assert shipped.lasting
        assert shipped.fresh()
        grow.FACTOR = 3
        assert not shipped.fresh()
        assert elsewhere(grow.grow, package.Point(3)).x == 9
    finally:
        shipping.unregister([package])


def test_it_stays_until_the_last_client_is_closed(grow, package):
    shipping.register([package])
    shipping.register([package])
    shipping.unregister([package])
    assert payload.goes_by_value("shapes.grow")
    assert not payload.goes_by_value("shapeshifter")
    shipping.unregister([package])
    assert not payload.goes_by_value("shapes.grow")
    assert "shapes" not in cloudpickle.list_registry_pickle_by_value()


def test_what_the_user_registered_stays(package):
    cloudpickle.register_pickle_by_value(package)
    shipping.register([package])
    shipping.unregister([package])
    assert "shapes" in cloudpickle.list_registry_pickle_by_value()
    cloudpickle.unregister_pickle_by_value(package)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["math"], "list of imported modules, and 'math' is none"),
        ("math", r"a list of modules: ship=\[math\]"),
        (sys, r"a list of modules: ship=\[sys\]"),
        ([types.ModuleType("shapes")], "not the one that is imported"),
        ([sys.modules["__main__"]], "the script itself goes by value anyway"),
    ],
)
def test_what_cannot_be_shipped_is_named(given, told):
    with pytest.raises(errors.BadOption, match=told):
        shipping.check(given)
