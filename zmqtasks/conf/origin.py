"""Where the value of a setting was written, for people: a file and a line, a variable, the default."""

import ast
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_PACKAGE: Final = __name__.partition(".")[0]
_APART: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)  # names in them are others


class Layer(IntEnum):
    """Whose word counts: a smaller number goes before a larger one."""

    SET = 0
    ENVVAR = 1
    OBJECT = 2
    ENVIRONMENT = 3
    FILE = 4
    DEFAULT = 5


WORDS: Final = {
    Layer.SET: "keyword, attribute or update",
    Layer.ENVVAR: "config_from_envvar",
    Layer.OBJECT: "config_from_object",
    Layer.ENVIRONMENT: "environment",
    Layer.FILE: "zmqtasks.toml",
    Layer.DEFAULT: "default",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written. Its text is looked up when somebody asks for it.

    Attributes:
        layer: whose word it is.
        where: a file, a variable, a call.
        holder: the module, class, object or file that the line is looked for in; None: `where` says all.
        name: of the setting there.
        note: goes on after it.
    """

    layer: Layer
    where: str
    holder: object = None
    name: str = ""
    note: str = ""

    def __str__(self) -> str:
        line = line_of(self.holder, self.name) if self.holder is not None else None
        return (f"{self.where}, line {line}" if line else self.where) + self.note


DEFAULT: Final = Origin(Layer.DEFAULT, "default")


def shown(path: str) -> str:
    """A path as people here would write it: relative where it is below the current folder."""
    folder = os.getcwd() + os.sep  # noqa: PTH109  (compared with strings)
    return path.removeprefix(folder)


def caller() -> str:
    """File and line of the innermost call that comes from outside of zmqtasks."""
    frame = sys._getframe(1)  # noqa: SLF001  (what tracebacks are made of)
    while frame.f_back is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != _PACKAGE:
            break
        frame = frame.f_back
    return f"{shown(frame.f_code.co_filename)}, line {frame.f_lineno}"


# ------------------------------------------------------------------------------------------------ lines


def file_of(holder: object) -> str | None:
    """The source file of a module, of a class, or of an object's class."""
    import inspect

    thing: Any = holder if isinstance(holder, ModuleType | type) else type(holder)
    try:
        return inspect.getsourcefile(thing)
    except (TypeError, OSError):  # built in, or made at a prompt
        return None


def line_of(holder: object, name: str) -> int | None:
    """The line in which a module, a class (or one that it inherits from) or a TOML file gives a name its value."""
    if isinstance(holder, Path):
        return _line_in_toml(holder, name)
    if isinstance(holder, ModuleType):
        return _line_in_source(file_of(holder), "", name)
    if not isinstance(holder, type) and name in getattr(holder, "__dict__", {}):
        return None  # set somewhere, by whomever
    kind = holder if isinstance(holder, type) else type(holder)
    for base in kind.__mro__:
        if name in vars(base):
            return _line_in_source(file_of(base), base.__qualname__, name)
    return None


def _line_in_toml(path: Path, name: str) -> int | None:
    """The first line that begins with the key, or is the head of a table of that name."""
    key = re.compile(rf"""\s*(?:["']?{re.escape(name)}["']?\s*[=.]|\[\[?\s*["']?{re.escape(name)}["']?\s*[\].])""")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return next((number for number, line in enumerate(lines, start=1) if key.match(line)), None)


def _line_in_source(file: str | None, qualname: str, name: str) -> int | None:
    """The last line of the module, or of its class `qualname`, that assigns the name outside of functions."""
    body = _body(file) if file else None
    for part in qualname.split(".") if qualname and body else ():
        body = next((node.body for node in body or () if isinstance(node, ast.ClassDef) and node.name == part), None)
    lines = [node.lineno for node in _statements(body or []) if name in _assigned(node)]
    return lines[-1] if lines else None


def _body(file: str) -> list[ast.stmt] | None:
    try:
        return ast.parse(Path(file).read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return None


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    """These and those inside of them, but for what stands in functions and classes."""
    for node in body:
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.stmt | ast.excepthandler) and not isinstance(node, _APART):
            yield from _statements(ast.iter_child_nodes(node))


def _assigned(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    else:
        return set()
    return {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
