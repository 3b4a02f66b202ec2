"""From any spelling of a setting to its canonical name, and from a wrong one to the one that was meant."""

import difflib
from collections.abc import Mapping
from typing import Any

from zmqtasks.conf.celery import OLD_NAMES, REASONS
from zmqtasks.conf.setting import Setting

PREFIX = "CELERY_"
_PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")
CLOSE = 0.905  # of difflib's ratio: one wrong letter; result_backend_db is something else than result_backend


class Names:
    """The names of a table of settings, and Celery's for them. `settings`: by canonical name."""

    def __init__(self, settings: Mapping[str, Setting[Any, Any]]) -> None:
        self._ours: dict[str, str] = {}  # canonical names and aliases
        for name, setting in settings.items():
            self._ours |= dict.fromkeys((name, *setting.aliases), name)
        for name in REASONS:
            self._ours[name] = name
        self._exact = dict(self._ours)  # any spelling → canonical name
        for short, name in self._ours.items():
            self._exact[PREFIX + short.upper()] = name
        for name, old in OLD_NAMES.items():
            self._exact[old] = name

    def find(self, spelled: str, prefix: str = "") -> str | None:
        """The canonical name.

        Args:
            spelled: the new name, the old one in capitals, the new one in capitals behind ``CELERY_``, or an alias.
            prefix: with a namespace: what the name begins with, in any case, and then goes on in any case.

        Returns:
            None: it is no setting, or lacks the prefix.
        """
        if not prefix:
            return self._exact.get(spelled)
        if not spelled.upper().startswith(prefix):
            return None
        rest = spelled[len(prefix) :]
        return self._ours.get(rest.lower()) or self._exact.get(rest) or self._exact.get(spelled)

    def near(self, spelled: str, prefix: str = "", cutoff: float = 0.6) -> str:
        """The right spelling of what was probably meant, in the way in which it was written; empty: no idea.

        Args:
            spelled: what was written.
            prefix: of the namespace that it was looked for in.
            cutoff: how like it must be, 0 to 1.
        """
        lead = prefix
        if not prefix and spelled.isupper():
            lead = next((start for start in _PREFIXES if spelled.startswith(start)), "")
        rest = spelled[len(lead) :].lower()
        if spelled.isupper():
            ways = {name: (prefix or PREFIX) + name.upper() for name in self._ours}
            ways |= {old.removeprefix(lead).lower(): old for old in OLD_NAMES.values() if old.startswith(lead)}
        else:
            ways = {name: spelled[: len(lead)] + name for name in self._ours}
        found = difflib.get_close_matches(rest, list(ways), n=1, cutoff=cutoff)
        return ways[found[0]] if found else ""

    @staticmethod
    def claims_to_be_one(spelled: str) -> bool:
        """Whether a name begins as Celery's do in capitals."""
        return spelled.startswith(_PREFIXES)
