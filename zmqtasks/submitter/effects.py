"""What the submitter's core is told and what it asks its loop to do."""

from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from zmqtasks.ids import Span
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import FromSubmitter, SubmitterWelcome


@dataclass(slots=True, frozen=True)
class Identity:
    """Who this submitter is. `prefix`: 12 random bytes, one session's for its whole life."""

    prefix: bytes
    release: str
    python: str
    host: str
    pid: int
    user: str


class Submission(Struct):
    """Consecutive jobs of one call, of any number; the core cuts and joins them into Submit messages.

    Attributes:
        prefix: the session's, or the one that stands for an id given by the user.
        first: counter of the first job.
        call: what they have in common.
        args: one payload per job; the core takes the list over.
        handles: one object per job, handed back when it is over; not None; the core takes the list over.
        batch: counter of the first job of the batch that they are part of; None: single jobs.
    """

    prefix: bytes
    first: int
    call: Call
    args: list[bytes]
    handles: list[Any]
    batch: int | None = None


class Finished(Struct):
    """Jobs of one prefix that succeeded: three lists of one length, in the order of arrival."""

    prefix: bytes
    codec: str
    counters: list[int]
    handles: list[Any]
    values: list[bytes]


class Ended(Struct):
    """One job that is over without a value.

    Attributes:
        state: FAILED, CANCELLED or ABORTED.
        payload: a `zmqtasks.payload.Failure`.
        cause: "result" (the scheduler told its end), "cancelled" (before it was sent), "rejected", "unknown",
            "expired", "refused", "forgotten" (it may have run once, and must not run again).
    """

    prefix: bytes
    counter: int
    handle: Any
    state: int
    payload: bytes
    cause: str


class CancelAnswer(Struct):
    """What became of one `cancel`: its jobs as spans of counters, each in one of the three lists."""

    token: Any
    prefix: bytes
    cancelled: list[Span] = []
    refused: list[Span] = []
    unknown: list[Span] = []


class Effects(Struct):
    """Filled during one turn, carried out and thrown away after it.

    Attributes:
        sends: messages for the scheduler, in order.
        bulk: messages for the bulk connection, in order among themselves; the driver opens it when there are any.
        open_bulk: the scheduler asks for the bulk connection.
        close_bulk: a hello begins anew on the same connection, so the bulk connection must, too.
        accepted: (prefix, counters) that the scheduler has accepted.
        finished: jobs with a value.
        ended: jobs without one.
        cancel_answers: answers to `cancel`.
        welcome: the scheduler let this submitter in.
        refused: (code, reason): it will not, and nothing more is sent.
        notices: warnings of the scheduler, each text once.
        progress: (prefix, counter, handle, value) of running jobs that told how far they have come.
    """

    sends: list[FromSubmitter] = []
    bulk: list[FromSubmitter] = []
    open_bulk: bool = False
    close_bulk: bool = False
    accepted: list[tuple[bytes, list[Span]]] = []
    finished: list[Finished] = []
    ended: list[Ended] = []
    cancel_answers: list[CancelAnswer] = []
    welcome: SubmitterWelcome | None = None
    refused: tuple[str, str] | None = None
    notices: list[str] = []
    progress: list[tuple[bytes, int, Any, bytes]] = []
