"""What the daemon logs: of each kind no more than a person can read, for strangers can cause lines."""

import logging
from typing import Final

logger = logging.getLogger("zmqtasks.scheduler")

LINES: Final = 60  # of one kind that are logged in a minute
MINUTE: Final = 60.0  # seconds
LONGEST: Final = 1_000  # characters of one line; texts of peers are part of some
SOURCES: Final = 100  # addresses that are counted in one minute
TOLD_SOURCES: Final = 3  # of them that the summary names, those that caused most

# What anybody who reaches the port can cause, without limit: the first line at once, then a count once a minute.
STRANGERS: Final = frozenset({"malformed", "refused", "handshake", "turned-away"})


class _Kind:
    """Lines of one kind since the first one of its minute."""

    __slots__ = ("count", "level", "silent", "sources", "until")

    def __init__(self, level: int, until: float) -> None:
        self.level = level
        self.until = until
        self.count = 0
        self.silent = 0
        self.sources: dict[str, int] = {}


class Reporter:
    """Logs, within bounds. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def tell(self, level: int, action: str, text: str, now: float, source: str = "", count: int = 1) -> None:
        """One line, or one more of a kind of which there were enough.

        Args:
            level: of logging.
            action: the kind, a stable key for machines.
            text: for people.
            now: the time.
            source: address of the peer that caused it, if that is known.
            count: how often it happened.
        """
        kind = self._kinds.get(action)
        if kind is None:
            kind = self._kinds[action] = _Kind(level, now + MINUTE)
        kind.count += 1
        if kind.count > (1 if action in STRANGERS else LINES):
            kind.silent += count
            if source and (source in kind.sources or len(kind.sources) < SOURCES):
                kind.sources[source] = kind.sources.get(source, 0) + count
            return
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}… ({len(text):,} characters)"
        logger.log(level, "%s", f"{text} (from {source})" if source else text, extra={"action": action})

    def tick(self, now: float) -> None:
        """Sum up the kinds whose minute is over."""
        if not self._kinds:
            return
        for action in [action for action, kind in self._kinds.items() if kind.until <= now]:
            kind = self._kinds.pop(action)
            if not kind.silent:
                continue
            logger.log(kind.level, "%s", _summary(kind), extra={"action": action})
            if action in STRANGERS:  # it goes on: the next minute has its summary and no line of its own
                self._kinds[action] = following = _Kind(kind.level, now + MINUTE)
                following.count = 1

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        if not self._kinds:
            return None
        return min((kind.until for kind in self._kinds.values() if kind.silent), default=None)


def _summary(kind: _Kind) -> str:
    text = f"{kind.silent:,} more like that in a minute"
    if not kind.sources:
        return text
    most = sorted(kind.sources.items(), key=lambda item: -item[1])
    named = ", ".join(f"{source} ({count:,})" for source, count in most[:TOLD_SOURCES])
    others = len(most) - TOLD_SOURCES
    return f"{text}, from {named}" + (f" and {others} others" if others > 0 else "")
