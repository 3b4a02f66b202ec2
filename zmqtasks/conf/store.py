"""The values of settings in layers, one for each way of giving them, and the rules by which they get there."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from zmqtasks.conf import saying
from zmqtasks.conf.kinds import Refused
from zmqtasks.conf.names import Names
from zmqtasks.conf.origin import DEFAULT, Layer, Origin
from zmqtasks.conf.setting import Setting
from zmqtasks.conf.sources import Read, Source, Unknown, Written, keywords, of_file, of_object, read
from zmqtasks.errors import BadOption, ZmqTasksError

_SHOWN = 200  # characters of a wrong value


class BadSettings(BadOption):
    """Settings that do not exist, or that cannot have these values.

    Attributes:
        args: one sentence for each.
    """

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class Given(NamedTuple):
    """A value that somebody gave, as it is kept, where, and under which name."""

    value: Any
    origin: Origin
    spelled: str


class Store:
    """What `zmqtasks.conf.settings.Conf` does with its settings.

    Args:
        changed: called after each change.

    Attributes:
        unknown: what looks like a setting in modules and objects and is none.
        others: names in modules and objects that were taken for something else.
    """

    _settings: ClassVar[dict[str, Setting[Any, Any]]] = {}
    _names: ClassVar[Names]

    def __init_subclass__(cls) -> None:
        cls._settings = {one.name: one for one in vars(cls).values() if isinstance(one, Setting)}
        cls._names = Names(cls._settings)

    def __init__(self, changed: Callable[[], None] | None = None) -> None:
        put = super().__setattr__  # past our own, which knows only settings
        put("_changed", changed)
        put("_layers", {layer: {} for layer in Layer})
        put("_file_read", False)
        put("unknown", [])
        put("others", [])

    if TYPE_CHECKING:
        unknown: list[Unknown]
        others: list[str]
        _changed: Callable[[], None] | None
        _layers: dict[Layer, dict[str, Given]]
        _file_read: bool
    else:  # a type checker should see the settings, and no others

        def __getattr__(self, name: str) -> Any:
            """A setting by one of Celery's names."""
            if name.startswith("_"):  # copy and pickle look for methods that there are not
                raise AttributeError(name)
            try:
                return self[name]
            except KeyError as error:
                raise AttributeError(error.args[0]) from None

        def __setattr__(self, name: str, value: Any) -> None:
            if name in vars(self):
                super().__setattr__(name, value)
            else:
                self[name] = value

    # -------------------------------------------------------------------------------------------- giving

    def update(self, given: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Change several settings: all, or with an error none.

        Args:
            given: by name, in any spelling.
            more: the same as keywords.

        Raises:
            BadOption: there is no such setting, one is given twice, or it cannot have that value.
        """
        self._take(keywords({**(given or {}), **more}), Layer.SET)

    def assign(self, name: str, value: Any) -> None:
        """Change one setting. Raises BadOption, see `update`."""
        self._take(keywords({name: value}), Layer.SET)

    __setitem__ = assign

    def from_object(self, obj: Any, namespace: str | None = None) -> None:
        """Take over what a dict, a module, a class or an object says; see `zmqtasks.conf.sources.of_object`.

        Raises:
            BadOption: it cannot be imported, or something in it is wrong; then nothing is taken over.
        """
        self._take(of_object(obj, namespace, Layer.OBJECT), Layer.OBJECT)

    def from_envvar(self, variable: str) -> bool:
        """Take over the module that an environment variable names; False: the variable is not set.

        Raises:
            BadOption: as `from_object`.
        """
        named = os.environ.get(variable)
        if not named:
            return False
        self._take(of_object(named, None, Layer.ENVVAR, f" (${variable})"), Layer.ENVVAR)
        return True

    def _take(self, source: Source, layer: Layer) -> None:
        before = dict(self._layers[layer])
        self._keep(read(source, self._names), layer)
        if self._changed is not None:
            try:
                self._changed()
            except ZmqTasksError:  # fits no task: as if nobody had said it
                self._layers[layer] = before
                raise

    def _keep(self, told: Read, layer: Layer) -> None:
        kept: dict[str, Given] = {}
        wrong = list(told.wrong)
        for found in told.found:
            try:
                value = self._checked(found)
            except BadOption as error:
                wrong.append(str(error))
                continue
            other = kept.get(found.name)
            if other is not None and not _same(other.value, value):
                wrong.append(_twice(other, found))
            kept[found.name] = Given(value, found.origin, found.spelled)
        if wrong:
            raise BadSettings(*wrong)
        self._layers[layer].update(kept)
        self.unknown += told.unknown
        self.others += told.others
        saying.say(kept, {name: self._settings[name].later for name in kept if name in self._settings}, told.unknown)

    def _checked(self, found: Written) -> Any:
        setting = self._settings.get(found.name)
        if setting is None:
            return found.value
        try:
            return setting.kind.read(found.value)
        except Refused as error:
            value = "…" if setting.secret else repr(found.value)
            short = value if len(value) <= _SHOWN else f"{value[:_SHOWN]} …"
            allowed = str(error) or setting.kind.allowed
            raise BadOption(f"{found.origin}: {found.spelled} is {allowed}, not {short}") from None

    # -------------------------------------------------------------------------------------------- reading

    def given(self, name: str) -> Given | None:
        """What somebody said about a setting, by its canonical name, and where; None: nobody did.

        Raises:
            BadOption: ``zmqtasks.toml`` is wrong.
        """
        for layer, values in self._layers.items():
            if layer is Layer.FILE:
                if not self._file_read:
                    self.read_file()
            elif layer is Layer.ENVIRONMENT:
                setting = self._settings.get(name)
                value = os.environ.get(setting.variable) if setting is not None and setting.variable else None
                if value and setting is not None:
                    return Given(value, Origin(layer, f"${setting.variable}"), setting.variable)
            found = values.get(name)
            if found is not None and layer is not Layer.DEFAULT and not (found.value is None and self._may_pass(name)):
                return found
        return None

    def _may_pass(self, name: str) -> bool:
        """Whether None means "look further", as for the broker: App(broker=None), or a variable that is not set."""
        setting = self._settings.get(name)
        return setting is not None and bool(setting.variable)

    def value_of(self, name: str) -> Any:
        """What holds for a setting, by its canonical name. Raises as `given`."""
        found = self.given(name)
        setting = self._settings.get(name)
        if found is not None and (found.value is not None or setting is None):
            return found.value
        if setting is None:
            return None
        if setting.derive is not None:
            return setting.derive(self)
        if not isinstance(setting.default, dict):
            return setting.default
        fresh = self._layers[Layer.DEFAULT]  # people add to it: app.conf.beat_schedule["x"] = …
        return fresh.setdefault(name, Given({}, DEFAULT, name)).value

    def is_given(self, name: str) -> bool:
        """Whether anything but the default holds, by its canonical name. Raises as `given`."""
        return self.given(name) is not None or bool(
            self._layers[Layer.DEFAULT].get(name, Given(None, DEFAULT, "")).value
        )

    def read_file(self, only: str = "") -> None:
        """Read ``zmqtasks.toml`` of the current folder, which otherwise happens when the first value is asked for.

        Args:
            only: the canonical name of a setting; all others are left unread.

        Raises:
            BadOption: the file cannot be read, or something in it is wrong.
        """
        source = of_file()
        if only:
            source = source._replace(items={k: v for k, v in source.items.items() if self._names.find(k) == only})
        self._keep(read(source, self._names), Layer.FILE)
        self._file_read = True

    def given_in(self, layer: Layer, name: str) -> Any:
        """What one layer says about a setting, by its canonical name; None: nothing."""
        found = self._layers[layer].get(name)
        return None if found is None else found.value

    def __getitem__(self, spelled: str) -> Any:
        """What holds for a setting, in any spelling. Raises KeyError if there is none of that name."""
        name = self._names.find(spelled)
        if name is None:
            near = self._names.near(spelled)
            raise KeyError(f"there is no setting {spelled}" + (f"; did you mean {near}?" if near else ""))
        return self.value_of(name)

    def get(self, spelled: str, default: Any = None) -> Any:
        """What holds for a setting, in any spelling; `default` if there is none of that name."""
        name = self._names.find(spelled)
        return default if name is None else self.value_of(name)

    def __contains__(self, spelled: object) -> bool:
        return isinstance(spelled, str) and self._names.find(spelled) is not None

    def __iter__(self) -> Iterator[str]:
        """The canonical names of our settings."""
        return iter(self._settings)

    def settings(self) -> list[Setting[Any, Any]]:
        """The table."""
        return list(self._settings.values())

    def __repr__(self) -> str:
        count = len({name for values in self._layers.values() for name in values})
        return f"<{type(self).__name__}, {count} settings given>"


def _same(first: Any, second: Any) -> bool:
    try:
        return bool(first is second or first == second)
    except Exception:  # noqa: BLE001  (objects of users compare as they like)
        return False


def _twice(first: Given, second: Written) -> str:
    places = (f"{first.origin} and {second.origin}", f"{first.origin}")[str(first.origin) == str(second.origin)]
    return (
        f"{places}: {first.spelled} and {second.spelled} are the same setting, with different values; keep one of them"
    )
