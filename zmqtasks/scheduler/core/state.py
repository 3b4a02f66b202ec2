"""Everything the core knows, in one place. Verbs in the other modules read and change it."""

from collections import OrderedDict, deque
from dataclasses import dataclass
from math import inf

from zmqtasks.config import SchedulerSettings
from zmqtasks.scheduler.core.deadlines import Timers
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.fading import Fading
from zmqtasks.scheduler.core.limits import Limits
from zmqtasks.scheduler.core.lines import Lines
from zmqtasks.scheduler.core.model import (
    DISK,
    MEMORY,
    Bulk,
    CancelRequest,
    Job,
    Line,
    Operator,
    Profile,
    Purging,
    Source,
    Stray,
    Submission,
    Submitter,
    Target,
    Worker,
)
from zmqtasks.scheduler.core.payloads import Payloads
from zmqtasks.scheduler.core.records import Record
from zmqtasks.scheduler.core.shares import Shares
from zmqtasks.scheduler.core.story import Story
from zmqtasks.scheduler.core.transitions import Moves
from zmqtasks.states import DELAYED
from zmqtasks.wire import Spec, ToPeer


def _delayed(job: Job) -> bool:
    return job.state == DELAYED


def _kept(job: Job) -> bool:
    return job.outcome is not None


def _kept_yet(entry: tuple[float, Job]) -> bool:
    return _kept(entry[1])


MAX_SPECS = 1_000  # different ones that are remembered, to be shared
JOB_BYTES = 300  # of memory that a job costs besides its payloads, roughly


class Totality:
    """Stands among the things that old records tell of: what is true of the whole scheduler. `seq`: of its record."""

    __slots__ = ("seq",)

    def __init__(self) -> None:
        self.seq = 0


@dataclass(slots=True)
class Usage:
    """What the driver says of the journal, and what follows for its compaction.

    Attributes:
        size: bytes of its records.
        pending: bytes that it has taken and not yet written.
        trouble: why it cannot be written now; empty: it can.
        news: that has changed, and nobody was told yet.
        trimming: records that are needed no more are still there.
        limit: bytes at which it is compacted; it will have doubled then.
        upto: records up to this number are being written down anew; 0: none are.
        renewed: records up to this number were written down anew, and are still there; 0: all are gone.
        trim_at: monotonic time of the next trim at the earliest.
        totals_at: monotonic time from which the totals are written down again, if anything else was.
    """

    size: int = 0
    pending: int = 0
    trouble: str = ""
    news: bool = False
    trimming: bool = False
    limit: int = 0
    upto: int = 0
    renewed: int = 0
    trim_at: float = 0.0
    totals_at: float = 0.0


