"""Reading settings from what people write them in: dicts, modules, classes, objects, `zmqtasks.toml`."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from zmqtasks.conf.names import CLOSE, Names
from zmqtasks.conf.origin import Layer, Origin, caller, file_of, shown
from zmqtasks.config import CONFIG_FILE
from zmqtasks.errors import BadOption


class BadSource(BadOption):
    """A configuration that is named, and that is not there or cannot be imported."""


class Written(NamedTuple):
    """One setting as it was written; its value is not checked yet."""

    spelled: str
    name: str
    value: Any
    origin: Origin


class Unknown(NamedTuple):
    """What looks like a setting and is none: a typing error, or somebody else's."""

    name: str
    origin: Origin
    meant: str

    def __str__(self) -> str:
        return _no_setting(*self)


@dataclass(slots=True)
class Read:
    """What a source says.

    Attributes:
        found: its settings.
        wrong: sentences about names that are no settings and were meant as one.
        unknown: names that look like settings, and may belong to somebody else.
        others: names that are something else, and nobody's fault.
    """

    found: list[Written] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class Source(NamedTuple):
    """Something with settings in it.

    Attributes:
        items: by the name that stands there.
        origin: where such a name stands.
        strict: every name must be a setting; else it may hold other things.
        prefix: what the names of settings begin with, in capitals; others are skipped.
    """

    items: Mapping[Any, Any]
    origin: Callable[[str], Origin]
    strict: bool = True
    prefix: str = ""


def read(source: Source, names: Names) -> Read:
    """Sort what a source holds."""
    out = Read()
    prefix = source.prefix
    for spelled, value in source.items.items():
        if not isinstance(spelled, str):
            out.wrong.append(f"{source.origin('')}: a setting has a name, not {spelled!r}")
            continue
        if prefix and not spelled.upper().startswith(prefix):
            continue
        name = names.find(spelled, prefix)
        if name is not None:
            out.found.append(Written(spelled, name, value, source.origin(spelled)))
        elif source.strict:
            out.wrong.append(_no_setting(spelled, source.origin(spelled), names.near(spelled, prefix)))
        elif not _is_code(value):
            _sort_out(spelled, source, names, out)
    return out


def _sort_out(spelled: str, source: Source, names: Names, out: Read) -> None:
    """A name of a module or a class that is no setting: a typing error, somebody else's setting, or a helper."""
    claims = bool(source.prefix) or names.claims_to_be_one(spelled)
    meant = names.near(spelled, source.prefix, CLOSE) if claims or not spelled.isupper() else ""
    if meant:
        own = " If it is something else, begin its name with _."
        out.wrong.append(_no_setting(spelled, source.origin(spelled), meant) + own)
    elif claims:
        out.unknown.append(Unknown(spelled, source.origin(spelled), names.near(spelled, source.prefix)))
    else:
        out.others.append(spelled)


def _no_setting(spelled: str, origin: Origin, meant: str) -> str:
    return f"{origin}: there is no setting {spelled}" + (f"; did you mean {meant}?" if meant else "")


def _is_code(value: Any) -> bool:
    """Whether a module has it because it imports or defines something."""
    return isinstance(value, ModuleType | type) or callable(value)


# ------------------------------------------------------------------------------------------------ objects


def keywords(given: Mapping[str, Any], layer: Layer = Layer.SET) -> Source:
    """What a call says by keywords or a dict; its place is that of the call."""
    origin = Origin(layer, caller())
    return Source(given, lambda _: origin)


def of_object(obj: Any, namespace: str | None, layer: Layer, note: str = "") -> Source:
    """The settings in a dict, a module, a class or any object, or in what a text names.

    Args:
        obj: one of these; a text is MODULE, MODULE:ATTRIBUTE or MODULE.ATTRIBUTE.
        namespace: only what begins with it and ``_`` counts.
        layer: whose word it is.
        note: goes on after the place, for people.

    Raises:
        BadSource: the text names nothing that can be imported.
    """
    prefix = f"{namespace.upper().rstrip('_')}_" if namespace else ""
    label = ""
    if isinstance(obj, str):
        label = obj
        obj = imported(obj)
    if isinstance(obj, Mapping):
        where = label or f"a dict in {caller()}"
        return Source(obj, lambda _: Origin(layer, where + note), prefix=prefix)
    file = file_of(obj)
    kind = obj if isinstance(obj, ModuleType | type) else type(obj)
    where = shown(file) if file else label or getattr(kind, "__qualname__", kind.__name__)
    return Source(
        _attributes(obj),
        lambda name: Origin(layer, where, obj, name, note),
        strict=False,
        prefix=prefix,
    )


def _attributes(obj: Any) -> dict[str, Any]:
    names: Iterable[str] = vars(obj) if isinstance(obj, ModuleType) else dir(obj)
    out = {}
    for name in names:
        if not name.startswith("_"):
            try:
                out[name] = getattr(obj, name)
            except AttributeError:  # a property of somebody's that has no value now
                continue
    return out


def imported(text: str) -> Any:
    """What MODULE, MODULE:ATTRIBUTE or MODULE.ATTRIBUTE names.

    Raises:
        BadSource: it cannot be imported; says why.
    """
    name, colon, path = text.partition(":")
    if not colon:
        try:
            return _module(name, text)
        except NoSource:
            name, _, path = text.rpartition(".")
            if not name:
                raise
    found: Any = _module(name, text)
    for part in path.split("."):
        if not hasattr(found, part):
            raise BadSource(f"there is no configuration {text!r}: {name} has no {part!r}")
        found = getattr(found, part)
    return found


class NoSource(BadSource):
    """A configuration that is named, and whose module is not there."""


def _module(name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            hint = "; name the module without .py" if text.endswith(".py") else ""
            raise NoSource(f"there is no configuration {text!r}: {error}{hint}") from None
        raise BadSource(f"the configuration {text!r} cannot be imported: {error}") from error
    except BadOption:
        raise
    except Exception as error:
        raise BadSource(f"the configuration {text!r} cannot be imported: {type(error).__name__}: {error}") from error


# ------------------------------------------------------------------------------------------------ zmqtasks.toml


def load_toml(path: str = CONFIG_FILE) -> dict[str, Any]:
    """What the file says; empty if there is none.

    Raises:
        BadOption: it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  (pathlib costs start-up time)
            import tomllib

            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadOption(f"{path} cannot be read: {error}") from None


def of_file(path: str = CONFIG_FILE) -> Source:
    """The settings in a TOML file. Raises BadOption if it cannot be read."""
    place = Path(path).absolute()  # the current folder may be another one when somebody asks for the line
    return Source(load_toml(path), lambda name: Origin(Layer.FILE, path, place, name))
