"""What a worker holds: jobs that wait, claims that were pushed, outcomes that are kept. No sockets, no clock."""

import logging

from msgspec import Struct

from zmqtasks import payload
from zmqtasks.config import WorkerSettings
from zmqtasks.errors import PeerError
from zmqtasks.ids import Span, expand, job_id
from zmqtasks.ids import spans as to_spans
from zmqtasks.resources import Amounts, show
from zmqtasks.wire import CANCELLED, CRASHED, FAILED, LOST, SUSPECT, Assign, End, Function, Run, Work
from zmqtasks.worker.backlog import Backlog, Outcomes, Target, part_of
from zmqtasks.worker.claims import Claim, Piece
from zmqtasks.worker.devices import Devices, Grant
from zmqtasks.worker.late import Late
from zmqtasks.worker.ledger import ENDED, GONE, PUSHED, VOID, WAITING, Ledger

log = logging.getLogger(__name__)

_MAX_NUMBER = 2**53  # so that no number that follows outgrows MessagePack; a worker's life ends long before
_MAX_ATTEMPT = 2**64 - 2**32
MAX_TARGETS = 1_000  # measured ones; beyond it measuring begins anew


class Pushed(Struct):
    """One claim that is in the shared queue or with a child."""

    target: Target
    pieces: list[Piece]
    left: int  # jobs not reported yet
    grant: Grant | None = None  # what its job has while it runs; None: it takes nothing


