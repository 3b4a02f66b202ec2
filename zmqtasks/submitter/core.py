"""The submitter's decisions: what to send, and which job is over. No sockets, no clock, no threads.

Drive it like this: verbs as things happen, then `tick` once per turn, which sends what waits together as few messages.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from zmqtasks import payload, wire
from zmqtasks.clock import Now
from zmqtasks.config import MAX_ASKED, MAX_BYTES_PER_MESSAGE, SubmitterSettings
from zmqtasks.errors import PeerError
from zmqtasks.ids import Span, job_id, parts
from zmqtasks.states import ABORTED, FAILED, FINAL
from zmqtasks.submitter.book import Book
from zmqtasks.submitter.cancels import Cancels
from zmqtasks.submitter.effects import Effects, Ended, Finished, Identity, Submission
from zmqtasks.submitter.ledger import ACCEPTED, SENT, Parcel
from zmqtasks.submitter.notices import Notices

# Phases of the connection.
AWAY: Final = "away"
GREETING: Final = "greeting"  # the hello is out: nothing else may be sent
IN: Final = "in"
REFUSED: Final = "refused"

_SPANS_PER_MESSAGE = 2_000
MANY_ACKS: Final = 500  # outcomes whose acknowledgement does not wait for company
_REFUSALS: Final = {"protocol": "ProtocolMismatch", "authorization": "NotAuthorized"}
_FORGOTTEN: Final = "the scheduler knows nothing of it; it may have been restarted without a journal"
_ONCE: Final = (
    "the scheduler was restarted and kept it in memory only: it may have run, and is not run again (acks_late=False)"
)
_EXPIRED: Final = "it is over, and its result is no longer kept"


class SubmitterCore:
    """One session of a submitter.

    Args:
        settings: the window of what is sent and not yet accepted.
        identity: who it is; its prefix is the session.

    Attributes:
        phase: AWAY, GREETING, IN or REFUSED.
        stale: results that came again or late, and were dropped.
        refusal: in REFUSED, the Failure that ends every job.
        notices: the warnings of the scheduler.
        book: the open jobs.
    """

    def __init__(self, settings: SubmitterSettings, identity: Identity) -> None:
        self._identity = identity
        self.phase = AWAY
        self.stale = 0
        self._connection = 0
        self.refusal = b""
        self.notices = Notices()
        self.book = Book(settings)
        self._cancels = Cancels(self.book)
        self._carried: dict[bytes, Parcel | None] = {}  # functions that this connection has carried, and in what
        self._behind: list[Parcel] = []  # sent when the function that they need has got through
        self._delivery = [0, 0]  # of this connection, control and bulk: all up to this one have come
        self._early: set[int] = set()  # bulk deliveries beyond it: a small one may overtake a large one
        self._epoch = 0  # of the scheduler that the last welcome came from
        self._acked = [0, 0]
        self._ack_delay = settings.ack_delay
        self._unacked = 0  # outcomes
        self._ack_at = 0.0
        self._verbs: dict[type, Callable[[Any, Now, Effects], None]] = {
            wire.SubmitterWelcome: self.on_welcome,
            wire.Accepted: self.on_accepted,
            wire.Results: self.on_results,
            wire.Rejected: self.on_rejected,
            wire.Unknown: self.on_unknown,
            wire.CancelAck: self.on_cancel_ack,
            wire.Notice: self.on_notice,
            wire.HelloAgain: self.on_hello_again,
            wire.Refused: self.on_refused,
            wire.Ping: self.on_ping,
            wire.OpenBulk: self.on_open_bulk,
            wire.Progressed: self.on_progressed,
        }

    @property
    def open(self) -> int:
        """Jobs that are not over."""
        return self.book.open

    @property
    def unaccepted(self) -> int:
        """Jobs sent and not yet accepted."""
        return self.book.unaccepted

    @property
    def unaccepted_bytes(self) -> int:
        """Bytes of their payloads."""
        return self.book.unaccepted_bytes

    @property
    def pending(self) -> tuple[int, int]:
        """Jobs that are not accepted, sent or not, and the bytes of their payloads."""
        book = self.book
        return book.queued + book.unaccepted, book.queued_bytes + book.unaccepted_bytes

    @property
    def submissions(self) -> int:
        """Number of the last submission, for `settled`."""
        return self.book.order

    # ------------------------------------------------------------------------------------------ from the owner

    def submit(self, submission: Submission, now: Now, fx: Effects) -> int:
        """Take jobs in; the next `tick` with room in the window sends them.

        Returns:
            The number of this submission, for `settled`.
        """
        book = self.book
        book.order += 1
        if self.phase == REFUSED:
            for place, handle in enumerate(submission.handles):
                counter = submission.first + place
                fx.ended.append(Ended(submission.prefix, counter, handle, FAILED, self.refusal, "refused"))
        elif submission.prefix == self._identity.prefix or not book.share(submission, fx):
            book.add(submission)
        return book.order

    def ask(self, prefix: bytes, counter: int, handle: Any, now: Now, fx: Effects) -> Any:
        """Want the outcome of a job that this session may not have submitted.

        Returns:
            The handle that will get it: that of the open job where there is one already.
        """
        found = self.book.find(prefix, counter)
        if found is not None:
            return found[0].handles[found[1]]
        if self.phase == REFUSED:
            fx.ended.append(Ended(prefix, counter, handle, FAILED, self.refusal, "refused"))
            return handle
        self.book.add_asked(prefix, counter, handle)
        if self.phase == IN:
            fx.sends.append(wire.Ask(prefix, [(counter, 1)]))
        return handle

    def cancel(self, prefix: bytes, counters: list[Span], force: bool, token: Any, now: Now, fx: Effects) -> None:  # noqa: FBT001
        """Cancel jobs: those not sent at once, the others by asking the scheduler, after each new hello again.

        Answered once, in `fx.cancel_answers`.
        """
        self._cancels.begin(prefix, counters, force=force, token=token, fx=fx)
        if self.phase == REFUSED:
            self._cancels.give_up(fx)

    def settled(self, number: int) -> bool:
        """Whether all jobs of the submissions up to this number are accepted or over."""
        queue, sent = self.book.queue, self.book.sent
        while queue and not queue[0].left:
            queue.popleft()
        return (not queue or queue[0].order > number) and (not sent or next(iter(sent)).order > number)

    def is_accepted(self, prefix: bytes, counter: int) -> bool:
        """Whether this job is accepted, or over."""
        found = self.book.find(prefix, counter)
        return found is None or found[0].stage == ACCEPTED

    def open_jobs(self, limit: int) -> list[tuple[str, str]]:
        """(id, task) of up to `limit` jobs that are not over, for people."""
        found: list[tuple[str, str]] = []
        for prefix, line in self.book.lines.items():
            for parcel in line:
                for first, count in parcel.open_spans():
                    task = parcel.call.task if parcel.call else ""
                    found.extend((job_id(prefix, c), task) for c in range(first, first + min(count, limit)))
                if len(found) >= limit:
                    return found[:limit]
        return found

    # ------------------------------------------------------------------------------------------ from the connection

    def on_connected(self, now: Now, fx: Effects) -> None:
        """A new connection stands: say hello."""
        if self.phase != REFUSED:
            self._connection += 1
            self._hello(fx)

    def on_disconnected(self, now: Now, fx: Effects) -> None:
        """The connection is gone; nothing is sent before the next Welcome."""
        if self.phase != REFUSED:
            self._enter(AWAY)

    def handle(self, message: wire.ToSubmitter, now: Now, fx: Effects) -> None:
        """Take in one message of the scheduler.

        Raises:
            PeerError: the message contradicts itself; nothing of it was taken in.
        """
        if self.phase != REFUSED:
            self._verbs[type(message)](message, now, fx)

    def tick(self, now: Now, fx: Effects) -> None:
        """Send what this turn gathered: call it once per turn, after the verbs."""
        if self.phase != IN:
            return
        if self._behind:
            waiting, self._behind = self._behind, []
            for late in waiting:
                if late.stage == SENT:
                    self._send(late, fx)
                elif late.left:  # an outcome told that it is accepted; others may have come before this connection
                    self._ask_for(late.prefix, late.open_spans(), fx)
        while self.book.queue and (parcel := self.book.next_to_send()) is not None:
            self._send(parcel, fx)
        if self._cancels.early:
            self._cancels.follow_up(fx)
        if self._delivery != self._acked and (self._unacked >= MANY_ACKS or now.mono >= self._ack_at):
            self._acknowledge(fx)

    def _acknowledge(self, fx: Effects) -> None:
        self._unacked = 0
        for bulk in (False, True):
            if self._delivery[bulk] > self._acked[bulk]:
                self._acked[bulk] = self._delivery[bulk]
                fx.sends.append(wire.ResultAck(self._delivery[bulk], bulk))

    def next_deadline(self) -> float | None:
        """Monotonic time when `tick` has something to do: 0.0 is at once, None is not before another verb."""
        if self.phase != IN:
            return None
        if self.book.queue and self.book.room():
            return 0.0
        return self._ack_at if self._delivery != self._acked else None

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self.book.check()

    # ------------------------------------------------------------------------------------------ verbs

    def on_welcome(self, message: wire.SubmitterWelcome, now: Now, fx: Effects) -> None:
        """In: tell everything anew, for what the old connection carried may be lost."""
        if self.phase != GREETING:
            return
        self._enter(IN)
        self.book.keep = not message.durable
        fx.welcome = message
        if self._epoch not in (0, message.epoch) and not message.durable:
            self._give_up_once(fx)
        self._epoch = message.epoch
        for parcel in self.book.sent:
            self._send(parcel, fx)
        for prefix, line in self.book.lines.items():
            wanted = _join(span for parcel in line if parcel.stage == ACCEPTED for span in parcel.open_spans())
            self._ask_for(prefix, wanted, fx)
        fx.sends.extend(self._cancels.again())

    @staticmethod
    def _ask_for(prefix: bytes, wanted: list[Span], fx: Effects) -> None:
        for part in parts(wanted, _SPANS_PER_MESSAGE, MAX_ASKED):
            fx.sends.append(wire.Ask(prefix, part))

    def _give_up_once(self, fx: Effects) -> None:
        """Jobs that must not run twice, and that a scheduler which has forgotten all may have given to a worker."""
        for prefix, line in list(self.book.lines.items()):
            for parcel in line:
                call = parcel.call
                if call is not None and not call.spec.acks_late and parcel.stage in (SENT, ACCEPTED):
                    first = job_id(prefix, parcel.first)
                    many = f" (or one of the {len(parcel.handles) - 1} after it)" if len(parcel.handles) > 1 else ""
                    data = payload.failure("WorkerLost", f"job {first}{many}: {_ONCE}")
                    self.book.end_all(parcel, (FAILED, data, "forgotten"), fx)

    def on_accepted(self, message: wire.Accepted, now: Now, fx: Effects) -> None:
        line = self.book.line(message.prefix)
        for first, count in message.counters:
            for parcel in line.overlapping(first, count):
                if parcel.stage == SENT:
                    self.book.accept(parcel, fx, volatile=message.volatile)
                elif parcel.stage == ACCEPTED and not message.volatile:
                    self.book.let_go(parcel)

    def on_results(self, message: wire.Results, now: Now, fx: Effects) -> None:
        """Outcomes. Those of jobs that are over already are repeats, and dropped."""
        ends = message.ends
        if len(message.counters) != len(message.values) or (ends and any(end.state not in FINAL for end in ends)):
            error = f"Results {message.delivery} contradicts itself"
            raise PeerError(error)
        if self._delivery == self._acked:
            self._ack_at = now.mono + self._ack_delay
        self._note_delivery(message)
        self._unacked += len(message.counters) + len(ends)
        if message.counters:
            self._take_values(message, fx)
        for end in ends:
            found = self.book.find(message.prefix, end.counter)
            if found is None:
                self.stale += 1
                continue
            if found[0].stage == SENT:
                self.book.accept(found[0], fx, volatile=True)
            self.book.end(*found, (end.state, end.payload, "result"), fx)

    def _note_delivery(self, message: wire.Results) -> None:
        if not message.bulk:
            self._delivery[0] = max(self._delivery[0], message.delivery)
            return
        if message.delivery > self._delivery[1]:
            self._early.add(message.delivery)
        while self._delivery[1] + 1 in self._early:
            self._delivery[1] += 1
            self._early.remove(self._delivery[1])

    def _take_values(self, message: wire.Results, fx: Effects) -> None:
        """The hot path: a parcel is looked up once per run of jobs that lie in it."""
        book, prefix = self.book, message.prefix
        line, twins = book.line(prefix), book.twins
        done = Finished(prefix, message.codec, [], [], [])
        add_counter, add_handle, add_value = done.counters.append, done.handles.append, done.values.append
        parcel: Parcel | None = None
        handles: list[Any] = []
        first = end = taken = 0
        for counter, value in zip(message.counters, message.values, strict=True):
            if not first <= counter < end:
                if parcel is not None:
                    book.took(parcel, taken, fx)
                parcel, taken = line.find(counter), 0
                handles = parcel.handles if parcel is not None else []
                first = parcel.first if parcel is not None else 0
                end = first + len(handles)
                if parcel is None:
                    self.stale += 1
                    continue
            handle = handles[counter - first]
            if handle is None:
                self.stale += 1
                continue
            handles[counter - first] = None
            taken += 1
            for one in (handle, *twins.pop((prefix, counter), ())) if twins else (handle,):
                add_counter(counter)
                add_handle(one)
                add_value(value)
        if parcel is not None:
            book.took(parcel, taken, fx)
        if done.handles:
            fx.finished.append(done)

    def on_rejected(self, message: wire.Rejected, now: Now, fx: Effects) -> None:
        parcel = self.book.line(message.prefix).find(message.first)
        if parcel is not None and parcel.first == message.first and parcel.stage == SENT:
            how = (FAILED, payload.failure(message.code, message.reason), "rejected")
            self.book.end_all(parcel, how, fx)

    def on_unknown(self, message: wire.Unknown, now: Now, fx: Effects) -> None:
        """The scheduler has forgotten the outcome of these accepted jobs, or all about them."""
        book = self.book
        cause, name, text = ("expired", "ResultExpired", _EXPIRED) if message.expired else (
            "unknown", "UnknownJob", _FORGOTTEN
        )  # fmt: skip
        for first, count in message.counters:
            for parcel in book.line(message.prefix).overlapping(first, count):
                if message.expired and parcel.stage == SENT:  # it was accepted, long ago
                    book.accept(parcel, fx, volatile=True)
                wanted = parcel.open_spans(first, first + count)
                if parcel.stage != ACCEPTED or not wanted:
                    continue  # it is on its way again already, or over
                if parcel.args is not None and not message.expired and _again(parcel):
                    book.submit_again(parcel, wanted)
                    continue
                for counter in [c for start, n in wanted for c in range(start, start + n)]:
                    data = payload.failure(name, f"job {job_id(parcel.prefix, counter)}: {text}")
                    book.end(parcel, counter - parcel.first, (ABORTED, data, cause), fx)

    def on_cancel_ack(self, message: wire.CancelAck, now: Now, fx: Effects) -> None:
        self._cancels.on_ack(message, fx)

    def on_notice(self, message: wire.Notice, now: Now, fx: Effects) -> None:
        self.notices.take(message, now, fx)

    def on_hello_again(self, message: wire.HelloAgain, now: Now, fx: Effects) -> None:
        """The scheduler has forgotten this session. One answers each message sent before our new hello: one counts."""
        if self.phase == IN:
            self._hello(fx)

    def on_refused(self, message: wire.Refused, now: Now, fx: Effects) -> None:
        fx.refused = (message.code, message.reason)
        self._give_up(payload.failure(_REFUSALS.get(message.code, "PeerError"), message.reason), fx)

    def close(self, reason: str, fx: Effects) -> None:
        """The owner leaves: every open job ends here as ClientClosed, though it goes on at the scheduler."""
        if self.phase == IN:
            self._acknowledge(fx)
        self._give_up(payload.failure("ClientClosed", reason), fx)

    def _give_up(self, data: bytes, fx: Effects) -> None:
        self._enter(REFUSED)
        self.refusal = data
        for line in list(self.book.lines.values()):
            for parcel in line:
                self.book.end_all(parcel, (FAILED, self.refusal, "refused"), fx)
        self.book.queue.clear()
        self._cancels.give_up(fx)

    def bulk_hello(self) -> wire.BulkHello:
        """What the bulk connection of the present connection begins with."""
        me = self._identity
        return wire.BulkHello(wire.MAGIC, wire.PROTOCOL, me.release, me.prefix, self._connection)

    def on_progressed(self, message: wire.Progressed, now: Now, fx: Effects) -> None:
        """What running jobs tell of themselves; of those that are over it is no news."""
        for counter, value in zip(message.counters, message.values, strict=False):
            found = self.book.find(message.prefix, counter)
            if found is not None:
                fx.progress.append((message.prefix, counter, found[0].handles[found[1]], value))

    def on_open_bulk(self, message: wire.OpenBulk, now: Now, fx: Effects) -> None:
        fx.open_bulk = True

    def on_ping(self, message: wire.Ping, now: Now, fx: Effects) -> None:
        """The scheduler only looks whether the connection exists."""

    # ------------------------------------------------------------------------------------------ parts

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self._cancels.ready = phase == IN

    def _hello(self, fx: Effects) -> None:
        self._enter(GREETING)
        fx.close_bulk, fx.open_bulk = True, False  # who asked for it has forgotten us
        self._carried.clear()
        self._behind.clear()
        self._early.clear()
        self._delivery, self._acked, self._unacked = [0, 0], [0, 0], 0
        me = self._identity
        fx.sends.append(
            wire.SubmitterHello(
                wire.MAGIC,
                wire.PROTOCOL,
                me.release,
                me.python,
                me.host,
                me.pid,
                me.user,
                me.prefix,
                self._connection,
            )
        )

    def _send(self, parcel: Parcel, fx: Effects) -> None:
        """What is large goes over the bulk connection; what needs a function that is under way there waits for that."""
        functions = []
        large = parcel.size > MAX_BYTES_PER_MESSAGE
        shipped = parcel.call.shipped if parcel.call else None
        if shipped is not None:
            carrier = self._carried.get(shipped.digest, parcel)
            if carrier is parcel:
                functions.append(shipped)
                large |= len(shipped.blob) > MAX_BYTES_PER_MESSAGE
                self._carried[shipped.digest] = parcel
            elif carrier is not None and carrier.stage != SENT:
                self._carried[shipped.digest] = None
            elif carrier is not None and (carrier.late or large):  # the two connections know no order
                parcel.late = True
                self._behind.append(parcel)
                return
        parcel.late = large
        (fx.bulk if large else fx.sends).append(parcel.message(functions))


def _again(parcel: Parcel) -> bool:
    """Whether its jobs may be run again where they may have run."""
    return parcel.call is None or parcel.call.spec.acks_late


def _join(pieces: Iterable[Span]) -> list[Span]:
    """Ascending spans with those that touch made one."""
    out: list[Span] = []
    for first, count in pieces:
        if out and out[-1][0] + out[-1][1] == first:
            out[-1] = (out[-1][0], out[-1][1] + count)
        else:
            out.append((first, count))
    return out
