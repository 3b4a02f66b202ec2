"""Loading the app that ``-A`` names, in the fork server: user code never runs in the agent."""

import importlib
import importlib.util
import logging
import os
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import Any, Protocol, TypeGuard

from zmqtasks import payload, rates
from zmqtasks.config import DEFAULT_QUEUE
from zmqtasks.errors import AppNotLoaded, BadOption, RemoteTraceback
from zmqtasks.task import TaskBase
from zmqtasks.worker import hostinfo

log = logging.getLogger(__name__)

Tasks = Mapping[str, TaskBase[..., Any]]

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120  (frames have strings)

USUAL_NAMES = ("app", "celery", "application")  # of the App in its module, or of the module in its package


class AppLike(Protocol):
    """What a child needs of a `zmqtasks.app.App`."""

    tasks: Tasks
    include: Iterable[str]

    def load(self) -> object:
        """Import what the app includes."""


def load_app(spec: str, directory: str) -> AppLike:
    """The app that MODULE or MODULE:ATTRIBUTE names, with everything that it includes imported.

    Args:
        spec: what -A says.
        directory: is put in front of the module path, as Python does for a script.

    Raises:
        AppNotLoaded: the message names the module and the innermost cause, in one line.
    """
    app = find_app(spec, directory)
    for include in app.include:
        import_one(include)
    try:
        app.load()
    except AppNotLoaded:
        raise
    except Exception as error:
        raise AppNotLoaded(_once(f"the app {spec} cannot be loaded: ", innermost(error))) from error
    return app


def find_app(spec: str, directory: str) -> AppLike:
    """The same app without what it includes: enough for its settings. Args and raises: see `load_app`."""
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name, _, attribute = spec.partition(":")
    if os.sep in name or name.endswith(".py"):
        folder, file = os.path.split(name)
        where = f" in the folder {folder}" if folder else ""
        raise AppNotLoaded(f"{name!r} is a file, and -A names a module: write -A {file.removesuffix('.py')}{where}")
    try:
        module = import_one(name)
    except AppNotLoaded as error:
        missing = getattr(error.__cause__, "name", None) if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):  # not one that it imports
            raise AppNotLoaded(f"{error}: it is neither in {directory} nor installed") from error
        raise
    return _find(module, attribute)


def import_one(name: str) -> ModuleType:
    """Import a module; says so if that started threads, for then children cannot be forked."""
    before = hostinfo.threads()
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise AppNotLoaded(_once(f"cannot import {name!r}: ", innermost(error))) from error
    if (after := hostinfo.threads()) > max(before, 1):
        log.warning(
            "importing %s started %d threads; children are started as new processes instead of forks, which takes "
            "longer; start threads when the first job runs, not at import",
            name,
            after - before,
            extra={"action": "threads-at-import"},
        )
    return module


def _find(module: ModuleType, attribute: str) -> AppLike:
    if attribute:
        found: object = module
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise AppNotLoaded(f"module {module.__name__!r} has no attribute {attribute!r}")
            found = getattr(found, part)
        if not _is_app(found):
            raise AppNotLoaded(f"{module.__name__}:{attribute} is a {type(found).__name__}, not an App")
        return found
    candidates = [getattr(module, name, None) for name in USUAL_NAMES]
    for found in [*candidates, *vars(module).values()]:
        if _is_app(found):
            return found
    if hasattr(module, "__path__"):
        for name in USUAL_NAMES:
            inner = f"{module.__name__}.{name}"
            if importlib.util.find_spec(inner) is not None:
                return _find(import_one(inner), "")
    raise AppNotLoaded(
        f"module {module.__name__!r} holds no App; write app = App(...), or name it: -A MODULE:ATTRIBUTE"
    )


def _is_app(value: object) -> TypeGuard[AppLike]:
    return (
        not isinstance(value, type | ModuleType)
        and isinstance(getattr(value, "tasks", None), Mapping)
        and callable(getattr(value, "load", None))
    )


def queues_of(app: AppLike | None) -> list[str]:
    """The queues of an app: those that it declares; where it declares none, `default` and those that its tasks name."""
    routing = getattr(app, "routing", None)
    if routing is not None and routing.queues.declared is not None:
        return list(routing.queues.names)
    named = {queue for task in (app.tasks.values() if app else ()) if (queue := task.queue)}
    return [DEFAULT_QUEUE, *sorted(named - {DEFAULT_QUEUE})]


