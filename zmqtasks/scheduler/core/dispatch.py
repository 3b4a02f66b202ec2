"""Who gets what: free slots first, then work in advance, then work taken back from the crowded for the hungry.

A worker holds in advance, per slot, at most `horizon` seconds of work as measured for its targets; a target that was
never measured, or takes longer, is given to free slots only. So micro-jobs flow in hundreds and long jobs are never
hoarded. Each call is O(what it assigns + queues with work and room), never O(jobs) or O(workers).
"""

from collections import deque
from itertools import chain, islice
from math import ceil, inf

from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.ids import spans
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.lifecycle import seat
from zmqtasks.scheduler.core.model import CHEAPEST, OS, Job, Line, Profile, Ref, Submission, Worker
from zmqtasks.scheduler.core.records import Assigned
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, WAITING
from zmqtasks.wire import Argument, Assign, Code, Function, Retract, Work

STALL = 0.005  # seconds without an outcome after which a free slot may get the waiting jobs of a crowded worker
STUCK = 0.05  # seconds after which they are taken back anyway: they wait behind long ones, and others overtake them
FAR = 5  # times the horizon: longer jobs are given to free slots only
_LOOK_AHEAD = 8  # lines tried for one that may be given in advance, workers tried for one to take back from
_SPREAD = 8  # workers that share a line's jobs in advance: with one job for each of thousands, messages cost the most

_Plan = dict[Worker, list[Job]]


def dispatch(state: State, now: Now, fx: Effects) -> None:
    """Give ready jobs to workers with credit. Called once at the end of a turn."""
    state.balance_at = inf
    if state.stalls.at <= now.mono:
        _free_stuck(state, now, fx)
    if state.journal.pending > state.settings.max_pending:
        return  # what comes of more jobs would have to wait for the disk, too: in memory
    for worker in list(state.quarantined) if state.quarantined else ():
        _end_quarantine(state, worker)
    plan: _Plan = {}
    if state.lines.ready:
        _serve_solos(state, plan, fx)
        _feed_hungry(state, plan, fx)
        _fill_roomy(state, plan, fx)
    for worker, jobs in plan.items():
        if len(worker.held) == len(jobs):  # it was idle: its time without an outcome begins now
            worker.moved = now.mono
        _assign(state, worker, jobs, now, fx)
        if not worker.watched and len(worker.held) > worker.slots:
            worker.watched = True
            state.stalls.add(now.mono + STUCK, worker)
    if state.lines.uneven:
        _balance(state, now, fx)


