"""What submitters say: submit, ask, acknowledge, cancel."""

from hashlib import sha256
from math import isfinite
from sys import intern

from zmqtasks import resources, wire
from zmqtasks.clock import Now
from zmqtasks.config import MAX_ASKED, MAX_JOBS_PER_MESSAGE, MAX_NAME, MAX_PRIORITY
from zmqtasks.errors import PeerError
from zmqtasks.ids import MAX_COUNTER, PREFIX_BYTES, Span, expand, job_id, spans, total
from zmqtasks.payload import function_digest
from zmqtasks.scheduler.core import adoption, delivery, expiry, lifecycle, limits, payloads
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import (
    DISK,
    LEVELS,
    MEMORY,
    OS,
    CancelRequest,
    Job,
    Lane,
    Payload,
    Source,
    Submission,
    Submitter,
    Target,
)
from zmqtasks.scheduler.core.needs import RATE
from zmqtasks.scheduler.core.records import Delivered, Submitted
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.story import Entry
from zmqtasks.states import CANCELLED, DELAYED, READY
from zmqtasks.wire import (
    Accepted,
    Ask,
    Cancel,
    HelloAgain,
    Kill,
    Notice,
    Rejected,
    ResultAck,
    Retract,
    Spec,
    Submit,
    SubmitterHello,
    SubmitterWelcome,
    Unknown,
)

MAX_CANCELS = 8  # of one session that wait for the same job
MANY_ACCEPTED = 20  # jobs whose acceptance does not wait for company


def on_hello(state: State, route: bytes, hello: SubmitterHello, now: Now, fx: Effects, release: str) -> None:
    """A submitter's connection begins. It asks for the outcomes that it has not got."""
    if len(hello.prefix) != PREFIX_BYTES:
        message = f"a session's prefix has {PREFIX_BYTES} bytes, not {len(hello.prefix)}"
        raise PeerError(message)
    submitter = state.submitters.get(hello.prefix)
    if submitter is not None and hello.connection < submitter.connection:
        state.count("late_hellos")
        return
    if submitter is None:
        submitter = state.submitters[hello.prefix] = Submitter(hello.prefix)
    elif submitter.route != route:
        state.drop_route(submitter, fx)
    else:
        state.drop_bulk(submitter, fx)
    submitter.user, submitter.host, submitter.pid = hello.user, hello.host, hello.pid
    submitter.python = hello.python
    submitter.route = route
    submitter.connection = hello.connection
    state.peers[route] = submitter
    fx.sends.append(Send(route, SubmitterWelcome(state.epoch, release, state.durable, state.settings.max_payload)))
    if state.journal.trouble:
        fx.sends.append(Send(route, Notice(state.journal.trouble)))
    _let_go(submitter)


def tell_of_journal(state: State, fx: Effects) -> None:
    """Submitters whose acceptances wait for a disk that cannot be written learn why, and that it is over."""
    state.journal.news = False
    text = state.journal.trouble or "the journal can be written again"
    for submitter in state.submitters.values():
        if submitter.route is not None:
            fx.sends.append(Send(submitter.route, Notice(text)))


def _let_go(submitter: Submitter) -> None:
    """Forget what is on its way: a new connection asks for what it still wants, and only for that."""
    for lane in (submitter.small, submitter.large):
        for job in [*lane.outbox, *(job for _, jobs, _ in lane.unacked for job in jobs)]:
            job.out -= 1
    submitter.small, submitter.large = Lane(bulk=False), Lane(bulk=True)


