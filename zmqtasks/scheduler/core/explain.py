"""Why a job is where it is, in sentences for people."""

from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final

from zmqtasks import payload, resources
from zmqtasks.clock import Now
from zmqtasks.scheduler.core import ahead, holders, rows, unserved
from zmqtasks.scheduler.core.model import Job, Line, Worker
from zmqtasks.scheduler.core.payloads import size
from zmqtasks.scheduler.core.quotas import Rate
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ABORTED, ASSIGNED, CANCELLED, DELAYED, FAILED, READY, RUNNING, SUCCEEDED, WAITING
from zmqtasks.task import FOREVER
from zmqtasks.words import duration, plural

LOOK: Final = 100_000  # outcomes among which that of a job is looked for, to say how long it is kept
NAMES: Final = 5  # workers that are named
_LACKING: Final = "they have not got all free that it needs, or no slot"
FIRST_LINE: Final = 500  # characters of an error that are told


def unknown(state: State, prefix: bytes, counter: int) -> list[str]:
    """Why the scheduler knows no job of an id."""
    stray = state.strays.get((prefix, counter))
    if stray is not None:
        return [
            f"An earlier life of the scheduler gave this job to worker {stray.worker}, which still has it.",
            "This life was not told of the job: submitted again with the same id, it goes on there.",
        ]
    if state.remembers(prefix, counter):
        return ["This job is over and its outcome was dropped: it was kept as long as its result_ttl says."]
    told = ["The scheduler knows no job of this id."]
    if not state.durable:
        told.append("It keeps jobs in memory only: those of before its last start are forgotten.")
    return told


def reasons(state: State, job: Job, now: Now) -> list[str]:
    """Where the job is, why, and what it waits for."""
    return _TELL[job.state](state, job, now) + _past(state, job, now)


def _past(state: State, job: Job, now: Now) -> list[str]:
    """What was said of it, or happened to it, before that still matters."""
    if job.final:
        return []
    told = []
    spec = job.submission.spec
    if spec.expires and job.state != RUNNING:
        told.append(f"It expires if it has not started in {duration(max(0.0, spec.expires - now.wall))}.")
    if job in state.cancels:
        told.append("Somebody asked to cancel it; its worker has not answered yet.")
    if job.retries:
        allowed = "; 1 retry is allowed" if spec.retries == 1 else f"; {spec.retries:,} retries are allowed"
        told.append(f"It failed {plural(job.retries, 'time')} before{allowed if _limited(job) else ''}.")
    if job.crashes:
        where = "a process" if job.crashes == 1 else f"{job.crashes:,} processes"
        told.append(f"It was running in {where} that died; its crash budget is {spec.crash_budget}.")
    told += [f"{text[:1].upper()}{text[1:]}." for text in state.evidence.get(job, ())]
    return told


def _limited(job: Job) -> bool:
    """Whether the Spec says how often it is tried again; a job that asks for it is counted by its worker."""
    return job.retries <= job.submission.spec.retries < FOREVER


# ------------------------------------------------------------------------------------------------ before the start


def _waiting(state: State, job: Job, now: Now) -> list[str]:
    return [f"Its turn has come; the {size(job.args):,} bytes of its arguments are being loaded from the journal."]


def _delayed(state: State, job: Job, now: Now) -> list[str]:
    when = rows.due(state, job, now)
    left = f"for another {duration(max(0.0, when - now.wall))}" if when else "until its time has come"
    spec = job.submission.spec
    if spec.not_before > now.wall:
        return [f"It is delayed {left}: it was submitted with a time before which it must not start."]
    which = f"retry {job.retries} of {spec.retries}" if _limited(job) else f"retry {job.retries}"
    return [f"It is delayed {left}: its last attempt failed, and {which} waits."]


def _ready(state: State, job: Job, now: Now) -> list[str]:
    line = state.lines.line_of(job.submission, solo=job.solo)
    found = ahead.look(state, job)
    told = [f"It is ready in queue {line.need.queue!r}{_urgency(line)}; {ahead.before(found)}."]
    told += ahead.turns(state, line, found)
    told += _limits(state, line, job, now)
    if line.need.resources:
        told.append(f"It needs {resources.show(line.need.resources)} of its worker.")
    if line.solo:
        told.append(
            "A worker died that held it: it runs alone on a worker, one such job at a time, when that worker is empty."
        )
    if not line.profiles:
        why = unserved.why(state, line)
        return [*told, f"Nobody can run it now: {why}".rstrip("?.") + "."]
    held = line.need.queue in state.lines.paused or any(limit.room(now.mono) < 1 for limit in line.limits)
    return told + _workers(line, held=held)


