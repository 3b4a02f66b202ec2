"""What the process remembers of apps, put back after each test."""

import pytest

from zmqtasks.celery import _options, _state


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(_state, "_current", None)
    monkeypatch.setattr(_state, "_shared", [])
    monkeypatch.setattr(_options, "_said", set())
    monkeypatch.delenv("ZMQTASKS_BROKER", raising=False)