def on_submit(state: State, submitter: Submitter, message: Submit, now: Now, fx: Effects) -> None:
    """Accept or refuse the whole message; a repeat changes nothing."""
    count = len(message.args)
    spec = state.specs.get(message.spec)
    refusal = _shape(state, message, spec)
    if refusal is not None:
        _reject(state, submitter, message, *refusal, fx)
        return
    source = state.sources.get(message.prefix)
    digest = _digest(message)
    if source is not None:
        known = source.submissions.get(message.first)
        if known is not None and known.count == count and known.digest == digest:
            _repeat(state, submitter, known, fx)
            return
        if known is not None or source.covers(message.first, count):
            others = f" (or one of the {count - 1} after it)" if count > 1 else ""
            text = f"job {job_id(message.prefix, message.first)}{others} exists already, with other content"
            _reject(state, submitter, message, "JobConflict", text, fx)
            return
    spec = spec or state.shared(message.spec)
    level = _level(state, spec)
    refusal = _full(state, count) or _promises(state, spec, level)
    if refusal is not None:
        _reject(state, submitter, message, *refusal, fx)
        return
    target = _target(state, message)
    if target is None:  # its function was forgotten: a new hello brings it again
        _ask_for_hello(state, submitter, now, fx)
        return
    if source is None:
        source = state.sources[message.prefix] = Source(message.prefix, submitter)
    submission = Submission(source, message.first, count, digest, target, intern(message.codec), spec)
    submission.level = level
    if spec.rate or spec.cap:
        submission.limit(limits.keys_of(submission))
    if submission.limits or (state.limits.told and target.name in state.limits.told):
        _limit(state, submission, now)
    _accept(state, source, submission, message, now, fx)
    _note_accepted(state, submitter, submission, (message.first, count))


def _limit(state: State, submission: Submission, now: Now) -> None:
    """Its jobs may start only so often, or run only so many at once."""
    task = submission.target.key
    if task in state.limits.told and not submission.spec.rate:
        submission.limit(((RATE, task, ""),))
    state.limits.declare(submission, now.mono)


def _ask_for_hello(state: State, submitter: Submitter, now: Now, fx: Effects) -> None:
    """A function was forgotten: the session begins anew on this connection and brings it again."""
    route = submitter.route
    if route is not None:
        del state.peers[route]
        submitter.route = None  # the connection itself stays
        fx.reset.append(route)
        on_gone(state, submitter, now, fx)
        fx.sends.append(Send(route, HelloAgain()))


def _shape(state: State, message: Submit, known: Spec | None) -> tuple[str, str] | None:
    """Why a Submit is no proper one, if so, as (code, reason). `known`: its Spec, if others had the same."""
    count = len(message.args)
    if len(message.prefix) != PREFIX_BYTES or not 0 < count <= MAX_JOBS_PER_MESSAGE:
        return "PeerError", f"a Submit has a prefix of {PREFIX_BYTES} bytes and 1 to {MAX_JOBS_PER_MESSAGE} jobs"
    if message.first < 0 or message.first + count - 1 > MAX_COUNTER:
        return "PeerError", "job counters have 32 bits"
    names = [message.task, message.codec]
    if message.functions:
        names += [function.name for function in message.functions]
    if known is None:
        spec = message.spec
        wrong = _numbers(spec)
        if wrong:
            return "PeerError", wrong
        names += spec.queue, spec.python, spec.rate_key, spec.cap_key
    if max(map(len, names)) > MAX_NAME:
        return "PeerError", f"names have at most {MAX_NAME:,} characters"
    return _sizes(state, message)


def _numbers(spec: Spec) -> str:
    """Which number of a Spec cannot be; empty: all can."""
    if not isfinite(spec.backoff + spec.backoff_max + spec.result_ttl + spec.not_before + spec.expires + spec.rate):
        return "times and rates are finite numbers"
    if not 0 <= spec.priority <= MAX_PRIORITY:
        return f"a priority is 0 to {MAX_PRIORITY}, not {spec.priority}"
    if spec.rate < 0 or spec.burst < 1 or spec.cap < 0:
        return "a rate and a number of jobs at once are not negative, a burst is 1 or more"
    return resources.flaw(spec.resources) if spec.resources else ""


def _full(state: State, count: int) -> tuple[str, str] | None:
    """Why there is no room for so many jobs, if so."""
    settings = state.settings
    if state.open + count > settings.max_jobs:
        return "QueueFull", f"the scheduler holds {state.open} unfinished jobs, its limit is {settings.max_jobs}"
    if state.held_bytes > settings.max_bytes:
        limit = settings.max_bytes
        return (
            "QueueFull",
            f"the scheduler holds {state.held_bytes:,} bytes of jobs and results, its limit is {limit:,}",
        )
    return None