class State:
    """The tables of the core.

    Attributes:
        epoch: which life of the scheduler this is; grows from life to life.
        seq: number of the last record.
        peers: connections that have said hello.
        evidence: of a job that was running in something that died, one text per death.
        cancels: jobs that a Cancel waits for.
        open: jobs that are not over.
    """

    def __init__(  # noqa: PLR0915  (tables)
        self, settings: SchedulerSettings, epoch: int, *, durable: bool, recording: bool = True
    ) -> None:
        self.settings = settings
        self.durable = durable
        self.recording = recording
        self.begin(epoch)
        self._durabilities = dict(settings.durability)
        self.seq = 0
        self.orders = 0
        self.moves = Moves()
        self.lines = Lines()
        self.shares = Shares()
        self.limits = Limits(self.lines)
        self.payloads = Payloads(settings.spill)
        self.story = Story()
        self.peers: dict[bytes, Worker | Submitter | Operator | Bulk] = {}
        self.workers: dict[bytes, Worker] = {}
        self.submitters: dict[bytes, Submitter] = {}
        self.sources: dict[bytes, Source] = {}
        self.targets: dict[str | bytes, Target] = {}
        self.idle_targets: dict[str | bytes, None] = {}  # that no submission uses, the oldest first
        self.leases: Timers[Worker] = Timers(lambda worker: self.workers.get(worker.nonce) is worker)
        self.delays: Timers[Job] = Timers(_delayed)  # wall clock: all other times here are monotonic
        self.expirations: Timers[Submission] = Timers(lambda submission: submission.live > 0)  # wall clock, too
        self.backoffs: Timers[Job] = Timers(_delayed)
        self.expiries: Timers[Job] = Timers(_kept)  # only jobs with a result_ttl of their own
        self.finished: Fading[tuple[float, Job]] = Fading(_kept_yet)  # (time of expiry, job), all of the default ttl
        self.age_at = 0.0 if settings.ageing else inf  # monotonic time of the next look at how long jobs have waited
        self.finished_at = inf  # monotonic time at which the first of these expires, or earlier
        self.residents: Fading[Job] = Fading(_kept)  # over, durable, outcomes in memory: the oldest may be paged
        self.delivered: Fading[Job] = Fading(_kept)
        self.tombstones: deque[tuple[float, Submission]] = deque()
        self.bases: OrderedDict[Submission | Target | Totality, None] = OrderedDict()  # by `seq`, the oldest first
        self.totality = Totality()
        self.trimmed = 0  # records up to this number were said to be not needed any more
        self.journal = Usage()
        self.forgotten: dict[Source, list[int]] = {}  # in this turn
        self.results = 0
        self.result_bytes = 0
        self.resident_bytes = 0  # of these, in memory
        self.pageable_bytes = 0  # of those, of jobs that are journaled
        self.dues: dict[Job, float] = {}  # Unix time at which a job that failed is tried again
        self.open = 0
        self.function_bytes = 0  # of shipped functions
        self.arg_bytes = 0  # of jobs that are not over
        self.watchers: dict[Job, list[Submitter]] = {}  # who else wants the outcome of a job
        self.evidence: dict[Job, list[str]] = {}
        self.specs: dict[Spec, Spec] = {}  # of the last Submits, to be shared
        self.cancels: dict[Job, list[CancelRequest]] = {}
        self.dirty: dict[Submitter, None] = {}  # have something to send at the end of the turn
        self.accepting: dict[Submitter, float] = {}  # since when an Accepted waits for company, in that order
        # (numbers, time of the first) in the order of that time; -inf: they wait no longer
        self.acks: OrderedDict[Worker, tuple[list[int], float]] = OrderedDict()
        self.patience: Timers[Line] = Timers(lambda line: line.since is not None)
        self.strays: dict[tuple[bytes, int], Stray] = {}
        self.stray_bytes = 0
        self.adoptions: Timers[Stray] = Timers(lambda stray: self.strays.get(stray.key) is stray)
        self.progress: dict[Job, bytes] = {}  # the newest that running jobs told of themselves
        self.told: dict[Submitter, dict[Job, None]] = {}  # to whom it is to be passed on
        self.blocked: dict[Submitter, None] = {}  # whose next outcome is being loaded
        self.waiting: dict[int, Job] = {}  # by the reference that is being loaded
        self.quarantined: dict[Worker, None] = {}
        self.purges: deque[Purging] = deque()
        self.saved: dict[Profile, Worker] = {}  # who is kept from filling up, for jobs that need a free slot
        self.balance_at = inf
        self.stalls: Timers[Worker] = Timers(lambda worker: self.workers.get(worker.nonce) is worker)
        self.counters: dict[str, int] = {}
        self.warnings: dict[str, None] = {}
        self.warned: dict[Line, None] = {}  # lines that nobody serves, of which people were told

    @property
    def held_bytes(self) -> int:
        """Bytes of all payloads, here or in the journal, and about those of the jobs themselves."""
        return self.arg_bytes + self.result_bytes + self.function_bytes + JOB_BYTES * (self.open + self.results)

    def begin(self, epoch: int) -> None:
        """This life has this epoch.

        Attempts count up from it as a fixed-point time (Unix seconds << 32): no life of the scheduler repeats those of
        another unless it made four thousand million a second, and they fit MessagePack's 64 bits.
        """
        self.epoch = epoch
        self.first_attempt = self.attempts = (epoch << 32) // 1000

    def shared(self, spec: Spec) -> Spec:
        """An equal one that others have, too: a session's Submits are mostly alike, and are remembered for long."""
        if spec.not_before:
            return spec
        if len(self.specs) >= MAX_SPECS:
            self.specs.clear()
        return self.specs.setdefault(spec, spec)

    def durability(self, queue: str) -> str:
        """What accepted jobs of a queue outlive, if they do not say so themselves."""
        return self._durabilities.get(queue) or self._durabilities.get("", "disk")

    def count(self, what: str, by: int = 1) -> None:
        """Count something for `status`."""
        self.counters[what] = self.counters.get(what, 0) + by

    def record(self, fx: Effects, record: Record, level: int) -> int:
        """Append a fact to the journal; returns its number, 0 if it is not written down.

        `level`: what it must outlive (MEMORY, OS, DISK).
        """
        if not self.recording:
            return 0
        if level == MEMORY:
            fx.unwritten.append(record)
            return 0
        if level == DISK:
            fx.sync = True
        self.seq += 1
        fx.records.append(record)
        return self.seq

    def hurry_acks(self, worker: Worker) -> None:
        """What a worker reported is much, or it waits for nothing else: the acknowledgement goes out in this turn."""
        self.acks[worker] = (self.acks[worker][0], -inf)
        self.acks.move_to_end(worker, last=False)

    def answer(self, fx: Effects, submitter: Submitter, message: ToPeer, level: int = DISK) -> None:
        """Tell a submitter something that must be durable first, unless it is about jobs kept in memory only."""
        if submitter.route is not None:
            fx.sends.append(Send(submitter.route, message, self.seq if level != MEMORY else 0))

    def drop_route(self, peer: Worker | Submitter, fx: Effects) -> None:
        """This peer's connection, bulk and all, is over: nothing that still comes from it counts."""
        self.drop_bulk(peer, fx)
        if peer.route is not None:
            self.peers.pop(peer.route, None)
            fx.forget.append(peer.route)
            peer.route = None

    def drop_bulk(self, peer: Worker | Submitter, fx: Effects) -> None:
        """Its bulk connection is over."""
        if peer.bulk is not None:
            self.peers.pop(peer.bulk, None)
            fx.forget.append(peer.bulk)
            peer.bulk = None

    def remembers(self, prefix: bytes, counter: int) -> bool:
        """Whether this job was submitted, even if its outcome is gone."""
        source = self.sources.get(prefix)
        return source is not None and source.covers(counter, 1)

    def find(self, prefix: bytes, counter: int) -> Job | None:
        """The job of this id, if it is known."""
        source = self.sources.get(prefix)
        return source.jobs.get(counter) if source is not None else None