def _urgency(line: Line) -> str:
    own = line.need.priority
    if line.level != own:
        return f" with priority {own}, and counts as {line.level} since it has waited so long"
    return f" with priority {own}" if own else ""


def _limits(state: State, line: Line, job: Job, now: Now) -> list[str]:
    """Which limits the line is under, which of them hold it up, and who is in its way."""
    told = []
    if line.need.queue in state.lines.paused:
        told.append(f"Queue {line.need.queue!r} is paused: no job of it starts until somebody resumes it.")
    for limit in line.limits:
        key = f" with the key {limit.key[2]!r}" if limit.key[2] else ""
        if isinstance(limit, Rate):
            if limit.interval:
                starts = f"Its jobs{key} may start {_rate(limit.interval)}"
                told.append(f"{starts}; {ahead.of_rate(limit, line, job, now)}.")
        elif limit.limit:
            who = f": {holders.of_cap(state, limit.key)}" if limit.running >= limit.limit else ""
            do = "does" if limit.running == 1 else "do"
            told.append(f"Of its jobs{key} {limit.limit:,} may run at once; {limit.running:,} {do}{who}.")
    return told


def _rate(interval: float) -> str:
    return f"{1 / interval:,.6g} times a second" if interval <= 1 else f"once in {duration(interval)}"


def _workers(line: Line, *, held: bool) -> list[str]:
    """Who could run a job of this line, and why not now. `held`: by a limit or a pause, so not for want of a worker."""
    able = [worker for profile in line.profiles for team in profile.teams for worker in team.workers]
    told = [f"{plural(len(able), 'worker')} can run it: {_names(able)}."]
    groups: dict[str, list[Worker]] = {}
    for worker in able:
        groups.setdefault(_obstacle(worker, line), []).append(worker)
    if len(groups) > NAMES:  # they differ in what they have free
        able_now, others = groups.pop("", []), list(chain.from_iterable(groups.values()))
        who = holders.of_resources(others, {name for name, _ in line.need.resources})
        groups = {"": able_now, _LACKING + (f" (taken by {who})" if who else ""): others}
        groups = {why: workers for why, workers in groups.items() if workers}
    for why, workers in groups.items():
        if not why and held:
            told.append(f"There is room for it on {_names(workers)}.")
        elif not why:
            told.append(f"{_names(workers)} can take it now: it goes out as soon as its turn comes.")
        elif len(groups) == 1:
            told.append(f"Not now: {why}.")
        else:
            told.append(f"Not now on {_names(workers)}: {why}.")
    return told


def _obstacle(worker: Worker, line: Line) -> str:
    """Why a worker cannot take a job of this line now; empty: it can."""
    if worker.route is None:
        return "its connection broke, and it is not back yet"
    if worker.draining:
        return "it is shutting down and takes no new jobs"
    if worker.quarantine is not None and worker.quarantine is not line:
        return "it runs jobs alone that were held by a worker that died"
    scarce = _scarce(worker, line) if line.need.resources else ""
    if scarce:
        return scarce
    if len(worker.held) + worker.astray + worker.void >= worker.slots:
        return "all slots are taken"
    return "" if worker.credit > 0 else "it holds as many jobs as it may"


def _scarce(worker: Worker, line: Line) -> str:
    """Which of the resources that a job needs it has not got free; empty: it has all."""
    totals = dict(worker.resources)
    lacking = [name for name, amount in line.need.resources if worker.free.get(name, 0) < amount]
    if lacking:
        told = [
            f"of its {name} {resources.show_amount(totals.get(name, 0))}, "
            f"{resources.show_amount(max(0, worker.free.get(name, 0)))} is free"
            for name in lacking
        ]
        kept = worker.kept is not None and line in worker.kept.lines
        who = holders.of_resources([worker], set(lacking))
        taken = f" (taken by {who})" if who else ""
        return " and ".join(told) + taken + (", and what comes free there is kept for such jobs" if kept else "")
    kept_for = worker.kept
    if kept_for is not None and line not in kept_for.lines and worker not in _able(worker, line):
        needs = resources.show(kept_for.resources)
        first = next((waiting.head().id for waiting in kept_for.lines if len(waiting)), "")
        return (
            f"what it needs is kept there for jobs that have waited longer, and need {needs} each"
            f"{f' (the first is {first})' if first else ''}"
        )
    return ""


