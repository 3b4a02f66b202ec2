"""Where ready jobs stand, and which workers may serve them.

A line holds the jobs of one submitter with one need (queue and task, or Python version). A profile stands for all
workers of one queue that can run the same things, a team for those that are equal in everything. The index from
profiles to non-empty lines is kept as lines fill and empty, and that to teams with room as they get and lose it. So
dispatch looks neither at every line nor at every worker; and a worker that gets room costs the same however many
queues it takes from, unless it is the only one of its team that has any.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, ValuesView
from typing import Final

from zmqtasks.resources import Amounts
from zmqtasks.scheduler.core.demands import ABLE, HUNGRY, Demands
from zmqtasks.scheduler.core.flow import Flow
from zmqtasks.scheduler.core.model import NO_FLOWS, Job, Line, Profile, Submission, Team, Worker
from zmqtasks.scheduler.core.needs import LimitKey, Need
from zmqtasks.scheduler.core.quotas import Limit

# More groups of workers in a team, as bits of `Worker.groups`.
ROOMY: Final = 4
CROWDED: Final = 8


class Lines:
    """All lines and profiles.

    Attributes:
        ready: profiles that have work and room for it, in turn.
        uneven: profiles that have both a free slot and a worker with more than it can run at once, in turn.
        unserved: non-empty lines that no worker serves.
        lately: those that came to that since somebody emptied this list.
        urgent: profiles that have work whose priority is not 0.
        limits_of: the limits of a new line, by their keys.
        demands: lines that wait for resources.
        paused: queues of which no job starts: their lines are shut, as if a limit were reached.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[Need, bytes, bool], Line] = {}
        self._queues: dict[str, dict[Line, None]] = {}  # lines by queue
        self._teams: dict[tuple[frozenset[str], frozenset[str], str, Amounts], Team] = {}
        self._profiles: dict[str, dict[tuple[frozenset[str], str, Amounts], Profile]] = {}  # by queue
        self.demands = Demands(self._put, self._take_out)
        self.ready: OrderedDict[Profile, None] = OrderedDict()
        self.uneven: OrderedDict[Profile, None] = OrderedDict()
        self.unserved: dict[Line, None] = {}
        self.limits_of: Callable[[tuple[LimitKey, ...], Line], tuple[Limit, ...]] = _unlimited
        self.lately: list[Line] = []
        self.urgent: dict[Profile, None] = {}
        self.paused: set[str] = set()
        self._turns = 0

    def all(self) -> ValuesView[Line]:
        """Every line, for checks and status."""
        return self._lines.values()

    def profiles(self) -> Iterable[Profile]:
        """Every profile that has a worker."""
        return (profile for profiles in self._profiles.values() for profile in profiles.values())

    def known_tasks(self, queue: str) -> set[str] | None:
        """The tasks that the workers of a queue know; None if the queue has no worker."""
        profiles = self._profiles.get(queue)
        return set().union(*(tasks for tasks, *_ in profiles)) if profiles else None

    def that_know(self, need: Need) -> list[Profile]:
        """Profiles that can run jobs of that need, or could if they had the resources."""
        return [profile for profile in self._profiles.get(need.queue, {}).values() if profile.knows(need)]

    def served(self) -> list[str]:
        """The queues that workers take from."""
        return sorted(self._profiles)

    def line_of(self, submission: Submission, *, solo: bool = False) -> Line:
        """The line in which the jobs of this submission stand."""
        if submission.line is not None and not solo:
            return submission.line
        spec, target = submission.spec, submission.target
        shipped = bool(target.digest)
        need = Need(
            spec.queue, "" if shipped else target.name, spec.python if shipped else "",
            strict=spec.fail_unknown, priority=spec.priority, limits=submission.limits, resources=spec.resources,
            bound=spec.fail_unserved,
        )  # fmt: skip
        owner = submission.source.owner
        # the owner may change while a job stands in a solo line, which is found by this key
        flow = submission.source.prefix if solo or owner is None else owner.prefix
        key = (need, flow, solo)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(need, flow, solo=solo)
            line.served = self._turns
            if need.limits or need.task:
                line.limits = self.limits_of(need.limits, line)
            line.shut += need.queue in self.paused
            line.profiles = [p for p in self._profiles.get(need.queue, {}).values() if p.serves(need)]
            self._queues.setdefault(need.queue, {})[line] = None
        if not solo:
            submission.line = line
            line.users += 1
        return line

    def append(self, line: Line, jobs: list[Job]) -> None:
        """New jobs go to the end."""
        was_empty = not len(line)
        line.jobs.extend(jobs)
        if was_empty:
            self._filled(line)

    def put_back(self, job: Job) -> None:
        """A job that had left comes back, in front of those that never did."""
        line = self.line_of(job.submission, solo=job.solo)
        was_empty = not len(line)
        if job in line.gone:
            line.gone.discard(job)
        else:
            line.jobs.appendleft(job)
        if was_empty:
            self._filled(line)
        elif not line.solo and not line.shut:
            for profile in line.profiles:
                flow = profile.levels.get(line.level, NO_FLOWS).get(line.turn)
                if flow is not None and line in flow:  # it is not where it waits for resources
                    flow.put(line)  # an older job is in front now

    def remove(self, job: Job) -> None:
        """A job leaves from wherever it stands."""
        line = self.line_of(job.submission, solo=job.solo)
        if line.jobs[0] is job:  # as when all are cancelled, in their order
            line.jobs.popleft()
        else:
            line.gone.add(job)
        if len(line.gone) * 2 > len(line.jobs):
            line.jobs = type(line.jobs)(j for j in line.jobs if j not in line.gone)
            line.gone.clear()
        if not len(line):
            self._emptied(line)

    def take(self, line: Line, limit: int) -> list[Job]:
        """The first jobs of the line, at most `limit`."""
        jobs = line.jobs
        if not line.gone:
            taken = [jobs.popleft() for _ in range(min(limit, len(jobs)))]
        else:
            taken = []
            while jobs and len(taken) < limit:
                job = jobs.popleft()
                if job in line.gone:
                    line.gone.discard(job)
                else:
                    taken.append(job)
        if not len(line):
            self._emptied(line)
        return taken

    def take_alike(self, line: Line, limit: int) -> list[Job]:
        """The first jobs of the line that have the same target, at most `limit`: shipped functions share a line."""
        if line.need.task:
            return self.take(line, limit)
        submission = line.head().submission  # what stood before the head and was gone is off now
        target, jobs = submission.target, line.jobs
        taken: list[Job] = []
        while jobs and len(taken) < limit:
            job = jobs[0]
            if job.submission is not submission:
                submission = job.submission
                if submission.target is not target:
                    break
            jobs.popleft()
            if line.gone and job in line.gone:
                line.gone.discard(job)
            else:
                taken.append(job)
        if not len(line):
            self._emptied(line)
        return taken

    def shut(self, line: Line) -> None:
        """One more of its limits is reached."""
        line.shut += 1
        if line.shut == 1 and len(line):
            for profile in line.profiles:
                self._unindex(profile, line)

    def reopen(self, line: Line) -> None:
        """One less of its limits is reached."""
        line.shut -= 1
        if not line.shut and len(line):
            for profile in line.profiles:
                self._index(profile, line)

    def lift(self, line: Line, level: int) -> None:
        """Its jobs count as so urgent from now on."""
        indexed = line.profiles if len(line) and not line.shut else []
        for profile in indexed:
            self._unindex(profile, line)
        line.level = level
        for profile in indexed:
            self._index(profile, line)

    def pause(self, queue: str) -> None:
        """No job of this queue starts any more."""
        if queue not in self.paused:
            self.paused.add(queue)
            for line in self._queues.get(queue, ()):
                self.shut(line)

    def resume(self, queue: str) -> None:
        """Its jobs start again."""
        if queue in self.paused:
            self.paused.discard(queue)
            for line in self._queues.get(queue, ()):
                self.reopen(line)

    def of_task(self, task: str) -> list[Line]:
        """The lines of a registered task."""
        return [line for line in self._lines.values() if line.need.task == task]

    def _filled(self, line: Line) -> None:
        for profile in line.profiles if not line.shut else ():
            self._index(profile, line)
        if not line.profiles:
            self.unserved[line] = None
            self.lately.append(line)

    def _index(self, profile: Profile, line: Line) -> None:
        if line.solo:
            profile.solos[line] = None
            self._sort_in(profile)
        elif line.need.resources:
            self.demands.enter(profile, line)
        else:
            self._put(profile, line)

    def _put(self, profile: Profile, line: Line) -> None:
        priority = line.level
        level = profile.levels.get(priority)
        if level is None:
            level = profile.levels[priority] = OrderedDict()
            if priority > profile.top:
                profile.top, profile.flows = priority, level
                if priority:
                    self.urgent[profile] = None
        flow = level.get(line.turn)
        if flow is None:
            flow = level[line.turn] = Flow(line.served)
            if line.need.resources and line.served < next(iter(level.values())).served:
                level.move_to_end(line.turn, last=False)  # it was its turn while it waited for resources
        flow.put(line)
        self._sort_in(profile)

    def _emptied(self, line: Line) -> None:
        for profile in line.profiles if not line.shut else ():
            self._unindex(profile, line)
        self.unserved.pop(line, None)
        line.since = None
        line.level = line.need.priority
        if line.solo:
            self._forget(line)

    def _unindex(self, profile: Profile, line: Line) -> None:
        if line.solo:
            profile.solos.pop(line, None)
            self._sort_in(profile)
        elif line.need.resources:
            self.demands.leave(profile, line)
        else:
            self._take_out(profile, line)

    def _take_out(self, profile: Profile, line: Line) -> None:
        level = profile.levels[line.level]
        flow = level[line.turn]
        flow.remove(line)
        if not flow:
            del level[line.turn]
            if not level:
                self._drop_level(profile, line.level)
        self._sort_in(profile)

    def _drop_level(self, profile: Profile, priority: int) -> None:
        """No line of this priority has a job any more."""
        del profile.levels[priority]
        if priority == profile.top:
            profile.top = max(profile.levels, default=-1)
            profile.flows = profile.levels.get(profile.top, NO_FLOWS)
            if profile.top <= 0:
                self.urgent.pop(profile, None)

    def _sort_in(self, profile: Profile) -> None:
        if profile.solos or (profile.flows and (profile.hungry or profile.roomy)):  # `feasible`, without a call
            self.ready[profile] = None
        elif profile in self.ready:
            del self.ready[profile]

    def _forget(self, line: Line) -> None:
        if self._lines.pop((line.need, line.flow, line.solo), None) is None:
            return
        for limit in line.limits:
            limit.lines.pop(line, None)
        lines = self._queues[line.need.queue]
        del lines[line]
        if not lines:
            del self._queues[line.need.queue]

    def release(self, submission: Submission) -> None:
        """No job of this submission will stand anywhere again."""
        line, submission.line = submission.line, None
        if line is not None:
            line.users -= 1
            if not line.users:
                self._forget(line)

    def join(self, worker: Worker, queues: list[str], tasks: list[str], python: str) -> None:
        """A worker begins to serve."""
        key = (frozenset(queues), frozenset(tasks), python, worker.resources)
        team = self._teams.get(key)
        if team is None:
            team = self._teams[key] = Team(*key)
            for queue in dict.fromkeys(queues):
                self._take_part(team, queue, key[1:])
        team.workers[worker] = None
        worker.team = team

    def _take_part(self, team: Team, queue: str, key: tuple[frozenset[str], str, Amounts]) -> None:
        profiles = self._profiles.setdefault(queue, {})
        profile = profiles.get(key)
        if profile is None:
            profile = profiles[key] = Profile(queue, *key)
            self._serve(profile)
        profile.teams[team] = None
        team.profiles.append(profile)

    def _serve(self, profile: Profile) -> None:
        """A new profile finds its lines."""
        for line in self._queues.get(profile.queue, ()):
            if profile.serves(line.need):
                line.profiles.append(profile)
                if len(line):
                    if not line.shut:
                        self._index(profile, line)
                    self.unserved.pop(line, None)
                    line.since = None

    def leave(self, worker: Worker) -> None:
        """A worker serves no more."""
        team = worker.team
        if team is None:
            return
        self.regroup(worker, 0)
        if worker.resources:
            self.demands.refit(worker)
        worker.team = None
        del team.workers[worker]
        if team.workers:
            return
        del self._teams[team.key]
        for profile in team.profiles:
            del profile.teams[team]
            if not profile.teams:
                self._withdraw(profile)

    def _withdraw(self, profile: Profile) -> None:
        """The last team of a profile has left."""
        profiles = self._profiles[profile.queue]
        self.demands.drop(profile)
        del profiles[profile.tasks, profile.python, profile.resources]
        if not profiles:
            del self._profiles[profile.queue]
        self.ready.pop(profile, None)
        self.urgent.pop(profile, None)
        for line in self._queues.get(profile.queue, ()):
            if profile in line.profiles:
                line.profiles.remove(profile)
                if len(line) and not line.profiles:
                    self.unserved[line] = None
                    self.lately.append(line)

    def regroup(self, worker: Worker, groups: int) -> None:
        """What a worker may be given, or taken from it, has changed."""
        team = worker.team
        if team is None:
            return
        changed = worker.groups ^ groups
        worker.groups = groups
        turned = 0  # groups of the team that have become empty, or are not empty any more
        if changed & HUNGRY:
            turned |= _member(team.hungry, worker, groups, HUNGRY)
        if changed & ROOMY:
            turned |= _member(team.roomy, worker, groups, ROOMY)
        if changed & ABLE:
            turned |= _member(team.able, worker, groups, ABLE)
        if changed & CROWDED:
            turned |= _member(team.crowded, worker, groups, CROWDED)
        if turned:
            for profile in team.profiles:
                self._turned(profile, team, turned)

    def _turned(self, profile: Profile, team: Team, turned: int) -> None:
        if turned & HUNGRY:
            _team_member(profile.hungry, team, team.hungry)
        if turned & ROOMY:
            _team_member(profile.roomy, team, team.roomy)
        if turned & ABLE:
            _team_member(profile.able, team, team.able)
        if turned & CROWDED:
            _team_member(profile.crowded, team, team.crowded)
        self._sort_in(profile)
        if profile.hungry and profile.crowded:
            self.uneven[profile] = None
        elif profile in self.uneven:
            del self.uneven[profile]

    def rotate(self, profile: Profile, line: Line) -> None:
        """The queue and the submitter of this line have had their turn."""
        self._turns += 1
        line.served = self._turns
        level = profile.levels.get(line.level, NO_FLOWS)
        if line.turn in level:
            level[line.turn].served = self._turns
            level.move_to_end(line.turn)
        if profile in self.ready:
            self.ready.move_to_end(profile)


def _unlimited(_keys: tuple[LimitKey, ...], _line: Line) -> tuple[Limit, ...]:
    return ()


def _member(group: OrderedDict[Worker, None], worker: Worker, groups: int, bit: int) -> int:
    """Put a worker into a group or take it out; `bit` if that made it the first one, or it was the last."""
    if groups & bit:
        group[worker] = None
        return bit if len(group) == 1 else 0
    del group[worker]
    return 0 if group else bit


def _team_member(teams: OrderedDict[Team, None], team: Team, group: OrderedDict[Worker, None]) -> None:
    if group:
        teams[team] = None
    else:
        del teams[team]
