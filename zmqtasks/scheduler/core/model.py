"""The tables: jobs and what they hang on, workers, submitters. Data only; the verbs are in their own modules."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from zmqtasks import ids
from zmqtasks.resources import Amounts
from zmqtasks.scheduler.core.firsts import Firsts
from zmqtasks.scheduler.core.flow import Flow
from zmqtasks.scheduler.core.jobtable import JobTable
from zmqtasks.scheduler.core.needs import LimitKey, Need
from zmqtasks.scheduler.core.quotas import Limit
from zmqtasks.scheduler.core.window import Window
from zmqtasks.states import FINAL, READY
from zmqtasks.wire import End, Function, Run, Spec

UNKNOWN_COST: Final = -1.0
CHEAPEST: Final = 1e-6  # seconds; no job is taken for less
_GAIN: Final = 0.2  # weight of the newest measurement in the running mean
_FADE: Final = 0.98  # how slowly a long run is forgotten
_FOREVER: Final = 1e9  # seconds; NaN and infinity of a broken worker do not pass this either
_VARYING: Final = 0.005  # seconds that a job counts for at least where run times vary: a slot has one in advance
_SHORT: Final = 0.001  # seconds below which runs do not count as varying


# What the records of a submission outlive: nothing (none are written), the process, the machine's power.
MEMORY: Final = 0
OS: Final = 1
DISK: Final = 2
LEVELS: Final = {"memory": MEMORY, "os": OS, "disk": DISK}


class Ref:
    """Stands for a large payload that the journal keeps, or for a small one in a page of many that it keeps.

    offset: where its bytes begin in the page; below 0: they are all that is stored under this number.
    """

    __slots__ = ("number", "offset", "size")

    def __init__(self, number: int, size: int, offset: int = -1) -> None:
        self.number = number
        self.size = size
        self.offset = offset


Payload = bytes | Ref


class Target:
    """What jobs run: a registered task or a shipped function, with what was measured of it.

    Attributes:
        name: for people.
        digest: of the shipped function; empty for a registered task.
        blob: the shipped function itself.
        uses: submissions that are not over; at 0 the target may be forgotten.
        seq: number of the record that holds a shipped function.
    """

    __slots__ = ("blob", "digest", "longest", "mean", "name", "seq", "uses")

    def __init__(self, name: str, digest: bytes, blob: Function | None) -> None:
        self.name = name
        self.digest = digest
        self.blob = blob
        self.uses = 0
        self.seq = 0
        self.mean = UNKNOWN_COST
        self.longest = 0.0

    @property
    def key(self) -> str | bytes:
        """What submissions find it by."""
        return self.digest or self.name

    def measured(self, count: int, total: float, longest: float) -> None:
        """Take in the run times of `count` jobs, in seconds. What no clock can have measured is not believed."""
        if not (0.0 <= total < _FOREVER and 0.0 <= longest < _FOREVER):
            return
        mean = total / count
        self.mean = mean if self.mean < 0 else self.mean + _GAIN * (mean - self.mean)
        self.longest = max(longest, self.longest * _FADE)

    @property
    def cost(self) -> float:
        """Seconds that one job will take; below 0: unknown. Where run times vary it is taken for no short one."""
        if self.mean >= 0 and self.longest > _SHORT and self.longest > 8 * self.mean:
            return min(self.longest, max(self.mean, _VARYING))
        return self.mean


class Submission:
    """One accepted Submit: a range of jobs with one target and one spec. Lives on as the tombstone of its jobs.

    Attributes:
        digest: of its content, to tell a repeat from a conflict.
        order: acceptance order over the whole scheduler.
        level: what its records outlive (MEMORY, OS, DISK).
        seq: number of the oldest record that says what still matters of it.
        live: jobs of it that are still known.
        limits: keys of the limits that its jobs are under; `counted`: while a worker holds them, something counts them.
        since: monotonic time since when its jobs may start.
        wall: Unix time at which the last outcome of them came, or the last of all was forgotten; 0: none did.
    """

    __slots__ = (
        "codec", "count", "counted", "digest", "first", "level", "limits", "line", "live", "order", "seq", "since",
        "source", "spec", "target", "wall",
    )  # fmt: skip

    def __init__(
        self, source: "Source", first: int, count: int, digest: bytes, target: Target, codec: str, spec: Spec
    ) -> None:
        self.source = source
        self.first = first
        self.count = count
        self.digest = digest
        self.target = target
        self.codec = codec
        self.spec = spec
        self.live = count
        self.order = 0
        self.level = DISK
        self.seq = 0
        self.since = 0.0
        self.wall = 0.0
        self.limits: tuple[LimitKey, ...] = ()
        self.counted = bool(spec.resources)
        self.line: Line | None = None

    @property
    def urgency(self) -> int:
        """The priority that its jobs have now."""
        return self.line.level if self.line is not None else self.spec.priority

    def limit(self, keys: tuple[LimitKey, ...]) -> None:
        """Its jobs are under these limits, too."""
        if keys:
            self.limits += keys
            self.counted = True


class Source:
    """A job-id prefix: one session of a submitter, or one id that a user gave.

    Attributes:
        owner: the submitter that gets the results.
        firsts: first counters of `submissions`, to find overlaps.
        end: no counter from this one on was ever submitted.
    """

    __slots__ = ("end", "firsts", "jobs", "owner", "prefix", "submissions")

    def __init__(self, prefix: bytes, owner: "Submitter | None") -> None:
        self.prefix = prefix
        self.owner = owner
        self.jobs: JobTable[Job] = JobTable()
        self.submissions: dict[int, Submission] = {}
        self.firsts = Firsts()
        self.end = 0

    def add(self, submission: "Submission") -> None:
        """Take in one that overlaps no other."""
        first = submission.first
        self.submissions[first] = submission
        self.firsts.add(first)
        self.end = max(self.end, first + submission.count)

    def nearest(self, counter: int) -> int:
        """The first counter of the last submission that begins at this one or before; there must be one."""
        nearest = self.firsts.upto(counter)
        assert nearest is not None, "no submission begins so early"  # noqa: S101
        return nearest

    def covers(self, first: int, count: int) -> bool:
        """Whether any of these counters was submitted, as far as is remembered."""
        if first >= self.end:
            return False
        nearest = self.firsts.upto(first + count - 1)
        return nearest is not None and nearest + self.submissions[nearest].count > first


class Job:
    """One request to run a target.

    Attributes:
        attempt: the current attempt, 0 when there is none; kept while its worker is lost, for that may come back.
        number: of its assignment, or of the last one while `worker` is not set; 0: there never was one.
        cost: seconds it was taken for when it was assigned.
        outcome: result, or the encoded failure.
        solo: it was held by a worker that died: it runs alone on a worker until it ends.
        out: submitters to which its outcome is on the way.
        delivered: the session that it is of has its outcome.
    """

    __slots__ = (
        "args", "attempt", "cost", "counter", "crashes", "delivered", "number", "out", "outcome", "retries", "solo",
        "state", "submission", "worker",
    )  # fmt: skip

    def __init__(self, submission: Submission, counter: int, args: Payload, state: int = READY) -> None:
        self.submission = submission
        self.counter = counter
        self.args: Payload | None = args
        self.state = state
        self.attempt = 0
        self.worker: Worker | None = None
        self.number = 0
        self.cost = 0.0
        self.crashes = 0
        self.retries = 0
        self.outcome: Payload | None = None
        self.solo = False
        self.out = 0
        self.delivered = False

    @property
    def id(self) -> str:
        """32 hex digits."""
        return ids.job_id(self.submission.source.prefix, self.counter)

    @property
    def final(self) -> bool:
        """Whether it is over."""
        return self.state in FINAL


Turn = bytes | tuple[bytes, tuple[LimitKey, ...], Amounts]


class Line:
    """Ready jobs that stand behind one another: of one submitter, with one need.

    Attributes:
        jobs: in order; some of them in `gone`.
        gone: jobs that have left from the middle and are skipped when their turn comes.
        solo: its jobs run alone on a worker.
        users: submissions that stand here; a line without any is forgotten.
        limits: see `limits.py`; `shut`: how many of them are reached: no job of the line may start.
        turn: what it takes turns as: its submitter, by itself where there are limits or resources are needed;
            `served`: when it had its last one.
        level: the priority that it counts as, which is that of its need but for `ageing`.
    """

    __slots__ = (
        "flow",
        "gone",
        "jobs",
        "level",
        "limits",
        "need",
        "profiles",
        "served",
        "shut",
        "since",
        "solo",
        "turn",
        "users",
    )

    def __init__(self, need: Need, flow: bytes, *, solo: bool) -> None:
        self.need = need
        self.level = need.priority
        self.flow = flow
        self.solo = solo
        self.turn: Turn = (flow, need.limits, need.resources) if need.limits or need.resources else flow
        self.limits: tuple[Limit, ...] = ()
        self.shut = 0
        self.users = 0
        self.jobs: deque[Job] = deque()
        self.gone: set[Job] = set()
        self.profiles: list[Profile] = []
        self.served = 0
        self.since: float | None = None  # monotonic time since when nobody serves it

    def __len__(self) -> int:
        return len(self.jobs) - len(self.gone)

    def head(self) -> Job:
        """The first job; the line must not be empty."""
        jobs = self.jobs
        if self.gone:
            while jobs[0] in self.gone:
                self.gone.discard(jobs.popleft())
        return jobs[0]

    @property
    def order(self) -> int:
        """When its first job was accepted."""
        return self.head().submission.order


class Team:
    """Equal workers: of the same queues, tasks, Python and resources.

    The groups are taken from in turn, so they are OrderedDicts: the first key of a plain dict costs as much as keys
    were deleted before it.

    Attributes:
        profiles: one for each of their queues.
        able: those that may be given something.
        hungry: those with a free slot.
        roomy: those that may take work in advance.
        crowded: those that hold more than they can run at once.
    """

    __slots__ = ("able", "crowded", "hungry", "key", "profiles", "python", "roomy", "workers")

    def __init__(self, queues: frozenset[str], tasks: frozenset[str], python: str, resources: Amounts = ()) -> None:
        self.key = (queues, tasks, python, resources)
        self.python = python
        self.profiles: list[Profile] = []
        self.workers: dict[Worker, None] = {}
        self.able: OrderedDict[Worker, None] = OrderedDict()
        self.hungry: OrderedDict[Worker, None] = OrderedDict()
        self.roomy: OrderedDict[Worker, None] = OrderedDict()
        self.crowded: OrderedDict[Worker, None] = OrderedDict()


Flows = OrderedDict[Turn, Flow[Line]]
NO_FLOWS: Final[Flows] = OrderedDict()  # never filled


class Profile:
    """What the workers of one queue can run; dispatch looks at profiles, never at every worker.

    Attributes:
        levels: the non-empty lines they may serve, by priority, and by submitter, in turn; `top`: the highest priority
            among them, -1: there are none; `flows`: those of that priority.
        solos: the non-empty lines of solo jobs, with the worker that serves each.
        resources: what each of its workers has in all.
        demands: for which of these lines wait, by what they need and how urgent it is; `kept`: that for which one of
            its workers is kept.
        teams: those that take from this queue and can run these tasks, or have this Python.
        able: those whose group of that name is not empty, in turn; and so on.
    """

    __slots__ = (
        "able", "crowded", "demands", "flows", "hungry", "kept", "levels", "python", "queue", "resources", "roomy",
        "solos", "tasks", "teams", "top",
    )  # fmt: skip

    def __init__(self, queue: str, tasks: frozenset[str], python: str, resources: Amounts = ()) -> None:
        self.queue = queue
        self.tasks = tasks
        self.python = python
        self.resources = resources
        self.demands: OrderedDict[tuple[Amounts, int], Demand] = OrderedDict()
        self.kept: Demand | None = None
        self.levels: dict[int, Flows] = {}
        self.top = -1
        self.flows = NO_FLOWS
        self.solos: dict[Line, Worker | None] = {}
        self.teams: dict[Team, None] = {}
        self.able: OrderedDict[Team, None] = OrderedDict()
        self.hungry: OrderedDict[Team, None] = OrderedDict()
        self.roomy: OrderedDict[Team, None] = OrderedDict()
        self.crowded: OrderedDict[Team, None] = OrderedDict()

    def serves(self, need: Need) -> bool:
        """Whether workers of this profile can run jobs of that need."""
        return self.knows(need) and (not need.resources or covers(dict(self.resources), need.resources))

    def knows(self, need: Need) -> bool:
        """Whether they can but for the resources that it takes."""
        if need.queue != self.queue:
            return False
        return need.task in self.tasks if need.task else need.python == self.python

    @property
    def feasible(self) -> bool:
        """Whether there is work, and somebody who may get some of it."""
        return bool(self.solos or (self.flows and (self.hungry or self.roomy)))


def covers(free: dict[str, int], resources: Amounts) -> bool:
    """Whether so much of each is there."""
    return all(free.get(name, 0) >= amount for name, amount in resources)


class Demand:
    """Lines of one profile, with jobs, that need the same resources with the same priority.

    Attributes:
        lines: all of them; they are in the index of the profile as long as some worker is fitting.
        able: workers that may be given something and have so much free.
        fitting: those of them that have a free slot, too.
        keeper: the worker whose resources are kept for it, if there is one.
    """

    __slots__ = ("able", "fitting", "keeper", "lines", "priority", "profile", "resources")

    def __init__(self, profile: Profile, resources: Amounts, priority: int) -> None:
        self.profile = profile
        self.resources = resources
        self.priority = priority
        self.lines: dict[Line, None] = {}
        self.able: OrderedDict[Worker, None] = OrderedDict()
        self.fitting: OrderedDict[Worker, None] = OrderedDict()
        self.keeper: Worker | None = None


class Worker:
    """One life of a worker.

    Attributes:
        route: its connection; None while it is suspect.
        offered: assignments it accepts at most; always `credit` + len(`held`) + len(`strays`).
        held: assignment number → job, ascending.
        load: seconds of work that `held` was taken for.
        heard: monotonic time of its last message.
        asked: numbers that a Retract is out for.
        busy: jobs that its last heartbeat said were running.
        void: its slots that run what it was told to drop.
        stuck: it has had no outcome for so long that what waits there was asked back; it gets nothing in advance.
        watched: somebody will look whether that is so.
        strays: attempts that it holds at jobs which are unknown here, by number (see `strays.py`); `astray`: how many
            of them are not over, and take its slots.
        quarantine: the line of solo jobs that it serves instead of all others.
        saved: it gets nothing in advance, so that a slot comes free for jobs that are only given to free slots.
        wishes: queues that it was asked to take from, or not to, and has not confirmed (see `consumers`).
        limited: kinds of limits and tasks of which it says how many of their jobs may start, or run at once.
        team: its equals; `groups`: in which of their groups it is (see `lines`).
        resources: what it has in all; `free`: what the jobs that it holds leave of that, below 0 where it came back
            with more than it would have been given; in 1/10,000.
        kept: the demand that its resources are kept for.
        window: up to how many jobs it is given more in advance.
        bulk: the route of its bulk connection, if it has one.
    """

    __slots__ = (
        "asked", "astray", "bulk", "busy", "connection", "credit", "done", "draining", "free", "functions", "groups",
        "heard", "held", "host", "kept", "limited", "load", "moved", "name", "next", "nonce", "offered", "pid",
        "quarantine", "queues", "resources", "route", "running", "saved", "slots", "strays", "stuck", "tasks", "team",
        "void", "watched", "window", "wishes",
    )  # fmt: skip

    def __init__(self, nonce: bytes) -> None:
        self.nonce = nonce
        self.route: bytes | None = None
        self.bulk: bytes | None = None
        self.connection = 0
        self.name = self.host = ""
        self.pid = 0
        self.slots = self.offered = self.credit = 0
        self.queues: list[str] = []
        self.tasks: list[str] = []
        self.wishes: dict[str, bool] = {}
        self.limited: frozenset[tuple[str, str]] = frozenset()
        self.team: Team | None = None
        self.groups = 0
        self.held: dict[int, Job] = {}
        self.next = 1
        self.load = 0.0
        self.heard = 0.0
        self.moved = 0.0  # monotonic time of its last outcome
        self.done = 0
        self.running = 0
        self.busy = 0
        self.functions: set[bytes] = set()
        self.asked: set[int] = set()
        self.draining = False
        self.strays: dict[int, Stray] = {}
        self.astray = 0
        self.void = 0
        self.stuck = self.watched = self.saved = False
        self.quarantine: Line | None = None
        self.resources: Amounts = ()
        self.free: dict[str, int] = {}
        self.kept: Demand | None = None
        self.window = Window()

    def __str__(self) -> str:
        return f"{self.name} ({self.host}, pid {self.pid})"


class Lane:
    """What goes to a submitter over one of its two connections.

    Attributes:
        bulk: it is the bulk connection.
        outbox: final jobs whose outcome has not been sent.
        unacked: (delivery number, jobs, bytes), sent and not acknowledged.
        flying: jobs in `unacked`; `flying_bytes`: of their outcomes.
    """

    __slots__ = ("bulk", "flying", "flying_bytes", "next_delivery", "outbox", "unacked")

    def __init__(self, *, bulk: bool) -> None:
        self.bulk = bulk
        self.outbox: deque[Job] = deque()
        self.unacked: deque[tuple[int, list[Job], int]] = deque()
        self.flying = 0
        self.flying_bytes = 0
        self.next_delivery = 1


class Stray:
    """An attempt of an earlier life of the scheduler: its worker holds it, its job is unknown.

    Attributes:
        outcome: what came of it, if that has come; `size`: its bytes.
        resources: what it takes until then.
    """

    __slots__ = ("attempt", "key", "number", "outcome", "resources", "size", "worker")

    def __init__(
        self, worker: Worker, number: int, key: tuple[bytes, int], attempt: int, resources: Amounts = ()
    ) -> None:
        self.worker = worker
        self.number = number
        self.key = key
        self.attempt = attempt
        self.resources = resources
        self.outcome: Run | End | None = None
        self.size = 0


class Submitter:
    """One session of a submitter.

    Attributes:
        small, large: outcomes on their way, by size.
        accepted: what it is to be told of, by prefix and durability; `news`: how many jobs that are.
        bulk: the route of its bulk connection, if it has one.
    """

    __slots__ = (
        "accepted", "bulk", "connection", "host", "large", "news", "pid", "prefix", "python", "route", "small", "user",
    )  # fmt: skip

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.route: bytes | None = None
        self.bulk: bytes | None = None
        self.connection = 0
        self.user = self.host = self.python = ""
        self.pid = 0
        self.small = Lane(bulk=False)
        self.large = Lane(bulk=True)
        self.accepted: dict[tuple[bytes, int], list[ids.Span]] = {}
        self.news = 0


@dataclass(slots=True)
class Operator:
    """A connection of the command line or a dashboard."""

    route: bytes
    host: str
    pid: int


@dataclass(slots=True, frozen=True)
class Bulk:
    """A bulk connection. `owner`: the control connection that it belongs to."""

    owner: bytes


@dataclass(slots=True)
class CancelRequest:
    """One Cancel on its way: answered once, when every job of it is known to be cancelled or not."""

    submitter: Submitter
    request: int
    force: bool
    waiting: int
    cancelled: list[int]
    refused: list[int]
    unknown: list[int]


class Purging(NamedTuple):
    """A purge on its way: who asked, and the jobs that are still to be looked at."""

    route: bytes
    jobs: Iterator[Job]
    done: list[int]  # one number: how many were cancelled so far
    warning: str  # what else there is to say
