"""Who gets what: free slots first, then work in advance, then work taken back from the crowded for the hungry.

A worker holds in advance, per slot, at most `horizon` seconds of work as measured for its targets, and no more jobs
than are back soon (`window.py`); a target that was never measured, or takes longer, is given to free slots only. So
micro-jobs flow in hundreds and long jobs are never hoarded. Each call is O(what it assigns + queues with work and
room), never O(jobs) or O(workers).
"""

from itertools import chain, islice
from math import ceil, inf

from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.scheduler.core import ageing, demands, retracts
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.lifecycle import seat
from zmqtasks.scheduler.core.model import CHEAPEST, OS, Job, Line, Profile, Ref, Submission, Team, Worker
from zmqtasks.scheduler.core.records import Assigned
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.window import TIMED
from zmqtasks.states import ASSIGNED, WAITING
from zmqtasks.wire import Argument, Assign, Code, Function, Work

FAR = 5  # times the horizon: longer jobs are given to free slots only
_LOOK_AHEAD = 8  # lines tried for one that may be given in advance, workers tried for one to take back from
_SPREAD = 8  # workers that share a line's jobs in advance: with one job for each of thousands, messages cost the most

_Plan = dict[Worker, list[Job]]


def dispatch(state: State, now: Now, fx: Effects) -> None:
    """Give ready jobs to workers with credit. Called once at the end of a turn."""
    state.balance_at = inf
    if state.stalls.at <= now.mono:
        retracts.free_stuck(state, now, fx)
    if state.journal.pending > state.settings.max_pending:
        return  # what comes of more jobs would have to wait for the disk, too: in memory
    for worker in list(state.quarantined) if state.quarantined else ():
        _end_quarantine(state, worker)
    if state.saved:
        _let_fill(state)
    if state.lines.demands.kept or state.lines.demands.wanting:
        _keep(state, fx)
    plan: _Plan = {}
    if state.lines.ready:
        _serve_solos(state, plan, now, fx)
        _feed_hungry(state, plan, now, fx)
        _fill_roomy(state, plan, now, fx)
    for worker, jobs in plan.items():
        _carry_out(state, worker, jobs, now, fx)
    if state.lines.urgent:
        retracts.overtake(state, fx)
    if state.lines.uneven:
        retracts.balance(state, now, fx)


def _carry_out(state: State, worker: Worker, jobs: list[Job], now: Now, fx: Effects) -> None:
    """Send a worker what it was given; somebody will look how it comes along."""
    held = worker.held
    if len(held) == len(jobs):  # it was idle: its time without an outcome begins now
        worker.moved = now.mono
    _assign(state, worker, jobs, now, fx)
    if len(held) >= TIMED:
        behind = len(jobs) - 1
        work = max(0.0, worker.load - behind * jobs[-1].cost) / worker.slots
        worker.window.sent(jobs[0].number, held, len(held), behind, work, worker.done, now.mono)
    if not worker.watched and len(held) > worker.slots:
        worker.watched = True
        state.stalls.add(now.mono + retracts.STUCK, worker)


def _feed_hungry(state: State, plan: _Plan, now: Now, fx: Effects) -> None:
    """Free slots: the highest priority first; among equals queues take turns, and in each its submitters."""
    profiles = [profile for profile in state.lines.ready if profile.flows and profile.hungry]
    others: dict[Profile, int] = {}  # workers that have not had their share in this round
    if len(profiles) == 1:  # there is nobody to take turns with
        (only,) = profiles
        while only.flows and only.hungry:
            _feed_one(state, only, others, plan, now, fx)
        return
    while profiles:
        top = max(profile.top for profile in profiles)
        turns = state.shares.turns(profile for profile in profiles if profile.top == top)
        while turns:
            profile = turns.next()
            if profile.top == top and profile.hungry and _feed_one(state, profile, others, plan, now, fx):
                turns.put(profile)
        profiles = [profile for profile in profiles if profile.flows and profile.hungry]


