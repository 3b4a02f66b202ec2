"""How a job moves on: into a line, off a worker, to its end, out of memory. Called by the verbs."""

import logging
from datetime import UTC, datetime
from zlib import crc32

from zmqtasks import payload, states
from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE
from zmqtasks.ids import spans
from zmqtasks.scheduler.core import demands
from zmqtasks.scheduler.core.demands import ABLE, HUNGRY
from zmqtasks.scheduler.core.effects import Effects, Log
from zmqtasks.scheduler.core.lines import CROWDED, ROOMY
from zmqtasks.scheduler.core.model import (
    CHEAPEST,
    MEMORY,
    CancelRequest,
    Job,
    Payload,
    Ref,
    Stray,
    Submission,
    Submitter,
    Worker,
)
from zmqtasks.scheduler.core.payloads import size, told
from zmqtasks.scheduler.core.records import Ended, Requeued
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.story import Entry
from zmqtasks.states import ABORTED, ASSIGNED, CANCELLED, DELAYED, FAILED, READY, RUNNING
from zmqtasks.task import FOREVER
from zmqtasks.wire import UNLIMITED, CancelAck, Spec
from zmqtasks.words import plural

_ENDED = {FAILED: "it failed", CANCELLED: "it was cancelled", ABORTED: "the system ended it"}
_LATEST_BACKOFF = 60  # doublings; beyond this 2**n means nothing
LONGEST_DELAY = 10 * 365 * 86_400.0  # seconds until a retry, whatever a worker says


def release(state: State, job: Job, now: Now) -> None:
    """The job is no longer its worker's: the credit and the load return."""
    worker = job.worker
    if worker is None:
        return
    del worker.held[job.number]
    worker.asked.discard(job.number)
    worker.credit += 1
    worker.load -= job.cost
    if not worker.held:
        worker.load = 0.0  # sums of floats drift; an empty worker holds nothing
    if job.state == RUNNING:
        worker.running -= 1
    job.worker = None
    if job.submission.counted:
        uncount(state, worker, job.submission, now)
    seat(state, worker)


def count(state: State, worker: Worker, submission: Submission, now: Now) -> None:
    """It holds one more job of these, which it has from an earlier life of the scheduler, or of its own connection."""
    state.limits.held(submission, now.mono)
    demands.take(worker, submission.spec.resources)


def uncount(state: State, worker: Worker, submission: Submission, now: Now) -> None:
    """A worker holds one job less of these; `seat` is due."""
    if submission.limits or state.limits.caps:
        state.limits.ended(submission, 1, now.mono)
    demands.give_back(worker, submission.spec.resources)


def seat(state: State, worker: Worker) -> None:
    """Put the worker into the right groups of its team, after its credit or load changed."""
    groups = 0
    if worker.route is not None:
        held = len(worker.held) + worker.astray + worker.void
        if held > worker.slots:
            groups = CROWDED
        if not worker.draining and worker.quarantine is None:
            groups |= ABLE
            if worker.credit > 0:
                if held < worker.slots:
                    groups |= HUNGRY
                if (
                    not (worker.stuck or worker.saved or (worker.kept is not None and demands.saves_slot(worker)))
                    and worker.load + CHEAPEST < worker.slots * state.settings.horizon
                    and held < worker.window.size
                ):
                    groups |= ROOMY
    if groups != worker.groups:
        state.lines.regroup(worker, groups)
    if worker.resources:
        state.lines.demands.refit(worker)


def end(state: State, job: Job, to: int, outcome: bytes, now: Now, fx: Effects) -> None:
    """The job is over, but not by success (that way goes in runs, in `workers.on_done`)."""
    submission = job.submission
    state.count(states.name(to))
    kept = state.payloads.keep(outcome, fx)
    where = "" if job.worker is None else f" on worker {job.worker.name}"
    release(state, job, now)
    state.dues.pop(job, None)
    state.moves.one(job, to)
    state.record(fx, Ended(submission.source.prefix, job.counter, to, told(kept), now.wall), submission.level)
    state.story.tell(Entry(now.wall, submission.source.prefix, job.counter, 1, to, _ENDED[to] + where))
    settle(state, [job], [kept], now, fx)


