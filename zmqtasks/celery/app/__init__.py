"""Apps and the tasks that all of them have."""

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload

from zmqtasks.celery import _state
from zmqtasks.celery._proxy import Proxy
from zmqtasks.celery.app.base import Celery
from zmqtasks.celery.app.task import Task

__all__ = ["Celery", "app_or_default", "shared_task"]

P = ParamSpec("P")
R = TypeVar("R")


def app_or_default(app: Celery | None = None) -> Celery:
    """This app, or the current one."""
    return app or cast("Celery", _state.get_current())


@overload
def shared_task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(**declared: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def shared_task(fn: Callable[..., Any] | None = None, /, **declared: Any) -> Any:
    """Register a function as a task of every app; before there is one, too.

    Args:
        fn: the function.
        declared: see `Celery.task`.

    Returns:
        What stands for the task of whichever app is the current one when it is used.

    Raises:
        TypeError: it is a shared task already.
    """
    return partial(_share, declared) if fn is None else _share(declared, fn)


def _share(declared: dict[str, Any], fn: Callable[..., Any]) -> Task[..., Any]:
    if type(fn) is Proxy:
        raise TypeError("@shared_task stands twice above the same function; take one of them away")
    _state.add_shared(lambda app: app.task(**declared)(fn))
    name = declared.get("name") or ""
    return cast("Task[..., Any]", Proxy(_state.SharedTask(name, fn.__name__, fn.__module__)))
