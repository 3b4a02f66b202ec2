"""What a job of ``zmqtasks submit`` runs: MODULE:FUNCTION, imported here and shipped, or a task known by name."""

import difflib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

from zmqtasks.errors import PayloadError, ZmqTasksError


class BadTarget(ZmqTasksError):
    """MODULE:FUNCTION names nothing that can be called here."""


class ByValue:
    """A function of the current folder, shipped with its code, so that the worker needs no copy of the module.

    It is pickled as a reference to this class and the bytes of the function.
    """

    def __init__(self, blob: bytes, module: str, qualname: str) -> None:
        self._blob = blob
        self._function: Callable[..., Any] | None = None
        self.__module__ = module  # what people see as the job's name
        self.__qualname__ = qualname

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            from zmqtasks.payload import unship

            self._function = unship(self._blob)
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._blob, self.__module__, self.__qualname__)


@dataclass(slots=True, frozen=True)
class ByName:
    """A task that the workers know.

    Attributes:
        name: of the task.
        codec: of its arguments; plain JSON data fits into any.
    """

    name: str
    codec: str = "msgpack"


Target = ByName | Callable[..., Any]


class Targets:
    """The targets of one command, each resolved once. The current folder is looked in first, as Python does."""

    def __init__(self) -> None:
        self._known: dict[str, Target] = {}
        self._folder = os.path.realpath(os.getcwd())  # noqa: PTH109  (compared with module paths, which are strings)

    def __call__(self, text: str) -> Target:
        """The function for MODULE:FUNCTION; any other text is the name of a task.

        Raises:
            BadTarget: the module cannot be imported, or holds no such function.
            PayloadError: the function cannot be pickled.
        """
        target = self._known.get(text)
        if target is None:
            target = self._known[text] = self._import(text) if ":" in text else ByName(text)
        return target

    def meant(self, told: str) -> str:
        """MODULE:FUNCTION for a task of this command that nobody knows, where its name can be read as one.

        Nothing is imported for it: it is only a guess, and modules do things when they are imported.

        Args:
            told: what the scheduler says about the task; if it has a guess itself, that is better than ours.

        Returns:
            The guess; empty if there is none.
        """
        if not told or "did you mean" in told:
            return ""
        named = [target.name for target in self._known.values() if isinstance(target, ByName)]
        for module, dot, function in (name.rpartition(".") for name in named if repr(name) in told):
            if dot and self._exists(module):
                return f"{module}:{function}"
        return ""

    def _exists(self, module: str) -> bool:
        """Whether a module is there; unlike `importlib.util.find_spec` this does not import its parents."""
        if module.partition(".")[0] in sys.stdlib_module_names:
            return True
        path: Sequence[str] | None = [self._folder, *sys.path]
        name = ""
        for part in module.split("."):
            name = f"{name}.{part}" if name else part
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is None:
                return False
            path = spec.submodule_search_locations or []
        return True

    def _import(self, text: str) -> Target:
        module_name, _, path = text.partition(":")
        if not module_name or not path:
            raise BadTarget(f"{text!r} is no MODULE:FUNCTION")
        if self._folder not in sys.path:
            sys.path.insert(0, self._folder)
        try:
            module = import_module(module_name)
        except Exception as error:
            raise BadTarget(f"cannot import {module_name} for {text}: {type(error).__name__}: {error}") from error
        found: Any = module
        for name in path.split("."):
            if not hasattr(found, name):
                raise BadTarget(f"{text}: {_missing(found, name)}")
            found = getattr(found, name)
        if not callable(found):
            raise BadTarget(f"{text} is {type(found).__name__}, which cannot be called")
        if _is_task(found):
            return ByName(found.name, found.serializer)
        return self._ship(found, module, text)

    def _ship(self, function: Callable[..., Any], module: ModuleType, text: str) -> Callable[..., Any]:
        """By reference where the module is installed, by value where it lies in the current folder."""
        from zmqtasks.payload import refuse_async

        refuse_async(function)
        own = [loaded for loaded in list(sys.modules.values()) if self._is_ours(loaded)]
        if module not in own:
            return function
        import cloudpickle

        from zmqtasks import byvalue

        for mine in own:
            cloudpickle.register_pickle_by_value(mine)
        try:
            blob = byvalue.dumps(function)
        except Exception as error:
            raise PayloadError(f"{text} cannot be pickled: {error}") from error
        finally:
            for mine in own:
                cloudpickle.unregister_pickle_by_value(mine)
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        return ByValue(blob, module.__name__, name)

    def _is_ours(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        if not file or module.__name__.partition(".")[0] in ("zmqtasks", "__main__"):
            return False
        path = os.path.realpath(file)
        return path.startswith(self._folder + os.sep) and "site-packages" not in path


def _is_task(found: Any) -> bool:
    """Whether this is a registered task; told by its class's home, so that nothing is imported for a plain function."""
    return type(found).__module__.startswith("zmqtasks.") and isinstance(getattr(found, "name", None), str)


def _missing(found: Any, name: str) -> str:
    what = f"module {found.__name__}" if isinstance(found, ModuleType) else getattr(found, "__name__", repr(found))
    near = difflib.get_close_matches(name, [n for n in dir(found) if not n.startswith("_")], n=1)
    return f"{what} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
