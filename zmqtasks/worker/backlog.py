"""Jobs that wait, as runs of one target; how they are cut into claims; outcomes until they are acknowledged."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE
from zmqtasks.ids import Span
from zmqtasks.resources import Amounts
from zmqtasks.wire import Done, End, Function, Run
from zmqtasks.worker.claims import Piece

_FALL: Final = (
    0.5  # weight of the newest measurement where it is lower than the mean: a slow first call is soon forgotten
)
_RISE: Final = 0.25
_FADE: Final = 0.5  # how much of the longest run is remembered per report
Fits = Callable[[Amounts], bool]  # whether a job that needs these can run now

FEW: Final = 16  # claims are not made smaller than this only to share the work among the slots,
BRIEF: Final = 0.0002  # nor than so many seconds of measured work: waking a child takes about as long


class Target:
    """What jobs run, and what was measured of it here.

    Attributes:
        name: of the task, or for people the shipped function's.
        function: the shipped one; None: a registered task.
        codec: of arguments and results.
        priority: 0 to 9.
        resources: what each job takes while it runs.
        queue: that the jobs came from.
        mean: seconds of one job; below 0: unknown.
        worst: seconds of the longest in recent reports.
    """

    __slots__ = ("codec", "function", "mean", "name", "priority", "queue", "resources", "worst")

    def __init__(
        self,
        name: str,
        function: Function | None,
        codec: str,
        priority: int = 0,
        resources: Amounts = (),
        queue: str = "",
    ) -> None:
        self.name = name
        self.function = function
        self.codec = codec
        self.priority = priority
        self.resources = resources
        self.queue = queue
        self.mean = -1.0
        self.worst = 0.0

    def measured(self, count: int, total: float, longest: float) -> None:
        """Take in the run times of `count` jobs, in seconds."""
        mean = total / count
        if self.mean < 0:
            self.mean = mean
        else:
            self.mean += (_FALL if mean < self.mean else _RISE) * (mean - self.mean)
        self.worst = max(longest, self.worst * _FADE)

    def jobs(self, seconds: float) -> int:
        """How many jobs hold at most so much work: one while the time is unknown or varies."""
        if self.mean < 0 or self.mean * 2 > seconds or self.worst > max(seconds, 4 * self.mean):
            return 1
        return min(MAX_JOBS_PER_MESSAGE, int(seconds / max(self.mean, 1e-9)))


class Lot:
    """Consecutive numbers of one target; `start` moves up as claims are cut off its front."""

    __slots__ = ("piece", "size", "start", "target")

    def __init__(self, piece: Piece, target: Target) -> None:
        self.piece = piece
        self.target = target
        self.start = 0
        self.size = sum(map(len, piece.args))  # bytes; never less than what is left

    def __len__(self) -> int:
        return len(self.piece.args) - self.start

    def part(self, low: int, high: int) -> Piece:
        """The jobs at these places, counted from the beginning of the piece."""
        piece = self.piece
        if low == 0 and high == len(piece.args):
            return piece
        return Piece(
            piece.first + low, piece.attempt + low, piece.prefix, piece.counters[low:high], piece.args[low:high]
        )


class Backlog:
    """Waiting jobs: the most urgent first, else first in, first out; what a child gives back goes to the front."""

    __slots__ = ("_levels", "waiting")

    def __init__(self) -> None:
        self._levels: dict[int, deque[Lot]] = {}  # by priority; none is empty
        self.waiting = 0

    def __bool__(self) -> bool:
        return self.waiting > 0

    def append(self, piece: Piece, target: Target) -> None:
        level = self._levels.get(target.priority)
        if level is None:
            level = self._levels[target.priority] = deque()
        level.append(Lot(piece, target))
        self.waiting += len(piece.args)

    def put_front(self, pieces: list[Piece], target: Target) -> None:
        """Put these before everything else, in their order."""
        if pieces:
            level = self._levels.setdefault(target.priority, deque())
            level.extendleft(Lot(piece, target) for piece in reversed(pieces))
            self.waiting += sum(len(piece.args) for piece in pieces)

    def cut(self, seconds: float, slots: int, fits: Fits, level: int = -1) -> tuple[Target, list[Piece]] | None:
        """Take the next claim off the front: jobs of one target, as many as its measured time allows.

        Of what takes resources that is one job, and only while `fits` says so; None: nothing else waits. `level`: of
        this priority; below 0: of the highest.
        """
        levels = self._levels
        top = level if level >= 0 else max(levels) if len(levels) > 1 else next(iter(levels))
        lots = levels[top]
        target = lots[0].target
        if target.resources:
            return self._cut_fitting(seconds, slots, fits)
        if self.waiting == 1:  # alone, it need not be measured
            (lot,) = lots
            self.waiting = 0
            del levels[top]
            return target, [lot.part(lot.start, lot.start + 1)]
        room = min(target.jobs(seconds), max(FEW, target.jobs(BRIEF), -(-self.waiting // slots)))
        space = MAX_BYTES_PER_MESSAGE
        pieces: list[Piece] = []
        while room and lots and lots[0].target is target:
            lot = lots[0]
            left = len(lot)
            n = min(room, left)
            if lot.size > space:
                n = self._fitting(lot, n, space, alone=not pieces)
                if n == 0:
                    break
            part = lot.part(lot.start, lot.start + n)
            pieces.append(part)
            space -= lot.size if n == left else sum(map(len, part.args))
            room -= n
            lot.start += n
            self.waiting -= n
            if n == left:
                lots.popleft()
            elif space <= 0:
                break
        if not lots:
            del levels[top]
        return target, pieces

    def _cut_fitting(self, seconds: float, slots: int, fits: Fits) -> tuple[Target, list[Piece]] | None:
        """The next claim where what stands in front takes resources."""
        found = self._first_fitting(fits)
        if found is None:
            return None
        priority, index = found
        lots = self._levels[priority]
        if lots[index].target.resources:
            return self._cut_one(priority, index)
        lots.rotate(-index)
        cut = self.cut(seconds, slots, fits, priority)
        lots.rotate(index)  # what waits for resources stands in front again
        return cut

    def _first_fitting(self, fits: Fits) -> tuple[int, int] | None:
        """Priority and place of what can run first. What takes of resources that others wait for waits behind them."""
        waited_for: set[str] = set()
        for priority in sorted(self._levels, reverse=True):
            for index, lot in enumerate(self._levels[priority]):
                resources = lot.target.resources
                names = {name for name, _ in resources}
                if not resources or (waited_for.isdisjoint(names) and fits(resources)):
                    return priority, index
                waited_for |= names
        return None

    def _cut_one(self, priority: int, index: int) -> tuple[Target, list[Piece]]:
        """The first job of this lot."""
        lots = self._levels[priority]
        lot = lots[index]
        piece = lot.part(lot.start, lot.start + 1)
        lot.start += 1
        self.waiting -= 1
        if not len(lot):
            del lots[index]
            if not lots:
                del self._levels[priority]
        return lot.target, [piece]

    @staticmethod
    def _fitting(lot: Lot, n: int, space: int, *, alone: bool) -> int:
        """How many of the next n jobs fit into so many bytes; at least one if it would be alone in its claim."""
        for i in range(n):
            space -= len(lot.piece.args[lot.start + i])
            if space < 0:
                return max(i, 1 if alone else 0)
        return n

    def remove(self, spans: list[Span]) -> None:
        """Take these numbers out; ones that are not here do not matter. One pass, however many spans."""
        gone = sorted(spans)
        for priority, level in list(self._levels.items()):
            left = self._without(level, gone)
            if left:
                self._levels[priority] = left
            else:
                del self._levels[priority]
        self.waiting = sum(len(lot) for level in self._levels.values() for lot in level)

    @staticmethod
    def _without(level: deque[Lot], gone: list[Span]) -> deque[Lot]:
        ends = [first + count for first, count in gone]
        lots: deque[Lot] = deque()
        for lot in level:
            at, high = lot.piece.first + lot.start, lot.piece.first + len(lot.piece.args)
            index = bisect_right(ends, at)  # the first span that ends behind the beginning of the lot
            if index == len(gone) or gone[index][0] >= high:
                lots.append(lot)
                continue
            while at < high:
                first, end = (gone[index][0], ends[index]) if index < len(gone) else (high, high)
                if at < first:
                    upto = min(first, high)
                    lots.append(Lot(lot.part(at - lot.piece.first, upto - lot.piece.first), lot.target))
                at = max(at, end)
                index += 1
        return lots

    def numbers(self) -> Iterator[int]:
        """All of them, in the order in which they will run."""
        for _, level in sorted(self._levels.items(), reverse=True):
            for lot in level:
                yield from range(lot.piece.first + lot.start, lot.piece.first + len(lot.piece.args))


class Outcomes:
    """What jobs came to, kept until the scheduler has it safe."""

    __slots__ = ("ends", "runs")

    def __init__(self) -> None:
        self.runs: dict[int, Run] = {}
        self.ends: dict[int, End] = {}

    def discard(self, first: int, count: int) -> None:
        """Forget these outcomes, all of which are here."""
        end = first + count
        while first < end:
            if self.ends.pop(first, None) is not None:
                first += 1
                continue
            run = self.runs.pop(first, None)
            if run is None:
                run = self._covering(first)
                self.runs[run.first] = part_of(run, run.first, first)
            over = run.first + len(run.results)
            if over > end:
                self.runs[end] = part_of(run, end, over)
            first = over

    def _covering(self, number: int) -> Run:
        """The run in whose middle this number is: rare, for acknowledgements name what was sent together."""
        for first in self.runs:
            if first < number < first + len(self.runs[first].results):
                return self.runs.pop(first)
        raise AssertionError(f"no outcome of {number} is kept")

    def numbers(self) -> Iterator[int]:
        yield from self.ends
        for first, run in self.runs.items():
            yield from range(first, first + len(run.results))


def part_of(run: Run, low: int, high: int) -> Run:
    """The numbers low … high - 1 of a run; its time is shared out evenly."""
    results = run.results[low - run.first : high - run.first]
    return Run(low, results, run.total * len(results) / len(run.results), run.longest)


def dones(runs: list[Run], ends: list[End]) -> Iterator[tuple[Done, bool]]:
    """Outcomes as messages within the bounds of a control message; a larger outcome has one for itself: (…, True)."""
    batch = Done([], [])
    jobs = size = 0
    outcomes: list[Run | End] = [*_small(runs), *ends]
    for outcome in outcomes:
        if isinstance(outcome, Run):
            n, length = len(outcome.results), sum(map(len, outcome.results))
        else:
            n, length = 1, len(outcome.payload)
        if jobs and (jobs + n > MAX_JOBS_PER_MESSAGE or size + length > MAX_BYTES_PER_MESSAGE):
            yield batch, size > MAX_BYTES_PER_MESSAGE
            batch = Done([], [])
            jobs = size = 0
        if isinstance(outcome, Run):
            batch.runs.append(outcome)
        else:
            batch.ends.append(outcome)
        jobs += n
        size += length
    if jobs:
        yield batch, size > MAX_BYTES_PER_MESSAGE


def _small(runs: list[Run]) -> Iterator[Run]:
    """The same in runs that fit into one message each, unless a single result is larger."""
    for run in runs:
        if len(run.results) == 1 or sum(map(len, run.results)) <= MAX_BYTES_PER_MESSAGE:
            yield run
            continue
        low = number = run.first
        size = 0
        for result in run.results:
            if number > low and size + len(result) > MAX_BYTES_PER_MESSAGE:
                yield part_of(run, low, number)
                low, size = number, 0
            size += len(result)
            number += 1
        yield part_of(run, low, number)
