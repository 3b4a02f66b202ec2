"""Celery's names for zmqtasks: write ``from zmqtasks.celery import …`` in place of ``from celery import …``.

The modules below have Celery's paths, for what users import from there. Everything here translates names; what it
translates to is `zmqtasks.App`, `zmqtasks.Task` and `zmqtasks.AsyncResult`. What differs stands in docs/celery.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zmqtasks.celery._later import PACKAGE, getter

if TYPE_CHECKING:
    from zmqtasks.celery._state import current_app, current_task
    from zmqtasks.celery.app import Celery, shared_task
    from zmqtasks.celery.app.task import Task
    from zmqtasks.celery.utils import uuid
    from zmqtasks.queues import Broadcast, Exchange, Queue

_HOME = {
    "Broadcast": "queues",  # Celery's users have this one from kombu.common, Exchange and Queue from kombu
    "Celery": "celery.app.base",
    "Exchange": "queues",
    "Queue": "queues",
    "Task": "celery.app.task",
    "current_app": "celery._state",
    "current_task": "celery._state",
    "shared_task": "celery.app",
    "uuid": "celery.utils",
}

__all__ = ["Broadcast", "Celery", "Exchange", "Queue", "Task", "current_app", "current_task", "shared_task", "uuid"]

_missing = getter(__name__, PACKAGE)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        return _missing(name)
    value = getattr(import_module(f"zmqtasks.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
