"""The book of one session: every job that is not over, in exactly one parcel, and how far each parcel has come."""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.config import MAX_BYTES_PER_MESSAGE, MAX_JOBS_PER_MESSAGE, SubmitterSettings
from zmqtasks.ids import Span, expand, job_id, spans
from zmqtasks.states import FAILED
from zmqtasks.submitter.effects import Effects, Ended, Submission
from zmqtasks.submitter.ledger import ACCEPTED, QUEUED, SENT, Line, Parcel

How = tuple[int, bytes, str]  # state, payload and cause of an Ended

_NO_LINE: Final = Line()


class Book:
    """Jobs and parcels, and the moves between the stages.

    Attributes:
        lines: all parcels, by prefix.
        queue: QUEUED parcels, in order; some may have ended meanwhile (`left` is 0).
        sent: SENT parcels, in order.
        unaccepted: jobs in `sent`; `unaccepted_bytes`: of their payloads.
        queued: open jobs in `queue`; `queued_bytes`: of their parcels.
        open: jobs that are not over.
        held: bytes of the payloads of ACCEPTED parcels.
        keep: payloads are kept beyond acceptance.
        order: number of the last submission.
        twins: further handles of one job.
    """

    __slots__ = (
        "held", "keep", "lines", "open", "order", "queue", "queued", "queued_bytes", "sent", "settings", "twins",
        "unaccepted", "unaccepted_bytes",
    )  # fmt: skip

    def __init__(self, settings: SubmitterSettings) -> None:
        self.settings = settings
        self.lines: dict[bytes, Line] = {}
        self.queue: deque[Parcel] = deque()
        self.sent: dict[Parcel, None] = {}
        self.unaccepted = 0
        self.unaccepted_bytes = 0
        self.queued = 0
        self.queued_bytes = 0
        self.open = 0
        self.held = 0
        self.keep = True
        self.order = 0
        self.twins: dict[tuple[bytes, int], list[Any]] = {}

    # ------------------------------------------------------------------------------------------------ looking up

    def line(self, prefix: bytes) -> Line:
        """The parcels of a prefix; an empty line if there are none."""
        return self.lines.get(prefix, _NO_LINE)

    def find(self, prefix: bytes, counter: int) -> tuple[Parcel, int] | None:
        """The parcel of a job that is not over, and the job's place in it."""
        parcel = self.line(prefix).find(counter)
        if parcel is None or parcel.handles[counter - parcel.first] is None:
            return None
        return parcel, counter - parcel.first

    def room(self) -> bool:
        """Whether the window lets another parcel go; a single one, however large, always may."""
        return not self.sent or (
            self.unaccepted < self.settings.unaccepted and self.unaccepted_bytes < self.settings.unaccepted_bytes
        )

    # ------------------------------------------------------------------------------------------------ coming in

    def add(self, submission: Submission) -> None:
        """Queue jobs in parcels that fit into a message each; a single larger payload has one for itself."""
        args, handles = submission.args, submission.handles
        if len(args) <= MAX_JOBS_PER_MESSAGE and sum(map(len, args)) <= MAX_BYTES_PER_MESSAGE:
            self._queue(submission, 0, args, handles)
            return
        start = size = 0
        for end, data in enumerate(args):
            if end > start and (end - start >= MAX_JOBS_PER_MESSAGE or size + len(data) > MAX_BYTES_PER_MESSAGE):
                self._queue(submission, start, args[start:end], handles[start:end])
                start, size = end, 0
            size += len(data)
        self._queue(submission, start, args[start:], handles[start:])

    def _queue(self, submission: Submission, start: int, args: list[bytes], handles: list[Any]) -> None:
        """Queue jobs behind the last parcel where they fit into its message, else as a parcel of their own."""
        first, size = submission.first + start, sum(map(len, args))
        self.open += len(handles)
        self.queued += len(handles)
        self.queued_bytes += size
        last = self.queue[-1] if self.queue else None
        if last is not None and _fits(last, submission, first, len(args), size):
            assert last.args is not None  # noqa: S101  (_fits looked)
            last.args += args
            last.handles += handles
            last.left += len(handles)
            last.size += size
            last.order = self.order
            return
        parcel = Parcel(submission.prefix, first, submission.call, args, handles)
        parcel.size, parcel.order, parcel.batch = size, self.order, submission.batch
        self.lines.setdefault(submission.prefix, Line()).add(parcel)
        self.queue.append(parcel)

    def add_asked(self, prefix: bytes, counter: int, handle: Any) -> Parcel:
        """A job whose outcome is wanted and that this session did not submit."""
        parcel = Parcel(prefix, counter, None, None, [handle])
        parcel.stage = ACCEPTED
        self.lines.setdefault(prefix, Line()).add(parcel)
        self.open += 1
        return parcel

    def share(self, submission: Submission, fx: Effects) -> bool:
        """Whether the id of a one-job submission is open already.

        The same content then shares the first one's outcome; other content ends as a JobConflict.
        """
        counter, handle = submission.first, submission.handles[0]
        found = self.find(submission.prefix, counter)
        if found is None:
            return False
        parcel, place = found
        if (
            parcel.call is not None
            and parcel.args is not None
            and not (parcel.call.same(submission.call) and parcel.args[place] == submission.args[0])
        ):
            text = f"job {job_id(submission.prefix, counter)} is on its way already, with other content"
            data = payload.failure("JobConflict", text)
            fx.ended.append(Ended(submission.prefix, counter, handle, FAILED, data, "rejected"))
        else:
            self.twins.setdefault((submission.prefix, counter), []).append(handle)
        return True

    # ------------------------------------------------------------------------------------------------ the stages

    def next_to_send(self) -> Parcel | None:
        """The next parcel, moved to SENT; None if the window is full or nothing waits."""
        while self.queue and self.room():
            parcel = self.queue.popleft()
            if not parcel.left:
                continue
            if parcel.left < len(parcel.handles):  # some were cancelled: what is left gets boundaries of its own
                line = self.lines[parcel.prefix]
                line.remove(parcel)
                self.queued -= parcel.left
                self.queued_bytes -= parcel.size
                pieces = _cut_out(parcel, parcel.open_spans(), line)
                self._count_queued(pieces)
                self.queue.extendleft(reversed(pieces))
                continue
            self.queued -= parcel.left
            self.queued_bytes -= parcel.size
            parcel.stage = SENT
            self.sent[parcel] = None
            self.unaccepted += parcel.left
            self.unaccepted_bytes += parcel.size
            return parcel
        return None

    def accept(self, parcel: Parcel, fx: Effects, *, volatile: bool) -> None:
        """SENT → ACCEPTED. `volatile`: the scheduler keeps it in memory only, or may do so: its payloads are kept."""
        self._leave_sent(parcel)
        parcel.stage = ACCEPTED
        if not (self.keep or volatile) or self.held > self.settings.held_bytes:
            parcel.args = None
            parcel.size = 0
        self.held += parcel.size
        fx.accepted.append((parcel.prefix, [(parcel.first, len(parcel.handles))]))

    def let_go(self, parcel: Parcel) -> None:
        """An accepted parcel is surely kept by the scheduler: its payloads are not needed here."""
        if not self.keep:
            self.held -= parcel.size
            parcel.args = None
            parcel.size = 0

    def submit_again(self, parcel: Parcel, again: Sequence[Span]) -> None:
        """ACCEPTED → QUEUED for these open jobs of a parcel.

        The scheduler has forgotten them, so to it they are new, and only they go out again, in parcels of their own:
        what is over must not run once more.
        """
        line = self.lines[parcel.prefix]
        chosen = set(expand(again))
        rest = spans(counter for counter in expand(parcel.open_spans()) if counter not in chosen)
        line.remove(parcel)
        self.held -= parcel.size
        pieces = _cut_out(parcel, again, line)
        self._count_queued(pieces)
        for piece in pieces:
            piece.order = self.order
            self.queue.append(piece)
        for piece in _cut_out(parcel, rest, line):
            piece.stage = ACCEPTED
            self.held += piece.size

    def took(self, parcel: Parcel, count: int, fx: Effects) -> None:
        """`count` jobs of a parcel have their outcome from the scheduler, so it has accepted them."""
        if parcel.stage == SENT:
            self.accept(parcel, fx, volatile=True)  # its Accepted may come later, and tells
        elif parcel.stage == QUEUED:  # on its way again, when a worker that still had the outcome came back
            self.queued -= count
        parcel.left -= count
        self.open -= count
        if not parcel.left:
            self._forget(parcel)

    def end(self, parcel: Parcel, place: int, how: How, fx: Effects) -> None:
        """One job is over without a value."""
        counter, handle = parcel.first + place, parcel.handles[place]
        parcel.handles[place] = None
        parcel.left -= 1
        self.open -= 1
        if parcel.stage == QUEUED:
            self.queued -= 1
        for one in (handle, *self.twins.pop((parcel.prefix, counter), ())):
            fx.ended.append(Ended(parcel.prefix, counter, one, *how))
        if not parcel.left:
            self._forget(parcel)

    def end_all(self, parcel: Parcel, how: How, fx: Effects) -> None:
        """All open jobs of a parcel are over without a value."""
        if parcel.stage == SENT:  # while all of them are open
            self._leave_sent(parcel)
            parcel.stage = ACCEPTED
            self.held += parcel.size
        for counter in list(expand(parcel.open_spans())):
            self.end(parcel, counter - parcel.first, how, fx)

    def _leave_sent(self, parcel: Parcel) -> None:
        del self.sent[parcel]
        self.unaccepted -= len(parcel.handles)
        self.unaccepted_bytes -= parcel.size

    def _forget(self, parcel: Parcel) -> None:
        line = self.lines[parcel.prefix]
        line.remove(parcel)
        parcel.args = None
        if not line:
            del self.lines[parcel.prefix]
        if parcel.stage == ACCEPTED:
            self.held -= parcel.size
        elif parcel.stage == QUEUED:
            self.queued_bytes -= parcel.size

    def _count_queued(self, pieces: Sequence[Parcel]) -> None:
        self.queued += sum(piece.left for piece in pieces)
        self.queued_bytes += sum(piece.size for piece in pieces)

    # ------------------------------------------------------------------------------------------------ checking

    def check(self) -> None:
        """Raise AssertionError if a job is in no place or in two, or a sum is wrong."""
        parcels = [parcel for line in self.lines.values() for parcel in line]
        for parcel in parcels:
            where = f"parcel {job_id(parcel.prefix, parcel.first)}+{len(parcel.handles)}"
            left = sum(handle is not None for handle in parcel.handles)
            _expect(left == parcel.left > 0, f"{where}: {parcel.left} jobs left by its count, {left} by its handles")
            _expect(parcel.stage != SENT or left == len(parcel.handles), f"{where} is not accepted, but has outcomes")
            _expect(self.line(parcel.prefix).find(parcel.first) is parcel, f"{where} is not found by its first counter")
            _expect((parcel.stage == SENT) == (parcel in self.sent), f"{where}: stage {parcel.stage}, yet not so kept")
            _expect(parcel.stage == ACCEPTED or parcel.args is not None, f"{where} has lost its payloads too early")
        for line in self.lines.values():
            ordered = list(line)
            for one, other in pairwise(ordered):
                _expect(one.first + len(one.handles) <= other.first, f"parcels overlap at {other.first}")
        queued = [parcel for parcel in self.queue if parcel.left]
        _expect(set(queued) == {p for p in parcels if p.stage == QUEUED}, "the queue does not hold the queued parcels")
        _expect(len(queued) == len(set(queued)), "a parcel is queued twice")
        _expect(all(parcel.stage == QUEUED for parcel in queued), "the queue holds a parcel that was sent")
        for told, is_so, what in (
            (self.open, sum(p.left for p in parcels), "open jobs"),
            (self.unaccepted, sum(p.left for p in self.sent), "unaccepted jobs"),
            (self.unaccepted_bytes, sum(p.size for p in self.sent), "unaccepted bytes"),
            (self.queued, sum(p.left for p in queued), "queued jobs"),
            (self.queued_bytes, sum(p.size for p in queued), "queued bytes"),
            (self.held, sum(p.size for p in parcels if p.stage == ACCEPTED), "held bytes"),
        ):
            _expect(told == is_so, f"{told} {what} by the count, {is_so} by the parcels")
        _expect(all(self.find(*key) for key in self.twins), "a second handle waits for a job that is over")


def _expect(holds: bool, message: str) -> None:  # noqa: FBT001
    if not holds:
        raise AssertionError(message)


def _fits(last: Parcel, submission: Submission, first: int, count: int, size: int) -> bool:
    """Whether these jobs may travel in the last queued parcel: its successors, alike, small enough together."""
    return (
        last.first + len(last.handles) == first
        and last.prefix == submission.prefix
        and last.batch == submission.batch
        and len(last.handles) + count <= MAX_JOBS_PER_MESSAGE
        and last.size + size <= MAX_BYTES_PER_MESSAGE
        and last.left == len(last.handles)
        and last.call is not None
        and last.call.same(submission.call)
    )


def _cut_out(parcel: Parcel, chosen: Sequence[Span], line: Line) -> list[Parcel]:
    """New parcels in `line` for these jobs of a parcel that has left it."""
    made = []
    for first, count in chosen:
        start = first - parcel.first
        args = None if parcel.args is None else parcel.args[start : start + count]
        piece = Parcel(parcel.prefix, first, parcel.call, args, parcel.handles[start : start + count])
        piece.size, piece.order, piece.batch = sum(map(len, args or ())), parcel.order, parcel.batch
        line.add(piece)
        made.append(piece)
    return made
