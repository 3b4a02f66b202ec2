"""What is said, once in a process, of settings that are accepted and do nothing."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from zmqtasks.conf.celery import REASONS
from zmqtasks.conf.sources import Unknown
from zmqtasks.logs import ROOT

_log = logging.getLogger(f"{ROOT}.conf")

SAID_VARIABLE: Final = "ZMQTASKS_SETTINGS_SAID"  # in the environment: the process that started this one said it all

_said: set[str] = set()
_quiet = bool(os.environ.get(SAID_VARIABLE))


def say(given: Mapping[str, Any], later: Mapping[str, str], unknown: Iterable[Unknown]) -> None:
    """Warn of what was not warned of yet.

    Args:
        given: by canonical name, with a `spelled` and an `origin` each.
        later: canonical name → the feature that it waits for; empty: it has an effect.
        unknown: what looks like a setting and is none.
    """
    if _quiet:
        return
    fresh = [name for name in given if name not in _said and (name in REASONS or later.get(name))]
    strange = [one for one in unknown if one.name not in _said]
    _said.update(fresh, (one.name for one in strange))
    idle = _grouped({given[name].spelled: REASONS[name] for name in fresh if name in REASONS})
    if idle:
        _log.warning("not needed: %s", idle, extra={"action": "settings-not-needed"})
    waiting = _grouped({given[name].spelled: later[name] for name in fresh if name not in REASONS})
    if waiting:
        _log.warning("kept, but without effect yet: %s", waiting, extra={"action": "settings-later"})
    if strange:
        _log.warning("without effect: %s", "; ".join(map(str, strange)), extra={"action": "settings-unknown"})


def _grouped(reasons: Mapping[str, str]) -> str:
    """Names with their reasons, those of one reason together."""
    groups: dict[str, list[str]] = {}
    for name, why in reasons.items():
        groups.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in groups.items())


@contextmanager
def quietly() -> Iterator[None]:
    """Nothing is said meanwhile: whoever asks shows it all."""
    global _quiet  # noqa: PLW0603  (one process, one person who reads)
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before
