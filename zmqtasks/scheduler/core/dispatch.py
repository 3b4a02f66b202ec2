"""Who gets what: free slots first, then work in advance, then work taken back from the crowded for the hungry.

A worker holds in advance, per slot, at most `horizon` seconds of work as measured for its targets; a target that was
never measured, or takes longer, is given to free slots only. So micro-jobs flow in hundreds and long jobs are never
hoarded. Each call is O(what it assigns + profiles with work), never O(jobs) or O(workers).
"""

from itertools import islice

from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.ids import spans
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.lifecycle import seat
from zmqtasks.scheduler.core.model import Job, Line, Profile, Ref, Worker
from zmqtasks.scheduler.core.records import Assigned
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, WAITING
from zmqtasks.wire import Argument, Assign, Code, Function, Retract, Work

CHEAPEST = 1e-6  # seconds; no job is taken for less
STALL = 0.005  # seconds without an outcome after which a crowded worker's waiting jobs may be taken back
_LOOK_AHEAD = 8  # lines tried for one that may be given in advance, workers tried for one to take back from

_Plan = dict[Worker, list[Job]]


def dispatch(state: State, now: Now, fx: Effects) -> None:
    """Give ready jobs to workers with credit. Called once at the end of a turn."""
    state.balance_at = None
    for worker in list(state.quarantined):
        _end_quarantine(state, worker)
    plan: _Plan = {}
    for profile in list(state.lines.ready):
        if profile.solos:
            _serve_solos(state, profile, plan, fx)
        _feed_hungry(state, profile, plan, fx)
        _fill_roomy(state, profile, plan, fx)
    for worker, jobs in plan.items():
        if len(worker.held) == len(jobs):  # it was idle: its time without an outcome begins now
            worker.moved = now.mono
        _assign(state, worker, jobs, now, fx)
    _balance(state, now, fx)


def _pick(profile: Profile) -> Line:
    """The line whose turn it is: next queue, next submitter in it, that submitter's oldest job."""
    lines = next(iter(next(iter(profile.ready.values())).values()))
    if len(lines) == 1:
        return next(iter(lines))
    return min(lines, key=lambda line: line.jobs[0].submission.order)


