"""The state again, from the facts of earlier lives: every record is applied in order, then what follows is built once.

A record about a job that is unknown is older than the `Kept` that follows it: what came before it was trimmed, and it
says nothing that the `Kept` does not say. Leases go on: what was assigned stays so until its worker says hello, or was
silent for a lease.
"""

from collections.abc import Callable, Iterator, Sequence
from sys import intern
from typing import Any, Final

from zmqtasks.clock import Now
from zmqtasks.scheduler.core import expiry, lifecycle, limits
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import (
    DISK,
    LEVELS,
    OS,
    Job,
    Payload,
    Ref,
    Source,
    Submission,
    Submitter,
    Target,
    Worker,
)
from zmqtasks.scheduler.core.payloads import restored, size
from zmqtasks.scheduler.core.records import (
    Adopted,
    Assigned,
    Began,
    Delivered,
    Ended,
    Forgot,
    Kept,
    Mark,
    Paged,
    Record,
    Requeued,
    Shipped,
    Submitted,
    Succeeded,
    Totals,
)
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.story import Entry
from zmqtasks.states import ASSIGNED, DELAYED, FINAL, READY, SUCCEEDED, name
from zmqtasks.wire import Function, Spec

SPARE: Final = 2**32  # attempts that an earlier life may have given out and not written down: a second's worth
SHOWN: Final = 200  # submissions whose restoration stands in the story


class RestoreError(ValueError):
    """The records contradict one another."""


