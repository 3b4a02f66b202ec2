"""Large payloads: the journal keeps their bytes; the core holds references and asks for the bytes it needs."""

from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import Payload, Ref

CACHE = 64 * 1024 * 1024  # bytes of large payloads kept at hand, the newest first, besides in the journal


class Payloads:
    """Decides what is large, and keeps what was just seen at hand.

    Args:
        spill: payloads above so many bytes are kept by the journal.
        cache: bytes that may be kept at hand besides.
    """

    __slots__ = ("_cache", "_cached", "_limit", "_loading", "_next", "_pinned", "spill", "spilled")

    def __init__(self, spill: int, cache: int = CACHE) -> None:
        self.spill = spill
        self._limit = cache
        self._next = 1
        self._cache: dict[int, bytes] = {}
        self._cached = 0
        self._loading: set[int] = set()
        self._pinned: dict[int, bytes] = {}  # loaded on demand and not used yet
        self.spilled = 0  # references that live

    def keep(self, data: bytes, fx: Effects) -> Payload:
        """A payload as the core holds it: its bytes, or a reference to what the journal stores."""
        if len(data) <= self.spill:
            return data
        ref = Ref(self._next, len(data))
        self._next += 1
        self.spilled += 1
        fx.stores.append((ref.number, data))
        self._remember(ref.number, data)
        return ref

    def at_hand(self, payload: Payload) -> bytes | None:
        """The bytes, unless they must be loaded first."""
        if isinstance(payload, bytes):
            return payload
        data = self._cache.get(payload.number)
        return data if data is not None else self._pinned.get(payload.number)

    def take(self, payload: Payload) -> bytes:
        """The bytes, which must be at hand, to be sent now; tell `sent` then."""
        data = self.at_hand(payload)
        assert data is not None, "a payload was to be sent before it was loaded"  # noqa: S101
        return data

    def sent(self, payload: Payload | None) -> None:
        """A payload that was loaded has been sent: it need not stay at hand."""
        if isinstance(payload, Ref):
            self._pinned.pop(payload.number, None)

    def load(self, ref: Ref, fx: Effects) -> None:
        """Ask for the bytes, once."""
        if ref.number not in self._loading:
            self._loading.add(ref.number)
            fx.loads.append(ref.number)

    def loaded(self, number: int, data: bytes) -> None:
        """The bytes have come; they stay at hand until they are taken or dropped."""
        if number in self._loading:  # otherwise it was dropped meanwhile
            self._loading.discard(number)
            self._pinned[number] = data

    def drop(self, payload: Payload | None, fx: Effects) -> None:
        """Nobody needs this payload any more."""
        if isinstance(payload, Ref):
            data = self._cache.pop(payload.number, None)
            self._cached -= len(data) if data is not None else 0
            self._pinned.pop(payload.number, None)
            if payload.number in self._loading:
                self._loading.remove(payload.number)
                if payload.number in fx.loads:
                    fx.loads.remove(payload.number)
            self.spilled -= 1
            fx.drops.append(payload.number)

    def _remember(self, number: int, data: bytes) -> None:
        self._cache[number] = data
        self._cached += len(data)
        while self._cached > self._limit:
            oldest = next(iter(self._cache))
            self._cached -= len(self._cache.pop(oldest))


def size(payload: Payload | None) -> int:
    """Bytes of a payload, wherever they are."""
    if payload is None:
        return 0
    return len(payload) if isinstance(payload, bytes) else payload.size
