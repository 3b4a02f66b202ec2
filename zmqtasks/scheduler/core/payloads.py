"""Large payloads: the journal keeps their bytes; the core holds references and asks for the bytes it needs."""

from collections.abc import Sequence

from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import Payload, Ref
from zmqtasks.scheduler.core.records import Data, Stored

CACHE = 64 * 1024 * 1024  # bytes of large payloads kept at hand, the newest first, besides in the journal
LIFE = 2**20  # numbers a millisecond of a life may use: so those of one life never meet those of another


class Payloads:
    """Decides what is large, and keeps what was just seen at hand.

    Args:
        spill: payloads above so many bytes are kept by the journal.
        cache: bytes that may be kept at hand besides.

    Attributes:
        spilled: references that live.
        passing: outcomes that were loaded in this turn, for those who wait for them.
    """

    __slots__ = (
        "_cache", "_cached", "_limit", "_loading", "_lost", "_next", "_pages", "_pinned", "passing", "spill", "spilled",
    )  # fmt: skip

    def __init__(self, spill: int, cache: int = CACHE) -> None:
        self.spill = spill
        self._limit = cache
        self._next = 1
        self._cache: dict[int, bytes] = {}
        self._cached = 0
        self._loading: set[int] = set()
        self._pinned: dict[int, bytes] = {}  # arguments that were loaded and not sent yet
        self.passing: dict[int, bytes] = {}
        self._lost: set[int] = set()  # numbers whose bytes are damaged or gone
        self._pages: dict[int, int] = {}  # number → payloads in it that are still needed
        self.spilled = 0

    @property
    def last(self) -> int:
        """The highest number that was used."""
        return self._next - 1

    @property
    def bytes_at_hand(self) -> int:
        """Bytes of stored payloads that are in memory, too."""
        return self._cached + sum(map(len, (*self._pinned.values(), *self.passing.values())))

    def begin(self, epoch: int, highest: int) -> None:
        """Numbers of this life begin beyond those of all others, journaled or not."""
        self._next = max(epoch * LIFE, highest + LIFE)

    def keep(self, data: bytes, fx: Effects) -> Payload:
        """A payload as the core holds it: its bytes, or a reference to what the journal stores."""
        if len(data) <= self.spill:
            return data
        ref = Ref(self._store(data, fx), len(data))
        self.spilled += 1
        return ref

    def page(self, small: Sequence[bytes], fx: Effects) -> list[Ref]:
        """Put small payloads away together: one page of the journal holds them all."""
        number = self._store(b"".join(small), fx)
        refs: list[Ref] = []
        offset = 0
        for data in small:
            refs.append(Ref(number, len(data), offset))
            offset += len(data)
        self._pages[number] = len(refs)
        self.spilled += len(refs)
        return refs

    def count(self, ref: Ref) -> None:
        """A reference that was restored lives."""
        self.spilled += 1
        if ref.offset >= 0:
            self._pages[ref.number] = self._pages.get(ref.number, 0) + 1

    def _store(self, data: bytes, fx: Effects) -> int:
        number = self._next
        self._next += 1
        fx.stores.append((number, data))
        self._remember(number, data)
        return number

    def at_hand(self, payload: Payload) -> bytes | None:
        """The bytes, unless they must be loaded first; none of a payload that is lost."""
        if isinstance(payload, bytes):
            return payload
        data = self._cache.get(payload.number)
        if data is None:
            data = self._pinned.get(payload.number) or self.passing.get(payload.number)
            if data is None:
                return b"" if payload.number in self._lost else None
        return data if payload.offset < 0 else data[payload.offset : payload.offset + payload.size]

    def is_lost(self, payload: Payload | None) -> bool:
        """Whether its bytes are damaged or gone."""
        return isinstance(payload, Ref) and payload.number in self._lost

    def take(self, payload: Payload) -> bytes:
        """The bytes, which must be at hand, to be sent now; tell `sent` then."""
        data = self.at_hand(payload)
        assert data is not None, "a payload was to be sent before it was loaded"  # noqa: S101
        return data

    def sent(self, payload: Payload | None) -> None:
        """A payload that was loaded has been sent: it need not stay at hand. Its page may, for the others in it."""
        if isinstance(payload, Ref):
            self._pinned.pop(payload.number, None)
            if payload.offset < 0:
                self.passing.pop(payload.number, None)

    def end_turn(self) -> None:
        """Outcomes that were loaded have gone to those who still waited for them; others may want them again."""
        for number, data in self.passing.items():
            self._remember(number, data)
        self.passing.clear()

    def load(self, ref: Ref, fx: Effects) -> None:
        """Ask for the bytes, once."""
        if ref.number not in self._loading:
            self._loading.add(ref.number)
            fx.loads.append(ref.number)

    def loaded(self, number: int, data: bytes | None, *, arguments: bool) -> None:
        """The bytes have come; None: they are lost. Arguments stay at hand until they are sent, outcomes for this turn.

        Whoever waits for an outcome gets it in the turn in which it was loaded, or has left.
        """
        if number in self._loading:  # otherwise it was dropped meanwhile
            self._loading.discard(number)
            if data is None:
                self._lost.add(number)
            elif arguments:
                self._pinned[number] = data
            else:
                self.passing[number] = data

    def drop(self, payload: Payload | None, fx: Effects) -> None:
        """Nobody needs this payload any more."""
        if not isinstance(payload, Ref):
            return
        self.spilled -= 1
        if payload.offset >= 0:
            self._pages[payload.number] -= 1
            if self._pages[payload.number]:
                return
            del self._pages[payload.number]
        self._forget(payload.number, fx)

    def _forget(self, number: int, fx: Effects) -> None:
        data = self._cache.pop(number, None)
        self._cached -= len(data) if data is not None else 0
        self._pinned.pop(number, None)
        self.passing.pop(number, None)
        self._lost.discard(number)
        if number in self._loading:
            self._loading.remove(number)
            if number in fx.loads:
                fx.loads.remove(number)
        fx.drops.append(number)

    def _remember(self, number: int, data: bytes) -> None:
        self._cached += len(data) - len(self._cache.pop(number, b""))
        self._cache[number] = data
        while self._cached > self._limit:
            oldest = next(iter(self._cache))
            self._cached -= len(self._cache.pop(oldest))


def size(payload: Payload | None) -> int:
    """Bytes of a payload, wherever they are."""
    if payload is None:
        return 0
    return len(payload) if isinstance(payload, bytes) else payload.size


def restored(data: Data) -> Payload:
    """A payload of which a record tells."""
    return Ref(data.number, data.size, data.offset) if isinstance(data, Stored) else data


def told(payload: Payload) -> Data:
    """A payload as records tell of it."""
    return payload if isinstance(payload, bytes) else Stored(payload.number, payload.size, payload.offset)
