"""Where each assignment number stands: the one choke point for its moves. Work is per run of numbers, not per number.

::

            Assign            claimed               outcome              DoneAck
    (unseen) ──▶ WAITING ─────────────▶ PUSHED ───────────────▶ ENDED ─────────────▶ GONE
                  │    ▲───────────────┘  │                                           ▲
                  │     taken back        │ Welcome.dropped            outcome        │
                  │                       └──────────────▶ VOID ──────────────────────┤
                  └─────────────────────── Retracted, dropped ────────────────────────┘
"""

from bisect import bisect_right
from collections.abc import Iterator
from itertools import groupby, islice
from typing import Final

from zmqtasks.ids import Span
from zmqtasks.resources import Amounts
from zmqtasks.wire import Held

WAITING: Final = 0  # in the backlog
PUSHED: Final = 1  # in a claim that is in the shared queue or with a child
ENDED: Final = 2  # its outcome is kept until the scheduler acknowledges it
VOID: Final = 3  # in a claim, and not ours any more: its outcome is thrown away
GONE: Final = 4

NAMES: Final = ("waiting", "pushed", "ended", "void", "gone")
_BYTES: Final = tuple(bytes([state]) for state in range(len(NAMES)))
LEGAL: Final = frozenset(
    {
        (WAITING, PUSHED),
        (WAITING, ENDED),  # it cannot be run here: its function is missing
        (WAITING, GONE),
        (PUSHED, WAITING),
        (PUSHED, ENDED),
        (PUSHED, VOID),
        (VOID, GONE),
        (ENDED, GONE),
    }
)


class Entry:
    """One Work of an Assign: consecutive numbers, and which jobs they are.

    Attributes:
        first: lowest number.
        attempt: of the first number; consecutive as the numbers are.
        resources: what each of them takes.
        states: one byte per number.
        gone: how many of them are GONE.
    """

    __slots__ = ("attempt", "counters", "first", "gone", "prefix", "resources", "states")

    def __init__(self, first: int, attempt: int, prefix: bytes, counters: list[int], resources: Amounts = ()) -> None:
        self.first = first
        self.attempt = attempt
        self.prefix = prefix
        self.counters = counters
        self.resources = resources
        self.states = bytearray(len(counters))  # all WAITING
        self.gone = 0


class Ledger:
    """All numbers that are not GONE, in ascending order.

    Attributes:
        seen: the highest number that was ever received.
        counts: how many numbers are in each state; that of GONE is meaningless.
    """

    __slots__ = ("_entries", "_firsts", "counts", "seen")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._firsts: list[int] = []
        self.counts = [0] * len(NAMES)
        self.seen = 0

    def add(self, first: int, attempt: int, prefix: bytes, counters: list[int], resources: Amounts = ()) -> None:
        """Take in new numbers, above all that were seen; they are WAITING."""
        self._entries.append(Entry(first, attempt, prefix, counters, resources))
        self._firsts.append(first)
        self.counts[WAITING] += len(counters)
        self.seen = first + len(counters) - 1

    def move(self, first: int, count: int, source: int, target: int) -> None:
        """Move consecutive numbers, all of them in `source`, to `target`.

        Raises:
            AssertionError: the move is not legal, or one of them is somewhere else: a bug of ours.
        """
        assert (source, target) in LEGAL, f"no way leads from {NAMES[source]} to {NAMES[target]}"  # noqa: S101  (stays on in production)
        self.counts[source] -= count
        self.counts[target] += count
        index = bisect_right(self._firsts, first) - 1
        end = first + count
        while first < end:
            entry = self._entries[index]
            size = len(entry.states)
            low = first - entry.first
            high = min(end - entry.first, size)
            n = high - low
            assert n > 0 and entry.states[low:high] == _BYTES[source] * n, (  # noqa: S101, PT018
                f"{first}+{n} are not all {NAMES[source]}"
            )
            entry.states[low:high] = _BYTES[target] * n
            first += n
            if target == GONE:
                entry.gone += n
                if entry.gone == size:
                    del self._entries[index], self._firsts[index]
                    continue
            index += 1

    def segments(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """What these numbers are: (state, first, count), ascending, without those that are GONE or were never seen."""
        out: list[tuple[int, int, int]] = []
        end = min(first + count, self.seen + 1)
        index = max(0, bisect_right(self._firsts, first) - 1)
        for entry in islice(self._entries, index, None):
            if entry.first >= end:
                break
            low = first - entry.first if first > entry.first else 0
            part = entry.states[low : end - entry.first]
            size = len(part)
            if not size:
                continue
            number = entry.first + low
            if size == 1 or part.count(part[0]) == size:  # alone or alike, as they mostly are
                if part[0] != GONE:
                    out.append((part[0], number, size))
                continue
            for state, group in groupby(part):
                n = sum(1 for _ in group)
                if state != GONE:
                    out.append((state, number, n))
                number += n
        return out

    def everything(self) -> list[tuple[int, int, int]]:
        """`segments` of all numbers."""
        return self.segments(self._firsts[0], self.seen) if self._firsts else []

    def held(self) -> list[Held]:
        """Every attempt that is ours: for the hello."""
        return [
            Held(entry.first + i, entry.prefix, entry.counters[i], entry.attempt + i, entry.resources)
            for entry in self._entries
            for i, state in enumerate(entry.states)
            if state <= ENDED
        ]

    def held_spans(self) -> list[Span]:
        """The same as spans: for the heartbeat."""
        out: list[Span] = []
        for state, first, count in self.everything():
            if state > ENDED:
                continue
            if out and first == out[-1][0] + out[-1][1]:
                out[-1] = (out[-1][0], out[-1][1] + count)
            else:
                out.append((first, count))
        return out

    def state(self, number: int) -> int:
        """Where one number stands."""
        found = self.segments(number, 1)
        return found[0][0] if found else GONE

    def identities(self, first: int, count: int) -> Iterator[tuple[int, bytes, list[int], int]]:
        """Consecutive numbers as (first, prefix, counters, first attempt), one for each entry that they touch."""
        index = bisect_right(self._firsts, first) - 1
        end = first + count
        while first < end:
            entry = self._entries[index]
            low = first - entry.first
            counters = entry.counters[low : end - entry.first]
            yield first, entry.prefix, counters, entry.attempt + low
            first += len(counters)
            index += 1

    def check(self) -> None:
        """Raises AssertionError where the sums do not match."""
        counts = [0] * len(NAMES)
        last = 0
        for entry, first in zip(self._entries, self._firsts, strict=True):
            assert entry.first == first > last, f"entries out of order at {first}"  # noqa: S101
            last = first + len(entry.states) - 1
            for state in range(GONE + 1):
                counts[state] += entry.states.count(state)
            assert entry.states.count(GONE) == entry.gone < len(entry.states), f"entry {first} should be gone"  # noqa: S101
        assert last <= self.seen, f"number {last} is held but {self.seen} is the highest seen"  # noqa: S101
        assert counts[:GONE] == self.counts[:GONE], f"the ledger counts {self.counts}, its entries hold {counts}"  # noqa: S101
