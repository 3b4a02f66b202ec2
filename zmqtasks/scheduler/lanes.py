"""The scheduler's side of the bulk connections: one lane per peer, all within one bound of memory.

What a lane sends is bounded by its credit, and so is what a ROUTER may have to park for it. What all lanes together
receive is bounded by `held_max`: beyond it only the peer whose unfinished message is the oldest gets credit, so that
messages go on being finished one after the other.
"""

from collections import deque
from collections.abc import Callable

from zmqtasks import wire
from zmqtasks.bulk import Incoming, Outgoing
from zmqtasks.config import BULK_WINDOW, CHUNK_BYTES, GIB
from zmqtasks.errors import PeerError
from zmqtasks.wire import FromPeer, ToPeer

HELD_MAX = 1 * GIB  # bytes of messages that are not whole yet, of all peers together
STALL = 10.0  # seconds that the only peer with credit may send nothing while others wait for credit


class Lane:
    """One bulk connection.

    Attributes:
        control: the route of the control connection that it belongs to.
        bulk: its own.
        since: monotonic time of the last chunk, or of the first credit since which none came.
    """

    __slots__ = ("bulk", "control", "incoming", "outgoing", "since")

    def __init__(self, control: bytes, bulk: bytes, outgoing: Outgoing, window: int) -> None:
        self.control = control
        self.bulk = bulk
        self.outgoing = outgoing
        self.outgoing.open(window)
        self.incoming = Incoming(window)
        self.since = 0.0


