"""The way in: messages, timers and loaded bytes come in here, effects go out. No decision is made in this file."""

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, Final

from zmqtasks import wire
from zmqtasks.clock import Now
from zmqtasks.config import MAX_NAME, MAX_NAMES, SchedulerSettings
from zmqtasks.errors import PeerError
from zmqtasks.scheduler.core import (
    ageing,
    check,
    compaction,
    consumers,
    delivery,
    expiry,
    lifecycle,
    operators,
    outcomes,
    paging,
    policy,
    progress,
    restore,
    strays,
    submitters,
    unserved,
    workers,
)
from zmqtasks.scheduler.core.deadlines import Timers
from zmqtasks.scheduler.core.dispatch import dispatch
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.model import DISK, Bulk, Job, Submitter, Worker
from zmqtasks.scheduler.core.records import Began, Record
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import DELAYED, READY

_FROM_WORKER: Final[dict[type, Callable[..., None]]] = {
    wire.Heartbeat: workers.on_heartbeat,
    wire.Done: outcomes.on_done,
    wire.Retracted: workers.on_retracted,
    wire.Draining: workers.on_draining,
    wire.Goodbye: workers.on_goodbye,
    wire.Progress: progress.on_progress,
    wire.Consuming: consumers.on_consuming,
}
_FROM_SUBMITTER: Final[dict[type, Callable[..., None]]] = {
    wire.Submit: submitters.on_submit,
    wire.Ask: submitters.on_ask,
    wire.ResultAck: submitters.on_result_ack,
    wire.Cancel: submitters.on_cancel,
}
_FROM_OPERATOR: Final[dict[type, Callable[..., None]]] = {
    wire.AskJobs: operators.on_ask_jobs,
    wire.AskJob: operators.on_ask_job,
    wire.SetRate: policy.on_set_rate,
    wire.SetQueue: policy.on_set_queue,
    wire.Purge: policy.on_purge,
    wire.SetConsumer: consumers.on_set_consumer,
}

MAX_RELEASE: Final = 50  # characters of another release's name that are repeated to people


def _check_names(hello: wire.Hello) -> None:
    """What a peer calls itself and its tasks is kept and shown: it must be short enough for that."""
    texts = [value for name in hello.__struct_fields__ if isinstance(value := getattr(hello, name), str)]
    if isinstance(hello, wire.WorkerHello):
        if max(len(hello.queues), len(hello.tasks)) > MAX_NAMES:
            raise PeerError(f"a worker has at most {MAX_NAMES:,} queues and as many tasks")
        texts += hello.queues + hello.tasks
    if max(map(len, texts)) > MAX_NAME:
        raise PeerError(f"names have at most {MAX_NAME:,} characters")