def settle(state: State, jobs: list[Job], outcomes: list[Payload], now: Now, fx: Effects) -> None:
    """Jobs have come to a final state: keep their outcomes for those who ask, and send them to the submitter."""
    default_expiry = now.mono + state.settings.result_ttl
    finished = state.finished.back
    state.finished_at = min(state.finished_at, default_expiry)
    total = arg_bytes = 0
    resident = [0, 0]  # bytes of outcomes in memory: of jobs that are not journaled, and of those that are
    submission: Submission | None = None
    owner: Submitter | None = None
    usual = journaled = False
    for job, outcome in zip(jobs, outcomes, strict=True):
        job.outcome = outcome
        args = job.args
        arg_bytes += len(args) if type(args) is bytes else _let_go(state, args, fx)
        job.args = None
        job.attempt = 0
        if job.submission is not submission:
            submission = job.submission
            submission.wall = now.wall
            journaled = submission.level != MEMORY
            usual = submission.spec.result_ttl < 0
            owner = submission.source.owner
            if owner is not None and owner.route is None:
                owner = None  # away: with a new connection it asks anew
            if owner is not None:
                state.dirty[owner] = None
        if type(outcome) is bytes:
            length = len(outcome)
            resident[journaled] += length
        else:
            length = size(outcome)
        total += length
        if usual:
            finished.append((default_expiry, job))
        else:
            state.expiries.add(now.mono + submission.spec.result_ttl, job)
        if owner is not None:
            job.out += 1
            (owner.small if length <= MAX_BYTES_PER_MESSAGE else owner.large).outbox.append(job)
    if state.durable:
        state.residents.back.extend(jobs)
    state.open -= len(jobs)
    state.arg_bytes -= arg_bytes
    state.results += len(jobs)
    state.result_bytes += total
    state.resident_bytes += sum(resident)
    state.pageable_bytes += resident[True]
    if state.evidence or state.cancels or state.watchers or state.progress:
        for job in jobs:
            _tell_others(state, job, fx)


def _let_go(state: State, args: Payload | None, fx: Effects) -> int:
    """Stored arguments are not needed any more; returns how many bytes they have."""
    if isinstance(args, Ref):
        state.waiting.pop(args.number, None)
    state.payloads.drop(args, fx)
    return size(args)


def _tell_others(state: State, job: Job, fx: Effects) -> None:
    """A job is over: who else waited for that, and what was only kept until then."""
    state.evidence.pop(job, None)
    state.progress.pop(job, None)
    for watcher in state.watchers.pop(job, ()):
        post(state, watcher, job)
    answer_cancels(state, job, fx)


def post(state: State, submitter: Submitter, job: Job) -> None:
    """Send the outcome of a job that is over to somebody, unless he is away: with a new connection he asks anew."""
    if submitter.route is None:
        return
    job.out += 1
    (submitter.small if size(job.outcome) <= MAX_BYTES_PER_MESSAGE else submitter.large).outbox.append(job)
    state.dirty[submitter] = None


def requeue(
    state: State, job: Job, cause: str, now: Now, fx: Effects, *, delay: float = 0.0, evidence: str = ""
) -> None:
    """The job goes back into its line, or waits for `delay` seconds first. `evidence`: of the death it was part of."""
    release(state, job, now)
    state.progress.pop(job, None)
    submission = job.submission
    if job in state.cancels:
        end(state, job, CANCELLED, payload.failure("JobCancelled", f"job {job.id} was cancelled"), now, fx)
        return
    if submission.spec.expires:  # it may be over by now: then it ends in this turn
        state.expirations.add(submission.spec.expires, submission)
    due = now.wall + delay if delay else 0.0
    fact = Requeued(
        submission.source.prefix, job.counter, job.crashes, job.retries, due, job.solo, job.attempt, evidence, delay
    )
    state.record(fx, fact, submission.level)
    if delay:
        state.dues[job] = due
        state.moves.one(job, DELAYED)
        state.backoffs.add(now.mono + delay, job)
    else:
        state.moves.one(job, READY)
        state.lines.put_back(job)
    state.story.tell(Entry(now.wall, submission.source.prefix, job.counter, 1, job.state, cause))
    state.count("requeued")