def _promises(state: State, spec: Spec, level: int) -> tuple[str, str] | None:
    """Why what an accepted job is promised cannot be kept, if so. `level`: what it would outlive."""
    if spec.durability in ("os", "disk") and not state.durable:
        return "NotDurable", (
            f'durability="{spec.durability}" was asked for, and this scheduler keeps everything in memory; '
            "start it with a journal (zmqtasks scheduler --data DIR)"
        )
    journal = state.journal
    if level == MEMORY:
        return None
    if journal.trouble:
        return "JournalUnavailable", f"no job is accepted now, those accepted before are kept: {journal.trouble}"
    if journal.pending > state.settings.max_pending:
        return "QueueFull", f"the journal's disk is slow: {journal.pending:,} bytes wait for it"
    return None


def _sizes(state: State, message: Submit) -> tuple[str, str] | None:
    limit = state.settings.max_payload
    for function in message.functions:
        if len(function.blob) > limit:
            text = f"function {function.name} has {len(function.blob):,} bytes; the limit is {limit:,}"
            return "PayloadTooLarge", text
        if function.digest not in state.targets and function.digest != function_digest(function.blob):
            return "PeerError", f"the bytes of function {function.name} are not those that its digest names"
    largest = max(map(len, message.args))
    if largest > limit:
        return "PayloadTooLarge", f"arguments of {largest:,} bytes for {message.task}; the limit is {limit:,}"
    return None


def _digest(message: Submit) -> bytes:
    """Of everything that makes two Submits the same."""
    state = sha256()  # twice as fast as BLAKE2 where it matters, with large payloads
    state.update(wire.encode_part((message.task, message.function, message.codec, message.spec)))
    state.update(b"".join(message.args))
    state.update(",".join(map(str, map(len, message.args))).encode())
    return state.digest()


def _target(state: State, message: Submit) -> Target | None:
    for function in message.functions:
        if function.digest not in state.targets:
            state.targets[function.digest] = Target(function.name, function.digest, function)
            state.function_bytes += len(function.blob)
            state.idle_targets[function.digest] = None
    if message.function:
        target = state.targets.get(message.function)
    else:
        target = state.targets.get(message.task)
        if target is None:
            target = state.targets[message.task] = Target(message.task, b"", None)
    if target is not None:
        target.uses += 1
        state.idle_targets.pop(target.key, None)
    return target


def _accept(state: State, source: Source, submission: Submission, message: Submit, now: Now, fx: Effects) -> None:
    first, count, spill = submission.first, submission.count, state.settings.spill
    keep = state.payloads.keep
    args = [a if len(a) <= spill else keep(a, fx) for a in message.args]
    delayed = submission.spec.not_before > now.wall
    entry = DELAYED if delayed else READY
    jobs = [Job(submission, first + i, a, entry) for i, a in enumerate(args)]
    source.add(submission)
    source.jobs.add(first, jobs)
    state.orders += 1
    submission.order = state.orders
    submission.since = now.mono + max(0.0, submission.spec.not_before - now.wall)
    _record(state, submission, message, args, now, fx)
    state.story.tell(Entry(now.wall, message.prefix, first, count, entry, "accepted"))
    state.open += count
    state.arg_bytes += sum(map(len, message.args))
    state.moves.enter(count, entry)
    state.count("submitted", count)
    if state.strays:
        jobs = adoption.adopt(state, source, jobs, now, fx)
    expiry.watch(state, submission)
    if delayed:
        for job in jobs:
            state.delays.add(submission.spec.not_before, job)
    elif jobs:
        state.lines.append(state.lines.line_of(submission), jobs)


def _record(state: State, submission: Submission, message: Submit, args: list[Payload], now: Now, fx: Effects) -> None:
    """Write down the submission, and its function if no record holds that yet."""
    source, level, target = submission.source, submission.level, submission.target
    if not state.recording:
        return
    owner = source.owner.prefix if source.owner is not None else source.prefix
    carried = [target.blob] if target.blob is not None and not target.seq else []
    told = [a if type(a) is bytes else payloads.told(a) for a in args]
    fact = Submitted(
        message.prefix, submission.first, message.task, message.function, message.codec, message.spec, told,
        carried, message.batch, owner, submission.digest, submission.order, now.wall,
    )  # fmt: skip
    if level == MEMORY:
        state.record(fx, fact, MEMORY)
        return
    submission.seq = state.record(fx, fact, level)
    if carried:
        target.seq = submission.seq
        state.bases[target] = None
    state.bases[submission] = None


def _level(state: State, spec: Spec) -> int:
    """What an accepted job outlives: as it says, else as its queue says; one that must not run twice: everything.

    Nothing, where nobody keeps records.
    """
    if not state.recording:
        return MEMORY
    return LEVELS[spec.durability or state.durability(spec.queue)] if spec.acks_late else DISK


