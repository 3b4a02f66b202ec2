"""Outcomes on their way to submitters, within a window, and how long they are kept."""

from collections import deque
from math import inf

from zmqtasks import payload
from zmqtasks.clock import Now
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.ids import spans
from zmqtasks.scheduler.core import lifecycle, paging
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import MEMORY, OS, Job, Ref, Submission, Submitter
from zmqtasks.scheduler.core.payloads import size
from zmqtasks.scheduler.core.records import Forgot
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import FAILED, SUCCEEDED
from zmqtasks.wire import JobEnd, Results, Unknown

LITTLE = 100  # outcomes
_LOST = "it is over, but the scheduler cannot read its stored result any more: the file is damaged or gone"


def flows(state: State, submitter: Submitter) -> bool:
    """Whether all that waits for a submitter is little, and surely goes out in this turn."""
    lane, settings = submitter.small, state.settings
    if submitter.large.outbox or len(lane.outbox) > LITTLE or state.payloads.spilled:
        return False
    waiting = sum(size(job.outcome) for job in lane.outbox)
    return (
        lane.flying + LITTLE <= settings.results_window and lane.flying_bytes + waiting < settings.results_window_bytes
    )


def flush_results(state: State, submitter: Submitter, fx: Effects) -> None:
    """Send what the windows allow, in messages of at most 500 jobs and 64 KiB, one job at least."""
    settings = state.settings
    for lane, window in (
        (submitter.small, settings.results_window_bytes),
        (submitter.large, settings.large_window_bytes),
    ):
        while (
            lane.outbox
            and submitter.route is not None
            and lane.flying < settings.results_window
            and lane.flying_bytes < window
        ):
            jobs, total = _next_message(state, submitter, lane.outbox, fx)
            if not jobs:  # its bytes are being loaded; order is kept
                state.blocked[submitter] = None
                break
            delivery = lane.next_delivery
            lane.next_delivery += 1
            lane.unacked.append((delivery, jobs, total))
            lane.flying += len(jobs)
            lane.flying_bytes += total
            after = state.seq if jobs[0].submission.level != MEMORY else 0
            fx.sends.append(Send(submitter.route, _results(state, delivery, jobs, bulk=lane.bulk), after, lane.bulk))


def _next_message(state: State, submitter: Submitter, outbox: deque[Job], fx: Effects) -> tuple[list[Job], int]:
    """Jobs of one prefix and codec for one message, and their bytes."""
    jobs: list[Job] = []
    total = 0
    submission: Submission | None = None
    while outbox and len(jobs) < MAX_JOBS_PER_MESSAGE:
        job = outbox[0]
        outcome = job.outcome
        if outcome is None:  # it expired while it waited
            outbox.popleft()
            state.answer(fx, submitter, Unknown(job.submission.source.prefix, [(job.counter, 1)], True))
            continue
        if job.submission is not submission:
            if submission is not None and not _alike(submission, job.submission):
                break
            submission = job.submission
        if type(outcome) is bytes:
            length = len(outcome)
        else:
            length = size(outcome)
            if state.payloads.at_hand(outcome) is None:
                if not jobs and isinstance(outcome, Ref):
                    state.payloads.load(outcome, fx)
                break
        if jobs and total + length > MAX_BYTES_PER_MESSAGE:
            break
        total += length
        jobs.append(outbox.popleft())
    return jobs, total


def _alike(one: Submission, other: Submission) -> bool:
    return one.source is other.source and one.codec == other.codec and one.level == other.level


def _results(state: State, delivery: int, jobs: list[Job], *, bulk: bool) -> Results:
    take = state.payloads.take
    counters: list[int] = []
    values: list[bytes] = []
    ends: list[JobEnd] = []
    for job in jobs:
        outcome = job.outcome
        data = outcome if type(outcome) is bytes else take(outcome)  # type: ignore[arg-type]  # final jobs have one
        if type(outcome) is not bytes and state.payloads.is_lost(outcome):
            ends.append(JobEnd(job.counter, FAILED, payload.failure("PayloadLost", f"job {job.id}: {_LOST}")))
        elif job.state == SUCCEEDED:
            counters.append(job.counter)
            values.append(data)
        else:
            ends.append(JobEnd(job.counter, job.state, data))
    if state.payloads.spilled:
        for job in jobs:  # only now: a job may stand here twice, for somebody who asked twice
            state.payloads.sent(job.outcome)
    submission = jobs[0].submission
    return Results(delivery, submission.source.prefix, submission.codec, counters, values, ends, bulk)


def expire(state: State, now: Now, fx: Effects) -> None:
    """Drop outcomes whose time is over, or that were delivered and are too many; then old tombstones."""
    finished, settings = state.finished, state.settings
    while state.finished_at <= now.mono:
        head = finished.head
        if head is not None and head[0] <= now.mono:
            finished.popleft()
            lifecycle.forget_job(state, head[1], now, fx)
        else:
            state.finished_at = head[0] if head is not None else inf
    for _, job in list(state.expiries.due(now.mono)) if state.expiries.at <= now.mono else ():
        owner = job.submission.source.owner
        if job.out and owner is not None and owner.route is not None:
            state.expiries.add(now.mono + 1.0, job)  # its submitter is there: it gets it first
        else:
            lifecycle.forget_job(state, job, now, fx)
    delivered = state.delivered
    # With a journal, bytes beyond the budget are on disk only: see `paging`.
    held = state.resident_bytes if state.durable else state.result_bytes
    most = inf if state.durable and paging.is_due(state) else settings.max_result_bytes
    while (state.results > settings.max_results or held > most) and (old := delivered.popleft()) is not None:
        if not old.out:
            held -= size(old.outcome)
            lifecycle.forget_job(state, old, now, fx)
    finished.tidy(2 * settings.max_results + state.results)
    delivered.tidy(2 * settings.max_results + state.results)
    tombstones = state.tombstones
    while tombstones and (tombstones[0][0] <= now.mono or len(tombstones) > settings.max_tombstones):
        _bury(state, tombstones.popleft()[1])
    if state.forgotten:
        for source, counters in state.forgotten.items():
            state.record(fx, Forgot(source.prefix, spans(sorted(counters)), now.wall), OS)
        state.forgotten.clear()


def _bury(state: State, submission: Submission) -> None:
    """Forget a tombstone, and its source and session with the last one."""
    source = submission.source
    del source.submissions[submission.first]
    source.firsts.remove(submission.first)
    state.bases.pop(submission, None)
    if source.submissions:
        return
    del state.sources[source.prefix]
    owner = source.owner
    if owner is not None and owner.route is None and owner.prefix not in state.sources:
        state.submitters.pop(owner.prefix, None)


def next_expiry(state: State) -> float:
    """Monotonic time at which a result or a tombstone of the usual time to live is due; inf: none is."""
    tombstones = state.tombstones
    return min(state.finished_at, tombstones[0][0] if tombstones else inf)
