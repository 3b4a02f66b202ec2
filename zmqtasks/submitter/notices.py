"""What the scheduler warned of: each text is logged once, and a time-out tells what concerns its jobs."""

from collections.abc import Collection
from typing import Final

from zmqtasks.clock import Now
from zmqtasks.submitter.effects import Effects
from zmqtasks.wire import Notice, Spec

_MAX_TEXTS: Final = 1_000  # different ones that are remembered
_MAX_NEWEST: Final = 100  # warnings that a time-out can tell

Kind = tuple[str, Spec]  # of jobs: the name of their task, and what else they say


class Notices:
    """The warnings of one session. The loop takes them in; any thread asks."""

    def __init__(self) -> None:
        self._texts: set[str] = set()
        self._newest: tuple[tuple[Notice, float], ...] = ()  # the oldest first; replaced as a whole

    def take(self, notice: Notice, now: Now, fx: Effects) -> None:
        """A new one, or one that is repeated. It stands in place of what was said of the same jobs."""
        others = [(one, at) for one, at in self._newest if _subject(one) != _subject(notice)]
        self._newest = (*others[1 - _MAX_NEWEST :], (notice, now.mono))
        if notice.text not in self._texts and len(self._texts) < _MAX_TEXTS:
            self._texts.add(notice.text)
            fx.notices.append(notice.text)

    def about(self, kinds: Collection[Kind]) -> tuple[str, float] | None:
        """The newest that is about any of these jobs, or about all, and when it came (monotonic seconds)."""
        for notice, at in reversed(self._newest):
            if not notice.queue or any(_concerns(notice, *kind) for kind in kinds):
                return notice.text, at
        return None


def _subject(notice: Notice) -> tuple[object, ...]:
    return notice.queue, notice.task, notice.python, notice.resources


def _concerns(notice: Notice, task: str, spec: Spec) -> bool:
    """Whether a warning is about such jobs: what it leaves open may be anything."""
    return (
        notice.queue == spec.queue
        and notice.task in {"", task}
        and notice.python in {"", spec.python}
        and notice.resources in {(), spec.resources}
    )
