import math
import pickle
import subprocess
import sys

import pytest

from zmqtasks.cli._targets import BadTarget, ByName, ByValue, Targets
from zmqtasks.payload import function_name, ship

MODULE = """
import mine_helper

def twice(x):
    return mine_helper.times(x, 2)

value = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "mine_helper.py").write_text("def times(x, y):\n    return x * y\n")
    (tmp_path / "mine_broken.py").write_text("import no_such_module_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mine", "mine_helper", "mine_broken"):
        sys.modules.pop(name, None)


def test_a_task_is_its_name(folder):
    assert Targets()("shop.tasks.resize") == ByName("shop.tasks.resize")


def test_an_installed_function_is_itself(folder):
    assert Targets()("math:sqrt") is math.sqrt
    assert Targets()("collections:OrderedDict.fromkeys") == __import__("collections").OrderedDict.fromkeys


def test_a_function_of_this_folder_goes_with_its_code_and_its_neighbours(folder, tmp_path_factory):
    target = Targets()("mine:twice")
    assert isinstance(target, ByValue)
    assert function_name(target) == "mine.twice"
    blob = tmp_path_factory.mktemp("elsewhere") / "blob"
    blob.write_bytes(ship(target).blob)
    code = f"import pickle, sys; print(pickle.load(open({str(blob)!r}, 'rb'))(21), 'mine' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=blob.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "42 False\n"
    assert function_name(pickle.loads(pickle.dumps(target))) == "mine.twice"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("math.sqrt", "math:sqrt"),
        ("os.path.exists", "os.path:exists"),
        ("mine.twice", "mine:twice"),
        ("mine_package.deep.f", "mine_package.deep:f"),
        ("mine_package.deeper.f", ""),
        ("no_such_module.f", ""),
        ("twice", ""),
        ("a..b", ""),
    ],
)
def test_the_name_of_a_task_may_be_a_function_in_disguise(folder, name, meant):
    (folder / "mine_package").mkdir()
    (folder / "mine_package" / "__init__.py").write_text("raise RuntimeError('nobody asked to import it')\n")
    (folder / "mine_package" / "deep.py").touch()
    targets = Targets()
    targets(name)
    assert targets.meant(f"no worker of queue 'default' knows a task {name!r}") == meant
    assert targets.meant(f"no worker of queue 'default' knows a task {name!r}; did you mean 'x'?") == ""
    assert targets.meant("no worker of queue 'default' knows a task 'other'") == ""
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no_such_module:f", "cannot import no_such_module for no_such_module:f: ModuleNotFoundError"),
        ("mine_broken:f", "cannot import mine_broken for mine_broken:f: .*no_such_module_at_all"),
        ("mine:twize", "module mine has no 'twize'; did you mean 'twice'?"),
        ("mine:twice.x", "twice has no 'x'"),
        ("mine:value", "mine:value is int, which cannot be called"),
        ("mine:", "'mine:' is no MODULE:FUNCTION"),
        (":twice", "':twice' is no MODULE:FUNCTION"),
    ],
)
def test_what_is_no_function_is_named(folder, text, says):
    with pytest.raises(BadTarget, match=says.replace("?", r"\?")):
        Targets()(text)
