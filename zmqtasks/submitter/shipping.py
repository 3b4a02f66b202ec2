"""Modules that travel by value: `Client(url, ship=[module])`.

cloudpickle keeps one list per process of modules whose functions and classes it pickles with their code. A client
puts its modules there and takes them away when it is closed, unless another client, or the user, wants them, too.
So while one client ships a module, it goes by value in every client of the process.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from zmqtasks import payload
from zmqtasks.errors import BadOption

_wanted: Counter[str] = Counter()  # by how many clients
_not_ours: set[str] = set()  # that the user has registered
_lock = threading.Lock()


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603  (another thread may have held it at the fork)
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def check(modules: Iterable[Any]) -> list[ModuleType]:
    """The modules to ship. Raises BadOption for what is none, or needs not to be shipped."""
    if isinstance(modules, str | ModuleType):
        raise BadOption(f"ship= is a list of modules: ship=[{_told(modules)}]")
    found = list(modules)
    for module in found:
        if not isinstance(module, ModuleType):
            raise BadOption(f"ship= is a list of imported modules, and {module!r} is none")
        if sys.modules.get(module.__name__) is not module:
            raise BadOption(f"ship=: module {module.__name__} is not the one that is imported under this name")
        if module.__name__ == "__main__":
            raise BadOption("ship=: the script itself goes by value anyway")
    return found


def register(modules: Iterable[ModuleType]) -> None:
    """Pickle what these modules and their submodules define by value from now on."""
    for module in modules:
        import cloudpickle  # 40 ms of start-up that most clients never need

        with _lock:
            name = module.__name__
            if not _wanted[name]:
                if name in cloudpickle.list_registry_pickle_by_value():
                    _not_ours.add(name)
                cloudpickle.register_pickle_by_value(module)
            _wanted[name] += 1
            payload.set_by_value(list(_wanted))


def unregister(modules: Iterable[ModuleType]) -> None:
    """Undo `register`, unless somebody else needs it."""
    for module in modules:
        import cloudpickle

        with _lock:
            name = module.__name__
            _wanted[name] -= 1
            if _wanted[name]:
                continue
            del _wanted[name]
            if name in _not_ours:
                _not_ours.discard(name)
            else:
                cloudpickle.unregister_pickle_by_value(module)
            payload.set_by_value(list(_wanted))


def _told(value: str | ModuleType) -> str:
    return value if isinstance(value, str) else value.__name__
