"""What must hold after every turn, as conservation laws: nothing is created, lost or in two places."""

from zmqtasks.scheduler.core.demands import may_have
from zmqtasks.scheduler.core.model import NO_FLOWS, Job, Worker
from zmqtasks.scheduler.core.needs import CAP, LimitKey
from zmqtasks.scheduler.core.payloads import size
from zmqtasks.scheduler.core.quotas import Cap
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, DELAYED, FINAL, READY, RUNNING, WAITING


def check(state: State) -> None:
    """Raises AssertionError, naming the law and the culprit."""
    places = _lines(state)
    for worker in state.workers.values():
        _worker(worker)
        for number, job in worker.held.items():
            assert job.worker is worker, f"place: job {job.id} is held by {worker} but points to {job.worker}"
            assert job.number == number, f"place: job {job.id} has number {job.number}, held as {number}"
            places[job] = places.get(job, 0) + 1
    counts = [0] * len(state.moves.counts)
    open_jobs = results = result_bytes = 0
    for source in state.sources.values():
        live = 0
        for job in source.jobs:
            assert source.jobs.get(job.counter) is job, f"index: job {job.id} stands in another's place"
            counts[job.state] += 1
            live += 1
            _job(state, job, places.get(job, 0))
            if job.state in FINAL:
                results += 1
                result_bytes += size(job.outcome)
            else:
                open_jobs += 1
        tombs = sum(s.live for s in source.submissions.values())
        assert tombs == live, f"submissions: {live} jobs of {source.prefix.hex()}, {tombs} counted"
        assert list(source.firsts) == sorted(source.submissions), "submissions: the index of first counters is wrong"
    assert counts == state.moves.counts, f"counts: {counts} jobs by state, counted {state.moves.counts}"
    assert open_jobs == state.open, f"open: {open_jobs} open jobs, counted {state.open}"
    assert results == state.results, f"results: {results} kept, counted {state.results}"
    assert result_bytes == state.result_bytes, f"results: {result_bytes} bytes kept, counted {state.result_bytes}"
    args = sum(size(j.args) for s in state.sources.values() for j in s.jobs)
    assert args == state.arg_bytes, f"bytes: {args} of arguments, counted {state.arg_bytes}"
    _strays(state)
    _ways(state)
    _limits(state)
    _resources(state)
    for job in state.progress:
        assert job.state in (ASSIGNED, RUNNING), f"progress: job {job.id} is not leased, yet its progress is kept"
    blobs = sum(len(target.blob.blob) for target in state.targets.values() if target.blob is not None)
    assert blobs == state.function_bytes, f"functions: {blobs} bytes kept, counted {state.function_bytes}"
    for job in state.cancels:
        assert job.state in (ASSIGNED, RUNNING), f"cancel: job {job.id} is not leased, yet a cancel waits for it"


def _strays(state: State) -> None:
    for key, stray in state.strays.items():
        assert stray.worker.strays.get(stray.number) is stray, f"stray: {stray.worker} does not hold {key}"
        assert state.find(*key) is None, f"stray: job {key} is known and waits to be adopted"
    for worker in state.workers.values():
        open_ones = sum(1 for stray in worker.strays.values() if stray.outcome is None)
        assert worker.astray == open_ones, f"stray: {open_ones} of {worker} are not over, counted {worker.astray}"
    held = sum(len(worker.strays) for worker in state.workers.values())
    assert held == len(state.strays), f"stray: workers hold {held}, {len(state.strays)} wait to be adopted"
    stray_bytes = sum(stray.size for stray in state.strays.values())
    assert stray_bytes == state.stray_bytes, f"stray: outcomes of {stray_bytes} bytes, counted {state.stray_bytes}"


def _ways(state: State) -> None:
    """An outcome is on as many ways as submitters are being sent it."""
    out: dict[Job, int] = {}
    for submitter in state.submitters.values():
        told = sum(count for spans in submitter.accepted.values() for _, count in spans)
        assert submitter.news == told, f"accepted: {submitter.news} jobs are news to a submitter, {told} stand there"
        for lane in (submitter.small, submitter.large):
            for job in (*lane.outbox, *(job for _, jobs, _ in lane.unacked for job in jobs)):
                out[job] = out.get(job, 0) + 1
    for source in state.sources.values():
        for job in source.jobs:
            assert job.out == out.get(job, 0), f"out: job {job.id} is on {out.get(job, 0)} ways, counted {job.out}"


def _limits(state: State) -> None:
    """A cap counts what workers hold; a line is shut by as many limits as are reached."""
    running: dict[LimitKey, int] = {}
    for worker in state.workers.values():
        for job in worker.held.values():
            keys = job.submission.limits
            task = job.submission.target.key
            if task in state.limits.caps and all(key[0] != CAP for key in keys):
                keys += ((CAP, task, ""),)
            for key in keys:
                running[key] = running.get(key, 0) + 1
    for limit in state.limits.all():
        if isinstance(limit, Cap):
            held = running.get(limit.key, 0)
            assert held == limit.running, f"cap: {held} jobs of {limit.key} are held, counted {limit.running}"
    for line in state.lines.all():
        shut = sum(limit.shut for limit in line.limits) + (line.need.queue in state.lines.paused)
        assert shut == line.shut, f"limit: {shut} of the limits of {line.need} are reached, counted {line.shut}"