def _repeat(state: State, submitter: Submitter, known: Submission, fx: Effects) -> None:
    """The same Submit again: its acceptance was lost, or another session gave the same id."""
    _not_greedy(state, submitter)
    state.count("repeated_submits")
    source = known.source
    for counter in range(known.first, known.first + known.count):
        job = source.jobs.get(counter)
        if job is not None:
            _want(state, submitter, job)
    _note_accepted(state, submitter, known, (known.first, known.count))
    expired = [c for c in range(known.first, known.first + known.count) if source.jobs.get(c) is None]
    if expired:
        state.answer(fx, submitter, Unknown(source.prefix, spans(expired), True))


def _want(state: State, submitter: Submitter, job: Job) -> None:
    """This submitter wants the outcome of a job, which may be another's: now if it is over, else when it is."""
    owns = job.submission.source.owner is submitter
    if not job.final:
        watching = state.watchers.setdefault(job, []) if not owns else [submitter]
        if submitter not in watching:
            watching.append(submitter)
    else:  # even if it is on its way already: that may be for an earlier wish, which is fulfilled
        lifecycle.post(state, submitter, job)


def _note_accepted(state: State, submitter: Submitter, submission: Submission, span: Span) -> None:
    level = MEMORY if submission.level == MEMORY else DISK
    submitter.accepted.setdefault((submission.source.prefix, level), []).append(span)
    submitter.news += span[1]
    state.dirty[submitter] = None


def _reject(state: State, submitter: Submitter, message: Submit, code: str, reason: str, fx: Effects) -> None:
    state.count("rejected_submits")
    if submitter.route is not None:
        after = state.seq if code == "JobConflict" else 0  # the others tell of nothing that was written
        rejected = Rejected(message.prefix, message.first, len(message.args), code, reason)
        fx.sends.append(Send(submitter.route, rejected, after))


def _checked(state: State, counters: list[Span]) -> list[Span]:
    """Counters that can be."""
    if any(first < 0 or count < 0 or first + count - 1 > MAX_COUNTER for first, count in counters):
        message = "job counters have 32 bits"
        raise PeerError(message)
    if total(counters) > MAX_ASKED:
        message = f"a message names {total(counters):,} jobs; it may name {MAX_ASKED:,}"
        raise PeerError(message)
    return counters


def _not_greedy(state: State, submitter: Submitter) -> None:
    """Who asks for the same outcomes again and again, and does not read them, gets them no more often."""
    waiting = len(submitter.small.outbox) + len(submitter.large.outbox)
    if waiting > 2 * state.results + MAX_ASKED:
        message = f"{submitter.user}@{submitter.host} asks again for what it has not read: {waiting:,} outcomes"
        raise PeerError(message)


def on_ask(state: State, submitter: Submitter, message: Ask, now: Now, fx: Effects) -> None:
    """Which of these are known? Outcomes that the submitter has not got are sent again."""
    _not_greedy(state, submitter)
    source = state.sources.get(message.prefix)
    unknown: list[int] = []
    expired: list[int] = []
    for counter in expand(_checked(state, message.counters)):
        job = source.jobs.get(counter) if source is not None else None
        if job is not None:
            _want(state, submitter, job)
        elif source is not None and source.covers(counter, 1):
            expired.append(counter)
        else:
            unknown.append(counter)
    if unknown:
        state.answer(fx, submitter, Unknown(message.prefix, spans(unknown), False))
    if expired:
        state.answer(fx, submitter, Unknown(message.prefix, spans(expired), True))


def on_result_ack(state: State, submitter: Submitter, message: ResultAck, now: Now, fx: Effects) -> None:
    """The submitter has these outcomes; they may be dropped when there are too many."""
    lane = submitter.large if message.bulk else submitter.small
    unacked = lane.unacked
    while unacked and unacked[0][0] <= message.delivery:
        _, jobs, size = unacked.popleft()
        lane.flying -= len(jobs)
        lane.flying_bytes -= size
        for job in jobs:
            job.out -= 1
        submission = jobs[0].submission  # all are of one source and durability: see `delivery`
        if submission.source.owner is submitter:
            for job in jobs:
                job.delivered = True
            state.delivered.back.extend(jobs)
            if state.durable:
                told = spans(sorted({job.counter for job in jobs}))
                state.record(fx, Delivered(submission.source.prefix, told), min(OS, submission.level))
    if lane.outbox:
        state.dirty[submitter] = None


