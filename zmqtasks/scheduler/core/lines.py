"""Where ready jobs stand, and which workers may serve them.

A line holds the jobs of one submitter with one need (queue and task, or Python version). A profile stands for all
workers that can run the same things. The index from profiles to non-empty lines is kept as lines fill and empty, so
dispatch looks neither at every line nor at every worker.
"""

from collections.abc import Iterable

from zmqtasks.scheduler.core.model import Job, Line, Need, Profile, Submission, Worker


class Lines:
    """All lines and profiles.

    Attributes:
        ready: profiles that have a non-empty line, as a rotation.
        unserved: non-empty lines that no worker serves.
        lately: those that came to that since somebody emptied this list.
    """

    def __init__(self) -> None:
        self._lines: dict[tuple[Need, bytes, bool], Line] = {}
        self._profiles: dict[tuple[frozenset[str], frozenset[str], str], Profile] = {}
        self.ready: dict[Profile, None] = {}
        self.unserved: dict[Line, None] = {}
        self.lately: list[Line] = []

    def all(self) -> Iterable[Line]:
        """Every line, for checks and status."""
        return self._lines.values()

    def profiles(self) -> Iterable[Profile]:
        """Every profile that has a worker."""
        return self._profiles.values()

    def line_of(self, submission: Submission, *, solo: bool = False) -> Line:
        """The line in which the jobs of this submission stand."""
        if submission.line is not None and not solo:
            return submission.line
        spec, target = submission.spec, submission.target
        shipped = bool(target.digest)
        need = Need(
            spec.queue, "" if shipped else target.name, spec.python if shipped else "", strict=spec.fail_unknown
        )
        owner = submission.source.owner
        # the owner may change while a job stands in a solo line, which is found by this key
        flow = submission.source.prefix if solo or owner is None else owner.prefix
        key = (need, flow, solo)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(need, flow, solo=solo)
            line.profiles = [p for p in self._profiles.values() if p.serves(need)]
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

    def remove(self, job: Job) -> None:
        """A job leaves from wherever it stands."""
        line = self.line_of(job.submission, solo=job.solo)
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
        target = self.head(line).submission.target
        taken: list[Job] = []
        while len(taken) < limit and len(line) and self.head(line).submission.target is target:
            taken.append(line.jobs.popleft())
        if not len(line):
            self._emptied(line)
        return taken

    def head(self, line: Line) -> Job:
        """The first job of a line that is not empty."""
        while line.jobs[0] in line.gone:
            line.gone.discard(line.jobs.popleft())
        return line.jobs[0]

    def _filled(self, line: Line) -> None:
        for profile in line.profiles:
            self._index(profile, line)
        if not line.profiles:
            self.unserved[line] = None
            self.lately.append(line)

    def _index(self, profile: Profile, line: Line) -> None:
        if line.solo:
            profile.solos[line] = None
        else:
            profile.ready.setdefault(line.need.queue, {}).setdefault(line.flow, {})[line] = None
        self.ready[profile] = None

    def _emptied(self, line: Line) -> None:
        for profile in line.profiles:
            self._unindex(profile, line)
        self.unserved.pop(line, None)
        line.since = None
        if line.solo:
            self._lines.pop((line.need, line.flow, True), None)

    def _unindex(self, profile: Profile, line: Line) -> None:
        if line.solo:
            profile.solos.pop(line, None)
        else:
            flows = profile.ready[line.need.queue]
            flows[line.flow].pop(line)
            if not flows[line.flow]:
                del flows[line.flow]
                if not flows:
                    del profile.ready[line.need.queue]
        if not profile.ready and not profile.solos:
            self.ready.pop(profile, None)

    def release(self, submission: Submission) -> None:
        """No job of this submission will stand anywhere again."""
        line, submission.line = submission.line, None
        if line is not None:
            line.users -= 1
            if not line.users:
                self._lines.pop((line.need, line.flow, line.solo), None)

    def join(self, worker: Worker, queues: list[str], tasks: list[str], python: str) -> None:
        """A worker begins to serve."""
        key = (frozenset(queues), frozenset(tasks), python)
        profile = self._profiles.get(key)
        if profile is None:
            profile = self._profiles[key] = Profile(*key)
            for line in self._lines.values():
                if profile.serves(line.need):
                    line.profiles.append(profile)
                    if len(line):
                        self._index(profile, line)
                        self.unserved.pop(line, None)
                        line.since = None
        profile.workers[worker] = None
        worker.profile = profile

    def leave(self, worker: Worker) -> None:
        """A worker serves no more."""
        profile = worker.profile
        profile.workers.pop(worker, None)
        if profile.workers:
            return
        self._profiles = {key: p for key, p in self._profiles.items() if p is not profile}
        for line in self._lines.values():
            if profile in line.profiles:
                line.profiles.remove(profile)
                if len(line) and not line.profiles:
                    self.unserved[line] = None
                    self.lately.append(line)
        self.ready.pop(profile, None)

    def rotate(self, profile: Profile, line: Line) -> None:
        """The queue and the submitter of this line have had their turn."""
        flows = profile.ready.get(line.need.queue)
        if flows is None:
            return
        if line.flow in flows:
            flows[line.flow] = flows.pop(line.flow)
        profile.ready[line.need.queue] = profile.ready.pop(line.need.queue)