class Lanes:
    """All bulk connections.

    Args:
        send: sends a frame to a route.
        wanted: whether a message for the peer of this control route still matters when its turn comes.
        held_max: bytes of unfinished messages beyond which peers have to take turns.

    Attributes:
        held: bytes of messages that are not whole yet.
        by_bulk: the lanes by the route of their bulk connection.
        ready: those that have something to send and credit for it.
    """

    def __init__(
        self,
        send: Callable[[bytes, bytes], None],
        wanted: Callable[[bytes, ToPeer | FromPeer], bool] | None = None,
        held_max: int = HELD_MAX,
    ) -> None:
        self.held = 0
        self._send = send
        self._wanted = wanted
        self._held_max = held_max
        self.by_bulk: dict[bytes, Lane] = {}
        self._by_control: dict[bytes, Lane] = {}
        self._asked: dict[bytes, Outgoing] = {}  # what waits for peers that were asked to open the connection
        self.ready: dict[Lane, None] = {}
        self._unfinished: dict[tuple[Lane, int], None] = {}  # messages of which a part is here, the oldest first
        self._starved: dict[Lane, None] = {}  # those that are owed credit

    # ------------------------------------------------------------------------------------------ beginning and end

    def bind(self, control: bytes, bulk: bytes) -> None:
        """A bulk connection has begun."""
        self.forget(bulk)
        old = self._by_control.get(control)
        if old is not None:
            self.forget(old.bulk)
        outgoing = self._asked.pop(control, None) or self._outgoing(control)
        # with a thousand lanes a full window for each of them would be too much memory
        window = max(CHUNK_BYTES, min(BULK_WINDOW, self._held_max // (4 * len(self.by_bulk) + 4)))
        lane = self.by_bulk[bulk] = self._by_control[control] = Lane(control, bulk, outgoing, window)
        self._send(bulk, wire.encode(wire.BulkWelcome(window)))
        self._look(lane)

    def forget(self, route: bytes) -> None:
        """A connection, control or bulk, is over, and its lane with it."""
        self._asked.pop(route, None)
        lane = self.by_bulk.get(route) or self._by_control.get(route)
        if lane is None:
            return
        del self.by_bulk[lane.bulk], self._by_control[lane.control]
        self.ready.pop(lane, None)
        for stream in lane.incoming.streams:
            self._unfinished.pop((lane, stream), None)
        self._starved.pop(lane, None)
        self.held -= lane.incoming.held

    # ------------------------------------------------------------------------------------------ out

    def send(self, control: bytes, message: ToPeer) -> None:
        """Have a message go out over the bulk connection of this peer, which is asked for one if there is none."""
        lane = self._by_control.get(control)
        if lane is not None:
            lane.outgoing.add(message)
            self._look(lane)
            return
        waiting = self._asked.get(control)
        if waiting is None:
            waiting = self._asked[control] = self._outgoing(control)
            self._send(control, wire.encode(wire.OpenBulk()))
        waiting.add(message)

    def _outgoing(self, control: bytes) -> Outgoing:
        wanted = self._wanted
        return Outgoing() if wanted is None else Outgoing(lambda message: wanted(control, message))

    def pump(self, chunks: int) -> None:
        """Send up to so many chunks, the lanes taking turns."""
        turns = deque(self.ready)
        while turns and chunks > 0:
            lane = turns.popleft()
            frame = lane.outgoing.next()
            if frame is None:
                del self.ready[lane]
                continue
            self._send(lane.bulk, frame)
            chunks -= 1
            turns.append(lane)
        for lane in turns:  # those that had no turn now are the first ones then
            del self.ready[lane]
            self._look(lane)

    def _look(self, lane: Lane) -> None:
        if lane.outgoing.ready:
            self.ready[lane] = None

    # ------------------------------------------------------------------------------------------ in

    def receive(self, bulk: bytes, data: bytes, mono: float) -> tuple[bytes, bytes] | None:
        """One frame of a bulk connection: (control route, message) if a message is whole with it.

        Raises:
            PeerError: the frame breaks the protocol; nothing more of this connection can be trusted.
        """
        lane = self.by_bulk[bulk]
        message = wire.decode_from_bulk(data)
        if isinstance(message, wire.Credit):
            lane.outgoing.on_credit(message.amount)
            self._look(lane)
            return None
        if not isinstance(message, wire.Chunk):
            raise PeerError("a second hello on a bulk connection")
        incoming = lane.incoming
        before = incoming.held
        whole = incoming.take(message)
        self.held += incoming.held - before
        lane.since = mono
        if whole is None:
            self._unfinished.setdefault((lane, message.stream))
        else:
            self._unfinished.pop((lane, message.stream), None)
        if incoming.owes:
            self._starved[lane] = None
            self._feed(mono)
        return None if whole is None else (lane.control, whole)

    def _feed(self, mono: float) -> None:
        """Give credit to all to whom it is owed, or only to the first in turn where memory is short."""
        if self.held > self._held_max:
            first, _ = next(iter(self._unfinished))
            if first in self._starved:
                self._give(first, mono)
            return
        for lane in list(self._starved):
            self._give(lane, mono)

    def _give(self, lane: Lane, mono: float) -> None:
        del self._starved[lane]
        lane.since = mono
        self._send(lane.bulk, wire.encode(wire.Credit(lane.incoming.give())))

    def tend(self, mono: float) -> bytes | None:
        """Once a turn: credit for those whose turn has come; the bulk route of a peer that holds up all others."""
        if not self._starved:
            return None
        self._feed(mono)
        if self.held <= self._held_max:
            return None
        first, _ = next(iter(self._unfinished))
        return first.bulk if self._starved and mono > first.since + STALL else None

    # ------------------------------------------------------------------------------------------ checking

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        lanes = set(self.by_bulk.values())
        _expect(lanes == set(self._by_control.values()), "a lane is known by one of its routes only")
        _expect(not self._asked.keys() & self._by_control.keys(), "messages wait for a lane that is there")
        _expect(self.held == sum(lane.incoming.held for lane in lanes), "held bytes are not those of the lanes")
        streams = {(lane, stream) for lane in lanes for stream in lane.incoming.streams}
        _expect(self._unfinished.keys() == streams, "unfinished messages are not those of the lanes")
        _expect(self._starved.keys() == {lane for lane in lanes if lane.incoming.owes}, "starved lanes are wrong")
        _expect(
            self.ready.keys() >= {lane for lane in lanes if lane.outgoing.ready}, "a lane may send and is not said to"
        )
        for lane in lanes:
            lane.incoming.check()
            lane.outgoing.check()


def _expect(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(message)