def on_cancel(state: State, submitter: Submitter, message: Cancel, now: Now, fx: Effects) -> None:
    """Cancel what has not started; what runs, only with force. Answered when all of it is known."""
    request = CancelRequest(submitter, message.request, message.force, 0, [], [], [])
    numbers: dict[bytes, list[int]] = {}
    for counter in expand(_checked(state, message.counters)):
        job = state.find(message.prefix, counter)
        if job is None:
            stray = state.strays.get((message.prefix, counter))
            if stray is not None and not message.force:  # it may be running, from before the scheduler's restart
                request.refused.append(counter)
                continue
            request.unknown.append(counter)
            if stray is not None and stray.worker.route is not None:
                numbers.setdefault(stray.worker.route, []).append(stray.number)
        elif job.final:
            (request.cancelled if job.state == CANCELLED else request.refused).append(counter)
        elif not lifecycle.is_leased(job):
            lifecycle.cancel(state, job, now, fx)
            request.cancelled.append(counter)
        else:
            request.waiting += 1
            _await_end(state, job, request, fx)
            if job.worker is not None and job.worker.route is not None:
                numbers.setdefault(job.worker.route, []).append(job.number)
    for route, wanted in numbers.items():
        told = spans(sorted(wanted))
        fx.sends.append(Send(route, Kill(told) if message.force else Retract(told)))
    lifecycle.answer_cancel(state, request, fx)


def _await_end(state: State, job: Job, request: CancelRequest, fx: Effects) -> None:
    """A Cancel waits for what becomes of a job; when a session has too many of them, its oldest is refused."""
    waiting = state.cancels.setdefault(job, [])
    own = [other for other in waiting if other.submitter is request.submitter]
    if len(own) >= MAX_CANCELS:
        waiting.remove(own[0])
        own[0].refused.append(job.counter)
        own[0].waiting -= 1
        lifecycle.answer_cancel(state, own[0], fx)
    waiting.append(request)


def on_gone(state: State, submitter: Submitter, now: Now, fx: Effects) -> None:
    """Its connection broke; the session waits for it as long as its results live."""
    state.drop_route(submitter, fx)
    submitter.accepted.clear()
    submitter.news = 0
    state.accepting.pop(submitter, None)
    state.dirty.pop(submitter, None)
    state.blocked.pop(submitter, None)
    state.told.pop(submitter, None)
    _let_go(submitter)
    if submitter.prefix not in state.sources:
        state.submitters.pop(submitter.prefix, None)


def hurry_accepted(state: State, now: Now) -> None:
    """Those whose Accepted has waited long enough for company get it in this turn."""
    for submitter, since in state.accepting.items():
        if now.mono < since + state.settings.accept_delay:
            return  # the others have not waited longer
        state.dirty[submitter] = None


def flush_accepted(state: State, submitter: Submitter, now: Now, fx: Effects) -> None:
    """One Accepted per prefix, with the first Results that go out, or when it tells of many jobs, or when it is late.

    The result of a lone job often comes sooner; to wake the submitter twice would take longer than the job.
    """
    accepted = submitter.accepted
    if not accepted:
        return
    since = state.accepting.setdefault(submitter, now.mono)
    few = submitter.news <= MANY_ACCEPTED
    if few and not submitter.small.outbox and now.mono < since + state.settings.accept_delay:
        return
    del state.accepting[submitter]
    for (prefix, level), told in accepted.items():
        volatile = level == MEMORY and state.durable
        silent = few and not volatile and delivery.flows(state, submitter)
        if not (silent and _over(state, prefix, told)):
            state.answer(fx, submitter, Accepted(prefix, told, volatile), level)
    accepted.clear()
    submitter.news = 0


def _over(state: State, prefix: bytes, told: list[Span]) -> bool:
    """Whether all these jobs are over already: their Results, which go out now, say more than Accepted."""
    source = state.sources.get(prefix)
    if source is None:  # its tombstone went while the Accepted waited
        return False
    known = map(source.jobs.get, expand(told))
    return all(job is not None and job.out for job in known)
