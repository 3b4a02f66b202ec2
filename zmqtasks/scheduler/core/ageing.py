"""Jobs that have waited long count as more urgent, if the scheduler is told a span: then nobody waits for ever.

A line counts one priority higher for each span that its first job has waited since it might have started. Which that
is, is looked at some times in each span, and whenever a line that was raised has had its turn.
"""

from typing import Final

from zmqtasks.clock import Now
from zmqtasks.config import MAX_PRIORITY
from zmqtasks.scheduler.core.model import Line
from zmqtasks.scheduler.core.state import State

_LOOKS: Final = 4  # in one span


def look(state: State, now: Now) -> None:
    """Raise the lines whose first job has waited for another span."""
    for line in state.lines.all():
        if len(line) and not line.solo:
            settle(state, line, now)
    state.age_at = now.mono + state.settings.ageing / _LOOKS


def settle(state: State, line: Line, now: Now) -> None:
    """The first job of a line, which must have one, says how urgent it is."""
    waited = now.mono - line.head().submission.since
    level = line.need.priority + max(0, int(waited / state.settings.ageing))
    level = max(line.need.priority, min(level, MAX_PRIORITY))
    if level != line.level:
        state.lines.lift(line, level)
