"""Celery: an App with Celery's names."""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, cast, overload
from zoneinfo import ZoneInfo

from zmqtasks import app as native
from zmqtasks.celery import _later, _options, _state
from zmqtasks.celery.app import _commands
from zmqtasks.celery.app.control import Control
from zmqtasks.celery.app.task import Task
from zmqtasks.celery.result import AsyncResult, EagerResult
from zmqtasks.errors import BadOption
from zmqtasks.submitter import tasks

P = ParamSpec("P")
R = TypeVar("R")

# Parts of Celery's own machinery that can be exchanged there.
_PARTS = frozenset({
    "amqp", "autofinalize", "control", "events", "fixups", "loader", "log", "strict_typing", "tasks",
})  # fmt: skip


@_later.without("app", _later.APP)
class Celery(native.App):
    """A set of named tasks, under Celery's names.

    Args:
        main: its name, and in a script the first part of the names of tasks.
        broker: the scheduler, see `zmqtasks.App`.
        backend: not needed: the scheduler keeps the results.
        include: modules that hold tasks of this app.
        set_as_current: make it the current app.
        changes: settings, as keywords give them.
        config_source: see `config_from_object`.
        namespace: what names of settings in `config_source` begin with.
        task_cls: the class of its tasks, derived from `zmqtasks.celery.Task`, or MODULE:CLASS.
        settings: other settings; parts of Celery that can be exchanged there (loader, amqp, …) have no meaning.

    Raises:
        BadOption: there is no such setting, or it cannot have that value: redis:// and amqp:// are no schedulers; or
            `task_cls` cannot be imported.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: Any = None,
        include: Iterable[str] | None = None,
        set_as_current: bool = True,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        namespace: str | None = None,
        task_cls: type[Task[..., Any]] | str | None = None,
        **settings: Any,
    ) -> None:
        given = {**(changes or {}), **{name: value for name, value in settings.items() if name not in _PARTS}}
        if backend is not None:
            given["result_backend"] = backend
        self._packages: list[tuple[Any, str | None]] = []
        super().__init__(main or "__main__", broker, _names(include), **given)
        self.main = main
        self.namespace = namespace
        self.Task: type[Task[..., Any]] = _class(task_cls) if isinstance(task_cls, str) else task_cls or Task
        self._module = _outside(self)
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        if set_as_current:
            self.set_current()
        _state.add_app(self)

    # -------------------------------------------------------------------------------------------- which app

    @property
    def module(self) -> str:
        """The name of the module that has made it."""
        return str(self._module)

    def set_current(self) -> None:
        """Make it the current app, in all threads."""
        _state.set_current(self)

    set_default = set_current

    def load(self) -> None:
        """Import what the app includes; it becomes the current app. See `zmqtasks.App.load`."""
        self.set_current()
        super().load()

    @property
    def current_task(self) -> Any:
        """The task that runs in this thread; None: none does."""
        return _state.get_current_task()

    current_worker_task = current_task

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def finalize(self, auto: bool = False) -> None:  # noqa: FBT001, FBT002  (Celery's signature)
        """Not needed: tasks are there as soon as they are declared."""

    # -------------------------------------------------------------------------------------------- tasks

    @overload
    def task(self, fn: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(
        self, /, *, bind: Literal[True], **declared: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
    @overload
    def task(self, /, **declared: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(self, fn: Callable[..., Any] | None = None, /, **declared: Any) -> Any:
        """Register a function as a task; with or without options.

        Args:
            fn: the function.
            declared: see `zmqtasks.App.task`; and Celery's retry_kwargs and reject_on_worker_lost. Others of Celery's
                are accepted and said once.

        Raises:
            BadOption, NotAvailable, ZmqTasksError: see `zmqtasks.App.task`.
        """
        return self._declare(fn, declared) if fn is not None else lambda function: self._declare(function, declared)

    def _declare(self, fn: Callable[..., Any], declared: Mapping[str, Any]) -> Task[..., Any]:
        base = declared.get("base") or self.Task
        given = {**_options.of_task(declared, base), "base": base}
        if callable(fn):
            given.setdefault("name", self.gen_task_name(getattr(fn, "__name__", type(fn).__name__), fn.__module__))
        return cast("Task[..., Any]", super().task(**given)(fn))  # type: ignore[no-untyped-call]  # of three overloads

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task that declares none: module.function; in a script `main` stands for the module."""
        return f"{self.main if module == '__main__' and self.main else module}.{name}"

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,  # noqa: FBT001, FBT002  (Celery's signature)
    ) -> None:
        """Include the module `tasks` of each package that has one.

        Args:
            packages: names, or a function that tells them when a worker asks.
            related_name: name of the module; None: the packages themselves.
            force: import them now.

        Raises:
            BadOption: no packages are named.
        """
        if packages is None:
            raise BadOption(
                "autodiscover_tasks() does not know your packages: name them, as in autodiscover_tasks(['shop', "
                "'mail']); for Django: autodiscover_tasks(lambda: [c.name for c in django.apps.apps.get_app_configs()])"
            )
        self._packages.append((packages, related_name))
        if force:
            for module in _found(packages, related_name):
                importlib.import_module(module)

    @property
    def include(self) -> list[str]:
        """Modules that hold tasks of this app: those given to it, of its settings, and of `autodiscover_tasks`."""
        found = [module for packages, name in self._packages for module in _found(packages, name)]
        return list(dict.fromkeys((*super().include, *found)))

    @include.setter
    def include(self, modules: Iterable[str]) -> None:
        self._include = _names(modules)

    # -------------------------------------------------------------------------------------------- jobs

    def send_task(
        self, name: str, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **given: Any
    ) -> AsyncResult[Any]:
        """Run a task by its name; options as in `Task.apply_async`."""
        options = _options.of_job(given, lambda: self.timezone)
        sent = super().send_task(name, args or (), kwargs, **options)
        return sent if isinstance(sent, AsyncResult) else AsyncResult.of(sent.job, options.get("task_id"))

    def run_here(
        self, task: tasks.Task[..., R], args: Sequence[Any], kwargs: Mapping[str, Any], *given: Any, **options: Any
    ) -> EagerResult[R]:
        """See `zmqtasks.App.run_here`."""
        done = super().run_here(task, args, kwargs, *given, **options)
        return EagerResult(done.id, done.result, done.state, done.traceback, done.name)

    def AsyncResult(self, job_id: str, **celery: Any) -> AsyncResult[Any]:  # noqa: N802  (Celery's name)
        """The result of an id, whoever submitted the job."""
        return AsyncResult(job_id, app=self)

    @property
    def control(self) -> Control:  # type: ignore[override]  # the same in the words of Celery
        """What a script may ask of all workers and jobs, and do to them."""
        return Control(self)

    @property
    def timezone(self) -> tzinfo:
        """Of times that name none: the setting `timezone`; else UTC, or with ``enable_utc=False`` that of this host."""
        zone = self.conf.timezone
        if isinstance(zone, tzinfo):
            return zone
        if zone:
            return ZoneInfo(zone)
        local = datetime.now().astimezone().tzinfo
        return UTC if self.conf.enable_utc or local is None else local

    def now(self) -> datetime:
        """The time, in that time zone."""
        return datetime.now(self.timezone)

    # -------------------------------------------------------------------------------------------- settings, commands

    def config_from_object(
        self, obj: Any, *, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> bool:
        """See `zmqtasks.conf.configured.Configured`; without a namespace here, that of the app counts."""
        return super().config_from_object(obj, silent=silent, force=force, namespace=namespace or self.namespace)

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line of zmqtasks with this app: ``python photos.py worker -c 3``.

        Args:
            argv: the words after the program's name; None: those of this process.

        Returns:
            0.

        Raises:
            SystemExit: with any other exit code.
        """
        return _commands.run(self, sys.argv[1:] if argv is None else argv)

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run a worker of this app. Args, returns and raises: see `start`; the word `worker` may be missing."""
        words = list(sys.argv[1:] if argv is None else argv)
        return self.start(words if "worker" in words else ["worker", *words])

    def __reduce__(self) -> Any:
        _, (name, broker, include, settings) = super().__reduce__()
        return _again, (name, broker, include, settings)


def _again(name: str, broker: str | None, include: Iterable[str], settings: Mapping[str, Any]) -> Celery:
    """An app that travelled; see `Celery.__reduce__`."""
    return Celery(name, broker=broker, include=include, set_as_current=False, **settings)


def _class(path: str) -> Any:
    """What MODULE:CLASS, or MODULE.CLASS, leads to. Raises BadOption."""
    try:
        return pkgutil.resolve_name(path)
    except Exception as error:
        raise BadOption(f"task_cls={path!r} cannot be imported ({type(error).__name__}: {error})") from error


def _names(modules: Iterable[str] | None) -> list[str]:
    return [modules] if isinstance(modules, str) else list(modules or ())


def _found(packages: Any, related_name: str | None) -> list[str]:
    """The modules of tasks that these packages have.

    Raises:
        ModuleNotFoundError: a package itself is not there.
    """
    names = _names(packages() if callable(packages) else packages)
    if not related_name:
        return names
    modules = [f"{name}.{related_name}" for name in names]
    return [module for module in modules if importlib.util.find_spec(module) is not None]


def _outside(app: Celery) -> str:
    """The module that makes an app: the first frame that is not an `__init__` of the app itself."""
    frame = sys._getframe(1)  # noqa: SLF001  (as in zmqtasks.App)
    while frame.f_back is not None and any(frame.f_locals.get(name) is app for name in frame.f_code.co_varnames[:1]):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", "__main__"))