class Workload:
    """Every number that the worker holds is in exactly one of: backlog, late, a pushed claim, the outcomes kept.

    Attributes:
        late: waiting jobs of which the bulk connection has something to bring.
        progress: by number, the newest that running jobs told of themselves; the core sends and empties it.
        retried: how often those were retried that were; some may be over.
        again: those that were, or may have been, running in something that died; some may be over.
        devices: what jobs have while they run.
        fresh_runs, fresh_ends: outcomes since the last turn; the core sends and empties them.
        retracted: spans handed back since then; the same.
        started: numbers that were asked for since then, but are in a child's hands; the same.
        asked: pushed numbers of which the scheduler wants to know whether they have started.
        wanted: pushed numbers that somebody wants back; handed back if they return unstarted.
        doomed: those of them whose child is to be killed if it runs them.
        max_payload: bytes that a result may have.
    """

    def __init__(self, settings: WorkerSettings, host: str) -> None:
        self.settings = settings
        self.host = host
        self.ledger = Ledger()
        self.backlog = Backlog()
        self.late = Late()
        self.progress: dict[int, bytes] = {}
        self.retried: dict[int, int] = {}
        self.again: set[int] = set()
        self.devices = Devices(settings.resources, settings.devices)
        self.outcomes = Outcomes()
        self.claims: dict[int, Pushed] = {}
        self.last_claim = 0
        self.fresh_runs: list[Run] = []
        self.fresh_ends: list[End] = []
        self.retracted: list[Span] = []
        self.asked: set[int] = set()
        self.started: list[int] = []
        self.wanted: set[int] = set()
        self.doomed: set[int] = set()
        self.max_payload = 64 * 1024 * 1024
        self._functions: dict[bytes, Function] = {}
        self._targets: dict[tuple[bytes | str, str, int, Amounts, str], Target] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing is held, and nothing of what was void still runs."""
        return not any(self.ledger.counts[:GONE])

    @property
    def idle(self) -> bool:
        """Whether nothing waits or runs; outcomes may be kept."""
        counts = self.ledger.counts
        return not (counts[WAITING] or counts[PUSHED] or counts[VOID])

    def void(self, cells: list[tuple[int, int]]) -> int:
        """How many slots run what is not ours any more."""
        if not self.ledger.counts[VOID]:
            return 0
        return sum(1 for _, number in cells if number and self.ledger.state(number) == VOID)

    @property
    def kept(self) -> int:
        """How many outcomes are kept."""
        return self.ledger.counts[ENDED]

    # -------------------------------------------------------------------------------------------- jobs come and go

    def add(self, assign: Assign) -> bool:
        """Take in the jobs of an Assign; those that were seen before are skipped.

        Whether some of them are so urgent that what stands unstarted in the shared queue has to let them pass.

        Raises:
            PeerError: numbers that cannot be, a Work whose counters and arguments do not match, or that has no jobs.
        """
        for function in assign.functions:
            known = function if function.blob else self.late.announce(function)
            if known is not None:
                self._functions[function.digest] = known
        number, attempt = assign.number, assign.attempt
        sound, urgent = 0 < number < _MAX_NUMBER and 0 <= attempt < _MAX_ATTEMPT, 0
        for work in assign.works:
            count = len(work.args)
            sound = sound and 0 < count == len(work.counters) and (not work.late or _places(work.late, count))
            urgent = max(urgent, work.priority) if work.priority else urgent
        if not sound:
            raise PeerError("an Assign whose numbers, or counters and arguments, cannot be")
        if assign.retried:
            self.retried = {n: count for n, count in self.retried.items() if self.ledger.state(n) in (WAITING, PUSHED)}
            self.retried.update(assign.retried)
        if assign.again:
            self.again = {n for n in self.again if self.ledger.state(n) in (WAITING, PUSHED)}.union(assign.again)
        for work in assign.works:
            count = len(work.args)
            skip = 0 if number > self.ledger.seen else min(count, self.ledger.seen + 1 - number)
            if skip < count:
                self._add_work(number + skip, attempt + skip, work, skip)
            number += count
            attempt += count
        return urgent > 0 and self._overtakes(urgent)

    def _overtakes(self, priority: int) -> bool:
        """Whether longer jobs that are less urgent than this stand in front; short ones are soon over."""
        limit = self.settings.claim
        targets = [pushed.target for pushed in self.claims.values()]
        return any(target.priority < priority and not 0 <= target.mean <= limit for target in targets)

    def _add_work(self, first: int, attempt: int, work: Work, skip: int) -> None:
        counters, args = (work.counters[skip:], work.args[skip:]) if skip else (work.counters, work.args)
        self.ledger.add(first, attempt, work.prefix, counters, work.resources)
        piece = Piece(first, attempt, work.prefix, counters, args)
        if not work.late:
            self._start(piece, work)
            return
        for part in self.late.split(piece, work, {place - skip for place in work.late if place >= skip}):
            self._start(part, work)

    def _start(self, piece: Piece, work: Work) -> None:
        """A piece whose arguments are here: it waits for its turn, or for its function."""
        target = self._target(work)
        if target is None and self.late.needs_code(piece, work):
            return
        if target is None:
            self._refuse(piece, f"the scheduler assigned {work.task} without sending the function to this worker")
        elif work.resources and not self.devices.ever(work.resources):
            needs = f"{work.task}, which needs {show(work.resources)}, to a worker that has {self.devices}"
            self._refuse(piece, f"the scheduler assigned {needs}")
        else:
            self.backlog.append(piece, target)

    def _refuse(self, piece: Piece, text: str) -> None:
        """Jobs that cannot be run here."""
        told = payload.failure("PayloadError", text)
        log.error("%s; the job fails", text)
        for number in range(piece.first, piece.first + len(piece.args)):
            self._end(End(number, FAILED, told, 0.0), WAITING)

    def on_argument(self, number: int, data: bytes) -> None:
        """The bulk connection brought an argument."""
        ready = self.late.argument(number, data, self.ledger.seen)
        if ready is not None:
            self._start(*ready)

    def on_code(self, digest: bytes, blob: bytes) -> None:
        """The bulk connection brought a shipped function."""
        function, ready = self.late.code(digest, blob)
        if function is not None:
            self._functions[digest] = function
        for piece, work in ready:
            self._start(piece, work)

    def give_up_late(self) -> None:
        """The connection that was to bring these bytes is over: the next hello does not list these jobs."""
        for number in sorted(self.late.numbers()):
            self.ledger.move(number, 1, WAITING, GONE)
        self.late.clear()

    def _target(self, work: Work) -> Target | None:
        key = (work.function or work.task, work.codec, work.priority, work.resources, work.queue)
        target = self._targets.get(key)
        if target is None:
            function = None
            if work.function:
                function = self._functions.get(work.function)
                if function is None:
                    return None
            if len(self._targets) >= MAX_TARGETS:
                self._targets.clear()
            target = self._targets[key] = Target(work.task, function, *key[1:])
        return target

    def forget(self, digests: list[bytes]) -> None:
        """Drop shipped functions; jobs that are here still have theirs."""
        gone = set(digests)
        for digest in digests:
            self._functions.pop(digest, None)
            self.late.coming.pop(digest, None)
        for key in [key for key in self._targets if key[0] in gone]:
            del self._targets[key]

    def forget_all(self) -> None:
        """A new connection carries every function anew."""
        self._functions.clear()

    def name_of(self, claim: int, number: int) -> str:
        """What people call a job that is in a claim: its id and its task."""
        pushed = self.claims.get(claim)
        found = next(self.ledger.identities(number, 1), None) if pushed is not None else None
        if pushed is None or found is None:
            return f"job number {number}"
        _, prefix, counters, _ = found
        return f"job {job_id(prefix, counters[0])} ({pushed.target.name})"

    def release(self, spans: list[Span]) -> None:
        """The scheduler has these outcomes safe."""
        for first, count in spans:
            for state, start, n in self.ledger.segments(first, count):
                if state == ENDED:
                    self.outcomes.discard(start, n)
                    self.ledger.move(start, n, ENDED, GONE)

    def drop(self, spans: list[Span], *, outcomes: bool = True) -> bool:
        """These are not ours any more. Whether some may stand unstarted in the shared queue.

        `outcomes`: what came of those that are over is safe, or of no use; otherwise it is kept until a DoneAck.
        """
        pushed = False
        if outcomes:
            self.release(spans)
        if self.retracted:  # handed back after the hello that listed them: the scheduler has disowned them itself
            self.retracted = to_spans(sorted(set(expand(self.retracted)).difference(expand(spans))))
        waiting: list[Span] = []
        for first, count in spans:
            for state, start, n in self.ledger.segments(first, count):
                if state == WAITING:
                    waiting.append((start, n))
                    self.ledger.move(start, n, WAITING, GONE)
                elif state == PUSHED:
                    self.ledger.move(start, n, PUSHED, VOID)
                    self._unwant(start, n)
                    pushed = True
        self._unqueue(waiting)
        return pushed

    def _unqueue(self, spans: list[Span]) -> None:
        """Waiting jobs do not wait any more."""
        if spans:
            self.backlog.remove(spans)
            if self.late:
                self.late.remove(spans)

    def retract(self, spans: list[Span], *, kill: bool = False, answer: bool = False) -> bool:
        """Hand back what has not started. Whether some may stand unstarted in the shared queue.

        `kill`: end also what has started. `answer`: tell what has started.
        """
        pushed = False
        waiting: list[Span] = []
        for first, count in spans:
            for state, start, n in self.ledger.segments(first, count):
                if state == WAITING:
                    waiting.append((start, n))
                    self.ledger.move(start, n, WAITING, GONE)
                elif state == PUSHED:
                    self.wanted.update(range(start, start + n))
                    if answer:
                        self.asked.update(range(start, start + n))
                    if kill:
                        self.doomed.update(range(start, start + n))
                    pushed = True
        self._unqueue(waiting)
        self.retracted += waiting
        return pushed

    def tell_started(self) -> None:
        """The shared queue was read to its end: what was asked for and did not come back is with a child."""
        self.started += sorted(number for number in self.asked if number in self.wanted)
        self.asked.clear()

    def retract_all(self) -> bool:
        """Hand back everything that has not started. Whether some may stand unstarted in the shared queue."""
        return self.retract([(first, n) for state, first, n in self.ledger.everything() if state in (WAITING, PUSHED)])

    # -------------------------------------------------------------------------------------------- claims

    def cut_claims(self) -> list[Claim]:
        """The claims that may be pushed now."""
        out: list[Claim] = []
        settings = self.settings
        while self.backlog.waiting and len(self.claims) < settings.slots * settings.ahead:
            cut = self.backlog.cut(settings.claim, settings.slots, self.devices.fits)
            if cut is None:
                break
            target, pieces = cut
            left = 0
            for piece in pieces:
                count = len(piece.args)
                self.ledger.move(piece.first, count, WAITING, PUSHED)
                left += count
            self.last_claim += 1
            grant = self.devices.grant(target.resources) if target.resources else None
            self.claims[self.last_claim] = Pushed(target, pieces, left, grant)
            function = target.function
            digest, blob = (function.digest, function.blob) if function else (b"", b"")
            claim = Claim(self.last_claim, target.name, digest, blob, target.codec, self.max_payload, pieces)
            if grant is not None:
                claim.resources, claim.devices = grant.resources, self.devices.names(grant)
            claim.queue, claim.priority = target.queue, target.priority
            if self.retried or self.again:
                numbers = [n for piece in pieces for n in range(piece.first, piece.first + len(piece.args))]
                claim.retried = {n: self.retried[n] for n in numbers if n in self.retried}
                claim.again = [n for n in numbers if n in self.again]
            out.append(claim)
        return out

    def take_back(self, claims: list[int]) -> None:
        """These claims were never started: their jobs go to the front of the backlog, or where they are wanted."""
        for number in sorted(claims, reverse=True):
            pushed = self._let_go(number)
            if pushed is not None:
                self._back(pushed.target, pushed.pieces)

    def _let_go(self, claim: int) -> Pushed | None:
        """Nothing of a claim runs any more."""
        pushed = self.claims.pop(claim, None)
        if pushed is not None and pushed.grant is not None:
            self.devices.give_back(pushed.grant)
        return pushed

    def _back(self, target: Target, pieces: list[Piece]) -> None:
        """Jobs that a claim held and that have not started."""
        back: list[Piece] = []
        asked: list[Span] = []
        for piece in pieces:
            for state, first, n in self.ledger.segments(piece.first, len(piece.args)):
                if state == VOID:
                    self.ledger.move(first, n, VOID, GONE)
                elif state == PUSHED:
                    self.ledger.move(first, n, PUSHED, WAITING)
                    back.append(_slice(piece, first, n))
                    asked += [(i, 1) for i in range(first, first + n) if i in self.wanted] if self.wanted else ()
                    self._unwant(first, n)
        self.backlog.put_front(back, target)
        self.retract(asked)

    def on_report(self, claim: int, runs: list[Run], ends: list[End], *, finished: bool) -> None:
        """Outcomes from a child."""
        pushed = self.claims.get(claim)
        if pushed is None:
            log.warning("a child reported on claim %d, which was given up; what it says is dropped", claim)
            return
        for run in runs:
            count = len(run.results)
            pushed.target.measured(count, run.total, run.longest)
            pushed.left -= count
            for state, first, n in self.ledger.segments(run.first, count):
                if state == PUSHED:
                    self._keep(run if n == count else part_of(run, first, first + n))
                elif state == VOID:
                    self.ledger.move(first, n, VOID, GONE)
        for end in ends:
            pushed.target.measured(1, end.took, end.took)
            pushed.left -= 1
            self._end(end, self.ledger.state(end.number))
        if finished:
            del self.claims[claim]
            if pushed.grant is not None:
                self.devices.give_back(pushed.grant)
            if pushed.left:
                log.error("a child left out %d jobs of a claim; they run again", pushed.left)
                self._back(pushed.target, pushed.pieces)

    def _keep(self, run: Run) -> None:
        count = len(run.results)
        self.ledger.move(run.first, count, PUSHED, ENDED)
        self.outcomes.runs[run.first] = run
        self.fresh_runs.append(run)
        if self.progress or self.wanted:
            self._unwant(run.first, count)

    def _end(self, end: End, state: int) -> None:
        if state in (PUSHED, WAITING):
            self.ledger.move(end.number, 1, state, ENDED)
            self.outcomes.ends[end.number] = end
            self.fresh_ends.append(end)
            self._unwant(end.number, 1)
        elif state == VOID:
            self.ledger.move(end.number, 1, VOID, GONE)

    def _unwant(self, first: int, count: int) -> None:
        if self.progress:
            for number in range(first, first + count):
                self.progress.pop(number, None)
        if self.wanted:
            self.wanted.difference_update(range(first, first + count))
            self.doomed.difference_update(range(first, first + count))

    def on_child_exit(self, claim: int, number: int, evidence: str, *, ours: bool, company: bool = False) -> None:
        """A child died with this claim; `number` is the job that it was running, 0: it had not started any.

        What was reported is safe; what ran before `number` and was not reported is lost; the rest has not started.
        `ours`: we killed it, so nobody is charged. `company`: others ran in the same process, whoever is to blame.
        """
        pushed = self._let_go(claim)
        if pushed is None:
            return
        index = 0
        if number:
            index = next((i for i, p in enumerate(pushed.pieces) if 0 <= number - p.first < len(p.args)), -1)
            if index < 0:
                log.error(
                    "a dead child's cell names job %d, which is not in its claim; all of the claim is lost", number
                )
                index, number = len(pushed.pieces) - 1, pushed.pieces[-1].first + len(pushed.pieces[-1].args)
        back = pushed.pieces[index:]
        if number:
            for piece in pushed.pieces[:index]:
                self._lost(piece.first, len(piece.args), evidence)
            piece = back[0]
            self._lost(piece.first, number - piece.first, evidence)
            after = piece.first + len(piece.args) - number - 1
            if after >= 0:
                self._victim(number, pushed.target.name, evidence, ours=ours, company=company)
            back[:1] = [_slice(piece, number + 1, after)] if after > 0 else []
        self._back(pushed.target, back)

    def _lost(self, first: int, count: int, evidence: str) -> None:
        """They ran, or may have, and what came of it died with the child."""
        told = payload.failure("WorkerLost", f"the outcome was lost with a child on {self.host} ({evidence})")
        for state, start, n in self.ledger.segments(first, count):
            for number in range(start, start + n):
                self._end(self._cancelled(number) if number in self.doomed else End(number, LOST, told, 0.0), state)

    def _victim(self, number: int, name: str, evidence: str, *, ours: bool, company: bool) -> None:
        state = self.ledger.state(number)
        if state not in (PUSHED, VOID):
            return  # its outcome was the last that the child reported
        if number in self.doomed:
            self._end(self._cancelled(number), state)
        elif ours:
            self._lost(number, 1, evidence)
        else:
            told = payload.failure("WorkerLost", f"{evidence} while running {name} on {self.host}")
            self._end(End(number, SUSPECT if company else CRASHED, told, 0.0), state)

    def _cancelled(self, number: int) -> End:
        text = f"cancelled while it ran on {self.host}; its process was killed"
        return End(number, CANCELLED, payload.failure("JobCancelled", text), 0.0)

    def held_numbers(self) -> set[int]:
        """For tests: every number that is held."""
        return set(expand(self.ledger.held_spans()))


def _places(late: list[int], count: int) -> bool:
    return all(0 <= place < count for place in late)


def _slice(piece: Piece, first: int, count: int) -> Piece:
    low = first - piece.first
    if low == 0 and count == len(piece.args):
        return piece
    high = low + count
    return Piece(first, piece.attempt + low, piece.prefix, piece.counters[low:high], piece.args[low:high])