def _resources(state: State) -> None:
    """What a worker has free and what its jobs take is what it has; who is given what is told by that."""
    demands = state.lines.demands
    for worker in state.workers.values():
        if worker.team is None:
            continue
        free = dict(worker.resources)
        running = [stray.resources for stray in worker.strays.values() if stray.outcome is None]
        for taken in (*running, *(job.submission.spec.resources for job in worker.held.values())):
            for name, amount in taken:
                free[name] = free.get(name, 0) - amount
        told = {**dict.fromkeys(free, 0), **worker.free}
        assert told == {**dict.fromkeys(told, 0), **free}, f"resources: {worker} has {free} free, counted {worker.free}"
        kept = worker.kept
        assert kept is None or (kept.keeper is worker and kept in demands.kept), f"keeper: {worker} is kept for nobody"
    for profile in state.lines.profiles():
        for demand in profile.demands.values():
            able = [w for team in profile.teams for w in team.able if may_have(w, demand)]
            assert set(able) == set(demand.able), f"demand: others are able to serve {demand.resources}"
            fitting = {w for w in able if w in (w.team.hungry if w.team else ())}
            assert fitting == set(demand.fitting), f"demand: others have a slot for {demand.resources}"
            wants = bool(demand.lines) and not fitting
            assert wants == (demand in demands.wanting), f"demand: {demand.resources} wants, or does not"
            assert demand.keeper is None or profile.kept is demand, f"keeper: two are kept in {profile.queue}"


def _lines(state: State) -> dict[Job, int]:
    places: dict[Job, int] = {}
    for line in state.lines.all():
        standing = [job for job in line.jobs if job not in line.gone]
        assert len(standing) == len(line), f"line: {len(standing)} jobs stand in {line.need}, it counts {len(line)}"
        for job in standing:
            assert job.state == READY, f"line: job {job.id} stands in a line in state {job.state}"
            places[job] = places.get(job, 0) + 1
        for profile in state.lines.profiles():
            served = profile.serves(line.need)
            assert (profile in line.profiles) == served, f"line: {line.need} and its profiles disagree"
            level = profile.levels.get(line.level, NO_FLOWS)
            index = profile.solos if line.solo else level.get(line.turn, ())
            waits = False
            if served and line.need.resources and not line.solo and len(line) and not line.shut:
                demand = profile.demands[line.need.resources, line.level]
                assert line in demand.lines, f"demand: {line.need} is not among those that wait for it"
                waits = not demand.fitting
            assert (line in index) == (served and len(line) > 0 and not line.shut and not waits), (
                f"line: {line.need} is indexed wrongly"
            )
    for profile in state.lines.profiles():
        assert profile.top == max(profile.levels, default=-1), "line: the highest priority is another"
        assert profile.flows is profile.levels.get(profile.top, NO_FLOWS), "line: the most urgent lines are others"
        assert (profile.top > 0) == (profile in state.lines.urgent), "line: the profiles with urgent work are others"
        assert all(profile.levels.values()), "line: a priority without lines is remembered"
        assert profile.feasible == (profile in state.lines.ready), "line: the rotation is not that of work and room"
        uneven = bool(profile.hungry and profile.crowded)
        assert uneven == (profile in state.lines.uneven), "line: the profiles to be balanced are others"
    return places


def _worker(worker: Worker) -> None:
    held = len(worker.held) + len(worker.strays)
    assert worker.credit + held == worker.offered, (
        f"credit: {worker} offered {worker.offered}, has {worker.credit} and holds {held}"
    )
    if worker.team is not None:
        served, told = sorted(worker.team.key[0]), sorted(set(worker.queues))
        assert served == told, f"consumers: {worker} takes from {told}, and serves {served}"
    assert worker.credit >= 0, f"credit: {worker} is overdrawn"
    window = worker.window
    assert window.least <= window.size <= window.most, f"window: {worker} has one of {window.size}"
    roomy = worker.team is not None and worker in worker.team.roomy
    assert not roomy or len(worker.held) < window.size, f"window: {worker} is full and may be given more in advance"
    load = sum(job.cost for job in worker.held.values())
    assert abs(load - worker.load) < 1e-6, f"load: {worker} holds {load} s of work, counted {worker.load}"
    running = sum(1 for job in worker.held.values() if job.state == RUNNING)
    assert running == worker.running, f"running: {running} on {worker}, counted {worker.running}"
    assert list(worker.held) == sorted(worker.held), f"held: the numbers of {worker} are out of order"


def _job(state: State, job: Job, places: int) -> None:
    if job.state in FINAL:
        assert places == 0, f"place: job {job.id} is over and still stands somewhere"
        assert job.outcome is not None, f"outcome: job {job.id} is over without one"
        assert job.worker is None, f"place: job {job.id} is over and still leased"
        assert job.args is None, f"memory: job {job.id} is over and keeps its arguments"
        return
    assert job.outcome is None, f"outcome: job {job.id} has one and is not over"
    assert job.args is not None, f"memory: job {job.id} has lost its arguments"
    expected = 1 if job.state in (READY, ASSIGNED, RUNNING) else 0
    assert places == expected, f"place: job {job.id} (state {job.state}) stands in {places} places, not {expected}"
    if job.state in (ASSIGNED, RUNNING):
        assert 0 < job.attempt <= state.attempts, (
            f"fence: job {job.id} is leased under attempt {job.attempt:#x}, which nobody gave out"
        )
    if job.state == WAITING:
        assert job in state.waiting.values(), f"place: job {job.id} waits for nothing"
    if job.state in (WAITING, DELAYED):
        assert job.worker is None, f"place: job {job.id} waits and is leased"
