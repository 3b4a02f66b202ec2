"""What holds for an app, where each value comes from, and what is wrong: what ``zmqtasks check`` shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zmqtasks.conf.celery import REASONS
from zmqtasks.conf.origin import DEFAULT, WORDS, Origin
from zmqtasks.conf.settings import Conf

HIDDEN = "…"


@dataclass(frozen=True, slots=True)
class Row:
    """One setting.

    Attributes:
        name: the canonical one.
        value: what holds.
        origin: where it comes from.
        spelled: the name under which it stands there.
        why: what it waits for, or why it is not needed; empty: it has an effect.
        said: the default in words, where it holds and its value says too little.
    """

    name: str
    value: Any
    origin: Origin
    spelled: str
    why: str = ""
    said: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For machines. Keys are only ever added."""
        told = {"kind": WORDS[self.origin.layer], "where": str(self.origin), "spelled": self.spelled}
        if self.name not in REASONS:  # the others may be passwords
            told["value"] = plain(self.value)
        return told | ({"why": self.why} if self.why else {})


def effective(conf: Conf) -> list[Row]:
    """Every setting that has an effect. Raises BadOption if ``zmqtasks.toml`` is wrong."""
    return [_row(conf, setting.name) for setting in conf.settings() if not setting.later]


def later(conf: Conf) -> list[Row]:
    """What was given and waits for a feature. Raises as `effective`."""
    return [
        _row(conf, setting.name, setting.later)
        for setting in conf.settings()
        if setting.later and conf.is_given(setting.name)
    ]


def not_needed(conf: Conf) -> list[Row]:
    """What was given and has no meaning here; without the values, which may be passwords. Raises as `effective`."""
    found = [(name, conf.given(name), why) for name, why in REASONS.items()]
    return [Row(name, None, given.origin, given.spelled, why) for name, given, why in found if given is not None]


def _row(conf: Conf, name: str, why: str = "") -> Row:
    given = conf.given(name)
    setting = next(one for one in conf.settings() if one.name == name)
    value = HIDDEN if setting.secret else conf.value_of(name)
    if given is None:
        return Row(name, value, DEFAULT, name, why, setting.said.replace("`", "") if value is None else "")
    return Row(name, value, given.origin, given.spelled, why)


def problems(conf: Conf) -> list[str]:
    """What does not fit together. Raises as `effective`."""
    told = [f"{unknown}; nothing reads it" for unknown in conf.unknown]
    given, accepted = conf.given("task_serializer"), conf.result_accept_content
    if given is not None and given.value not in accepted:
        told.append(
            f"{given.origin}: {given.spelled} is {given.value}, which is not accepted "
            f"({', '.join(sorted(accepted))} is): no result could be read"
        )
    return told


def plain(value: Any) -> Any:
    """A value as JSON can hold it; of what is none, what Python shows."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_text(plain), value))
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return repr(value)


def _text(read: Callable[[Any], Any]) -> Callable[[Any], str]:
    return lambda value: str(read(value))
