"""The worker's decisions, sans-IO: messages and events in, effects out.

One turn of whoever drives it (the agent's loop, the simulation)::

    fx = Effects()
    core.on_connected / on_disconnected / handle / on_report / on_child_exit …   # whatever happened
    core.tick(now, fx)
    carry out fx.sends, then fx.pushes (a push that does not fit: core.on_push_refused(claim.id)), then fx.kills
    if fx.reclaim: core.on_reclaimed(ids of the claims read back from the shared queue, now, fx2), carry out fx2
    if fx.look:    core.on_running(cells of all slots, now, fx3), carry out fx3

`on_reclaimed` may ask for a look. Nothing is pushed between asking for claims back and `on_reclaimed`.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from zmqtasks import wire
from zmqtasks.clock import Now, soonest
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_PROGRESS, WorkerSettings
from zmqtasks.errors import NotAuthorized, ProtocolMismatch
from zmqtasks.ids import spans
from zmqtasks.wire import End, Run, ToWorker
from zmqtasks.worker.backlog import dones
from zmqtasks.worker.check import check
from zmqtasks.worker.effects import Effects, Identity
from zmqtasks.worker.ledger import PUSHED
from zmqtasks.worker.workload import Workload

log = logging.getLogger(__name__)

ORPHAN_AFTER: Final = 1.0  # seconds after a child's death until a claim that nobody has goes back
ORPHAN_AGAIN: Final = 0.2  # until the second look, which decides
ALONE: Final = 5.0  # seconds without a connection after which a draining worker keeps outcomes for nobody
MANY_TOLD: Final = MAX_BYTES_PER_MESSAGE // MAX_PROGRESS  # of the longest, that fit into one control message
WATCH: Final = 0.02  # between looks while a child is to be killed as soon as it runs a certain job

SMALL: Final = 1_000  # bytes of a result that surely fits into a control message

OFF: Final = 0  # no connection
HELLO: Final = 1  # said hello, not welcomed yet
UP: Final = 2


class WorkerCore:
    """One worker's life.

    Attributes:
        draining: it takes no new jobs.
        drained: the drain is over: nothing is held and the scheduler was told, or there is none.
        queues: that it takes from now.
        epoch: of the scheduler that welcomed us last; 0: none has.
    """

    def __init__(self, settings: WorkerSettings, identity: Identity) -> None:
        self.settings = settings
        self.identity = identity
        self.work = Workload(settings, identity.host)
        self.queues = list(identity.queues)
        self.drained = False
        self.epoch = 0
        self._phase = OFF
        self._connection = 0
        self._alone_since = 0.0  # monotonic time
        self._heartbeat = 1.0
        self._beat_at = 0.0
        self._watch_at = 0.0
        self._orphans_at: float | None = None
        self._orphans_upto = 0  # the youngest claim that may have died with a child
        self._absent: set[int] | None = None  # claims that nobody had at the first look
        self._seeking = False
        self._reclaiming = False
        self._killed: set[int] = set()
        self.draining = False
        self._drain_told = False
        self._abandoning = False
        self._verbs: Final[dict[type, Callable[[Any, Now, Effects], None]]] = {
            wire.WorkerWelcome: self._on_welcome,
            wire.Assign: self._on_assign,
            wire.DoneAck: self._on_done_ack,
            wire.Retract: self._on_retract,
            wire.Kill: self._on_kill,
            wire.Forget: self._on_forget,
            wire.HelloAgain: self._on_hello_again,
            wire.Ping: self._on_ping,
            wire.Refused: self._on_refused,
            wire.OpenBulk: self._on_open_bulk,
            wire.Argument: self._on_argument,
            wire.Code: self._on_code,
            wire.Disown: self._on_disown,
            wire.Consume: self._on_consume,
        }

    @property
    def welcomed(self) -> bool:
        """Whether the scheduler knows us over the present connection."""
        return self._phase == UP

    # -------------------------------------------------------------------------------------------- the connection

    def on_connected(self, now: Now, fx: Effects) -> None:
        """A new connection: say hello, and nothing else until the Welcome."""
        self.work.forget_all()
        self._connection += 1
        self._hello(fx)

    def on_disconnected(self, now: Now, fx: Effects) -> None:
        """The connection broke: jobs go on, outcomes are kept; the next hello tells what was handed back."""
        self._alone_since = now.mono
        self._phase = OFF

    def handle(self, message: ToWorker, now: Now, fx: Effects) -> None:
        """One message from the scheduler.

        Raises:
            ProtocolMismatch, NotAuthorized: it refused us; there is no use in trying again.
            PeerError: it broke the protocol; the connection should be begun anew.
        """
        self._verbs[type(message)](message, now, fx)

    def _hello(self, fx: Effects) -> None:
        me, work = self.identity, self.work
        self._phase = HELLO
        fx.close_bulk, fx.open_bulk = True, False  # who asked for it has forgotten us
        self._drain_told = False
        work.give_up_late()
        work.retracted.clear()  # the hello does not list them
        work.started.clear()
        work.asked.clear()
        fx.sends.append(
            wire.WorkerHello(
                magic=wire.MAGIC,
                protocol=wire.PROTOCOL,
                release=me.release,
                python=me.python,
                host=me.host,
                pid=me.pid,
                name=me.name,
                nonce=me.nonce,
                slots=self.settings.slots,
                credit=self.settings.credit,
                queues=self.queues,
                tasks=list(me.tasks),
                seen=work.ledger.seen,
                held=work.ledger.held(),
                connection=self._connection,
                resources=self.settings.resources,
                rates=list(me.rates),
                caps=list(me.caps),
            )
        )

    def _on_welcome(self, message: wire.WorkerWelcome, now: Now, fx: Effects) -> None:
        self._phase = UP
        self.epoch = message.epoch
        self._heartbeat = message.heartbeat
        # Until a heartbeat tells what of the dropped ones runs, the scheduler takes all of them for taken slots.
        self._beat_at = now.mono if message.dropped else now.mono + message.heartbeat
        work = self.work
        work.max_payload = message.max_payload
        fx.reclaim |= work.drop(message.dropped, outcomes=False)  # told again below: their record may not be durable
        self._tell_drain(fx)
        work.fresh_runs.clear()
        work.fresh_ends.clear()
        self._send_outcomes(list(work.outcomes.runs.values()), list(work.outcomes.ends.values()), fx)

    def _on_hello_again(self, message: wire.HelloAgain, now: Now, fx: Effects) -> None:
        if self._phase == UP:
            self._hello(fx)

    def bulk_hello(self) -> wire.BulkHello:
        """What the bulk connection of the present connection begins with."""
        me = self.identity
        return wire.BulkHello(wire.MAGIC, wire.PROTOCOL, me.release, me.nonce, self._connection)

    def _on_open_bulk(self, message: wire.OpenBulk, now: Now, fx: Effects) -> None:
        fx.open_bulk = True

    def _on_ping(self, message: wire.Ping, now: Now, fx: Effects) -> None:
        pass

    def _on_refused(self, message: wire.Refused, now: Now, fx: Effects) -> None:
        if message.code == "authorization":
            raise NotAuthorized(message.reason)
        told = f"the scheduler (zmqtasks {message.release}, protocol {message.protocol}) refused this worker"
        raise ProtocolMismatch(f"{told} (zmqtasks {self.identity.release}, protocol {wire.PROTOCOL}): {message.reason}")

    # -------------------------------------------------------------------------------------------- jobs

    def _on_assign(self, message: wire.Assign, now: Now, fx: Effects) -> None:
        fx.reclaim |= self.work.add(message)
        if self.draining:
            fx.reclaim |= self.work.retract_all()

    def _on_done_ack(self, message: wire.DoneAck, now: Now, fx: Effects) -> None:
        self.work.release(message.numbers)

    def _on_retract(self, message: wire.Retract, now: Now, fx: Effects) -> None:
        fx.reclaim |= self.work.retract(message.numbers, answer=True)

    def _on_kill(self, message: wire.Kill, now: Now, fx: Effects) -> None:
        fx.reclaim |= self.work.retract(message.numbers, kill=True)

    def _on_argument(self, message: wire.Argument, now: Now, fx: Effects) -> None:
        self.work.on_argument(message.number, message.data)

    def _on_code(self, message: wire.Code, now: Now, fx: Effects) -> None:
        self.work.on_code(message.digest, message.blob)

    def _on_disown(self, message: wire.Disown, now: Now, fx: Effects) -> None:
        fx.reclaim |= self.work.drop(message.numbers)

    def _on_consume(self, message: wire.Consume, now: Now, fx: Effects) -> None:
        left = set(message.leave)
        wanted = [queue for queue in dict.fromkeys((*self.queues, *message.take)) if queue not in left]
        if wanted != self.queues:
            self.queues = wanted
            log.info("taking from queues %s now", ",".join(wanted) or "none", extra={"action": "consumers"})
        fx.sends.append(wire.Consuming(wanted))

    def _on_forget(self, message: wire.Forget, now: Now, fx: Effects) -> None:
        self.work.forget(message.digests)

    # -------------------------------------------------------------------------------------------- children

    def on_report(
        self,
        child: int,
        claim: int,
        runs: list[Run],
        ends: list[End],
        finished: bool,  # noqa: FBT001
        now: Now,
        fx: Effects,
    ) -> None:
        """A child's outcomes, in the order in which it sent them. `finished`: nothing more comes of this claim."""
        self.work.on_report(claim, runs, ends, finished=finished)

    def on_progress(self, child: int, items: list[tuple[int, bytes]], now: Now, fx: Effects) -> None:
        """What jobs tell of themselves while they run in this child, as (number, MessagePack); the newest counts."""
        work = self.work
        work.progress.update((number, value) for number, value in items if work.ledger.state(number) == PUSHED)

    def on_child_exit(
        self,
        child: int,
        claim: int,
        number: int,
        evidence: str,
        now: Now,
        fx: Effects,
        *,
        ours: bool = False,
        company: bool = False,
    ) -> None:
        """A child is dead and its reports are read to the end; where it had several slots, this comes for each.

        Args:
            child: its slot; the next child of that slot has begun with an empty cell.
            claim: from its cell; 0: it was waiting for one.
            number: from its cell, the job that it was running; 0: none.
            evidence: how it died, for people: "killed by SIGKILL (child 17, pid 4711)".
            now: the time.
            fx: what follows.
            ours: it was killed for the sake of another slot's job.
            company: jobs of other slots ran in it when it died.
        """
        ours = ours or child in self._killed
        self._killed.discard(child)
        if claim:
            self.work.on_child_exit(claim, number, evidence, ours=ours, company=company)
        else:  # it may have died between taking a claim and writing that into its cell
            self._orphans_at = now.mono + ORPHAN_AFTER
            self._orphans_upto = self.work.last_claim
            self._absent = None

    def on_push_refused(self, claim: int) -> None:
        """The shared queue had no room: the claim waits for the next report."""
        self.work.take_back([claim])

    def on_reclaimed(self, claims: list[int], now: Now, fx: Effects) -> None:
        """These claims stood in the shared queue and were read back: nobody has started them."""
        self._reclaiming = False
        self.work.take_back(claims)
        self.work.tell_started()
        if self._seeking or self.work.doomed:
            fx.look = True
        self._end_turn(now, fx)

    def on_running(self, cells: list[tuple[int, int]], now: Now, fx: Effects) -> None:
        """What every slot is at: (claim, number), 0 where there is none; (0, 0) for a slot without a child."""
        work = self.work
        if self._seeking:
            self._seek_orphans({claim for claim, _ in cells}, now)
        for child, (claim, number) in enumerate(cells):
            if child not in self._killed and (number in work.doomed or (self._abandoning and claim)):
                self._killed.add(child)
                fx.kills.append(child)
        self._watch_at = now.mono + WATCH
        self._end_turn(now, fx)
        if self._phase == UP and not self.drained and now.mono >= self._beat_at:  # nothing comes after a Goodbye
            self._beat_at = now.mono + self._heartbeat
            running = [number for _, number in cells if number and work.ledger.state(number) == PUSHED]
            fx.sends.append(wire.Heartbeat(work.ledger.seen, work.ledger.held_spans(), running, work.void(cells)))

    def _seek_orphans(self, taken: set[int], now: Now) -> None:
        """Claims from before a child's death that are in no queue and no cell: given up at the second look.

        A child that was stopped between taking a claim and writing its cell would be seen as dead by a single look.
        """
        self._seeking = False
        absent = {claim for claim in self.work.claims if claim <= self._orphans_upto and claim not in taken}
        if self._absent is None:
            self._absent = absent
            self._orphans_at = now.mono + ORPHAN_AGAIN if absent else None
            return
        self._orphans_at = None
        lost = absent & self._absent
        if lost:
            log.warning("%d claims died with a child before it began them; their jobs run in another one", len(lost))
            self.work.take_back(list(lost))

    # -------------------------------------------------------------------------------------------- the end

    def drain(self, now: Now, fx: Effects) -> None:
        """Take no new jobs, hand back what has not started, finish what runs; `drained` tells when that is over."""
        if not self.draining:
            self._alone_since = max(self._alone_since, now.mono)  # it gets its time from now on
        self.draining = True
        fx.reclaim |= self.work.retract_all()

    def abandon(self, now: Now, fx: Effects) -> None:
        """A drain that kills what runs: those jobs are handed back uncharged."""
        self.drain(now, fx)
        self._abandoning = True
        fx.look = True

    def _tell_drain(self, fx: Effects) -> None:
        if self.draining and not self._drain_told:
            self._drain_told = True
            fx.sends.append(wire.Draining())

    # -------------------------------------------------------------------------------------------- the turn

    def tick(self, now: Now, fx: Effects) -> None:
        """The end of a turn: what is due, then what the turn's events led to."""
        if self._orphans_at is not None and now.mono >= self._orphans_at:
            self._seeking = fx.reclaim = True
        if self._phase == UP and now.mono >= self._beat_at:
            fx.look = True
        if (self.work.doomed or (self._abandoning and self.work.claims)) and now.mono >= self._watch_at:
            fx.look = True
        if fx.reclaim:
            self._reclaiming = True
        self._end_turn(now, fx)

    def _end_turn(self, now: Now, fx: Effects) -> None:
        work = self.work
        if self._phase == UP:
            if self.draining:
                self._tell_drain(fx)
            if work.retracted or work.started:
                numbers = sorted(n for first, count in work.retracted for n in range(first, first + count))
                fx.sends.append(wire.Retracted(spans(numbers), spans(work.started)))
                work.retracted.clear()
                work.started.clear()
            if work.fresh_runs or work.fresh_ends:
                self._send_outcomes(work.fresh_runs, work.fresh_ends, fx)
            if work.progress:
                told = list(work.progress.items())
                for start in range(0, len(told), MANY_TOLD):
                    part = told[start : start + MANY_TOLD]
                    fx.sends.append(wire.Progress([number for number, _ in part], [value for _, value in part]))
                work.progress.clear()
        if work.fresh_runs or work.fresh_ends:  # what could not be sent now is sent after the next Welcome: it is kept
            work.fresh_runs.clear()
            work.fresh_ends.clear()
        if work.backlog.waiting and not self._reclaiming and not self.draining:
            fx.pushes.extend(work.cut_claims())
        if self.draining and not self.drained and self._phase != HELLO:
            self._end_drain(now, fx)

    def _end_drain(self, now: Now, fx: Effects) -> None:
        """A drain is over when nothing is held, or nobody takes what is."""
        work = self.work
        if work.empty:
            if self._phase == UP:
                fx.sends.append(wire.Goodbye())
            self.drained = True
        elif self._phase == OFF and work.idle and now.mono >= self._alone_since + ALONE:
            log.warning("no scheduler takes the outcomes of %d jobs; they run again elsewhere", work.kept)
            self.drained = True

    def _send_outcomes(self, runs: list[Run], ends: list[End], fx: Effects) -> None:
        """Large ones go over the bulk connection: until they are acknowledged, each heartbeat lists them as held."""
        if not ends and len(runs) == 1 and len(runs[0].results) == 1 and len(runs[0].results[0]) <= SMALL:
            fx.sends.append(wire.Done([runs[0]], []))  # a lone job's
            return
        for message, large in dones(runs, ends):
            (fx.bulk if large else fx.sends).append(message)

    def next_deadline(self) -> float | None:
        """Monotonic time at which `tick` has something to do even if nothing happens."""
        due = self._beat_at if self._phase == UP else None
        if self._orphans_at is not None:
            due = soonest(due, self._orphans_at)
        if self.work.doomed or (self._abandoning and self.work.claims):  # until its cell shows that job
            due = soonest(due, self._watch_at)
        if self.draining and self._phase == OFF and not self.drained:
            due = soonest(due, self._alone_since + ALONE)
        return due

    def check(self) -> None:
        """Raises AssertionError if an invariant is broken: see `zmqtasks.worker.check`."""
        check(self.work)
        assert not (self.drained and not self.work.idle), "drained, but something is held"  # noqa: S101
