"""Which app is the current one, and the tasks that every app gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from weakref import WeakSet

from zmqtasks.celery._proxy import Proxy
from zmqtasks.errors import ZmqTasksError
from zmqtasks.request import calls
from zmqtasks.task import current_job


class NoCurrentApp(ZmqTasksError, AttributeError):
    """There is no app yet: make one first, app = Celery("name", broker="tcp://HOST:5555")."""

    def __str__(self) -> str:
        return super().__str__() or str(self.__doc__)


class AppLike(Protocol):
    """What is needed of an app."""

    @property
    def tasks(self) -> Any:
        """By name."""

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task that declares none."""

    def __hash__(self) -> int: ...


_apps: Final[WeakSet[Any]] = WeakSet()
_shared: Final[list[Callable[[Any], object]]] = []
_current: AppLike | None = None


def set_current(app: AppLike) -> None:
    """Make it the current app, in all threads of this process."""
    global _current  # noqa: PLW0603  (one per process, as in Celery)
    _current = app


def get_current() -> Any:
    """The current app. Raises NoCurrentApp."""
    if _current is None:
        raise NoCurrentApp
    return _current


def get_current_task() -> Any:
    """The task that runs in this thread, as a job or called as a function; None: none does."""
    call = calls.get()
    if call is not None:
        return call.task
    job = current_job()
    return None if job is None or _current is None else _current.tasks.get(job.task)


def add_app(app: AppLike) -> None:
    """Give a new app the shared tasks that there are."""
    _apps.add(app)
    for register in _shared:
        register(app)


def add_shared(register: Callable[[Any], object]) -> None:
    """Have a task in all apps: those that there are, and those still to come."""
    _shared.append(register)
    for app in list(_apps):
        register(app)


@dataclass(frozen=True, slots=True)
class SharedTask:
    """Finds a shared task in the current app.

    Attributes:
        name: that it declares; empty: none.
        function, module: names, for that of a task which declares none.
    """

    name: str
    function: str
    module: str

    def __call__(self) -> Any:
        app = get_current()
        return app.tasks[self.name or app.gen_task_name(self.function, self.module)]


current_app: Any = Proxy(get_current)
current_task: Any = Proxy(get_current_task)
