"""What must hold in every history. A broken law raises `Broken`, whose first word is the law's name."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.load import Plan
from zmqtasks import states
from zmqtasks.ids import expand
from zmqtasks.payload import read_failure
from zmqtasks.scheduler.core.effects import Send
from zmqtasks.scheduler.core.model import DISK, MEMORY, OS, Job
from zmqtasks.scheduler.core.records import Adopted, Assigned, Ended, Forgot, Record, Requeued, Submitted, Succeeded
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import Accepted, Assign, DoneAck, Results

JobKey = tuple[bytes, int]
UNWRITTEN = -1  # number of a record that is never written


class Broken(AssertionError):
    """A law does not hold."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


@dataclass(slots=True)
class JobLife:
    """What the records and the children say of one job."""

    submitted: int = 0  # record number
    attempt: int = 0  # the last one assigned
    assignments: int = 0
    requeues: int = 0
    starts: list[int] = field(default_factory=list)  # attempts that a child began
    kills: int = 0  # children that died while it ran
    raised: int = 0  # attempts that raised what may be tried again
    waits: float = 0.0  # until this time of the world, before it is tried again
    losses: int = 0  # workers that were given up while they held it, or may have
    final: int = 0  # record number
    state: int = -1
    holder: tuple[bytes, int] | None = None  # (worker, number) of the last assignment
    held: bool = False  # that one has it still
    assigned: int = 0  # record number of that assignment
    spent: tuple[int, int] = (0, 0)  # crashes and retries, as the records say
    ends: list[tuple[int, int]] = field(default_factory=list)  # (state, attempt), one in each life of the scheduler