class Core:
    """The scheduler, sans-IO. One turn is any number of `receive`, `on_gone` and `on_loaded`, then one `tick`.

    A driver for whom each microsecond until its messages leave counts calls `decide`, carries that out, then `tidy`.

    Args:
        settings: bounds and times.
        identity: who this is.
        recording: somebody keeps the records; else none are made.
    """

    def __init__(self, settings: SchedulerSettings, identity: Identity, *, recording: bool = True) -> None:
        self.state = State(settings, identity.epoch, durable=identity.durable, recording=recording)
        self.identity = identity
        self._restorer: restore.Restorer | None = None

    def receive(self, route: bytes, data: bytes, now: Now, fx: Effects) -> None:
        """One frame from a connection. Whatever it holds, nobody else notices."""
        peer = self.state.peers.get(route)
        try:
            if isinstance(peer, Worker):
                peer.heard = now.mono
                self._from_worker(peer, route, wire.decode_from_worker(data), now, fx)
            elif isinstance(peer, Submitter):
                self._from_submitter(peer, route, wire.decode_from_submitter(data), now, fx)
            elif isinstance(peer, Bulk):  # the driver joins chunks and hands messages over as the owner's
                self.state.count("malformed_messages")
            elif peer is not None:
                self._from_operator(route, wire.decode_from_operator(data), now, fx)
            else:
                self._from_stranger(route, data, now, fx)
        except PeerError as error:
            self.state.count("malformed_messages")
            fx.logs.append(Log(logging.WARNING, "malformed", f"a message was refused: {error}"))

    def _from_stranger(self, route: bytes, data: bytes, now: Now, fx: Effects) -> None:
        try:
            self._greet(route, wire.decode_hello(data), now, fx)
        except wire.OtherProtocol as other:
            text = (
                f"this scheduler (zmqtasks {self.identity.release}) speaks protocol {wire.PROTOCOL}, "
                f"the peer (zmqtasks {other.release[:MAX_RELEASE]}) speaks protocol {other.protocol}; "
                "install the same release on both"
            )
            self._refuse(route, "protocol", text, fx)
        except PeerError as error:
            self._refuse(route, "hello", str(error), fx)

    def _refuse(self, route: bytes, code: str, text: str, fx: Effects) -> None:
        self.state.count("refused_hellos")
        fx.logs.append(Log(logging.WARNING, "refused", text))
        fx.sends.append(Send(route, wire.Refused(code, text, wire.PROTOCOL, self.identity.release)))

    def _greet(self, route: bytes, hello: wire.Hello | None, now: Now, fx: Effects) -> None:
        if hello is None:
            self.state.count("strangers")
            fx.sends.append(Send(route, wire.HelloAgain()))
            return
        _check_names(hello)
        if isinstance(hello, wire.BulkHello):
            self._bind_bulk(route, hello, fx)
        elif isinstance(hello, wire.WorkerHello):
            workers.on_hello(self.state, route, hello, now, fx, self.identity.release)
            unserved.on_join(self.state, now, fx)
        elif isinstance(hello, wire.SubmitterHello):
            submitters.on_hello(self.state, route, hello, now, fx, self.identity.release)
        else:
            operators.on_hello(self.state, route, hello, fx, self.identity.release)

    def _bind_bulk(self, route: bytes, hello: wire.BulkHello, fx: Effects) -> None:
        """A bulk connection comes to its session; one that belongs to none, or to an older connection, is told so.

        So is a second one: what is under way on the first must not be lost by it.
        """
        state = self.state
        peer = state.workers.get(hello.key) or state.submitters.get(hello.key)
        if peer is None or peer.route is None or peer.connection != hello.connection or peer.bulk is not None:
            state.count("late_hellos")
            fx.sends.append(Send(route, wire.HelloAgain()))
            return
        peer.bulk = route
        state.peers[route] = Bulk(peer.route)
        fx.bulks.append((peer.route, route))

    def _from_worker(self, worker: Worker, route: bytes, message: Any, now: Now, fx: Effects) -> None:
        verb = _FROM_WORKER.get(type(message))
        if verb is None:  # a repeated hello: taken for new, it would void what is in flight
            self.state.count("repeated_hellos")
        else:
            verb(self.state, worker, message, now, fx)

    def _from_submitter(self, submitter: Submitter, route: bytes, message: Any, now: Now, fx: Effects) -> None:
        verb = _FROM_SUBMITTER.get(type(message))
        if verb is None:
            self.state.count("repeated_hellos")
        else:
            verb(self.state, submitter, message, now, fx)

    def _from_operator(self, route: bytes, message: Any, now: Now, fx: Effects) -> None:
        if isinstance(message, wire.OperatorHello):
            operators.on_hello(self.state, route, message, fx, self.identity.release)
        elif isinstance(message, wire.AskStatus):
            fx.sends.append(Send(route, operators.status(self.state, now, self.identity)))
        else:
            _FROM_OPERATOR[type(message)](self.state, route, message, now, fx)

    def on_gone(self, route: bytes, now: Now, fx: Effects) -> None:
        """This connection is known to be dead."""
        state = self.state
        peer = state.peers.get(route)
        if isinstance(peer, Bulk):  # the two break together
            peer = state.peers.get(peer.owner)
        elif isinstance(peer, Worker | Submitter):
            peer.connection += 1  # a connection never comes back: a hello of it that is read late begins nothing
        if isinstance(peer, Worker):
            workers.on_gone(state, peer, now, fx)
        elif isinstance(peer, Submitter):
            submitters.on_gone(state, peer, now, fx)
        else:
            state.peers.pop(route, None)

    def wants(self, route: bytes, message: wire.ToPeer | wire.FromPeer) -> bool:
        """Whether a message that waited for its turn on a bulk connection still matters.

        An argument does not, once its job was cancelled or handed back.
        """
        peer = self.state.peers.get(route)
        return not isinstance(message, wire.Argument) or (isinstance(peer, Worker) and message.number in peer.held)

    def on_loaded(self, number: int, data: bytes | None, now: Now, fx: Effects) -> None:
        """The bytes that a load effect asked for; None: they are damaged or gone."""
        state = self.state
        job = state.waiting.pop(number, None)
        state.payloads.loaded(number, data, arguments=job is not None)
        if job is not None and data is None:
            lifecycle.abort(state, job, "PayloadLost", f"the stored arguments of job {job.id} cannot be read", now, fx)
        elif job is not None:
            state.moves.one(job, READY)
            state.lines.put_back(job)
        state.dirty.update(state.blocked)
        state.blocked.clear()

    def restore(self, first: int, records: Sequence[Record]) -> None:
        """Facts of earlier lives, in order, before anything else happens. `first`: number of the first of these.

        Raises:
            RestoreError: they contradict one another.
        """
        if self._restorer is None:
            self._restorer = restore.Restorer(self.state)
        self._restorer.apply(first, records)

    def begin(self, now: Now, fx: Effects) -> dict[int, int]:
        """Begin this life, after all facts of earlier ones were restored.

        Returns:
            The numbers of the large payloads that are still needed, and how many bytes each holds at least.
        """
        restorer, self._restorer = self._restorer or restore.Restorer(self.state), None
        live = restorer.finish(now, fx)
        state = self.state
        state.record(fx, Began(state.epoch, now.wall, self.identity.release), DISK)
        compaction.write_totals(state, fx)
        return live

    def end(self, fx: Effects) -> None:
        """This life ends in good order."""
        if self.state.durable and self.state.seq > self.state.totality.seq:
            compaction.write_totals(self.state, fx)

    def on_journal(self, size: int, pending: int, trouble: str, *, trimming: bool = False) -> None:
        """How the journal does: bytes of its records, bytes that wait for the disk, why it cannot be written now.

        `trimming`: records that are needed no more are still there.
        """
        journal = self.state.journal
        journal.size, journal.pending, journal.trimming = size, pending, trimming
        if trouble != journal.trouble:
            self.state.warnings.pop(journal.trouble, None)
            journal.trouble = trouble
            journal.news = True
            if trouble:
                self.state.warnings[trouble] = None

    def on_gap(self, seconds: float) -> None:
        """This process was stopped for so long (SIGSTOP, a suspended machine): nobody's lease may suffer from it."""
        for worker in self.state.workers.values():
            worker.heard += seconds
            worker.moved += seconds

    def tick(self, now: Now, fx: Effects, *, caught_up: bool = True) -> None:
        """End a turn: `decide`, then `tidy`."""
        self.decide(now, fx, caught_up=caught_up)
        self.tidy(now, fx)

    def decide(self, now: Now, fx: Effects, *, caught_up: bool = True) -> None:
        """Timers that are due, then dispatch, then what goes out in batches.

        Args:
            now: the present.
            fx: to be filled.
            caught_up: all input that waited at the turn's start was handled; otherwise no lease expires in this turn.
        """
        state = self.state
        self._come_due(now, fx, caught_up=caught_up)
        if state.purges:
            policy.step(state, now, fx)
        dispatch(state, now, fx)
        if state.accepting:
            submitters.hurry_accepted(state, now)
        while state.dirty:
            dirty, state.dirty = state.dirty, {}
            for submitter in dirty:
                submitters.flush_accepted(state, submitter, now, fx)
                delivery.flush_results(state, submitter, fx)
        if state.payloads.passing:
            state.payloads.end_turn()
        if state.acks:
            workers.flush_acks(state, now, fx)
        if state.told:
            progress.flush(state, fx)
        if state.journal.news:
            submitters.tell_of_journal(state, fx)

    def tidy(self, now: Now, fx: Effects) -> None:
        """What nobody waits for: outcomes and functions are forgotten, records trimmed."""
        state = self.state
        delivery.expire(state, now, fx)
        if state.function_bytes or state.idle_targets:
            self._forget_functions(fx)
        if state.durable:
            paging.page(state, fx)
            compaction.step(state, now, fx)

    def _come_due(self, now: Now, fx: Effects, *, caught_up: bool) -> None:
        """What waited for a certain time. A turn in which nothing has come makes no call here."""
        state, mono = self.state, now.mono
        if state.leases.at <= mono and caught_up:
            workers.expire_leases(state, now, fx)
        if state.adoptions.at <= mono:
            strays.expire(state, now, fx)
        if state.age_at <= mono:
            ageing.look(state, now)
        if state.limits.shut.at <= mono:
            state.limits.come_due(mono)
        if state.backoffs.at <= mono:
            self._wake(state.backoffs, mono, now)
        if state.delays.at <= now.wall:
            self._wake(state.delays, now.wall, now)
        if state.expirations.at <= now.wall:
            expiry.come_due(state, now, fx)
        if state.lines.lately or state.warned or state.patience.at <= mono:
            unserved.watch(state, now, fx)

    def _wake(self, timers: Timers[Job], clock: float, now: Now) -> None:
        """Delayed jobs whose time has come."""
        state = self.state
        came: dict[bytes, list[int]] = {}
        for _, job in timers.due(clock):
            if job.state == DELAYED:
                state.dues.pop(job, None)
                state.moves.one(job, READY)
                state.lines.put_back(job)
                came.setdefault(job.submission.source.prefix, []).append(job.counter)
        for prefix, counters in came.items():
            state.story.tell_run(now.wall, prefix, counters, READY, "its time has come")

    def next_deadline(self, now: Now) -> float | None:
        """Monotonic time at which `tick` should be called even if nothing comes in."""
        state, mono = self.state, now.mono
        soonest = min(
            state.leases.at, state.backoffs.at, state.patience.at, state.adoptions.at, state.expiries.at,
            state.balance_at, state.stalls.at, state.limits.shut.at, state.age_at, delivery.next_expiry(state),
        )  # fmt: skip
        if state.durable and state.journal.upto:
            soonest = min(soonest, mono + compaction.PAUSE)
        if state.purges:
            soonest = mono
        if state.accepting:
            soonest = min(soonest, next(iter(state.accepting.values())) + state.settings.accept_delay)
        if state.acks:
            soonest = min(soonest, workers.next_ack(state) + state.settings.ack_delay)
        on_the_wall = min(state.delays.at, state.expirations.at)
        if on_the_wall < inf:
            soonest = min(soonest, mono + max(0.0, on_the_wall - now.wall))
        return soonest if soonest < inf else None

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken. O(everything): for tests and simulations."""
        check.check(self.state)

    def _forget_functions(self, fx: Effects) -> None:
        """Targets that no job needs any more go, the oldest first, when there are too many."""
        state = self.state
        idle, settings = state.idle_targets, state.settings
        enough = settings.max_functions + settings.max_functions // 10  # some at a time: every worker is looked at
        if len(idle) <= enough and state.function_bytes <= settings.max_function_bytes:
            return
        digests: list[bytes] = []
        while len(idle) > settings.max_functions or (idle and state.function_bytes > settings.max_function_bytes):
            key = next(iter(idle))
            del idle[key]
            target = state.targets.pop(key)
            state.bases.pop(target, None)
            state.function_bytes -= len(target.blob.blob) if target.blob is not None else 0
            if isinstance(key, bytes):
                digests.append(key)
        if digests:
            for worker in state.workers.values():
                known = [d for d in digests if d in worker.functions]
                worker.functions.difference_update(known)
                if known and worker.route is not None:
                    fx.sends.append(Send(worker.route, wire.Forget(known)))
