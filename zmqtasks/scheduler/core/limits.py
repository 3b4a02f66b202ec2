"""Which lines are under which limits, and when these open them again.

Lines whose limits are reached are out of the index until time, or the end of a job, opens them again: they hold up
nobody, and cost nothing.
"""

from collections.abc import Iterable
from math import inf
from typing import Final

from zmqtasks.clock import Now
from zmqtasks.scheduler.core.deadlines import Timers
from zmqtasks.scheduler.core.lines import Lines
from zmqtasks.scheduler.core.model import Line, Submission
from zmqtasks.scheduler.core.needs import CAP, RATE, LimitKey
from zmqtasks.scheduler.core.quotas import Cap, Limit, Rate

_MOST: Final = 10_000  # tasks whose rates workers say
_IDLE: Final = 1_000  # limits that nobody uses, beyond which they are forgotten


class Limits:
    """All of them.

    Attributes:
        shut: rates that are reached, by the monotonic time at which they open.
        since: monotonic time of the restart, before which jobs may have started that nobody remembers; -inf: there
            was none.
        told: (rate, burst) that an operator set, by task; `told_at`: when, in Unix time.
        announced: the same as workers say, for jobs that say nothing: who submitted them does not know the task.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._all: dict[LimitKey, Limit] = {}
        self.shut: Timers[Rate] = Timers(lambda rate: rate.shut)
        self.since = -inf
        self.told: dict[str, tuple[float, int]] = {}
        self.told_at: dict[str, float] = {}
        self.announced: dict[str, tuple[float, int]] = {}
        lines.limits_of = self.find

    def all(self) -> list[Limit]:
        """For checks and status."""
        return list(self._all.values())

    def find(self, keys: tuple[LimitKey, ...], line: Line) -> tuple[Limit, ...]:
        """The limits of a new line."""
        task = line.need.task
        if (task in self.told or task in self.announced) and all(key[0] != RATE for key in keys):
            keys += ((RATE, task, ""),)
        found = tuple(self._get(key) for key in keys)
        for limit in found:
            limit.lines[line] = None
            line.shut += limit.shut
        return found

    def _get(self, key: LimitKey) -> Limit:
        limit = self._all.get(key)
        if limit is None:
            if len(self._all) > _IDLE:
                self._sweep()
            limit = self._all[key] = Rate(key, self.since) if key[0] == RATE else Cap(key)
            if isinstance(limit, Rate):
                limit.allow(*self._rate_of(limit), -inf)  # as operators and workers say; jobs say theirs next
        return limit

    def _rate_of(self, rate: Rate) -> tuple[float, int]:
        """Starts per second and burst: as an operator says, else as jobs say, else as workers do."""
        _, task, key = rate.key
        if isinstance(task, str) and task in self.told:
            return self.told[task]
        if rate.declared[0] or key or not isinstance(task, str):
            return rate.declared
        return self.announced.get(task, rate.declared)

    def _sweep(self) -> None:
        """Forget those without a line that hold nothing back."""
        self._all = {
            key: limit
            for key, limit in self._all.items()
            if limit.lines or limit.shut or (isinstance(limit, Cap) and limit.running)
        }

    def declare(self, submission: Submission, mono: float) -> None:
        """A new submission says what the limits of its jobs are: the newest counts, unless an operator said more."""
        spec = submission.spec
        for key in submission.limits:
            limit = self._get(key)
            if isinstance(limit, Cap):
                limit.limit = spec.cap
            else:
                limit.declared = (spec.rate, spec.burst)
                limit.allow(*self._rate_of(limit), mono)
            self._look(limit, mono)

    def tell(self, task: str, rate: float | None, burst: int, now: Now) -> None:
        """An operator sets the rate of a task; None: as its jobs say themselves."""
        if rate is None:
            self.told.pop(task, None)
            self.told_at.pop(task, None)
        else:
            self.told[task], self.told_at[task] = (rate, burst), now.wall
        self._spread(task, now.mono)

    def declared(self) -> dict[str, tuple[float, int]]:
        """What would hold for the tasks whose rates operators have set: as their jobs say, else as workers do."""
        found = {task: self.announced[task] for task in self.told.keys() & self.announced.keys()}
        for key, limit in self._all.items():
            if isinstance(limit, Rate) and isinstance(key[1], str) and key[1] in self.told and limit.declared[0]:
                found[key[1]] = limit.declared
        return found

    def announce(self, rates: Iterable[tuple[str, float, int]], mono: float) -> None:
        """A worker says how often jobs of its tasks may start, where they say nothing: the newest counts."""
        for task, rate, burst in rates:
            if self.announced.get(task) != (rate, burst) and len(self.announced) < _MOST:
                self.announced[task] = (rate, burst)
                self._spread(task, mono)

    def _spread(self, task: str, mono: float) -> None:
        """The rate of a task has changed: its lines are under it."""
        if task in self.told or task in self.announced:
            whole = self._get((RATE, task, ""))
            for line in self._lines.of_task(task):
                if not any(isinstance(limit, Rate) for limit in line.limits):
                    line.limits += (whole,)
                    whole.lines[line] = None
                    if whole.shut:
                        self._lines.shut(line)
        for key, limit in self._all.items():
            if isinstance(limit, Rate) and key[1] == task:
                limit.allow(*self._rate_of(limit), mono)
                self._look(limit, mono)

    def room(self, line: Line, mono: float) -> int:
        """How many of a line's jobs may start now."""
        return min(limit.room(mono) for limit in line.limits)

    def count(self, line: Line, jobs: int, mono: float) -> None:
        """Jobs of a line were given to free slots."""
        for limit in line.limits:
            limit.count(jobs, mono)
            self._look(limit, mono)

    def ended(self, submission: Submission, jobs: int, mono: float) -> None:
        """Workers do not hold these jobs any more."""
        for key in submission.limits:
            limit = self._all.get(key)
            if isinstance(limit, Cap):
                limit.running = max(0, limit.running - jobs)
                self._look(limit, mono)

    def held(self, submission: Submission, mono: float) -> None:
        """A worker holds one more job, which it was given in an earlier life of the scheduler, or has from one."""
        for key in submission.limits:
            limit = self._get(key)
            if isinstance(limit, Cap):
                limit.count(1, mono)
                self._look(limit, mono)

    def be_careful(self, mono: float) -> None:
        """After a restart: what started just before it is not known, so each rate begins as if all of it was used.

        Those that are declared later as well: what only jobs of durability "memory" declared before is forgotten.
        """
        self.since = mono
        for limit in self._all.values():
            if isinstance(limit, Rate) and limit.interval:
                limit.tat = mono + limit.burst * limit.interval
                self._look(limit, mono)

    def come_due(self, mono: float) -> None:
        """Open the rates whose time has come."""
        for _, rate in list(self.shut.due(mono)):
            if rate.shut:
                self._look(rate, mono)

    def _look(self, limit: Limit, mono: float) -> None:
        """Open or shut the lines of a limit."""
        shut = limit.room(mono) == 0
        if shut != limit.shut:
            limit.shut = shut
            for line in limit.lines:
                if shut:
                    self._lines.shut(line)
                else:
                    self._lines.reopen(line)
        if shut and isinstance(limit, Rate):
            self.shut.add(limit.opens_at, limit)


def keys_of(submission: Submission) -> tuple[LimitKey, ...]:
    """The limits that a submission's jobs are under."""
    spec, target = submission.spec, submission.target.key
    keys: tuple[LimitKey, ...] = ()
    if spec.rate:
        keys += ((RATE, target, spec.rate_key),)
    if spec.cap:
        keys += ((CAP, target, spec.cap_key),)
    return keys
