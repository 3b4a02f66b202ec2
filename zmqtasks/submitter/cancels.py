"""Cancel requests on their way: asked again after every hello until the scheduler has answered."""

from dataclasses import dataclass
from typing import Any

from zmqtasks import payload, wire
from zmqtasks.config import MAX_ASKED
from zmqtasks.ids import Span, expand, job_id, parts, spans
from zmqtasks.states import CANCELLED
from zmqtasks.submitter.book import Book
from zmqtasks.submitter.effects import CancelAnswer, Effects
from zmqtasks.submitter.ledger import QUEUED, SENT

_SPANS_PER_MESSAGE = 2_000
_HERE = "was cancelled before it was sent"


@dataclass(slots=True)
class _Request:
    """One Cancel message."""

    message: wire.Cancel
    answer: CancelAnswer


class Cancels:
    """What was asked to be cancelled and is not answered.

    Attributes:
        ready: requests may be sent now.
        early: not asked yet: see `follow_up`.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._open: dict[int, _Request] = {}
        self._last = 0
        self._outstanding: dict[int, int] = {}  # id(answer) → messages without an answer
        self.early: list[wire.Cancel] = []
        self.ready = False

    def begin(self, prefix: bytes, counters: list[Span], *, force: bool, token: Any, fx: Effects) -> None:
        """Cancel what is still queued here, ask the scheduler for the rest."""
        answer = CancelAnswer(token, prefix)
        ours: list[int] = []
        over: list[int] = []
        theirs: list[int] = []
        known = self._book.line(prefix)
        for counter in expand(counters):
            parcel = known.find(counter)
            if parcel is None:
                theirs.append(counter)
            elif parcel.handles[counter - parcel.first] is None:
                over.append(counter)
            elif parcel.stage == QUEUED:
                self._end(prefix, counter, _HERE, fx)
                ours.append(counter)
            else:
                theirs.append(counter)
        answer.cancelled += spans(sorted(ours))
        answer.refused += spans(sorted(over))
        self._ask(answer, spans(sorted(theirs)), force=force, fx=fx)
        if id(answer) not in self._outstanding:
            fx.cancel_answers.append(answer)

    def again(self) -> list[wire.Cancel]:
        """All requests without an answer, for a new connection; those for which it is too early are kept back."""
        messages = [request.message for request in self._open.values()]
        self.early = [message for message in messages if self._is_early(message)]
        early = {message.request for message in self.early}
        return [message for message in messages if message.request not in early]

    def follow_up(self, fx: Effects) -> None:
        """Ask for jobs whose Submit has got through meanwhile: before, the scheduler would not have known them."""
        early, self.early = self.early, []
        for message in early:
            if message.request not in self._open:
                continue
            if self._is_early(message):
                self.early.append(message)
            elif self.ready:
                fx.sends.append(message)

    def _is_early(self, message: wire.Cancel) -> bool:
        """Whether a job of this Cancel is still on its way to the scheduler, on a way of its own."""
        line = self._book.line(message.prefix)
        return any(
            parcel.late and parcel.stage == SENT
            for first, count in message.counters
            for parcel in line.overlapping(first, count)
        )

    def on_ack(self, message: wire.CancelAck, fx: Effects) -> None:
        """One answer. A job that the scheduler did not know because it is being submitted again is cancelled now."""
        request = self._open.pop(message.request, None)
        if request is None:
            return
        answer, prefix = request.answer, request.message.prefix
        answer.cancelled += message.cancelled
        for counter in expand(message.cancelled):
            found = self._book.find(prefix, counter)
            if found is not None:  # its outcome says the same, and comes too late to be news
                if found[0].stage == SENT:
                    self._book.accept(found[0], fx, volatile=True)
                self._end(prefix, counter, "was cancelled", fx)
        answer.refused += message.refused
        unknown: list[int] = []
        ours: list[int] = []
        again: list[int] = []
        for counter in expand(message.unknown):
            found = self._book.find(prefix, counter)
            if found is None or found[0].stage not in (QUEUED, SENT):
                unknown.append(counter)
            elif found[0].stage == QUEUED:
                self._end(prefix, counter, _HERE, fx)
                ours.append(counter)
            else:
                again.append(counter)
        answer.cancelled += spans(ours)
        answer.unknown += spans(unknown)
        self._ask(answer, spans(again), force=request.message.force, fx=fx)
        self._one_less(answer, fx)

    def give_up(self, fx: Effects) -> None:
        """The scheduler refused this session: nobody will answer."""
        for request in list(self._open.values()):
            request.answer.unknown += request.message.counters
            self._one_less(request.answer, fx)
        self._open.clear()

    def _ask(self, answer: CancelAnswer, chosen: list[Span], *, force: bool, fx: Effects) -> None:
        for part in parts(chosen, _SPANS_PER_MESSAGE, MAX_ASKED):
            self._last += 1
            message = wire.Cancel(self._last, answer.prefix, part, force)
            self._open[self._last] = _Request(message, answer)
            self._outstanding[id(answer)] = self._outstanding.get(id(answer), 0) + 1
            if self._is_early(message):
                self.early.append(message)
            elif self.ready:
                fx.sends.append(message)

    def _one_less(self, answer: CancelAnswer, fx: Effects) -> None:
        self._outstanding[id(answer)] -= 1
        if not self._outstanding[id(answer)]:
            del self._outstanding[id(answer)]
            fx.cancel_answers.append(answer)

    def _end(self, prefix: bytes, counter: int, what: str, fx: Effects) -> None:
        found = self._book.find(prefix, counter)
        assert found is not None  # noqa: S101  (the caller has just found it)
        data = payload.failure("JobCancelled", f"job {job_id(prefix, counter)} {what}")
        self._book.end(*found, (CANCELLED, data, "cancelled"), fx)