def retry(
    state: State, job: Job, failure: bytes, now: Now, fx: Effects, *, delay: float = -1.0, limit: int = -1
) -> None:
    """The attempt raised something that may be tried again: do so while retries are left.

    Args:
        state: of the scheduler.
        job: is held by a worker.
        failure: what the job ends with when no retry is left.
        now: the time.
        fx: what follows.
        delay: seconds until then, as its worker says; below 0: as its Spec says. Workers are not believed blindly.
        limit: retries that it has at most, as its worker says; -1: as its Spec says; UNLIMITED: for ever.
    """
    spec = job.submission.spec
    job.attempt = 0
    most = limit if limit >= 0 else spec.retries
    if job.retries >= most and limit != UNLIMITED:
        end(state, job, FAILED, failure, now, fx)
        return
    if delay >= 0.0:  # what is no number is not
        delay = min(delay, LONGEST_DELAY)
    else:
        delay = longest_backoff(spec, job.retries)
        if spec.jitter:
            delay *= _share(job)
    job.retries += 1
    state.count("retried")
    told = "" if limit == UNLIMITED or most >= FOREVER else f" of {most}"
    requeue(state, job, f"retry {job.retries}{told}", now, fx, delay=delay)


def longest_backoff(spec: Spec, retries: int) -> float:
    """Seconds that a job waits at most before it is tried again, after so many retries."""
    return min(spec.backoff_max, spec.backoff * 2.0 ** min(retries, _LATEST_BACKOFF))


def _share(job: Job) -> float:
    """0…1, different from job to job and from retry to retry, but the same in every run of the same history."""
    return crc32(job.submission.source.prefix + job.counter.to_bytes(4, "big") + bytes([job.retries & 255])) / 2**32


def crash(state: State, job: Job, evidence: str, now: Now, fx: Effects) -> None:
    """The job was, or may have been, running in something that died."""
    texts = state.evidence.setdefault(job, [])
    job.crashes += 1
    texts.append(f"death {job.crashes}: {evidence}")
    state.count("crashed")
    budget = job.submission.spec.crash_budget
    if not job.submission.spec.acks_late:
        _at_most_once(state, job, evidence, now, fx)
        return
    if job.crashes <= budget:
        requeue(state, job, evidence, now, fx, evidence=texts[-1])
        return
    text = (
        f"job {job.id} ({job.submission.target.name}) was running in {job.crashes} processes that died; "
        f"its crash budget is {budget}. " + "; ".join(texts)
    )
    fx.logs.append(Log(logging.WARNING, "dead-letter", text))
    end(state, job, FAILED, payload.failure("WorkerLost", text), now, fx)


def lost(state: State, job: Job, cause: str, now: Now, fx: Effects) -> None:
    """An attempt that may have begun is gone without an outcome, and nothing has died: the job is done again."""
    if job.submission.spec.acks_late or job in state.cancels:
        requeue(state, job, cause, now, fx)
    else:
        _at_most_once(state, job, cause, now, fx)


def _at_most_once(state: State, job: Job, cause: str, now: Now, fx: Effects) -> None:
    text = f"job {job.id} ({job.submission.target.name}) may have run, and is not run again (acks_late=False): {cause}"
    fx.logs.append(Log(logging.WARNING, "dead-letter", text))
    end(state, job, FAILED, payload.failure("WorkerLost", text), now, fx)


def lose(state: State, worker: Worker, why: str, now: Now, fx: Effects) -> None:
    """The worker is gone. What it held may have been running: suspects, to be run alone."""
    jobs = list(worker.held.values())
    again = f"{plural(len(jobs), 'job')} {'runs' if len(jobs) == 1 else 'run'} again elsewhere"
    fx.logs.append(Log(logging.WARNING, "worker-lost", f"worker {worker} is lost ({why}); {again}"))
    state.count("workers_lost")
    remove_worker(state, worker, fx)
    for job in reversed(jobs):  # each goes to the front of its line
        job.solo = True
        crash(state, job, f"worker {worker} was lost: {why}", now, fx)