def _able(worker: Worker, line: Line) -> Iterable[Worker]:
    """Workers that may be given jobs of this line, among those of its profiles that this one is of."""
    for profile in line.profiles:
        if worker.team in profile.teams:
            demand = profile.demands.get((line.need.resources, line.level))
            return demand.able if demand is not None else ()
    return ()


def _names(workers: list[Worker]) -> str:
    names = [worker.name for worker in islice(workers, NAMES)]
    more = len(workers) - len(names)
    return ", ".join(names) + (f" and {more:,} more" if more else "")


# ------------------------------------------------------------------------------------------------ at a worker, over


def _leased(state: State, job: Job, now: Now) -> list[str]:
    worker = job.worker
    if worker is None:  # it cannot be; a question must not be what finds that out
        return []
    prefix = job.submission.source.prefix
    since = state.story.latest({prefix: [job.counter]}, ASSIGNED).get((prefix, job.counter))
    long = "" if since is None else f" for {duration(max(0.0, now.wall - since))}"
    if job.state == RUNNING:
        told = [f"It runs on worker {worker}, which has had it{long}." if long else f"It runs on worker {worker}."]
    else:
        before = sum(1 for number in worker.held if number < job.number)
        told = [f"Worker {worker} has had it{long} and has not said yet that it runs."]
        if before:
            others = f"{plural(before, 'job')} {'is' if before == 1 else 'are'}"
            told.append(f"Of what this worker got before, {others} not over; it has {plural(worker.slots, 'slot')}.")
    if job.submission.spec.resources:
        told.append(f"It takes {resources.show(job.submission.spec.resources)} of what this worker has.")
    if worker.route is None:
        left = worker.heard + state.settings.lease - now.mono
        told.append(
            f"The connection of that worker broke: if it is not back in {duration(max(0.0, left))}, "
            "the job runs again elsewhere."
        )
    elif job.number in worker.asked:
        told.append("The scheduler has asked for it back, for a worker that has nothing to do.")
    return told


def _over(state: State, job: Job, now: Now) -> list[str]:
    told = [f"{_END[job.state]}{_failure(state, job)}."]
    told += _kept(state, job, now)
    owner = job.submission.source.owner
    if job.out and owner is not None and owner.route is None:
        told.append("Its submitter left before it came; whoever asks for it gets it.")
    elif job.out:
        told.append("Its outcome is on the way to a submitter that has not said yet that it arrived.")
    return told


def _failure(state: State, job: Job) -> str:
    """The first line of what it failed with."""
    if job.state == SUCCEEDED:
        return f", with a result of {plural(size(job.outcome), 'byte')}"
    data = job.outcome if isinstance(job.outcome, bytes) else job.outcome and state.payloads.at_hand(job.outcome)
    if not data:
        return ""
    failure = payload.read_failure(data)
    first_line = failure.text.partition("\n")[0][:FIRST_LINE]
    return f": {failure.type_name}: {first_line}".rstrip(": .")


def _kept(state: State, job: Job, now: Now) -> list[str]:
    ttl = job.submission.spec.result_ttl
    if ttl < 0:
        ttl = state.settings.result_ttl
        recent = islice(reversed(state.finished), LOOK)
        expiry = next((when for when, other in recent if other is job), None)
    else:
        expiry = state.expiries.when(job, LOOK)
    if expiry is None:
        return []
    ago, left = max(0.0, ttl - (expiry - now.mono)), max(0.0, expiry - now.mono)
    return [f"That was {duration(ago)} ago; its outcome is kept for another {duration(left)}, if there is room."]


_END: Final = {
    SUCCEEDED: "It succeeded",
    FAILED: "It failed",
    CANCELLED: "It was cancelled",
    ABORTED: "The system ended it",
}
_TELL: Final[dict[int, Callable[[State, Job, Now], list[str]]]] = {
    WAITING: _waiting,
    DELAYED: _delayed,
    READY: _ready,
    ASSIGNED: _leased,
    RUNNING: _leased,
    **dict.fromkeys(_END, _over),
}
