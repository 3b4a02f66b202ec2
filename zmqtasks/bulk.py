"""Large messages in chunks over the bulk connection, within a credit in bytes. Sans-IO: frames in, frames out.

Both ends of a bulk connection have one `Outgoing` and one `Incoming`. What holds at any time, in bytes of chunks:

- the sender's `credit` and what it sent without getting credit for it are together the window;
- what the receiver still `allows` and what it `owes` are together the window.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from itertools import count
from typing import cast

from zmqtasks import wire
from zmqtasks.config import BULK_STREAMS, CHUNK_BYTES, MAX_BULK_MESSAGE
from zmqtasks.errors import PeerError
from zmqtasks.wire import Chunk, FromPeer, ToPeer

_SMALL = 4_096  # bytes; chunks below are gathered, so that a million tiny ones cost no more memory than their bytes


class _Stream:
    """A message that is on its way: the bytes of it from `sent` on are still to go."""

    __slots__ = ("data", "number", "sent")

    def __init__(self, number: int, data: bytes) -> None:
        self.number = number
        self.data = memoryview(data)
        self.sent = 0


class Outgoing:
    """Cuts messages into chunks. A message is encoded only when its turn comes: until then it costs no second copy.

    Args:
        wanted: whether a message whose turn has come still matters; one that does not is left out.

    Attributes:
        credit: bytes that may be sent; 0 before `open`.
    """

    def __init__(self, wanted: Callable[[ToPeer | FromPeer], bool] | None = None) -> None:
        self._wanted = wanted or _any
        self.credit = 0
        self._window = 0
        self._chunk = CHUNK_BYTES
        self._waiting: deque[ToPeer | FromPeer] = deque()
        self._streams: deque[_Stream] = deque()
        self._numbers = count(1)
        self._unacknowledged = 0

    def __len__(self) -> int:
        """Messages that are not sent to their end."""
        return len(self._waiting) + len(self._streams)

    @property
    def ready(self) -> bool:
        """Whether a chunk may be sent now."""
        return self.credit > 0 and bool(self._streams or self._waiting)

    def open(self, window: int) -> None:
        """The connection stands: so many bytes may be sent before credit comes.

        Raises:
            PeerError: that is no window.
        """
        if window <= 0:
            message = f"a window of {window} bytes"
            raise PeerError(message)
        self._window = self.credit = window
        self._chunk = max(1, min(CHUNK_BYTES, window // 4))

    def add(self, message: ToPeer | FromPeer) -> None:
        """A message that goes out when its turn comes, in order of its beginning."""
        self._waiting.append(message)

    def on_credit(self, amount: int) -> None:
        """The other side took in so many bytes.

        Raises:
            PeerError: more than it was sent.
        """
        if not 0 < amount <= self._unacknowledged:
            message = f"credit for {amount} bytes, where {self._unacknowledged} are on their way"
            raise PeerError(message)
        self._unacknowledged -= amount
        self.credit += amount

    def next(self) -> bytes | None:
        """The next frame to be sent: the open messages take turns. None without credit, or when all is sent."""
        if self.credit <= 0:
            return None
        while self._waiting and len(self._streams) < BULK_STREAMS:
            message = self._waiting.popleft()
            if self._wanted(message):
                self._streams.append(_Stream(next(self._numbers), wire.encode(message)))
        if not self._streams:
            return None
        stream = self._streams.popleft()
        part = stream.data[stream.sent : stream.sent + min(self._chunk, self.credit)]
        stream.sent += len(part)
        self.credit -= len(part)
        self._unacknowledged += len(part)
        last = stream.sent == len(stream.data)
        if not last:
            self._streams.append(stream)
        return wire.encode(Chunk(stream.number, last, cast("bytes", part)))  # encoded from the view, without a copy

    def frames(self) -> Iterator[bytes]:
        """All that the credit allows."""
        while (frame := self.next()) is not None:
            yield frame

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        _expect(self.credit + self._unacknowledged == self._window, "credit was lost or invented")
        _expect(self.credit >= 0 and self._unacknowledged >= 0, "credit is below zero")
        _expect(len(self._streams) <= BULK_STREAMS, "too many streams")
        _expect(all(stream.sent < len(stream.data) for stream in self._streams), "a stream has nothing left")


def _any(_message: ToPeer | FromPeer) -> bool:
    return True


class _Parts:
    """What came so far of one message."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes | bytearray] = []
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if len(data) >= _SMALL:
            self.pieces.append(data)
        elif self.pieces and isinstance(self.pieces[-1], bytearray) and len(self.pieces[-1]) < CHUNK_BYTES:
            self.pieces[-1] += data
        else:
            self.pieces.append(bytearray(data))

    def joined(self) -> bytes:
        if len(self.pieces) == 1 and isinstance(self.pieces[0], bytes):
            return self.pieces[0]
        return b"".join(self.pieces)


class Incoming:
    """Joins chunks to messages.

    Args:
        window: bytes that may come without credit.

    Attributes:
        allowed: bytes that may come now.
        held: bytes of messages that are not whole yet.
    """

    def __init__(self, window: int) -> None:
        self.allowed = window
        self.held = 0
        self._window = window
        self._step = max(1, window // 4)
        self._owed = 0
        self._streams: dict[int, _Parts] = {}

    @property
    def streams(self) -> Collection[int]:
        """Numbers of the messages that are not whole yet, the oldest first."""
        return self._streams.keys()

    def take(self, chunk: Chunk) -> bytes | None:
        """The message that is whole with this chunk, if it is the last one of its stream.

        Raises:
            PeerError: the sender breaks a bound; nothing more of this connection can be trusted.
        """
        size = len(chunk.data)
        if size > self.allowed:
            message = f"a chunk of {size} bytes, where {self.allowed} were allowed"
            raise PeerError(message)
        parts = self._streams.get(chunk.stream)
        if parts is None:
            if len(self._streams) >= BULK_STREAMS:
                message = f"more than {BULK_STREAMS} messages at once"
                raise PeerError(message)
            parts = self._streams[chunk.stream] = _Parts()
        if parts.size + size > MAX_BULK_MESSAGE:
            message = f"a message of more than {MAX_BULK_MESSAGE} bytes"
            raise PeerError(message)
        if not size and not chunk.last:
            raise PeerError("an empty chunk")
        self.allowed -= size
        self._owed += size
        self.held += size
        parts.add(chunk.data)
        if not chunk.last:
            return None
        del self._streams[chunk.stream]
        self.held -= parts.size
        return parts.joined()

    @property
    def owes(self) -> bool:
        """Whether it is worth a message to give credit now."""
        return self._owed >= self._step

    def give(self) -> int:
        """Give credit for all that came: the amount, for a Credit message."""
        amount, self._owed = self._owed, 0
        self.allowed += amount
        return amount

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        _expect(self.allowed + self._owed == self._window, "credit was lost or invented")
        _expect(self.allowed >= 0 and self._owed >= 0, "credit is below zero")
        _expect(self.held == sum(parts.size for parts in self._streams.values()), "held bytes are not those of streams")
        for parts in self._streams.values():
            _expect(parts.size == sum(map(len, parts.pieces)), "a stream's bytes are not those of its pieces")


def _expect(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(message)
