"""The facts that the journal keeps: one Struct per kind, one record per run of jobs where there are many.

To apply all records in order is to have the state again (see `restore`). A record that is older than the `Kept` of its
submission says nothing any more: so old records can be dropped once `compaction` has written down what still matters.
Only wall times stand here (Unix seconds): monotonic ones mean nothing to another process.
"""

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from zmqtasks.ids import Span
from zmqtasks.wire import Function, Spec


class Stored(Struct, array_like=True, gc=False, frozen=True):
    """Stands for large bytes, which were stored under a number before the record that names them.

    offset: where they begin in a page of many small payloads; below 0: they are all that is stored there.
    """

    number: int
    size: int
    offset: int = -1


Data = bytes | Stored


class Began(Struct, array_like=True, gc=False, tag=1):
    """A life of the scheduler begins."""

    epoch: int
    wall: float
    release: str


class Totals(Struct, array_like=True, gc=False, tag=2):
    """What is true of the whole scheduler, written down again when old records are dropped."""

    epoch: int
    orders: int
    attempts: int
    payloads: int  # the highest number that a large payload was stored under
    counters: dict[str, int]
    limit: int = 0  # bytes of records at which they are written down anew
    rates: dict[str, tuple[float, int]] = {}  # (starts per second, burst) by task, set by operators
    weights: dict[str, float] = {}  # of queues
    paused: list[str] = []  # queues
    rated: dict[str, float] = {}  # Unix time at which operators have set the rates, by task


class Shipped(Struct, array_like=True, gc=False, tag=3):
    """A shipped function that is still known."""

    function: Function


class Submitted(Struct, array_like=True, gc=False, tag=4):
    """Jobs were accepted."""

    prefix: bytes
    first: int
    task: str
    function: bytes
    codec: str
    spec: Spec
    args: list[Data]
    functions: list[Function]
    batch: int
    owner: bytes  # prefix of the session that gets the results
    digest: bytes  # of the content
    order: int
    wall: float


class Assigned(Struct, array_like=True, gc=False, tag=5):
    """Consecutive attempts were given to a worker under consecutive numbers, in this order."""

    worker: bytes
    number: int
    attempt: int
    jobs: list[tuple[bytes, list[int]]]  # (prefix, counters)


class Adopted(Struct, array_like=True, gc=False, tag=6):
    """A worker came back with an attempt, which is the current one again."""

    worker: bytes
    number: int
    attempt: int
    prefix: bytes
    counter: int
    crashes: int


class Requeued(Struct, array_like=True, gc=False, tag=7):
    """An attempt ended without an outcome, or with one that is tried again; not before `due` (0: now)."""

    prefix: bytes
    counter: int
    crashes: int
    retries: int
    due: float
    solo: bool
    attempt: int  # a lost worker may come back with it; 0: it is surely over
    evidence: str  # of the death that it was running in; empty: there was none
    delay: float = -1.0  # seconds until `due`, at that time; below 0: an earlier release has not written them down


class Succeeded(Struct, array_like=True, gc=False, tag=8):
    """These jobs ended well."""

    prefix: bytes
    counters: list[int]
    results: list[Data]
    wall: float


class Ended(Struct, array_like=True, gc=False, tag=9):
    """One job ended otherwise: failed, cancelled or aborted."""

    prefix: bytes
    counter: int
    state: int
    payload: Data
    wall: float


class Delivered(Struct, array_like=True, gc=False, tag=10):
    """The outcomes of these jobs have reached the session that they are for."""

    prefix: bytes
    counters: list[Span]


class Forgot(Struct, array_like=True, gc=False, tag=11):
    """The outcomes of these jobs are kept no longer."""

    prefix: bytes
    counters: list[Span]
    wall: float


class Mark(Struct, array_like=True, gc=False):
    """What a job that is not over has behind it."""

    place: int  # its counter − first
    crashes: int
    retries: int
    due: float
    solo: bool
    attempt: int
    number: int
    worker: bytes  # that holds it; empty: none does
    evidence: list[str]
    delay: float = -1.0  # as in Requeued


class Kept(Struct, array_like=True, gc=False, tag=12):
    """All that still matters of one submission. What older records say of it is void.

    A job that stands neither in `open` nor in `done` nor in `ends` was forgotten; one without a mark was never given
    to anybody.
    """

    prefix: bytes
    first: int
    count: int
    task: str
    function: bytes
    codec: str
    spec: Spec
    owner: bytes
    digest: bytes
    order: int
    wall: float
    open: list[int]  # places
    args: list[Data]  # of `open`
    marks: list[Mark]
    done: list[int]  # places
    results: list[Data]  # of `done`
    ends: list[tuple[int, int, Data]]  # (place, state, payload)
    delivered: list[int]  # places


class Paged(Struct, array_like=True, gc=False, tag=13):
    """The results of these jobs, one after the other, stand in a page that was stored before this record."""

    number: int
    jobs: list[tuple[bytes, list[int]]]  # (prefix, counters)
    sizes: list[int]  # bytes of each


Record = (
    Began | Totals | Shipped | Submitted | Assigned | Adopted | Requeued | Succeeded | Ended | Delivered | Forgot
    | Kept | Paged
)  # fmt: skip

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def encode(records: Sequence[Record]) -> bytes:
    """One turn's records as the journal keeps them."""
    return _encoder.encode(records)


def decode(data: bytes) -> list[Record]:
    """The records of one turn.

    Raises:
        msgspec.DecodeError: these are none, or those of a newer release.
    """
    return _decoder.decode(data)
