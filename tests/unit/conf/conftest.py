"""Each test begins in an empty folder, with no broker in the environment, and nothing said yet."""

import sys
from pathlib import Path

import pytest

from zmqtasks.conf import saying
from zmqtasks.conf.settings import Conf


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
    monkeypatch.setattr(saying, "_said", set())
    monkeypatch.setattr(saying, "_quiet", False)


@pytest.fixture
def conf():
    return Conf()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes modules that can be imported until the test ends."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def write(name, text):
        Path(f"{name}.py").write_text(text, encoding="utf-8")
        written.append(name)
        return name

    yield write
    for name in written:  # only these: what zmqtasks imports late must stay as it is
        sys.modules.pop(name, None)