class Restorer:
    """Applies the records of earlier lives to a state that knows nothing yet."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._number = 0  # of the record that is being applied
        self._epoch = 0
        self._attempt = 0
        self._payload = 0
        self._owners: dict[bytes, Submitter] = {}
        self._fresh: dict[Submission, list[Job]] = {}  # nothing has happened to their jobs yet
        self._due: dict[Job, tuple[float, float]] = {}  # Unix time at which a job is tried again; seconds it waits
        self._ended: list[tuple[float, Job]] = []
        self._missing: set[Target] = set()
        self._tombs: dict[Submission, float] = {}  # when the last outcome was forgotten
        self._verbs: dict[type, Callable[[Any], None]] = {
            Began: self._began,
            Totals: self._totals,
            Shipped: self._shipped,
            Submitted: self._submitted,
            Assigned: self._assigned,
            Adopted: self._adopted,
            Requeued: self._requeued,
            Succeeded: self._succeeded,
            Ended: self._one_ended,
            Delivered: self._delivered,
            Forgot: self._forgot,
            Kept: self._kept,
            Paged: self._paged,
        }

    def apply(self, first: int, records: Sequence[Record]) -> None:
        """Apply records; the first has this number."""
        if self._number and first != self._number + 1:
            message = f"record {first} follows record {self._number}"
            raise RestoreError(message)
        verbs = self._verbs
        for number, record in enumerate(records, first):
            self._number = number
            verbs[type(record)](record)

    # ------------------------------------------------------------------------------------------ one record

    def _began(self, record: Began) -> None:
        self._epoch = max(self._epoch, record.epoch)

    def _totals(self, record: Totals) -> None:
        state = self.state
        self._epoch = max(self._epoch, record.epoch)
        self._attempt = max(self._attempt, record.attempts)
        self._payload = max(self._payload, record.payloads)
        state.orders = max(state.orders, record.orders)
        state.counters = dict(record.counters)
        state.journal.limit = record.limit
        state.limits.told = dict(record.rates)
        state.limits.told_at = dict(record.rated)
        state.shares.weights = dict(record.weights)
        state.lines.paused = set(record.paused)  # no line is there yet

    def _shipped(self, record: Shipped) -> None:
        self._base(self._target("", record.function.digest, record.function))

    def _base(self, thing: Submission | Target) -> None:
        """This record says all that matters of it."""
        thing.seq = self._number
        self.state.bases[thing] = None
        self.state.bases.move_to_end(thing)

    def _target(self, task: str, digest: bytes, function: Function | None) -> Target:
        """A target; that of a shipped function may be known before the function itself comes."""
        targets = self.state.targets
        key = digest or task
        target = targets.get(key)
        if target is None:
            target = targets[key] = Target(task, digest, None)
        if function is not None:
            target.blob, target.name = function, function.name
        return target

    def _submitted(self, record: Submitted) -> None:
        for function in record.functions:
            self._base(self._target("", function.digest, function))
        args = [data if type(data) is bytes else self._data(data) for data in record.args]
        submission = self._submission(record, len(args))
        first = record.first
        jobs = [Job(submission, first + i, data) for i, data in enumerate(args)]
        submission.source.jobs.add(first, jobs)
        self._fresh[submission] = jobs
        self.state.count("submitted", len(jobs))

    def _submission(self, record: Submitted | Kept, count: int) -> Submission:
        """A submission without jobs, in the place of what was known of it."""
        state = self.state
        source = state.sources.get(record.prefix)
        while source is not None and source.covers(record.first, count):
            self._forget(source, source.nearest(record.first + count - 1))
        if source is None or not source.submissions:  # an id that was given once more may be another session's
            source = state.sources[record.prefix] = Source(record.prefix, self._owner(record.owner))
        target = self._target(record.task, record.function, None)
        spec = state.shared(record.spec)
        submission = Submission(source, record.first, count, record.digest, target, intern(record.codec), spec)
        submission.order = record.order
        submission.limit(limits.keys_of(submission))
        submission.level = _level(state, record.spec)
        source.add(submission)
        state.orders = max(state.orders, record.order)
        self._base(submission)
        return submission

    def _owner(self, prefix: bytes) -> Submitter:
        owner = self._owners.get(prefix)
        if owner is None:
            owner = self._owners[prefix] = Submitter(prefix)
        return owner

    def _forget(self, source: Source, first: int) -> None:
        """All that was known of a submission gives way to what a newer record says, or it was buried meanwhile."""
        submission = source.submissions.pop(first)
        source.firsts.remove(first)
        self.state.bases.pop(submission, None)
        self._fresh.pop(submission, None)
        self._tombs.pop(submission, None)
        for counter in range(first, first + submission.count):
            job = source.jobs.get(counter)
            if job is not None:
                source.jobs.remove(counter, job)
                self._release(job)
                self.state.evidence.pop(job, None)

    def _job(self, prefix: bytes, counter: int) -> Job | None:
        job = self.state.find(prefix, counter)
        if job is not None:
            self._fresh.pop(job.submission, None)
        return job

    def _assigned(self, record: Assigned) -> None:
        number, attempt = record.number, record.attempt
        worker = self._worker(record.worker)
        for prefix, counters in record.jobs:
            for counter in counters:
                job = self._job(prefix, counter)
                if job is not None and job.state not in FINAL:
                    self._lease(job, worker, number, attempt)
                number += 1
                attempt += 1
        self._attempt = max(self._attempt, attempt)

    def _adopted(self, record: Adopted) -> None:
        self._attempt = max(self._attempt, record.attempt)
        job = self._job(record.prefix, record.counter)
        if job is not None and job.state not in FINAL:
            self._lease(job, self._worker(record.worker), record.number, record.attempt)
            self._crashes(job, record.crashes)
            job.solo = False

    def _crashes(self, job: Job, crashes: int) -> None:
        job.crashes = crashes
        texts = self.state.evidence.get(job)
        if texts is not None:
            del texts[crashes:]
            if not texts:
                del self.state.evidence[job]

    def _worker(self, nonce: bytes) -> Worker:
        worker = self.state.workers.get(nonce)
        if worker is None:
            worker = self.state.workers[nonce] = Worker(nonce)
            worker.name, worker.host = nonce.hex()[:8], "not back since the scheduler's restart"
        return worker

    def _lease(self, job: Job, worker: Worker, number: int, attempt: int) -> None:
        self._release(job)
        job.state = ASSIGNED
        job.worker, job.number, job.attempt = worker, number, attempt
        worker.held[number] = job
        worker.next = max(worker.next, number + 1)

    def _release(self, job: Job) -> None:
        worker = job.worker
        if worker is not None:
            if worker.held.get(job.number) is job:
                del worker.held[job.number]
            job.worker = None
        self._due.pop(job, None)

    def _requeued(self, record: Requeued) -> None:
        job = self._job(record.prefix, record.counter)
        if job is None or job.state in FINAL:
            return
        self._release(job)
        job.state = READY
        job.crashes, job.retries, job.solo, job.attempt = record.crashes, record.retries, record.solo, record.attempt
        if record.due:
            job.state = DELAYED
            self._due[job] = record.due, record.delay
        if record.evidence:
            self.state.evidence.setdefault(job, []).append(record.evidence)
        self.state.count("requeued")

    def _succeeded(self, record: Succeeded) -> None:
        for counter, result in zip(record.counters, record.results, strict=True):
            job = self._job(record.prefix, counter)
            if job is not None:
                self._end(job, SUCCEEDED, result if type(result) is bytes else self._data(result), record.wall)
        self.state.count("succeeded", len(record.counters))

    def _one_ended(self, record: Ended) -> None:
        job = self._job(record.prefix, record.counter)
        if job is not None:
            self._end(job, record.state, self._data(record.payload), record.wall)
        self.state.count(name(record.state))

    def _end(self, job: Job, state: int, outcome: Payload, wall: float) -> None:
        self._release(job)
        job.state, job.outcome = state, outcome
        job.submission.wall = wall
        job.args = None
        job.attempt = 0
        self.state.evidence.pop(job, None)
        self._ended.append((wall, job))

    def _delivered(self, record: Delivered) -> None:
        for first, count in record.counters:
            for counter in range(first, first + count):
                job = self.state.find(record.prefix, counter)
                if job is not None and job.state in FINAL:
                    job.delivered = True

    def _forgot(self, record: Forgot) -> None:
        source = self.state.sources.get(record.prefix)
        if source is None:
            return
        for first, count in record.counters:
            for counter in range(first, first + count):
                job = source.jobs.get(counter)
                if job is None or job.state not in FINAL:
                    continue
                source.jobs.remove(counter, job)
                job.outcome = None
                submission = job.submission
                submission.live -= 1
                if not submission.live:
                    self._tombs[submission] = submission.wall = record.wall

    def _kept(self, record: Kept) -> None:
        submission = self._submission(record, record.count)
        submission.wall = record.wall
        first, jobs = record.first, submission.source.jobs
        for place, data in zip(record.open, record.args, strict=True):
            jobs.put(first + place, Job(submission, first + place, self._data(data)))
        for mark in record.marks:
            self._mark(jobs.known(first + mark.place), mark)
        for place, data in zip(record.done, record.results, strict=True):
            job = jobs.put(first + place, Job(submission, first + place, b""))
            self._end(job, SUCCEEDED, self._data(data), record.wall)
        for place, state, data in record.ends:
            job = jobs.put(first + place, Job(submission, first + place, b""))
            self._end(job, state, self._data(data), record.wall)
        for place in record.delivered:
            jobs.known(first + place).delivered = True
        submission.live = len(record.open) + len(record.done) + len(record.ends)
        if not submission.live:
            self._tombs[submission] = record.wall

    def _paged(self, record: Paged) -> None:
        self._payload = max(self._payload, record.number)
        sizes = iter(record.sizes)
        offset = 0
        for prefix, counters in record.jobs:
            for counter in counters:
                length = next(sizes)
                job = self.state.find(prefix, counter)
                if job is not None and isinstance(job.outcome, bytes):
                    job.outcome = Ref(record.number, length, offset)
                offset += length

    def _mark(self, job: Job, mark: Mark) -> None:
        job.crashes, job.retries, job.solo = mark.crashes, mark.retries, mark.solo
        job.attempt, job.number = mark.attempt, mark.number
        self._attempt = max(self._attempt, mark.attempt)
        if mark.evidence:
            self.state.evidence[job] = list(mark.evidence)
        if mark.worker:
            self._lease(job, self._worker(mark.worker), mark.number, mark.attempt)
        elif mark.due:
            job.state = DELAYED
            self._due[job] = mark.due, mark.delay

    def _data(self, data: Any) -> Payload:
        payload = restored(data)
        if isinstance(payload, Ref):
            self._payload = max(self._payload, payload.number)
        return payload

    # ------------------------------------------------------------------------------------------ what follows

    def finish(self, now: Now, fx: Effects) -> dict[int, int]:
        """Build all that follows from the records. Returns the stored payloads that are needed, with their sizes."""
        state = self.state
        state.seq = self._number
        state.trimmed = next(iter(state.bases)).seq - 1 if state.bases else 0
        lasting = -(-(self._attempt + SPARE) * 1000 // 2**32) if self._attempt else 0
        state.begin(max(state.epoch, self._epoch + 1, lasting))
        state.payloads.begin(state.epoch, self._payload)
        live = self._payloads()
        self._functions()
        self._workers(now)
        everything = [s for source in state.sources.values() for s in source.submissions.values()]
        everything.sort(key=lambda submission: submission.order)
        self._limits(everything, now)
        self._jobs([submission for submission in everything if submission.live], now)
        self._outcomes(now)
        for owner in self._owners.values():
            state.submitters[owner.prefix] = owner
        if self._missing:
            self._give_up_missing(now, fx)
        return live

    def _give_up_missing(self, now: Now, fx: Effects) -> None:
        """Jobs whose shipped function is gone with the record that held it: only a mended journal has such."""
        for source in self.state.sources.values():
            for job in list(source.jobs):
                if job.submission.target in self._missing and job.state in (READY, DELAYED):
                    text = f"the function of job {job.id} stood in a record that is lost"
                    lifecycle.abort(self.state, job, "PayloadLost", text, now, fx)

    def _payloads(self) -> dict[int, int]:
        """Count the references."""
        live: dict[int, int] = {}
        for source in self.state.sources.values():
            for job in source.jobs:
                payload = job.outcome if job.args is None else job.args
                if type(payload) is not bytes and isinstance(payload, Ref):
                    self.state.payloads.count(payload)
                    end = payload.size + max(0, payload.offset)
                    live[payload.number] = max(end, live.get(payload.number, 0))
        return live

    def _functions(self) -> None:
        state = self.state
        for source in state.sources.values():
            for submission in source.submissions.values():
                submission.target.uses += submission.live > 0
        for key, target in list(state.targets.items()):
            if target.blob is not None:
                state.function_bytes += len(target.blob.blob)
            elif target.uses and target.digest:
                self._missing.add(target)
            elif not target.uses:  # a name alone; or a function that only jobs needed that are gone
                del state.targets[key]
                continue
            if not target.uses:
                state.idle_targets[key] = None

    def _workers(self, now: Now) -> None:
        state = self.state
        for nonce, worker in list(state.workers.items()):
            if not worker.held:
                del state.workers[nonce]
                continue
            worker.held = dict(sorted(worker.held.items()))
            worker.offered = len(worker.held)
            worker.heard = worker.moved = now.mono
            state.leases.add(now.mono + state.settings.lease, worker)

    def _limits(self, everything: Sequence[Submission], now: Now) -> None:
        """What runs counts at once; and that something started just before the end is not known, but may be."""
        limits = self.state.limits
        for submission in everything:
            if submission.limits:
                limits.declare(submission, now.mono)
        for worker in self.state.workers.values():
            for job in worker.held.values():
                limits.held(job.submission, now.mono)
        if self._epoch:  # of an earlier life
            limits.be_careful(now.mono)

    def _jobs(self, everything: Sequence[Submission], now: Now) -> None:
        """Jobs that are not over, in the order in which they were accepted; those that came back stand in front."""
        state = self.state
        counts = state.moves.counts
        back: list[Job] = []
        for submission in everything:
            jobs = self._fresh.get(submission) or list(_jobs_of(submission))
            delayed = submission.spec.not_before > now.wall
            submission.since = now.mono + max(0.0, submission.spec.not_before - now.wall)
            ready: list[Job] = []
            for job in jobs:
                if job.state not in FINAL:
                    state.open += 1
                    state.arg_bytes += size(job.args)
                    if job.state == READY:
                        if delayed and not job.number:
                            job.state = DELAYED
                            state.delays.add(submission.spec.not_before, job)
                        else:
                            (back if job.number or job.solo else ready).append(job)
                counts[job.state] += 1
            expiry.watch(state, submission)
            if ready:
                state.lines.append(state.lines.line_of(submission), ready)
        for job in reversed(back):
            state.lines.put_back(job)
        for job, (due, longest) in self._due.items():
            if longest < 0.0:  # an earlier release has not written it down
                longest = lifecycle.longest_backoff(job.submission.spec, job.retries - 1)  # noqa: PLW2901
            delay = min(max(0.0, due - now.wall), longest)  # the clock may have gone back
            state.dues[job] = now.wall + delay
            state.backoffs.add(now.mono + delay, job)
        for submission in everything[-SHOWN:]:
            cause = "restored from the journal: the scheduler was restarted"
            entry = Entry(now.wall, submission.source.prefix, submission.first, submission.count, READY, cause)
            state.story.tell(entry)

    def _outcomes(self, now: Now) -> None:
        """Results expire as if nothing had happened, but not before those who wait for them had time to come back."""
        state = self.state
        default, grace = state.settings.result_ttl, state.settings.grace
        self._ended.sort(key=lambda ended: ended[0])
        for wall, job in self._ended:
            outcome = job.outcome
            if outcome is None or job.submission.source.jobs.get(job.counter) is not job:
                continue
            own = job.submission.spec.result_ttl
            ttl = own if own >= 0 else default
            expiry = now.mono + min(max(grace, wall + ttl - now.wall), ttl)
            if own >= 0:
                state.expiries.add(expiry, job)
            else:
                state.finished.back.append((expiry, job))
                state.finished_at = min(state.finished_at, expiry)
            state.results += 1
            state.result_bytes += size(outcome)
            if isinstance(outcome, bytes):
                state.resident_bytes += len(outcome)
                state.pageable_bytes += len(outcome)
                state.residents.back.append(job)
            if job.delivered:
                state.delivered.back.append(job)
        ttl = state.settings.tombstone_ttl
        for submission, wall in sorted(self._tombs.items(), key=lambda tomb: tomb[1]):
            state.tombstones.append((now.mono + min(max(grace, wall + ttl - now.wall), ttl), submission))


def _jobs_of(submission: Submission) -> Iterator[Job]:
    jobs = submission.source.jobs
    for counter in range(submission.first, submission.first + submission.count):
        job = jobs.get(counter)
        if job is not None and job.submission is submission:
            yield job


def _level(state: State, spec: Spec) -> int:
    """What is journaled is at least as durable as the process."""
    return DISK if not spec.acks_late else max(OS, LEVELS[spec.durability or state.durability(spec.queue)])
