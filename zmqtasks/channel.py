"""A peer's two connections to the scheduler: control, and bulk for what is large. They stand and break together.

Workers and submitters use a `Channel` as they would a `transport.Link`. It opens the bulk connection when something
large is to be sent or the scheduler asks for it, cuts and joins the messages, and keeps the credit.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from zmqtasks import wire
from zmqtasks.bulk import Incoming, Outgoing
from zmqtasks.clock import soonest
from zmqtasks.errors import PeerError
from zmqtasks.transport import NOBODY, RETRY_FIRST, Change, Context, Link, Ready, Waitable

log = logging.getLogger(__name__)

WELCOME_WITHIN: Final = 10.0  # seconds from the first try to the BulkWelcome; then both connections begin anew
BULK_RETRY_FIRST: Final = 0.5  # seconds after a bulk connection that was not welcomed; doubled each time
BULK_RETRY_MAX: Final = 30.0
FRAMES: Final = 16  # of the bulk connection, taken in between two looks at the other things of a loop


class Channel:
    """Control and bulk connection to one scheduler.

    Args:
        context: of this process.
        url: tcp:// or ipc://.
        jitter: 0…1, spreads the reconnects of many peers.
        hello: gives the BulkHello that binds a bulk connection to the present control connection.

    Attributes:
        lone: there hardly is more than one message in this turn: whoever has received one need not ask for another.
        send: sends or parks one message; without a connection it is dropped, for the next hello tells everything anew.
    """

    def __init__(self, context: Context, url: str, jitter: float, hello: Callable[[], wire.BulkHello]) -> None:
        self._control = Link(context, url, jitter)
        self.send = self._control.send
        self.lone = False
        self.url = self._control.url
        self._context = context
        self._jitter = jitter
        self._hello = hello
        self._now = 0.0  # monotonic time of the last `service`
        self._fell = False  # both were given up by this class, and the owner has not been told
        self._more = False  # frames may have been left unread
        self._retry = BULK_RETRY_FIRST
        self._open_from = 0.0  # monotonic time before which no bulk connection is opened
        self._forget_bulk()

    def _forget_bulk(self) -> None:
        self._bulk: Link | None = None
        self._wanted = False
        self._welcome_by = 0.0
        self._outgoing = Outgoing()
        self._incoming: Incoming | None = None  # from the welcome on

    @property
    def connected(self) -> bool:
        """Whether the control connection stands."""
        return self._control.connected

    def readers(self) -> list[Waitable]:
        """What to wait for."""
        control = self._control.readers()
        return control if self._bulk is None else control + self._bulk.readers()

    def writers(self) -> list[Waitable]:
        """What to wait for while messages are parked."""
        control = self._control.writers()
        return control if self._bulk is None else control + self._bulk.writers()

    def next_deadline(self) -> float | None:
        """Monotonic time of the next thing to be done here, if there is one."""
        if self._fell or self._more:
            return self._now
        control = self._control.next_deadline()
        if self._bulk is not None:
            return soonest(control, self._bulk.next_deadline(), self._welcome_by if self._incoming is None else None)
        return soonest(control, self._open_from) if self._wanted else control

    def waits(self) -> tuple[list[Waitable], list[Waitable], float | None]:
        """`readers`, `writers` and `next_deadline`, in one call."""
        control = self._control
        if self._bulk is not None or self._wanted or self._fell:
            return self.readers(), self.writers(), self.next_deadline()
        return control.watched, control.writers() if control.outbox else NOBODY, control.reopen_at

    def service(self, mono: float, ready: Ready | None = None, *, slept: bool = False) -> Sequence[Change]:
        """Take in what became of the connections, open what is due, send what was parked.

        Call it once a turn, before receiving.

        Args:
            mono: the time.
            ready: as in `Link.service`.
            slept: nothing was there when the wait began: there hardly is more than one message now.
        """
        self._now = mono
        control = self._control
        self.lone = control.lone = slept and self._bulk is None
        if self._bulk is None and not (self._wanted or self._fell or control.outbox) and ready is not None:
            self._more = False
            if control.monitor not in ready and control.reopen_at is None:  # as in nearly all turns
                return ()
        changes = self._serve(mono, ready)
        self.flush()
        return changes

    def _serve(self, mono: float, ready: Ready | None) -> list[Change]:
        self._more = False
        if self._bulk is not None or self._wanted:
            self._serve_bulk(mono, ready)
        changes: list[Change] = [Change.BROKEN] if self._fell else []
        self._fell = False
        for change in self._control.service(mono, ready):
            if change is Change.BROKEN:
                self._drop_bulk()
            changes.append(change)
        return changes

    def _serve_bulk(self, mono: float, ready: Ready | None) -> None:
        if self._bulk is None:
            if self._wanted and mono >= self._open_from and self.connected:
                self._bulk = Link(self._context, self.url, self._jitter)
                self._welcome_by = mono + WELCOME_WITHIN
            else:
                return
        for change in self._bulk.service(mono, ready):
            if change is Change.BROKEN:
                self._give_up("the bulk connection broke", logging.INFO)  # the owner tells of its loss
                return
            self._bulk.send(wire.encode(self._hello()))
        if self._incoming is None and mono >= self._welcome_by:
            self._give_up(f"the scheduler did not welcome the bulk connection within {WELCOME_WITHIN:g} s")

    def _give_up(self, reason: str, level: int = logging.WARNING) -> None:
        """One of the two is of no use: both begin anew."""
        if self._incoming is None:  # it never stood: the next try comes later, and control goes on meanwhile
            self._open_from = self._now + self._retry * (1.0 + self._jitter)
            self._retry = min(BULK_RETRY_MAX, self._retry * 2)
        log.log(level, "%s at %s; both connections begin anew", reason, self.url, extra={"action": "bulk-broken"})
        self._drop_bulk()
        self._control.restart(self._now + RETRY_FIRST * (1.0 + self._jitter))
        self._fell = True

    def _drop_bulk(self) -> None:
        if self._bulk is not None:
            self._bulk.close()
        self._forget_bulk()

    def restart(self, mono: float) -> None:
        """Drop both connections and begin anew at that time; the owner knows, it is not told."""
        self._drop_bulk()
        self._fell = False
        self._control.restart(mono)

    def close_bulk(self) -> None:
        """The session begins anew on the same control connection: what the bulk connection carries is void.

        A bulk connection belongs to one control connection and is never opened twice for it, so that nothing which the
        first one carried can be missing unnoticed: where there is one, both begin anew.
        """
        if self._bulk is not None:
            self._give_up("the scheduler has forgotten this session")
        else:
            self._forget_bulk()

    def open_bulk(self) -> None:
        """Open the bulk connection unless there is one."""
        if self.connected:
            self._wanted = True

    def send_bulk(self, message: wire.FromPeer) -> None:
        """Send one message in chunks, as credit allows; without a connection it is dropped like any other."""
        if self.connected:
            self._wanted = True
            self._outgoing.add(message)
            self._pump()

    def flush(self) -> bool:
        """Send what was parked; whether nothing is left of the control connection's."""
        if self._bulk is not None:
            self._pump()
            self._bulk.flush()
        return self._control.flush()

    def receive(self) -> bytes | None:
        """The next message of either connection, or None."""
        for _ in range(FRAMES):
            data = self._control.receive()
            if data is not None or self._bulk is None:
                return data
            frame = self._bulk.receive()
            if frame is None:
                return None
            try:
                whole = self._take(wire.decode_to_bulk(frame))
            except PeerError as error:
                self._give_up(f"the scheduler broke the protocol of the bulk connection ({error})")
                return None
            if whole is not None:
                return whole
        self._more = True
        return None

    def _take(self, message: wire.ToBulk) -> bytes | None:
        """One frame of the bulk connection; the message that is whole with it."""
        if isinstance(message, wire.Chunk):
            if self._incoming is None:
                raise PeerError("a chunk before the welcome")
            whole = self._incoming.take(message)
            if self._incoming.owes and self._bulk is not None:
                self._bulk.send(wire.encode(wire.Credit(self._incoming.give())))
            return whole
        if isinstance(message, wire.Credit):
            self._outgoing.on_credit(message.amount)
            self._pump()
        elif isinstance(message, wire.BulkWelcome):
            if self._incoming is not None:
                raise PeerError("a second welcome")
            self._outgoing.open(message.window)
            self._incoming = Incoming(message.window)
            self._retry = BULK_RETRY_FIRST
            self._pump()
        elif isinstance(message, wire.Refused):
            self._give_up(f"the scheduler refused the bulk connection ({message.reason})")
        elif isinstance(message, wire.HelloAgain):
            self._give_up("the scheduler does not know the bulk connection")
        return None

    def _pump(self) -> None:
        """Send the chunks that credit allows: it bounds what can be parked."""
        if self._bulk is not None and self._outgoing.ready:
            for frame in self._outgoing.frames():
                self._bulk.send(frame)

    def close(self, linger: float = 0.0) -> None:
        """Close for good, giving parked and unsent messages `linger` seconds."""
        if self._bulk is not None:
            self._bulk.close(linger)
        self._forget_bulk()
        self._control.close(linger)
