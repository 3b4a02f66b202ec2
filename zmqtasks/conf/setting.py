"""Setting: one entry in the table of `zmqtasks.conf.settings`, and the attribute by which it is read and changed."""

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, overload

from zmqtasks.conf.kinds import In, Kind, Out


class Holder(Protocol):
    """What holds the values: a `zmqtasks.conf.store.Store`."""

    def value_of(self, name: str) -> Any:
        """What holds now."""

    def assign(self, name: str, value: Any) -> None:
        """Change it."""


class Setting(Generic[In, Out]):
    """One setting. A second name for it is a second attribute of its table with the same Setting.

    Args:
        kind: what it may be.
        default: what holds where nobody says anything.
        meaning: half a sentence, with the unit, for the documents.
        derive: how the default follows from other settings, if it does; `said` says it in words.
        said: the default in words, where its value says too little.
        later: the feature that it waits for; empty: it has an effect. Whoever builds that feature takes this out.
        variable: environment variable that stands for it.
        secret: its value is shown nowhere.

    Attributes:
        name: the canonical one.
        aliases: shorter names that are as good.
    """

    def __init__(
        self,
        kind: Kind[In, Out],
        default: Out,
        meaning: str,
        *,
        derive: Callable[[Any], Out] | None = None,
        said: str = "",
        later: str = "",
        variable: str = "",
        secret: bool = False,
    ) -> None:
        self.kind = kind
        self.default = default
        self.meaning = meaning
        self.derive = derive
        self.said = said
        self.later = later
        self.variable = variable
        self.secret = secret
        self.name = ""
        self.aliases: tuple[str, ...] = ()

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name:
            self.aliases += (name,)
        else:
            self.name = name

    @overload
    def __get__(self, conf: None, owner: type) -> Self: ...
    @overload
    def __get__(self, conf: Holder, owner: type) -> Out: ...
    def __get__(self, conf: Holder | None, owner: type) -> Any:
        return self if conf is None else conf.value_of(self.name)

    def __set__(self, conf: Holder, value: In) -> None:
        conf.assign(self.name, value)

    def __repr__(self) -> str:
        return f"<Setting {self.name}>"