class Laws:
    """Watches records, sends, children and submitters."""

    def __init__(self) -> None:
        self.lives: dict[JobKey, JobLife] = {}
        self.plans: dict[JobKey, Plan] = {}
        self.holders: dict[tuple[bytes, int], JobKey] = {}  # (worker, number)
        self.outcome_seq: dict[tuple[bytes, int], int] = {}
        self.results: dict[tuple[str, JobKey], int] = {}  # (submitter, job)
        self.taken: list[tuple[tuple[bytes, int], int]] = []  # (worker, number), job: taken back in this turn
        self.seq = 0
        self.faultless = True  # nothing has died or been cut off yet
        self.restarts = 0  # of the scheduler
        self.once: set[JobKey] = set()  # jobs that began and must not begin again
        self.few_kept = False  # outcomes are dropped as soon as those whose jobs they are have them
        self.short_lived: set[JobKey] = set()  # outcomes that are kept for a moment only
        self.dropped: set[tuple[bytes, int]] = set()  # (worker, number) that must not begin any more
        self.levels: dict[JobKey, int] = {}  # what its acceptance outlives, where that is not the loss of power
        self.at_most_once: set[JobKey] = set()
        self.forgotten: set[JobKey] = set()  # jobs whose outcome the scheduler has dropped
        self.shown = {OS: 0, DISK: 0}  # the last record that was acknowledged, by what it must outlive
        self.blackout = False  # power was lost
        self.troubled = False  # the disk was full
        self._log: list[Record] = []  # that are left
        self._again = False  # records are taken in once more

    def begun_on(self, worker: bytes, numbers: set[int]) -> set[JobKey]:
        """The jobs that a worker holds under these numbers and that have begun."""
        keys = {key for (nonce, number), key in self.holders.items() if nonce == worker and number in numbers}
        return {key for key in keys if self.lives[key].starts and len(self.lives[key].starts) == 1}

    def restarted(self, left: int | None, *, power: bool) -> None:
        """The scheduler has forgotten everything, or all records after one. What children have done, they have done.

        Args:
            left: number of the last record that is left; None: there is no journal.
            power: what was written, and not synced, may be gone, too.
        """
        self.restarts += 1
        self.faultless = False
        if left is not None:
            shown = self.shown[DISK] if power else max(self.shown[DISK], self.shown[OS])
            if shown > left:
                raise Broken("lost", f"record {shown} was acknowledged, the journal ends at {left}")
            self.blackout = self.blackout or power
        self.seq = 0
        self.shown = {level: min(seq, left or 0) for level, seq in self.shown.items()}
        self.holders.clear()
        self.outcome_seq.clear()
        self.taken.clear()
        for life in self.lives.values():
            life.submitted = life.attempt = life.assignments = life.requeues = life.final = 0
            life.state, life.spent = -1, (0, 0)
            life.holder, life.held, life.assigned = None, False, 0
        log, self._log = self._log[: left or 0], []
        self._again = True
        for record in log:
            self.record(record)
        self._again = False
        self.taken.clear()

    def restored(self, state: State) -> None:
        """A new life knows all that is left, and nothing else."""
        known = {(source.prefix, job.counter): job for source in state.sources.values() for job in source.jobs}
        for key, life in self.lives.items():
            job = known.pop(key, None)
            if not life.submitted or key in self.forgotten:
                if job is not None and not life.submitted:
                    raise Broken("restore", f"job {key[1]} came back, and no record tells of it")
                continue
            if job is None:
                raise Broken("restore", f"job {key[1]} is in the journal, and did not come back: {life}")
            if bool(life.final) != job.final or (life.final and life.state != job.state):
                raise Broken("restore", f"job {key[1]} came back in state {job.state}: {life}")
            if job.crashes > life.kills + life.losses:
                raise Broken("restore", f"job {key[1]} came back with {job.crashes} crashes: {life}")
            if not life.final:
                self._came_back(job, life)
        if known:
            raise Broken("restore", f"jobs {sorted(known)} came from nowhere")

    @staticmethod
    def _came_back(job: Job, life: JobLife) -> None:
        """A job that is not over has behind it what all records say, though most of them may be compacted."""
        if (job.crashes, job.retries) != life.spent:
            raise Broken("restore", f"job {job.counter} came back with {job.crashes}, {job.retries}: {life}")
        holder = (job.worker.nonce, job.number) if job.worker is not None else None
        if holder != (life.holder if life.held else None):
            raise Broken("restore", f"job {job.counter} came back held by {holder}: {life}")

    # ------------------------------------------------------------------------------------------ the journal's facts

    def record(self, record: Record) -> None:
        """One fact, in order."""
        self.seq += 1
        self._log.append(record)
        self._take(record, self.seq)

    def unwritten(self, record: Record) -> None:
        """One fact of jobs that are kept in memory only."""
        self._take(record, UNWRITTEN)

    def _take(self, record: Record, seq: int) -> None:
        match record:
            case Submitted():
                self._submitted(record, seq)
            case Assigned():
                self._assigned(record, seq)
            case Adopted():
                self._adopted(record)
            case Forgot():
                self.forgotten.update((record.prefix, counter) for counter in expand(record.counters))
            case Requeued():
                life = self.lives[record.prefix, record.counter]
                self._open(life, record.counter)
                life.requeues += 1
                life.held, life.spent = False, (record.crashes, record.retries)
                if life.holder is not None:
                    self.taken.append((life.holder, record.counter))
                self._outcome(record.prefix, record.counter, seq)
            case Succeeded():
                for counter, result in zip(record.counters, record.results, strict=True):
                    self._final(record.prefix, counter, states.SUCCEEDED, seq)
                    if isinstance(result, bytes):
                        self._value(record.prefix, counter, result)
            case Ended():
                self._final(record.prefix, record.counter, record.state, seq)

    def _submitted(self, record: Submitted, seq: int) -> None:
        for counter in range(record.first, record.first + len(record.args)):
            life = self.lives.setdefault((record.prefix, counter), JobLife())
            if life.submitted:
                raise Broken("once", f"job {counter} was accepted twice")
            life.submitted = seq
            self.forgotten.discard((record.prefix, counter))

    def _assigned(self, record: Assigned, seq: int) -> None:
        number, attempt = record.number, record.attempt
        for prefix, counters in record.jobs:
            for counter in counters:
                life = self.lives[prefix, counter]
                self._open(life, counter)
                if attempt <= life.attempt:
                    raise Broken("fence", f"job {counter} got attempt {attempt} after {life.attempt}")
                life.attempt = attempt
                life.assignments += 1
                if life.assignments > 1 + life.requeues:
                    raise Broken("place", f"job {counter} was assigned again without having come back")
                self.holders[record.worker, number] = (prefix, counter)
                life.holder, life.held, life.assigned = (record.worker, number), True, seq
                number += 1
                attempt += 1

    def _adopted(self, record: Adopted) -> None:
        life = self.lives[record.prefix, record.counter]
        self._open(life, record.counter)
        if record.attempt < life.attempt:
            raise Broken("fence", f"job {record.counter} went back to attempt {record.attempt} after {life.attempt}")
        life.attempt = record.attempt
        life.assignments += 1
        life.holder, life.held = (record.worker, record.number), True
        life.spent = record.crashes, life.spent[1]
        self.holders[life.holder] = record.prefix, record.counter

    def _open(self, life: JobLife, counter: int) -> None:
        if life.final:
            raise Broken("final", f"job {counter} moved on after its end")

    def _final(self, prefix: bytes, counter: int, state: int, seq: int) -> None:
        life = self.lives[prefix, counter]
        if life.final:
            raise Broken("final", f"job {counter} ended twice")
        life.final, life.state = seq, state
        if not self._again:
            life.ends.append((state, life.attempt))
        self._outcome(prefix, counter, seq)

    def _outcome(self, prefix: bytes, counter: int, seq: int) -> None:
        for holder, job in self.holders.items():
            if job == (prefix, counter):
                self.outcome_seq.setdefault(holder, max(0, seq))

    def _value(self, prefix: bytes, counter: int, value: bytes) -> None:
        expected = self.plans[prefix, counter].value(self.lives[prefix, counter].attempt)
        if value != expected:
            raise Broken("fence", f"job {counter} took {value[:80]!r}, its current attempt gives {expected[:80]!r}")

    def check_taken(self, holds: Callable[[bytes, int], bool]) -> None:
        """After a turn: nothing was taken back from a worker that is not given up and has yet to end it."""
        for (worker, number), counter in self.taken:
            if holds(worker, number):
                raise Broken("taken", f"job {counter} goes to another worker, though {worker!r} holds it as {number}")
        self.taken.clear()

    # ------------------------------------------------------------------------------------------ what leaves

    def sent(self, send: Send, durable: int, synced: int, worker: bytes | None) -> None:
        """A message leaves the scheduler while records up to `durable` are written, and those up to `synced` synced."""
        message = send.message
        if isinstance(message, Accepted):
            keys = [(message.prefix, c) for c in expand(message.counters)]
            self._shown("accepted", keys, [self.lives[key].submitted for key in keys], durable)
        elif isinstance(message, Results):
            keys = [(message.prefix, c) for c in [*message.counters, *(end.counter for end in message.ends)]]
            self._shown("results", keys, [self.lives[key].final for key in keys], durable)
        elif isinstance(message, Assign):
            keys = [(work.prefix, counter) for work in message.works for counter in work.counters]
            self._durable("assign", [self.lives[key].assigned for key in keys if key in self.at_most_once], synced)
        elif isinstance(message, DoneAck) and worker is not None:
            known = [self.outcome_seq.get((worker, n), 0) for n in expand(message.numbers)]
            self._durable("doneack", known, durable)

    def _shown(self, what: str, keys: list[JobKey], seqs: list[int], durable: int) -> None:
        self._durable(what, seqs, durable)
        for key, seq in zip(keys, seqs, strict=True):
            level = self.levels.get(key, DISK)
            if level != MEMORY:
                self.shown[level] = max(self.shown[level], seq)

    @staticmethod
    def _durable(what: str, seqs: list[int], durable: int) -> None:
        if max(seqs, default=0) > durable:
            raise Broken("durable", f"{what} left at {durable} durable records, but tells of record {max(seqs)}")

    # ------------------------------------------------------------------------------------------ children

    def started(self, key: JobKey, attempt: int, worker: bytes, number: int, time: float) -> None:
        """A child begins an attempt."""
        life = self.lives[key]
        if (worker, number) in self.dropped:
            raise Broken("drop", f"job {key[1]} began as number {number}, which its worker was told to drop")
        if attempt in life.starts:
            raise Broken("attempt", f"job {key[1]} began attempt {attempt} twice")
        if key in self.once:
            raise Broken(
                "twice", f"job {key[1]} began again, though its worker lives and came back before its submitter"
            )
        life.starts.append(attempt)
        if key in self.at_most_once and len(life.starts) > 1 + life.raised:
            raise Broken("most", f"job {key[1]} began once more, and must not: {life}")
        if self.faultless and len(life.starts) > 1 + life.raised:
            raise Broken("again", f"job {key[1]} begins once more, and nothing has gone wrong: {life}")
        if self.faultless and time < life.waits:
            raise Broken("delay", f"job {key[1]} begins at {time}, before its time: {life}")

    def raised(self, key: JobKey, until: float) -> None:
        """An attempt raises what may be tried again, and not before this time of the world."""
        life = self.lives[key]
        life.raised += 1
        life.waits = until
        if self.faultless and life.raised > 1 + self.plans[key].retries:
            raise Broken("retries", f"job {key[1]} is tried once more after {life.raised} failures")

    def given_up(self, worker: bytes) -> None:
        """The scheduler declared a worker lost: what it may have held can be charged."""
        for (nonce, _), key in self.holders.items():
            if nonce == worker and not self.lives[key].final:
                self.lives[key].losses += 1

    # ------------------------------------------------------------------------------------------ submitters

    def finished(self, submitter: str, key: JobKey, state: int, payload: bytes) -> None:
        """A submitter's job is over."""
        if (submitter, key) in self.results:
            raise Broken("final", f"{submitter} got the end of job {key[1]} twice")
        self.results[submitter, key] = state
        life = self.lives.get(key)
        ends = life.ends if life is not None else []
        if state not in [end for end, _ in ends]:
            raise Broken("result", f"the submitter got state {state} of job {key[1]}, the journal says {life}")
        if state == states.SUCCEEDED:
            plan = self.plans[key]
            if payload not in [plan.value(attempt) for end, attempt in ends if end == state]:
                raise Broken("fence", f"{submitter} got {payload[:80]!r} as the value of job {key[1]}: {life}")
        elif state == states.FAILED:
            told = read_failure(payload)
            plan = self.plans[key]
            if told.type_name == "WorkerLost":
                deaths = life.kills + life.losses
                if deaths <= plan.crash_budget and key not in self.at_most_once:
                    raise Broken("budget", f"job {key[1]} is a dead letter after {deaths} deaths")
            elif plan.fails_times <= plan.retries and plan.kind == "fail":
                raise Broken("retries", f"job {key[1]} failed with retries left")

    def finale(self, expected: set[JobKey], survivors: set[tuple[str, JobKey]]) -> None:
        """The end of the liveness phase. `survivors`: what submitters that live wait for."""
        for submitter, key in sorted(survivors):
            if (submitter, key) not in self.results:
                raise Broken(
                    "liveness", f"job {key[1]} never came back to {submitter}: {self.lives.get(key)}, {self.plans[key]}"
                )
        for key in sorted(expected):
            life = self.lives.get(key)
            if life is not None and life.submitted and not life.final:
                raise Broken("liveness", f"accepted job {key[1]} never ended: {life}, {self.plans[key]}")
            if self.restarts or life is None:
                continue  # crashes are counted in memory
            if self.plans[key].kind == "crash" and life.state == states.SUCCEEDED:
                deadly = self.plans[key].fails_times
                if deadly > self.plans[key].crash_budget:
                    raise Broken("budget", f"job {key[1]} outlived its crash budget")
