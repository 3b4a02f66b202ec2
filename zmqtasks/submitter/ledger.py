"""Which jobs are out: parcels by job-id prefix and counter.

A parcel is one Submit message: consecutive jobs whose boundaries are fixed once and repeated identically, for the
scheduler recognises a repeat by them. A job whose entry in `handles` is None is over.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Any, Final

from zmqtasks.ids import Span
from zmqtasks.wire import Function, Spec, Submit

# Stages of a parcel.
QUEUED: Final = 1
SENT: Final = 2  # and not accepted
ACCEPTED: Final = 3

_FEW = 32  # dead entries that a line carries along rather than being packed anew


class Call:
    """What jobs of one kind have in common: their target, codec and spec. Compared by identity first.

    Attributes:
        task: name of the registered task, or for people the shipped function's.
        shipped: the shipped function; None: a registered task.
        codec: of the arguments.
        spec: options.
    """

    __slots__ = ("codec", "shipped", "spec", "task")

    def __init__(self, task: str, shipped: Function | None, codec: str, spec: Spec) -> None:
        self.task = task
        self.shipped = shipped
        self.codec = codec
        self.spec = spec

    def same(self, other: "Call") -> bool:
        """Whether jobs of both may travel in one message."""
        return self is other or (
            self.task == other.task
            and self.codec == other.codec
            and self.spec == other.spec
            and (self.shipped and self.shipped.digest) == (other.shipped and other.shipped.digest)
        )


class Parcel:
    """The jobs ``first … first + len(handles) - 1`` of a prefix: one Submit, or jobs that are only asked for.

    Attributes:
        call: None: somebody else submitted them, this session only wants their results.
        args: one payload per job; None once nobody needs to submit them again.
        handles: the owner's object per job, handed back when it is over; None: it is over.
        left: jobs that are not over.
        size: bytes of `args`.
        stage: QUEUED, SENT or ACCEPTED.
        late: it went over the bulk connection, or waits for a function that did.
        batch: see Submission.
        order: of the Submission it was cut from; what `SubmitterCore.settled` counts.
    """

    __slots__ = ("args", "batch", "call", "first", "handles", "late", "left", "order", "prefix", "size", "stage")

    def __init__(
        self, prefix: bytes, first: int, call: Call | None, args: list[bytes] | None, handles: list[Any]
    ) -> None:
        self.prefix = prefix
        self.first = first
        self.call = call
        self.args = args
        self.handles = handles
        self.left = len(handles)
        self.size = 0
        self.stage = QUEUED
        self.late = False
        self.order = 0
        self.batch: int | None = None

    def message(self, functions: list[Function]) -> Submit:
        """The Submit that carries it; the same bytes each time, but for the functions."""
        call = self.call
        assert call is not None  # noqa: S101  (parcels that are only asked for are never submitted)
        assert self.args is not None  # noqa: S101  (payloads are kept until the parcel is accepted)
        digest = call.shipped.digest if call.shipped else b""
        batch = self.first if self.batch is None else self.batch
        return Submit(self.prefix, self.first, call.task, digest, call.codec, call.spec, self.args, functions, batch)

    def open_spans(self, first: int = 0, end: int = 2**32) -> list[Span]:
        """Counters of the jobs in ``first … end - 1`` that are not over."""
        low = max(first, self.first)
        high = min(end, self.first + len(self.handles))
        if self.left == len(self.handles):
            return [(low, high - low)] if high > low else []
        out: list[Span] = []
        start = -1
        for counter in range(low, high):
            if self.handles[counter - self.first] is not None:
                if start < 0:
                    start = counter
            elif start >= 0:
                out.append((start, counter - start))
                start = -1
        if start >= 0:
            out.append((start, high - start))
        return out


class Line:
    """The parcels of one prefix, found by counter in O(log n). Emptied places stay until they are many."""

    __slots__ = ("_dead", "_firsts", "_parcels")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._parcels: list[Parcel | None] = []
        self._dead = 0

    def __len__(self) -> int:
        return len(self._parcels) - self._dead

    def __iter__(self) -> Iterator[Parcel]:
        """In ascending order of counters; the line may be changed meanwhile."""
        return iter([parcel for parcel in self._parcels if parcel is not None])

    def add(self, parcel: Parcel) -> None:
        """Take in a parcel that overlaps no other."""
        if not self._firsts or parcel.first > self._firsts[-1]:
            self._firsts.append(parcel.first)
            self._parcels.append(parcel)
            return
        place = bisect_left(self._firsts, parcel.first)
        if self._firsts[place] == parcel.first and self._parcels[place] is None:
            self._parcels[place] = parcel
            self._dead -= 1
        else:
            self._firsts.insert(place, parcel.first)
            self._parcels.insert(place, parcel)

    def find(self, counter: int) -> Parcel | None:
        """The parcel that holds this job."""
        place = bisect_right(self._firsts, counter) - 1
        if place < 0:
            return None
        parcel = self._parcels[place]
        return parcel if parcel is not None and counter < parcel.first + len(parcel.handles) else None

    def overlapping(self, first: int, count: int) -> list[Parcel]:
        """The parcels that hold any of these jobs."""
        low = max(0, bisect_right(self._firsts, first) - 1)
        high = bisect_left(self._firsts, first + count)
        found = self._parcels[low:high]
        return [p for p in found if p is not None and p.first + len(p.handles) > first]

    def remove(self, parcel: Parcel) -> None:
        """Forget a parcel."""
        place = bisect_left(self._firsts, parcel.first)
        self._parcels[place] = None
        self._dead += 1
        if self._dead > _FEW and self._dead * 2 > len(self._parcels):
            self._parcels = [p for p in self._parcels if p is not None]
            self._firsts = [p.first for p in self._parcels if p is not None]
            self._dead = 0