def remove_worker(state: State, worker: Worker, fx: Effects) -> None:
    """The worker's session ends; what it still holds must be moved on by the caller."""
    state.workers.pop(worker.nonce, None)
    state.drop_route(worker, fx)
    worker.quarantine = None
    state.acks.pop(worker, None)
    for stray in list(worker.strays.values()):
        forget_stray(state, stray)
    seat(state, worker)
    state.lines.leave(worker)


def forget_stray(state: State, stray: Stray) -> None:
    """Nobody waits for the job of this attempt any more, or it has its job again: the credit returns."""
    worker = stray.worker
    del state.strays[stray.key]
    del worker.strays[stray.number]
    if stray.outcome is None:
        worker.astray -= 1
        demands.give_back(worker, stray.resources)
    state.stray_bytes -= stray.size
    worker.credit += 1
    seat(state, worker)


def answer_cancels(state: State, job: Job, fx: Effects) -> None:
    """The job is over: whoever asked to cancel it learns what became of it."""
    for request in state.cancels.pop(job, ()):
        (request.cancelled if job.state == CANCELLED else request.refused).append(job.counter)
        request.waiting -= 1
        answer_cancel(state, request, fx)


def refuse_cancels(state: State, job: Job, fx: Effects) -> None:
    """The job runs: those who did not ask by force are told so; for the others its end decides."""
    requests = state.cancels.pop(job)
    forced = [request for request in requests if request.force]
    if forced:
        state.cancels[job] = forced
    for request in requests:
        if not request.force:
            request.refused.append(job.counter)
            request.waiting -= 1
            answer_cancel(state, request, fx)


def answer_cancel(state: State, request: CancelRequest, fx: Effects) -> None:
    """Answer a Cancel once nothing of it is open."""
    if request.waiting:
        return
    told = [spans(sorted(c)) for c in (request.cancelled, request.refused, request.unknown)]
    state.answer(fx, request.submitter, CancelAck(request.request, *told))


def drop_target(state: State, submission: Submission) -> None:
    """A submission is over: its target may be forgotten when nobody else needs it."""
    target = submission.target
    target.uses -= 1
    if not target.uses:
        state.idle_targets[target.key] = None


def forget_job(state: State, job: Job, now: Now, fx: Effects) -> None:
    """The outcome expired; when the last job of a submission goes, its tombstone stays for a while."""
    submission = job.submission
    source = submission.source
    if not source.jobs.remove(job.counter, job):
        return  # it was forgotten before; another job may have its id by now
    if submission.level != MEMORY:
        state.forgotten.setdefault(source, []).append(job.counter)
    state.moves.leave(job)
    state.results -= 1
    state.result_bytes -= size(job.outcome)
    if isinstance(job.outcome, bytes):
        state.resident_bytes -= len(job.outcome)
        if submission.level != MEMORY:
            state.pageable_bytes -= len(job.outcome)
    state.payloads.drop(job.outcome, fx)
    job.outcome = None
    if job.out and source.owner is not None:
        state.dirty[source.owner] = None  # the submitter hears that it expired
    submission.live -= 1
    if submission.live == 0:
        submission.wall = now.wall
        state.lines.release(submission)
        drop_target(state, submission)
        state.tombstones.append((now.mono + state.settings.tombstone_ttl, submission))


def expired(submission: Submission) -> str:
    """What is said of jobs whose time to start is over."""
    when = datetime.fromtimestamp(submission.spec.expires, UTC).isoformat(timespec="milliseconds")
    return f"it had not started when its time was over (expires {when})"


def abort(state: State, job: Job, error: str, text: str, now: Now, fx: Effects) -> None:
    """The system ends a job that has not started. `error`: a class of zmqtasks.errors."""
    if job.state == READY:
        state.lines.remove(job)
    end(state, job, ABORTED, payload.failure(error, text), now, fx)


def cancel(state: State, job: Job, now: Now, fx: Effects) -> None:
    """Cancel a job that no worker holds."""
    if job.state == READY:
        state.lines.remove(job)
    end(state, job, CANCELLED, payload.failure("JobCancelled", f"job {job.id} was cancelled"), now, fx)


def is_leased(job: Job) -> bool:
    """Whether a worker holds it."""
    return job.state in (ASSIGNED, RUNNING)
