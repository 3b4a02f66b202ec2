"""What keeps the journal as small as what still matters: old records are written down anew, then dropped.

Every submission, shipped function and the totals have a base: the oldest record that says what still matters of them.
Once the journal has doubled, all of these are written down anew (`Kept`, `Shipped`, `Totals`) at its end, the oldest
first and a little in each turn; whatever is older than the oldest base is needed no more. A submission is at most one
message of jobs, so no step takes long. What is left when that is gone sets the limit for the next time, twice as much:
each byte is written about twice.
"""

from zmqtasks.clock import Now
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import DISK, OS, Job, Submission, Target
from zmqtasks.scheduler.core.payloads import told
from zmqtasks.scheduler.core.records import Data, Kept, Mark, Shipped, Totals
from zmqtasks.scheduler.core.state import State, Totality
from zmqtasks.states import ASSIGNED, FINAL, RUNNING, SUCCEEDED

SHARE = 2_000  # jobs that a turn writes down anew, about
COST = 20  # a submission costs as much as so many jobs, however few it has
PAUSE = 0.005  # seconds between steps while nothing else happens
TRIM = 1.0  # seconds between trims
TOTALS = 10.0  # seconds between totals while other records are written: what a kill costs the counters
BEHIND = 1_000  # records that may follow the totals before these are written down anew to let others go


def step(state: State, now: Now, fx: Effects) -> None:
    """Go on with it, if it is due. Called once a turn."""
    usage, bases = state.journal, state.bases
    if usage.renewed and usage.renewed <= state.trimmed and not usage.trimming:
        usage.renewed = 0
        usage.limit = 2 * (usage.size + usage.pending)
        write_totals(state, fx)  # they hold the limit
    if not (usage.upto or usage.renewed) and usage.size > max(usage.limit, state.settings.compact_above):
        usage.upto = state.seq
        state.count("compactions")
    if usage.upto:
        left = SHARE
        while left > 0 and bases:
            base = next(iter(bases))
            if base.seq > usage.upto:
                break
            left -= _renew(state, base, now, fx)
        if not bases or next(iter(bases)).seq > usage.upto:
            usage.upto, usage.renewed = 0, usage.upto
    if now.mono >= usage.totals_at and state.seq > state.totality.seq:
        write_totals(state, fx)
        usage.totals_at = now.mono + TOTALS
    if now.mono >= usage.trim_at:
        _trim(state, now, fx)


def write_totals(state: State, fx: Effects, level: int = OS) -> None:
    """Write down what is true of the whole scheduler, and what operators have set."""
    totality = state.totality
    fact = Totals(
        state.epoch, state.orders, state.attempts, state.payloads.last, dict(state.counters), state.journal.limit,
        dict(state.limits.told), dict(state.shares.weights), sorted(state.lines.paused),
        dict(state.limits.told_at),
    )  # fmt: skip
    totality.seq = state.record(fx, fact, level)
    state.bases[totality] = None
    state.bases.move_to_end(totality)


def _trim(state: State, now: Now, fx: Effects) -> None:
    """Say which records are not needed any more."""
    bases = state.bases
    oldest = next(iter(bases), None)
    if isinstance(oldest, Totality) and state.seq > oldest.seq + BEHIND:  # it is small, and holds up the rest
        write_totals(state, fx)
        oldest = next(iter(bases))
    if oldest is not None and oldest.seq - 1 > state.trimmed:
        state.trimmed = fx.trim = oldest.seq - 1
        state.journal.trim_at = now.mono + TRIM


def _renew(state: State, base: Submission | Target | Totality, now: Now, fx: Effects) -> int:
    """Write one down anew; returns what that cost, in jobs."""
    if isinstance(base, Totality):
        write_totals(state, fx)
        return 1
    if isinstance(base, Target):
        assert base.blob is not None  # noqa: S101  (only shipped functions are written down)
        base.seq = state.record(fx, Shipped(base.blob), DISK)
        cost = COST + len(base.blob.blob) // 1_000
    else:
        base.seq = state.record(fx, _kept(state, base, now), base.level)
        cost = COST + base.live
    state.bases.move_to_end(base)
    return cost


def _kept(state: State, submission: Submission, now: Now) -> Kept:
    """All that still matters of a submission."""
    source, target, first = submission.source, submission.target, submission.first
    owner = source.owner.prefix if source.owner is not None else source.prefix
    places: list[int] = []
    args: list[Data] = []
    marks: list[Mark] = []
    done: list[int] = []
    results: list[Data] = []
    ends: list[tuple[int, int, Data]] = []
    delivered: list[int] = []
    jobs = source.jobs
    for place in range(submission.count) if submission.live else ():
        job = jobs.get(first + place)
        if job is None or job.submission is not submission:
            continue
        if job.state not in FINAL:
            assert job.args is not None  # noqa: S101  (it is not over)
            places.append(place)
            args.append(told(job.args))
            if job.number or job.retries or job.crashes:
                marks.append(_mark(state, job, place, now))
            continue
        assert job.outcome is not None  # noqa: S101  (it is over, and known)
        if job.state == SUCCEEDED:
            done.append(place)
            results.append(told(job.outcome))
        else:
            ends.append((place, job.state, told(job.outcome)))
        if job.delivered:
            delivered.append(place)
    return Kept(
        source.prefix, first, submission.count, "" if target.digest else target.name, target.digest,
        submission.codec, submission.spec, owner, submission.digest, submission.order, submission.wall,
        places, args, marks, done, results, ends, delivered,
    )  # fmt: skip


def _mark(state: State, job: Job, place: int, now: Now) -> Mark:
    held = job.worker if job.state in (ASSIGNED, RUNNING) else None
    due = state.dues.get(job, 0.0)
    return Mark(
        place, job.crashes, job.retries, due, job.solo, job.attempt, job.number,
        held.nonce if held is not None else b"", list(state.evidence.get(job, ())), max(0.0, due - now.wall),
    )  # fmt: skip
