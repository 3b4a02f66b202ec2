"""Shipping functions: each is pickled once, and again only if what it captures has changed.

A function that workers can import is pickled by its name, once. One that lives in ``__main__``, a lambda or a closure
is pickled by value: its bytes are used again as long as every global and closure variable that it reads is the same
object, and each of these is immutable (a number, a text, a function, a module, a class …). One that captures anything
else – a list, an array, an object – is pickled at every call, for nobody could notice that it was changed.
A class is taken as immutable: change one after its first use, and workers do not see it.
The modules of ``Client(ship=[...])`` are treated as the script itself is: see `zmqtasks.submitter.shipping`.
"""

import sys
from collections.abc import Callable
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.wire import Function

_ATOMS: Final = (int, float, complex, str, bytes, bool, type(None), ModuleType, type)
_MISSING: Final = object()


class Shipped:
    """A function with its bytes and what it captured when they were made."""

    __slots__ = ("_cells", "_names", "fn", "function", "lasting")

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self._cells: list[tuple[CellType, Any]] = []
        self._names: list[tuple[dict[str, Any], str, Any]] = []
        self.lasting = by_name(fn) or self._capture(fn, set())
        self.function = Function(*payload.ship(fn))

    def fresh(self) -> bool:
        """Whether the bytes still say what the function does."""
        for names, name, value in self._names:
            if names.get(name, _MISSING) is not value:
                return False
        return all(_content(cell) is value for cell, value in self._cells)

    def _capture(self, value: Any, seen: set[int]) -> bool:
        """Note what `value` reads; False if that may change unnoticed."""
        if isinstance(value, _ATOMS) or id(value) in seen:
            return True
        if isinstance(value, tuple):
            return all(self._capture(one, seen) for one in value)
        if by_name(value):
            return True
        if not isinstance(value, FunctionType) or value.__dict__:
            return False
        seen.add(id(value))
        cells = [(cell, _content(cell)) for cell in value.__closure__ or ()]
        names = [
            (value.__globals__, name, value.__globals__.get(name, _MISSING)) for name in _global_names(value.__code__)
        ]
        self._cells += cells
        self._names += names
        read = [content for _, content in cells] + [content for _, _, content in names]
        read += [value.__defaults__, *(value.__kwdefaults__ or {}).values()]
        return all(one is _MISSING or self._capture(one, seen) for one in read)


def by_name(fn: Callable[..., Any]) -> bool:
    """Whether workers find the function by importing its module."""
    module = getattr(fn, "__module__", None)
    name = getattr(fn, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or payload.goes_by_value(module):
        return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is fn


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return _MISSING


def _global_names(code: CodeType) -> set[str]:
    """Names that the code, and what is nested in it, may read from its globals (attributes are among them)."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names