def _feed_hungry(state: State, plan: _Plan, fx: Effects) -> None:
    """Free slots: queues take turns, and in each its submitters, one worker's share at a time."""
    turns = deque(profile for profile in state.lines.ready if profile.flows and profile.hungry)
    others: dict[Profile, int] = {}  # workers that have not had their share in this round
    while turns:
        profile = turns.popleft()
        if not (profile.flows and profile.hungry):
            continue
        team = next(iter(profile.hungry))
        hungry = team.hungry
        left = others.get(profile) or len(hungry) * len(profile.hungry)
        others[profile] = left - 1
        worker = next(iter(hungry))
        line = next(iter(profile.flows.values())).first()
        free = worker.slots - len(worker.held) - worker.astray - worker.void
        amount = min(-(-len(line) // left), free, worker.credit)
        _give(state, worker, state.lines.take(line, amount), plan, fx)
        state.lines.rotate(profile, line)
        if worker in hungry:  # others first
            hungry.move_to_end(worker)
        if worker in team.roomy:  # it has the least to do, and is sent a message anyway: it comes first there
            team.roomy.move_to_end(worker, last=False)
        if team in profile.hungry:
            profile.hungry.move_to_end(team)
        turns.append(profile)


def _fill_roomy(state: State, plan: _Plan, fx: Effects) -> None:
    """Work in advance: queues take turns, and in each its submitters, one line for all workers at a time."""
    turns = deque(profile for profile in state.lines.ready if profile.flows and profile.roomy)
    while turns:
        profile = turns.popleft()
        if profile.flows and profile.roomy:
            line = _pick_short(profile, state.settings.horizon)
            if line is not None:
                _share_out(state, profile, line, plan, fx)
                state.lines.rotate(profile, line)
                turns.append(profile)


def _share_out(state: State, profile: Profile, line: Line, plan: _Plan, fx: Effects) -> None:
    """Some workers with room get their share of a line's first jobs of one target, one job each at least."""
    horizon = state.settings.horizon
    target = line.head().submission.target
    cost = _counted(target.cost, horizon)
    others = min(len(next(iter(profile.roomy)).roomy) * len(profile.roomy), _SPREAD)
    share = -(-len(line) // others)
    for _ in range(others):
        if not profile.roomy:
            return
        team = next(iter(profile.roomy))
        profile.roomy.move_to_end(team)
        worker = next(iter(team.roomy))
        team.roomy.move_to_end(worker)
        # rounded up, so that whoever is looked at gets something: all others are not among the roomy
        room = ceil((worker.slots * horizon - worker.load - CHEAPEST) / cost)
        amount = min(share, room, worker.credit)
        _give(state, worker, state.lines.take_alike(line, amount), plan, fx)
        if not len(line) or line.head().submission.target is not target:
            return


def _counted(cost: float, horizon: float) -> float:
    """The load of one job: so small that a slot has one in advance, however long it runs, if it gets any."""
    return min(max(cost, CHEAPEST), horizon / 2)


def _pick_short(profile: Profile, horizon: float) -> Line | None:
    """The first line in turn whose jobs are known to be short enough to be held in advance."""
    for flow in islice(profile.flows.values(), _LOOK_AHEAD):
        line = flow.first()
        if 0.0 <= line.head().submission.target.cost <= FAR * horizon:
            return line
    return None


def _serve_solos(state: State, plan: _Plan, fx: Effects) -> None:
    """Jobs that a dead worker held run one at a time, alone on a worker that takes nothing else meanwhile."""
    for profile in [profile for profile in state.lines.ready if profile.solos]:
        for line, server in list(profile.solos.items()):
            worker = server
            if worker is None or worker.quarantine is not line or worker.route is None or worker.draining:
                worker = _a_server(profile)
                if worker is None:
                    continue
                profile.solos[line] = worker
                worker.quarantine = line
                state.quarantined[worker] = None
                seat(state, worker)
            if not worker.held and worker not in plan:
                _give(state, worker, state.lines.take(line, 1), plan, fx)


def _a_server(profile: Profile) -> Worker | None:
    """The one with the least to do of a few, those with a free slot first."""
    teams = [team.hungry for team in islice(profile.hungry, _LOOK_AHEAD)]
    teams = teams or [team.able for team in islice(profile.able, _LOOK_AHEAD)]
    some = islice(chain.from_iterable(teams), _LOOK_AHEAD)
    return min(some, key=lambda worker: len(worker.held), default=None)


def _end_quarantine(state: State, worker: Worker) -> None:
    """Back to normal once the line of solo jobs is empty, or is served by another because this one cannot."""
    line = worker.quarantine
    unable = worker.route is None or worker.draining
    if line is None or (not worker.held and (unable or not len(line))):
        worker.quarantine = None
        del state.quarantined[worker]
        seat(state, worker)


def _give(state: State, worker: Worker, jobs: list[Job], plan: _Plan, fx: Effects) -> None:
    """Give jobs taken from a line to a worker; those whose arguments are not at hand wait for them instead."""
    if state.payloads.spilled:
        jobs = [job for job in jobs if _at_hand(state, job, fx)]
        if not jobs:
            return
    held = worker.held
    number = worker.next
    load = cost = 0.0
    submission = None
    for job in jobs:
        if job.submission is not submission:
            submission = job.submission
            cost = _counted(submission.target.cost, state.settings.horizon)
        job.worker = worker
        job.number = number
        job.cost = cost
        load += cost
        held[number] = job
        number += 1
    state.moves.many(jobs, ASSIGNED)
    worker.next = number
    worker.load += load
    worker.credit -= len(jobs)
    seat(state, worker)
    plan.setdefault(worker, []).extend(jobs)


def _at_hand(state: State, job: Job, fx: Effects) -> bool:
    args = job.args
    if not isinstance(args, Ref) or state.payloads.at_hand(args) is not None:
        return True
    state.moves.one(job, WAITING)
    state.payloads.load(args, fx)
    state.waiting[args.number] = job
    return False


def _assign(state: State, worker: Worker, jobs: list[Job], now: Now, fx: Effects) -> None:
    """Turn a worker's share into messages of at most 500 jobs and 64 KiB, one job at least."""
    start = size = 0
    kept = jobs[0].submission
    for index, job in enumerate(jobs):
        args = job.args
        length = len(args) if type(args) is bytes else args.size  # type: ignore[union-attr]  # a leased job has them
        submission = job.submission
        if index > start and (
            size + length > MAX_BYTES_PER_MESSAGE
            or index - start >= MAX_JOBS_PER_MESSAGE
            or (submission is not kept and not _kept_alike(submission, kept))
        ):
            _send_assign(state, worker, jobs[start:index], now, fx)
            start, size = index, 0
        kept = submission
        size += length
    _send_assign(state, worker, jobs[start:], now, fx)


def _kept_alike(one: Submission, other: Submission) -> bool:
    """Whether their assignments may travel, and be journaled, together."""
    return one.level == other.level and one.spec.acks_late == other.spec.acks_late


def _send_assign(state: State, worker: Worker, jobs: list[Job], now: Now, fx: Effects) -> None:
    first_attempt = state.attempts + 1
    state.attempts += len(jobs)
    works: list[Work] = []
    functions: list[Function] = []
    large: list[Argument | Code] = []  # go over the bulk connection
    retried: list[tuple[int, int]] = []
    submission = None
    attempt = first_attempt
    counters: list[int] = []
    arguments: list[bytes] = []
    for job in jobs:
        job.attempt = attempt
        attempt += 1
        if job.submission is not submission:
            submission = job.submission
            target = submission.target
            if target.blob is not None and target.digest not in worker.functions:
                worker.functions.add(target.digest)
                functions.append(_announced(target.blob, large))
            if not works or not _same_work(
                works[-1], submission.source.prefix, target.digest, target.name, submission.codec
            ):
                counters, arguments = [], []
                works.append(
                    Work(submission.source.prefix, target.name, target.digest, submission.codec, counters, arguments)
                )
        counters.append(job.counter)
        if job.retries:
            retried.append((job.number, job.retries))
        args = job.args
        if type(args) is not bytes or len(args) > MAX_BYTES_PER_MESSAGE:
            args = _late(state, job, works[-1], large)
        arguments.append(args)
    cause = f"given to worker {worker.name}"
    for work in works:
        state.story.tell_run(now.wall, work.prefix, work.counters, ASSIGNED, cause)
    # An Assign that is lost with a crash is a second run, never a loss: it waits for nothing. Unless there must be no
    # second run: then it is on disk before it leaves.
    late = jobs[0].submission.spec.acks_late
    level = jobs[0].submission.level
    fact = Assigned(worker.nonce, jobs[0].number, first_attempt, [(work.prefix, work.counters) for work in works])
    seq = state.record(fx, fact, min(OS, level) if late else level)
    assert worker.route is not None  # noqa: S101  (only connected workers have credit)
    message = Assign(jobs[0].number, first_attempt, works, functions, retried)
    fx.sends.append(Send(worker.route, message, 0 if late else seq))
    fx.sends.extend(Send(worker.route, message, bulk=True) for message in large)


def _late(state: State, job: Job, work: Work, large: list[Argument | Code]) -> bytes:
    """What stands in an Assign for arguments that are large, or that were loaded: their bytes if those are few."""
    args = job.args
    assert args is not None  # noqa: S101  (a leased job has them)
    data = state.payloads.take(args)
    state.payloads.sent(args)
    if len(data) <= MAX_BYTES_PER_MESSAGE:
        return data
    large.append(Argument(job.number, data))
    work.late.append(len(work.args))
    return b""


def _announced(function: Function, large: list[Argument | Code]) -> Function:
    """What an Assign carries of a shipped function: a large one is only announced there."""
    if len(function.blob) <= MAX_BYTES_PER_MESSAGE:
        return function
    large.append(Code(function.digest, function.blob))
    return Function(function.digest, function.name, b"")


def _same_work(work: Work, prefix: bytes, digest: bytes, name: str, codec: str) -> bool:
    return work.prefix == prefix and work.function == digest and work.task == name and work.codec == codec


def _free_stuck(state: State, now: Now, fx: Effects) -> None:
    """What has waited on a worker without any outcome goes back to the front of its line."""
    for _, worker in list(state.stalls.due(now.mono)):
        worker.watched = False
        more = len(worker.held) - worker.slots
        if more <= 0 or worker.route is None or state.workers.get(worker.nonce) is not worker:
            continue
        if now.mono < worker.moved + STUCK:
            worker.watched = True
            state.stalls.add(worker.moved + STUCK, worker)
            continue
        wanted = [number for number in islice(reversed(worker.held), more) if number not in worker.asked]
        if wanted:
            worker.stuck = True
            seat(state, worker)
            worker.asked.update(wanted)
            fx.sends.append(Send(worker.route, Retract(spans(reversed(wanted)))))
            state.count("retracts")


def _balance(state: State, now: Now, fx: Effects) -> None:
    """Where a slot is free and no line has work for it, ask a crowded equal for half of what has not started."""
    uneven = state.lines.uneven
    for profile in list(islice(uneven, _LOOK_AHEAD)):
        uneven.move_to_end(profile)
        if profile.flows:
            continue
        crowded = ((team, victim) for team in profile.crowded for victim in team.crowded)
        for team, victim in list(islice(crowded, _LOOK_AHEAD)):
            ripe = victim.moved + STALL
            if now.mono < ripe:
                _wake(state, ripe)
            elif _retract_half(state, profile, victim, fx):
                profile.crowded.move_to_end(team)  # the next in turn is another
                team.crowded.move_to_end(victim)
                _wake(state, now.mono + STALL)
                break
    if len(uneven) > _LOOK_AHEAD:
        _wake(state, now.mono + STALL)


def _retract_half(state: State, profile: Profile, victim: Worker, fx: Effects) -> bool:
    """Ask for half of what it cannot be running and was not asked for yet; whether there was any."""
    held, queue = victim.held, profile.queue
    more = len(held) + victim.astray + victim.void - victim.slots
    if victim.route is None or len(victim.asked) >= more:
        return False
    behind = islice(reversed(held), more)
    excess = [n for n in behind if n not in victim.asked and held[n].submission.spec.queue == queue]
    wanted = excess[: (len(excess) + 1) // 2]
    if not wanted:
        return False
    victim.asked.update(wanted)
    fx.sends.append(Send(victim.route, Retract(spans(reversed(wanted)))))
    state.count("retracts")
    return True


def _wake(state: State, mono: float) -> None:
    state.balance_at = min(state.balance_at, mono)
