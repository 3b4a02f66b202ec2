"""Which lines are under which limits, and when these open them again.

Lines whose limits are reached are out of the index until time, or the end of a job, opens them again: they hold up
nobody, and cost nothing.
"""

from collections.abc import Iterable
from math import inf
from typing import Final, TypeVar

from zmqtasks.clock import Now
from zmqtasks.scheduler.core.deadlines import Timers
from zmqtasks.scheduler.core.lines import Lines
from zmqtasks.scheduler.core.model import Job, Line, Submission, Worker
from zmqtasks.scheduler.core.needs import CAP, RATE, LimitKey
from zmqtasks.scheduler.core.quotas import Cap, Limit, Rate
from zmqtasks.wire import WorkerHello

_T = TypeVar("_T")

_MOST: Final = 10_000  # tasks whose rates, and whose caps, workers say
_IDLE: Final = 1_000  # limits that nobody uses, beyond which they are forgotten


class Limits:
    """All of them.

    Attributes:
        shut: rates that are reached, by the monotonic time at which they open.
        since: monotonic time of the restart, before which jobs may have started that nobody remembers; -inf: there
            was none.
        told: (rate, burst) that an operator set, by task; `told_at`: when, in Unix time.
        announced: the same as workers say, for jobs that say nothing: who submitted them does not know the task.
        caps: how many of those may run at once, by task, as workers say; 0: any number again. They are counted all the
            same, from the first time on that a worker said so.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._all: dict[LimitKey, Limit] = {}
        self.shut: Timers[Rate] = Timers(lambda rate: rate.shut)
        self.since = -inf
        self.told: dict[str, tuple[float, int]] = {}
        self.told_at: dict[str, float] = {}
        self.announced: dict[str, tuple[float, int]] = {}
        self.caps: dict[str, int] = {}
        lines.limits_of = self.find

    def all(self) -> list[Limit]:
        """For checks and status."""
        return list(self._all.values())

    def find(self, keys: tuple[LimitKey, ...], line: Line) -> tuple[Limit, ...]:
        """The limits of a new line."""
        task = line.need.task
        if (task in self.told or task in self.announced) and all(key[0] != RATE for key in keys):
            keys += ((RATE, task, ""),)
        if task in self.caps and all(key[0] != CAP for key in keys):
            keys += ((CAP, task, ""),)
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
            else:
                limit.limit = self._cap_of(limit)
        return limit

    def _rate_of(self, rate: Rate) -> tuple[float, int]:
        """Starts per second and burst: as an operator says, else as jobs say, else as workers do."""
        _, task, key = rate.key
        if isinstance(task, str) and task in self.told:
            return self.told[task]
        if rate.declared[0] or key or not isinstance(task, str):
            return rate.declared
        return self.announced.get(task, rate.declared)

    def _cap_of(self, cap: Cap) -> int:
        """Jobs at once: as jobs say, else as workers do."""
        _, task, key = cap.key
        return cap.declared or (self.caps.get(task, 0) if isinstance(task, str) and not key else 0)

    def caps_of(self, submission: Submission) -> list[LimitKey]:
        """The caps that its jobs count for while workers hold them."""
        if submission.spec.cap:
            return [key for key in submission.limits if key[0] == CAP]
        task = submission.target.key
        return [(CAP, task, "")] if task in self.caps else []

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
                limit.declared = spec.cap
                limit.limit = self._cap_of(limit)
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

    def announce(self, hello: WorkerHello, workers: Iterable[Worker], mono: float) -> list[str]:
        """A worker says what holds for jobs of its tasks that say nothing: the newest counts.

        Who says nothing of a task lifts what others said, unless one of them is there. What workers hold when a cap
        becomes known counts for it.

        Args:
            hello: of the worker.
            workers: all of them.
            mono: monotonic time.

        Returns:
            Tasks of which more jobs are with workers than may run at once from now on.
        """
        rates = {task: (rate, burst) for task, rate, burst in hello.rates}
        for task in _news(self.announced, RATE, hello.tasks, rates, (0.0, 1), workers):
            self._spread(task, mono)
        known = set(self.caps)
        news = _news(self.caps, CAP, hello.tasks, dict(hello.caps), 0, workers)
        found = [cap for task in news if isinstance(cap := self._get((CAP, task, "")), Cap)]
        self._count_held(self.caps.keys() - known, workers)
        for cap in found:
            self._put_under(cap)
            cap.limit = self._cap_of(cap)
            self._look(cap, mono)
        return [str(cap.key[1]) for cap in found if 0 < cap.limit < cap.running]

    def _count_held(self, tasks: set[str], workers: Iterable[Worker]) -> None:
        """Jobs that say nothing of a cap, and are with workers when there comes to be one for their task."""
        for worker in workers if tasks else ():
            for job in worker.held.values():
                submission = job.submission
                if submission.target.key in tasks and not submission.spec.cap:
                    submission.counted = True
                    self._get((CAP, submission.target.key, "")).count(1, 0.0)

    def _put_under(self, whole: Limit) -> None:
        """The lines of its task that have no limit of this kind are under it."""
        for line in self._lines.of_task(str(whole.key[1])):
            if not any(limit.key[0] == whole.key[0] for limit in line.limits):
                line.limits += (whole,)
                whole.lines[line] = None
                if whole.shut:
                    self._lines.shut(line)

    def _spread(self, task: str, mono: float) -> None:
        """The rate of a task has changed: its lines are under it."""
        if task in self.told or task in self.announced:
            self._put_under(self._get((RATE, task, "")))
        for key, limit in self._all.items():
            if isinstance(limit, Rate) and key[1] == task:
                limit.allow(*self._rate_of(limit), mono)
                self._look(limit, mono)

    def room(self, line: Line, mono: float) -> int:
        """How many of a line's jobs may start now."""
        return min(limit.room(mono) for limit in line.limits)

    def count(self, line: Line, taken: list[Job], given: int, mono: float) -> None:
        """So many of the jobs that were taken from a line were given to free slots."""
        for job in taken:
            job.submission.counted = True
        for limit in line.limits:
            limit.count(given, mono)
            self._look(limit, mono)

    def ended(self, submission: Submission, jobs: int, mono: float) -> None:
        """Workers do not hold these jobs any more."""
        for key in self.caps_of(submission):
            limit = self._all.get(key)
            if isinstance(limit, Cap):
                limit.running = max(0, limit.running - jobs)
                self._look(limit, mono)

    def held(self, submission: Submission, mono: float) -> None:
        """A worker holds one more job, which it was given in an earlier life of the scheduler, or has from one."""
        for key in self.caps_of(submission):
            submission.counted = True
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


def _news(
    known: dict[str, _T], kind: str, tasks: Iterable[str], said: dict[str, _T], nothing: _T, workers: Iterable[Worker]
) -> list[str]:
    """Take what a worker says of its tasks into what is known; returns the tasks of which it says something new.

    Args:
        known: what workers said before, and what they say now.
        kind: of limit.
        tasks: that the worker knows.
        said: what it says of some of them.
        nothing: what it means that nobody says anything of one.
        workers: all of them.
    """
    lifted = {task for task in known.keys() & set(tasks) - said.keys() if known[task] != nothing}
    lifted -= {task for worker in workers for of, task in worker.limited if of == kind} if lifted else set()
    news = []
    for task, one in {**dict.fromkeys(sorted(lifted), nothing), **said}.items():
        if known.get(task) != one and (task in known or len(known) < _MOST):
            known[task] = one
            news.append(task)
    return news


def keys_of(submission: Submission) -> tuple[LimitKey, ...]:
    """The limits that a submission's jobs are under."""
    spec, target = submission.spec, submission.target.key
    keys: tuple[LimitKey, ...] = ()
    if spec.rate:
        keys += ((RATE, target, spec.rate_key),)
    if spec.cap:
        keys += ((CAP, target, spec.cap_key),)
    return keys