def closed_queues(app: AppLike | None) -> list[str]:
    """All queues that an app allows; empty: any."""
    routing = getattr(app, "routing", None)
    return sorted(routing.queues.closed or ()) if routing is not None else []


def is_direct(app: AppLike | None) -> bool:
    """Whether each worker of an app takes from a queue of its own, too."""
    routing = getattr(app, "routing", None)
    return routing is not None and bool(routing.direct)


def chosen_queues(queues: Sequence[str], exclude: Sequence[str], closed: Collection[str]) -> tuple[str, ...]:
    """The queues that a worker takes from.

    Args:
        queues: that it was told, or the app's.
        exclude: those of them that it does not take.
        closed: all that the app allows; empty: any.

    Raises:
        BadOption: one is not allowed, or none is left.
    """
    for name in queues if closed else ():
        if name not in closed:
            near = get_close_matches(name, closed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(closed))}"
            raise BadOption(
                f"queue {name!r} is not declared in task_queues, and task_create_missing_queues is False; {hint}"
            )
    idle = [name for name in exclude if name not in queues]
    if idle:
        log.warning(
            "-X names %s, which this worker would not take from anyway (it would from %s)",
            ", ".join(idle),
            ", ".join(queues),
            extra={"action": "excluded-queues"},
        )
    chosen = tuple(name for name in queues if name not in exclude)
    if not chosen:
        raise BadOption(f"no queue is left to take from: -X leaves out {', '.join(exclude)}")
    return chosen


def accepted_by(app: AppLike | None) -> Collection[str]:
    """The codecs that the workers of an app decode."""
    accept: Collection[str] = getattr(getattr(app, "conf", None), "accept_content", payload.ALL_CODECS)
    return accept


def rates_of(tasks: Mapping[str, Any]) -> list[tuple[str, float, int]]:
    """How often jobs of these tasks may start: for those whose submitters do not know it.

    Returns:
        Name, starts per second and burst. A rate for each key is none of these: a job's key is what its submitter says.
    """
    found = []
    for name, task in sorted(tasks.items()):
        declared = getattr(task, "defaults", {})
        rate = rates.parse(declared.get("rate_limit"))
        if rate and not _has_key(task, "rate_key"):
            found.append((name, rate, declared.get("burst", 1)))
    return found


def caps_of(tasks: Mapping[str, Any]) -> list[tuple[str, int]]:
    """How many jobs of these tasks may run at once; as `rates_of`: name and number, without those for each key."""
    found = []
    for name, task in sorted(tasks.items()):
        cap = getattr(task, "defaults", {}).get("concurrency_limit")
        if cap and not _has_key(task, "concurrency_key"):
            found.append((name, cap))
    return found


def _has_key(task: Any, option: str) -> bool:
    """Whether a limit of a task is one for each key, which the arguments or a route tell."""
    return option in getattr(task, "keys", ()) or option in task.defaults


def broker_of(app: AppLike | None) -> str:
    """The scheduler that the app names; empty if it names none, or only local://."""
    url = getattr(getattr(app, "conf", None), "broker_url", None) or ""
    return "" if url.startswith("local://") else str(url)


def innermost(error: BaseException) -> str:
    """The root of a chain of exceptions in one line, with the innermost place that is the user's, if there is one."""
    chain = [error]
    while (inner := _behind(chain[-1])) is not None and not any(one is inner for one in chain):
        chain.append(inner)
    root = chain[-1]
    text = " ".join(payload.message_of(root).split())
    if isinstance(root, AppNotLoaded):
        return text  # a cluster that the app itself started: its worker has told all of it
    told = f"{type(root).__name__}: {text}" if text else type(root).__name__
    for one in reversed(chain):
        frames = [frame for frame in traceback.extract_tb(one.__traceback__) if not _machinery(frame.filename)]
        if frames:
            return f"{told} ({frames[-1].filename}, line {frames[-1].lineno})"
    return told


def _behind(error: BaseException) -> BaseException | None:
    inner = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None if isinstance(inner, RemoteTraceback) else inner


def _once(what: str, told: str) -> str:
    """What went wrong, and why; the reason may say what went wrong itself."""
    return told if told.startswith(what) else what + told


def _machinery(filename: str) -> bool:
    """Whether a file is Python's import system or part of zmqtasks: no place that a user could mend."""
    return filename.startswith(("<frozen", _PACKAGE)) or filename == importlib.__file__