def _feed_hungry(state: State, profile: Profile, plan: _Plan, fx: Effects) -> None:
    hungry = profile.hungry
    others = 0  # that have not had their share in this round
    while profile.ready and hungry:
        others = others or len(hungry)
        worker = next(iter(hungry))
        line = _pick(profile)
        share = -(-len(line) // others)
        others -= 1
        amount = min(share, worker.slots - len(worker.held) - len(worker.strays), worker.credit)
        _give(state, worker, state.lines.take(line, amount), plan, fx)
        state.lines.rotate(profile, line)
        if worker in hungry:  # others first
            del hungry[worker]
            hungry[worker] = None


def _fill_roomy(state: State, profile: Profile, plan: _Plan, fx: Effects) -> None:
    roomy = profile.roomy
    horizon = state.settings.horizon
    while profile.ready and roomy:
        line = _pick_short(state, profile, horizon)
        if line is None:
            return
        target = state.lines.head(line).submission.target
        cost = max(target.cost, CHEAPEST)
        share = -(-len(line) // len(roomy))
        given = False
        for worker in list(islice(roomy, len(roomy))):
            room = int((worker.slots * horizon - worker.load) / cost)
            amount = min(share, room, worker.credit)
            if amount <= 0:
                continue
            given = True
            _give(state, worker, state.lines.take_alike(line, amount), plan, fx)
            if not len(line) or state.lines.head(line).submission.target is not target:
                break
        state.lines.rotate(profile, line)
        if not given:
            return


def _pick_short(state: State, profile: Profile, horizon: float) -> Line | None:
    """The first line in turn whose jobs are known to be short enough to be held in advance."""
    tried = 0
    for flows in profile.ready.values():
        for lines in flows.values():
            line = next(iter(lines)) if len(lines) == 1 else min(lines, key=lambda one: one.jobs[0].submission.order)
            if 0.0 <= state.lines.head(line).submission.target.cost <= horizon:
                return line
            tried += 1
            if tried >= _LOOK_AHEAD:
                return None
    return None


def _serve_solos(state: State, profile: Profile, plan: _Plan, fx: Effects) -> None:
    """Jobs that a dead worker held run one at a time, alone on a worker that takes nothing else meanwhile."""
    for line in list(profile.solos):
        able = [w for w in profile.workers if w.route is not None and not w.draining]
        worker = next((w for w in able if w.quarantine is line), None)
        if worker is None:
            free = [w for w in able if w.quarantine is None]
            if not free:
                continue
            worker = min(free, key=lambda w: len(w.held))
            worker.quarantine = line
            state.quarantined[worker] = None
            seat(state, worker)
        if not worker.held and worker not in plan:
            _give(state, worker, state.lines.take(line, 1), plan, fx)


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
    load = 0.0
    for job in jobs:
        job.worker = worker
        job.number = number
        job.cost = max(job.submission.target.cost, CHEAPEST)
        load += min(job.cost, state.settings.horizon)
        job.cost = min(job.cost, state.settings.horizon)
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
    for index, job in enumerate(jobs):
        args = job.args
        length = len(args) if type(args) is bytes else args.size  # type: ignore[union-attr]  # a leased job has them
        if index > start and (size + length > MAX_BYTES_PER_MESSAGE or index - start >= MAX_JOBS_PER_MESSAGE):
            _send_assign(state, worker, jobs[start:index], now, fx)
            start, size = index, 0
        size += length
    _send_assign(state, worker, jobs[start:], now, fx)


def _send_assign(state: State, worker: Worker, jobs: list[Job], now: Now, fx: Effects) -> None:
    first_attempt = state.attempts + 1
    state.attempts += len(jobs)
    works: list[Work] = []
    functions: list[Function] = []
    large: list[Argument | Code] = []  # go over the bulk connection
    submission = None
    attempt = first_attempt
    counters: list[int] = []
    arguments: list[bytes] = []
    take = state.payloads.take
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
        args = job.args
        if type(args) is not bytes:
            stored = args
            args = take(args)  # type: ignore[arg-type]  # a leased job has them
            state.payloads.sent(stored)
        if len(args) > MAX_BYTES_PER_MESSAGE:
            large.append(Argument(job.number, args))
            works[-1].late.append(len(arguments))
            args = b""
        arguments.append(args)
    cause = f"given to worker {worker.name}"
    for work in works:
        state.story.tell_run(now.wall, work.prefix, work.counters, ASSIGNED, cause)
    state.record(
        fx, Assigned(worker.nonce, jobs[0].number, first_attempt, [(work.prefix, work.counters) for work in works])
    )
    assert worker.route is not None  # noqa: S101  (only connected workers have credit)
    fx.sends.append(Send(worker.route, Assign(jobs[0].number, first_attempt, works, functions)))
    fx.sends.extend(Send(worker.route, message, bulk=True) for message in large)


def _announced(function: Function, large: list[Argument | Code]) -> Function:
    """What an Assign carries of a shipped function: a large one is only announced there."""
    if len(function.blob) <= MAX_BYTES_PER_MESSAGE:
        return function
    large.append(Code(function.digest, function.blob))
    return Function(function.digest, function.name, b"")


def _same_work(work: Work, prefix: bytes, digest: bytes, name: str, codec: str) -> bool:
    return work.prefix == prefix and work.function == digest and work.task == name and work.codec == codec


def _balance(state: State, now: Now, fx: Effects) -> None:
    """Where a slot is free and no line has work for it, ask a crowded equal for half of what has not started."""
    for profile in state.lines.profiles():
        if not profile.hungry or not profile.crowded or profile.ready:
            continue
        for victim in list(islice(profile.crowded, _LOOK_AHEAD)):
            ripe = victim.moved + STALL
            if now.mono < ripe:
                _wake(state, ripe)
            elif _retract_half(state, victim, fx):
                del profile.crowded[victim]  # the next in turn is another
                profile.crowded[victim] = None
                _wake(state, now.mono + STALL)
                break


def _retract_half(state: State, victim: Worker, fx: Effects) -> bool:
    """Ask for half of what it cannot be running and was not asked for yet; whether there was any."""
    more = len(victim.held) + len(victim.strays) - victim.slots
    excess = [n for n in islice(reversed(victim.held), more) if n not in victim.asked]
    wanted = excess[: (len(excess) + 1) // 2]
    if not wanted or victim.route is None:
        return False
    victim.asked.update(wanted)
    fx.sends.append(Send(victim.route, Retract(spans(reversed(wanted)))))
    state.count("retracts")
    return True


def _wake(state: State, mono: float) -> None:
    if state.balance_at is None or mono < state.balance_at:
        state.balance_at = mono