def _feed_one(state: State, profile: Profile, others: dict[Profile, int], plan: _Plan, now: Now, fx: Effects) -> bool:
    """One worker with a free slot gets its share of the line whose turn it is; False: there was none."""
    line = next(iter(profile.flows.values())).first()
    if line.need.resources:
        return _feed_fitting(state, profile, line, plan, now, fx)
    team = next(iter(profile.hungry))
    hungry = team.hungry
    left = others.get(profile) or len(hungry) * len(profile.hungry)
    others[profile] = left - 1
    worker = next(iter(hungry))
    free = worker.slots - len(worker.held) - worker.astray - worker.void
    some = _hand_out(state, profile, line, worker, min(-(-len(line) // left), free), plan, now, fx)
    if worker in hungry:  # others first
        hungry.move_to_end(worker)
    if worker in team.roomy:  # it has the least to do, and is sent a message anyway: it comes first there
        team.roomy.move_to_end(worker, last=False)
    if team in profile.hungry:
        profile.hungry.move_to_end(team)
    return some


def _feed_fitting(state: State, profile: Profile, line: Line, plan: _Plan, now: Now, fx: Effects) -> bool:
    """A worker with a free slot, and with the resources that the line's jobs need, gets its share of them."""
    need = line.need
    demand = profile.demands[need.resources, line.level]
    fitting = demand.fitting
    keeper = demand.keeper
    worker = keeper if keeper is not None and keeper in fitting else next(iter(fitting))
    free = min(worker.slots - len(worker.held) - worker.astray - worker.void, demands.room(worker, need.resources))
    some = _hand_out(state, profile, line, worker, min(-(-len(line) // len(fitting)), free), plan, now, fx)
    if worker in fitting:  # others first
        fitting.move_to_end(worker)
    if keeper is not None:
        state.lines.demands.let_go(demand)  # it had its turn
        seat(state, keeper)
    return some


def _hand_out(
    state: State, profile: Profile, line: Line, worker: Worker, most: int, plan: _Plan, now: Now, fx: Effects
) -> bool:
    """The line has its turn: the worker gets at most so many of its first jobs; False: none may start."""
    amount = min(most, worker.credit)
    if line.limits:
        amount = min(amount, state.limits.room(line, now.mono))
    state.shares.charge(profile.queue, amount, line.head().submission.target.mean)
    taken = state.lines.take(line, amount)
    given = _give(state, worker, taken, plan, fx)
    if line.limits:
        state.limits.count(line, taken, given, now.mono)
    _end_turn(state, profile, line, now)
    return amount > 0


def _end_turn(state: State, profile: Profile, line: Line, now: Now) -> None:
    """A line has had its turn. Was it raised, its new first job says whether it still is."""
    state.lines.rotate(profile, line)
    if line.level != line.need.priority and len(line):
        ageing.settle(state, line, now)


def _keep(state: State, fx: Effects) -> None:
    """Resources of a worker are kept for what would wait for ever else; what stands before it there comes back."""
    waiting = state.lines.demands
    for worker in waiting.stale():
        seat(state, worker)
    for worker in waiting.keep():
        seat(state, worker)
        kept = worker.kept
        if kept is not None and kept.priority and demands.saves_slot(worker):
            retracts.make_way(worker, kept.priority, state, fx)


def _fill_roomy(state: State, plan: _Plan, now: Now, fx: Effects) -> None:
    """Work in advance, in the same order, one line for some workers at a time."""
    profiles = [profile for profile in state.lines.ready if profile.flows and profile.roomy]
    saved: set[Team] = set()  # they get nothing less urgent in advance: more urgent jobs wait for a free slot of theirs
    while profiles:
        top = max(profile.top for profile in profiles)
        turns = state.shares.turns(profile for profile in profiles if profile.top == top)
        while turns:
            profile = turns.next()
            if profile.top != top or not profile.roomy:
                continue
            if not profile.hungry and needs_slot(profile, state.settings.horizon):
                _save_slot(state, profile)
            line = _pick_short(profile, state.settings.horizon)
            if line is None:
                saved.update(profile.teams)
            elif profile.roomy and _share_out(state, profile, line, saved, plan, fx):
                _end_turn(state, profile, line, now)
                turns.put(profile)
        profiles = [profile for profile in profiles if profile.roomy and 0 <= profile.top < top]


def _share_out(state: State, profile: Profile, line: Line, saved: set[Team], plan: _Plan, fx: Effects) -> bool:
    """Some workers with room get their share of a line's first jobs of one target, one job each at least.

    False: nobody may have any.
    """
    horizon = state.settings.horizon
    target = line.head().submission.target
    cost = _counted(target.cost, horizon)
    others = min(len(next(iter(profile.roomy)).roomy) * len(profile.roomy), _SPREAD)
    share = -(-len(line) // others)
    given = 0
    for _ in range(others):
        team = next((team for team in profile.roomy if team not in saved), None)
        if team is None:
            break
        profile.roomy.move_to_end(team)
        worker = next(iter(team.roomy))
        team.roomy.move_to_end(worker)
        # rounded up, so that whoever is looked at gets something: all others are not among the roomy
        room = ceil((worker.slots * horizon - worker.load - CHEAPEST) / cost)
        left = worker.window.size - len(worker.held) - worker.astray - worker.void
        jobs = state.lines.take_alike(line, min(share, room, worker.credit, left))
        given += len(jobs)
        _give(state, worker, jobs, plan, fx)
        if not len(line) or line.head().submission.target is not target:
            break
    if given:
        state.shares.charge(profile.queue, given, target.mean)
    return given > 0


def _counted(cost: float, horizon: float) -> float:
    """The load of one job: so small that a slot has one in advance, however long it runs, if it gets any."""
    return min(max(cost, CHEAPEST), horizon / 2)


def _pick_short(profile: Profile, horizon: float) -> Line | None:
    """The first line in turn whose jobs are known to be short enough to be held in advance."""
    for flow in islice(profile.flows.values(), _LOOK_AHEAD):
        line = flow.first()
        if _is_short(line, horizon):
            return line
    return None


def _is_short(line: Line, horizon: float) -> bool:
    """Whether its jobs may be held in advance: they are known to be short, and nobody counts their starts."""
    return not (line.limits or line.need.resources) and 0.0 <= line.head().submission.target.cost <= FAR * horizon


def needs_slot(profile: Profile, horizon: float) -> bool:
    """Whether it is the turn of jobs that are given to free slots only."""
    return bool(profile.flows) and not _is_short(next(iter(profile.flows.values())).first(), horizon)


def _save_slot(state: State, profile: Profile) -> None:
    """One worker fills up no further: else no slot would ever be free where short jobs are plenty."""
    if profile not in state.saved:
        some = islice(chain.from_iterable(team.able for team in profile.able), _LOOK_AHEAD)
        worker = min(some, key=lambda worker: worker.load / worker.slots, default=None)
        if worker is not None and not worker.saved:
            worker.saved = True
            state.saved[profile] = worker
            seat(state, worker)


def _let_fill(state: State) -> None:
    """Workers with a saved slot fill up again where nobody needs one any more."""
    for profile, worker in list(state.saved.items()):
        unable = worker.route is None or worker.draining or worker.quarantine is not None
        if unable or not profile.teams or not needs_slot(profile, state.settings.horizon):
            del state.saved[profile]
            worker.saved = False
            seat(state, worker)


def _serve_solos(state: State, plan: _Plan, now: Now, fx: Effects) -> None:
    """Jobs that a dead worker held run one at a time, alone on a worker that takes nothing else meanwhile."""
    for profile in [profile for profile in state.lines.ready if profile.solos]:
        for line, server in list(profile.solos.items()):
            if line.shut:  # by one of those before it, which is under the same limit
                continue
            worker = server or _server_of(state, profile, line)
            if worker is None or worker.quarantine is not line or _unable(worker, line):
                worker = _a_server(profile)
                if worker is None:
                    continue
                worker.quarantine = line
                state.quarantined[worker] = None
                seat(state, worker)
            profile.solos[line] = worker
            if not worker.held and worker not in plan:
                taken = state.lines.take(line, 1)
                given = _give(state, worker, taken, plan, fx)
                if line.limits:
                    state.limits.count(line, taken, given, now.mono)


def _server_of(state: State, profile: Profile, line: Line) -> Worker | None:
    """Who serves it already: a limit that was reached has taken the line out of the index, which knew that."""
    return next((one for one in state.quarantined if one.quarantine is line and one.team in profile.teams), None)


def _unable(worker: Worker, line: Line) -> bool:
    """Whether a worker cannot serve this line any more."""
    return worker.route is None or worker.draining or line.need.queue not in worker.queues


def _a_server(profile: Profile) -> Worker | None:
    """The one with the least to do of a few, those with a free slot first."""
    teams = [team.hungry for team in islice(profile.hungry, _LOOK_AHEAD)]
    teams = teams or [team.able for team in islice(profile.able, _LOOK_AHEAD)]
    some = islice(chain.from_iterable(teams), _LOOK_AHEAD)
    return min(some, key=lambda worker: len(worker.held), default=None)


def _end_quarantine(state: State, worker: Worker) -> None:
    """Back to normal once the line of solo jobs is empty, or is served by another because this one cannot."""
    line = worker.quarantine
    if line is None or (not worker.held and (_unable(worker, line) or not len(line))):
        worker.quarantine = None
        del state.quarantined[worker]
        seat(state, worker)


def _give(state: State, worker: Worker, jobs: list[Job], plan: _Plan, fx: Effects) -> int:
    """Give jobs taken from a line to a worker; those whose arguments are not at hand wait for them instead.

    Returns how many were given.
    """
    if state.payloads.spilled:
        jobs = [job for job in jobs if _at_hand(state, job, fx)]
    if not jobs:
        return 0
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
    resources = jobs[0].submission.spec.resources  # jobs of one line need the same
    if resources:
        demands.take(worker, resources, len(jobs))
    state.moves.many(jobs, ASSIGNED)
    worker.next = number
    worker.load += load
    worker.credit -= len(jobs)
    seat(state, worker)
    plan.setdefault(worker, []).extend(jobs)
    return len(jobs)


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
    again: list[int] = []
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
            if not works or not _same_work(works[-1], submission):
                counters, arguments = [], []
                works.append(_work(submission, counters, arguments))
        counters.append(job.counter)
        if job.retries:
            retried.append((job.number, job.retries))
        if job.crashes or job.solo:
            again.append(job.number)
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
    seq = 0
    if state.recording:
        fact = Assigned(worker.nonce, jobs[0].number, first_attempt, [(work.prefix, work.counters) for work in works])
        seq = state.record(fx, fact, min(OS, level) if late else level)
    assert worker.route is not None  # noqa: S101  (only connected workers have credit)
    message = Assign(jobs[0].number, first_attempt, works, functions, retried, again)
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


def _work(submission: Submission, counters: list[int], arguments: list[bytes]) -> Work:
    target, priority = submission.target, submission.urgency
    prefix, codec = submission.source.prefix, submission.codec
    spec = submission.spec
    return Work(
        prefix, target.name, target.digest, codec, counters, arguments, [], priority, spec.resources, spec.queue
    )  # fmt: skip


def _same_work(work: Work, submission: Submission) -> bool:
    target = submission.target
    return (
        work.prefix == submission.source.prefix
        and work.function == target.digest
        and work.task == target.name
        and work.codec == submission.codec
        and work.priority == submission.urgency
        and work.queue == submission.spec.queue
        and work.resources == submission.spec.resources
    )
