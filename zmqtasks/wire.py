"""Every message between processes, once.

Messages are tagged, array-like `msgspec.Struct`s in MessagePack: ``[tag, field, field, …]``. Each direction has one
closed union and one decoder, which validates while it decodes. One message is one ZeroMQ frame. Fields and messages
are only ever appended. `docs/protocol.md` tells the same for people who write a client in another language.

A connection begins with the peer's hello; the scheduler answers `Welcome` (of the peer's kind), `Refused`, or, to any
other message of a connection it does not know, `HelloAgain`. A connection is FIFO until it breaks and is never
resumed: after a break both sides begin a new one with a hello and tell each other what they hold.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from zmqtasks.errors import PeerError
from zmqtasks.ids import Span

MAGIC: Final = "zmqtasks"
PROTOCOL: Final = 1

# ---------------------------------------------------------------------------------------------------- shared pieces


class Function(Struct, array_like=True, gc=False, frozen=True):
    """A shipped function. It travels once per connection; `Work` and `Submit` name it by its digest."""

    digest: bytes  # BLAKE2b-128 of blob
    name: str  # for people: module.qualname
    blob: bytes  # cloudpickle


class Spec(Struct, array_like=True, gc=False, frozen=True):
    """What all jobs of one Submit have in common. Times in seconds."""

    queue: str = "default"
    python: str = ""  # major.minor that a shipped function needs; empty for a registered task
    retries: int = 0  # how often an exception is followed by another attempt
    backoff: float = 0.0  # before the first retry; doubles each time
    backoff_max: float = 600.0
    crash_budget: int = 3  # deaths of a child or worker it may be running in; the next one is final
    result_ttl: float = -1.0  # below 0: the scheduler's default
    not_before: float = 0.0  # Unix time
    fail_unknown: bool = False  # end the job at once if no worker of the queue knows the task
    jitter: bool = False  # wait for a random share of the back-off, so that retries do not come in waves


class Held(Struct, array_like=True, gc=False, frozen=True):
    """One attempt that a worker holds: received and not yet released by a DoneAck."""

    number: int
    prefix: bytes
    counter: int
    attempt: int


# ---------------------------------------------------------------------------------------------------- hello, refusal


class WorkerHello(Struct, array_like=True, gc=False, tag=1):
    """First message of a worker's connection."""

    magic: str
    protocol: int
    release: str
    python: str  # major.minor
    host: str
    pid: int
    name: str
    nonce: bytes  # one life of the worker, 16 random bytes: its epoch
    slots: int
    credit: int  # assignments it holds at most
    queues: list[str]
    tasks: list[str]
    seen: int  # highest assignment number that this life received
    held: list[Held]
    connection: int = 1  # 1, 2, 3 … of this life: a hello that an older connection delivers late is ignored


class SubmitterHello(Struct, array_like=True, gc=False, tag=2):
    """First message of a submitter's connection. The same prefix again: the same session goes on."""

    magic: str
    protocol: int
    release: str
    python: str
    host: str
    pid: int
    user: str
    prefix: bytes  # 12 random bytes, made once per session
    connection: int = 1  # as in WorkerHello


class OperatorHello(Struct, array_like=True, gc=False, tag=3):
    """First message of the command line or a dashboard."""

    magic: str
    protocol: int
    release: str
    host: str
    pid: int


class AnyHello(Struct, array_like=True, gc=False):
    """What every version's hello begins with: enough to refuse one that is not ours, naming both versions."""

    tag: int
    magic: str
    protocol: int
    release: str


class Refused(Struct, array_like=True, gc=False, tag=10):
    """The scheduler will not talk to this peer; it should not try again."""

    code: str  # "protocol", "hello", "authorization"
    reason: str
    protocol: int
    release: str


class HelloAgain(Struct, array_like=True, gc=False, tag=11):
    """A message came over a connection that has not said hello, or whose session is forgotten."""


class Ping(Struct, array_like=True, gc=False, tag=12):
    """Nothing; the sender only wants to know whether the connection still exists."""


# ---------------------------------------------------------------------------------------------------- to the worker


class WorkerWelcome(Struct, array_like=True, gc=False, tag=20):
    """The worker is in. `dropped`: numbers of its hello that are not its own any more; their outcomes are void."""

    epoch: int
    release: str
    heartbeat: float
    lease: float
    max_payload: int
    dropped: list[Span]


class Work(Struct, array_like=True, gc=False):
    """Jobs of one prefix and one target inside an Assign."""

    prefix: bytes
    task: str  # name of the registered task, or for people the shipped function's
    function: bytes  # digest of the shipped function; empty: a registered task
    codec: str
    counters: list[int]
    args: list[bytes]  # one encoded (args, kwargs) per counter


class Assign(Struct, array_like=True, gc=False, tag=21):
    """Jobs to run. They are numbered and their attempts are counted in the order of `works`, from the first on."""

    number: int
    attempt: int
    works: list[Work]
    functions: list[Function]  # those that this connection has not carried yet


class DoneAck(Struct, array_like=True, gc=False, tag=22):
    """The outcomes of these numbers are kept: the worker may forget them."""

    numbers: list[Span]


class Retract(Struct, array_like=True, gc=False, tag=23):
    """Please hand back what of these has not started; answered by Retracted for those and by Done for the others."""

    numbers: list[Span]


class Kill(Struct, array_like=True, gc=False, tag=24):
    """End these even where they run (a forced cancel); answered by Retracted or Done."""

    numbers: list[Span]


class Forget(Struct, array_like=True, gc=False, tag=25):
    """No job needs these shipped functions any more."""

    digests: list[bytes]


# ---------------------------------------------------------------------------------------------------- from the worker

# Kinds of End.
FAILED: Final = 1  # the task raised
RETRYABLE: Final = 2  # the task raised what its options say may be tried again
CANCELLED: Final = 3  # ended by Kill
CRASHED: Final = 4  # the child died while it ran this job: charged to the crash budget
LOST: Final = 5  # it ran, or may have, and its outcome died with the child: not charged


class Run(Struct, array_like=True, gc=False):
    """Consecutive numbers of one target that all succeeded; their results are in the codec of their Work."""

    first: int
    results: list[bytes]
    total: float  # seconds that they ran, together
    longest: float  # seconds of the longest


class End(Struct, array_like=True, gc=False):
    """One number that did not succeed."""

    number: int
    kind: int
    payload: bytes  # a `zmqtasks.payload.Failure`
    took: float  # seconds


class Heartbeat(Struct, array_like=True, gc=False, tag=30):
    """Renews the lease and lists everything the worker holds, so that both sides reconcile."""

    seen: int
    held: list[Span]
    running: list[int]


class Done(Struct, array_like=True, gc=False, tag=31):
    """Outcomes. Kept by the worker and sent again after every hello until acknowledged."""

    runs: list[Run]
    ends: list[End]


class Retracted(Struct, array_like=True, gc=False, tag=32):
    """Answer to Retract and Kill, and what a draining worker hands back.

    `numbers` have not started and never will here; `started` were asked for, but run already (their Done follows).
    """

    numbers: list[Span]
    started: list[Span] = []


class Draining(Struct, array_like=True, gc=False, tag=33):
    """The worker takes no new work; it finishes what runs and hands back the rest."""


class Goodbye(Struct, array_like=True, gc=False, tag=34):
    """The worker ends in good order: nothing of it runs any more."""


# --------------------------------------------------------------------------------------------------- from the submitter


class Submit(Struct, array_like=True, gc=False, tag=40):
    """Jobs ``first … first + len(args) - 1`` of a prefix. Accepted or refused whole; a repeat changes nothing."""

    prefix: bytes
    first: int
    task: str
    function: bytes
    codec: str
    spec: Spec
    args: list[bytes]
    functions: list[Function]
    batch: int = 0  # counter of the first job of the batch that this message is part of


class Ask(Struct, array_like=True, gc=False, tag=41):
    """After a new hello: accepted jobs whose result has not come. Answered by Results and Unknown."""

    prefix: bytes
    counters: list[Span]


class ResultAck(Struct, array_like=True, gc=False, tag=42):
    """All Results messages up to this delivery number have arrived."""

    delivery: int


class Cancel(Struct, array_like=True, gc=False, tag=43):
    """Cancel these jobs; running ones only with force."""

    request: int
    prefix: bytes
    counters: list[Span]
    force: bool


# ---------------------------------------------------------------------------------------------------- to the submitter


class SubmitterWelcome(Struct, array_like=True, gc=False, tag=50):
    """The submitter is in. `durable`: an accepted job outlives the scheduler's process."""

    epoch: int
    release: str
    durable: bool
    max_payload: int


class Accepted(Struct, array_like=True, gc=False, tag=51):
    """These jobs are in the journal."""

    prefix: bytes
    counters: list[Span]


class Rejected(Struct, array_like=True, gc=False, tag=52):
    """The Submit that begins at `first` was refused whole. `code`: name of an error of `zmqtasks.errors`."""

    prefix: bytes
    first: int
    count: int
    code: str
    reason: str


class JobEnd(Struct, array_like=True, gc=False):
    """One job that did not succeed."""

    counter: int
    state: int
    payload: bytes  # a `zmqtasks.payload.Failure`


class Results(Struct, array_like=True, gc=False, tag=53):
    """Outcomes of jobs of one prefix. After a new hello the submitter asks again for what it still wants."""

    delivery: int
    prefix: bytes
    codec: str
    counters: list[int]  # of those that succeeded
    values: list[bytes]
    ends: list[JobEnd]


class CancelAck(Struct, array_like=True, gc=False, tag=54):
    """What became of a Cancel."""

    request: int
    cancelled: list[Span]
    refused: list[Span]  # running (ask again with force), or over already
    unknown: list[Span]


class Unknown(Struct, array_like=True, gc=False, tag=55):
    """The scheduler knows nothing of these jobs, or `expired`: no longer their outcome."""

    prefix: bytes
    counters: list[Span]
    expired: bool


class Notice(Struct, array_like=True, gc=False, tag=56):
    """A warning for the people behind the submitter."""

    text: str


# ---------------------------------------------------------------------------------------------------- operators


class AskStatus(Struct, array_like=True, gc=False, tag=60):
    """How are things?"""


class OperatorWelcome(Struct, array_like=True, gc=False, tag=61):
    """The operator is in."""

    epoch: int
    release: str


class WorkerStatus(Struct, array_like=True, gc=False):
    """One worker, for people."""

    name: str
    host: str
    pid: int
    state: str  # "up", "suspect", "draining"
    slots: int
    held: int
    running: int
    done: int
    queues: list[str]
    tasks: list[str]
    silent: float  # seconds since its last message


class QueueStatus(Struct, array_like=True, gc=False):
    """One queue, for people."""

    name: str
    ready: int
    workers: int


class Status(Struct, array_like=True, gc=False, tag=62):
    """The scheduler's state, for people."""

    epoch: int
    release: str
    pid: int
    uptime: float
    durable: bool
    workers: list[WorkerStatus]
    queues: list[QueueStatus]
    jobs: dict[str, int]  # state → how many
    submitters: int
    counters: dict[str, int]
    warnings: list[str]


# ---------------------------------------------------------------------------------------------------- directions

Hello = WorkerHello | SubmitterHello | OperatorHello
ToAnybody = Refused | HelloAgain | Ping
ToWorker = WorkerWelcome | Assign | DoneAck | Retract | Kill | Forget | Refused | HelloAgain | Ping
FromWorker = WorkerHello | Heartbeat | Done | Retracted | Draining | Goodbye
FromSubmitter = SubmitterHello | Submit | Ask | ResultAck | Cancel
ToSubmitter = (
    SubmitterWelcome | Accepted | Rejected | Results | CancelAck | Unknown | Notice | Refused | HelloAgain | Ping
)
FromOperator = OperatorHello | AskStatus
ToOperator = OperatorWelcome | Status | Refused | HelloAgain | Ping

ToPeer = ToWorker | ToSubmitter | ToOperator
FromPeer = FromWorker | FromSubmitter | FromOperator

# What msgspec raises for bytes that it cannot decode.
BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_encoder = msgspec.msgpack.Encoder()
_any_hello = msgspec.msgpack.Decoder(AnyHello)
_hello: msgspec.msgpack.Decoder[Hello] = msgspec.msgpack.Decoder(Hello)
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    "ToWorker": msgspec.msgpack.Decoder(ToWorker),
    "FromWorker": msgspec.msgpack.Decoder(FromWorker),
    "ToSubmitter": msgspec.msgpack.Decoder(ToSubmitter),
    "FromSubmitter": msgspec.msgpack.Decoder(FromSubmitter),
    "ToOperator": msgspec.msgpack.Decoder(ToOperator),
    "FromOperator": msgspec.msgpack.Decoder(FromOperator),
}


class OtherProtocol(PeerError):
    """A hello of another version of the protocol.

    Attributes:
        protocol: the version that the peer speaks.
        release: the peer's release of zmqtasks.
    """

    def __init__(self, protocol: int, release: str) -> None:
        super().__init__(f"the peer (zmqtasks {release}) speaks protocol {protocol}, this side speaks {PROTOCOL}")
        self.protocol = protocol
        self.release = release


def encode(message: ToPeer | FromPeer) -> bytes:
    """One message as the bytes of one frame."""
    return _encoder.encode(message)


def encode_part(part: object) -> bytes:
    """Some fields of a message as bytes, for a digest."""
    return _encoder.encode(part)


def decode_hello(data: bytes) -> Hello | None:
    """The hello in a frame of a connection that has not said hello; None if it is no hello of ours at all.

    Raises:
        OtherProtocol: it is a hello of another version.
        PeerError: it is a hello of ours that cannot be read.
    """
    try:
        start = _any_hello.decode(data)
    except BROKEN:
        return None
    if start.magic != MAGIC:
        return None
    if start.protocol != PROTOCOL:
        raise OtherProtocol(start.protocol, start.release)
    try:
        return _hello.decode(data)
    except BROKEN:
        return None


def _decode(direction: str, data: bytes) -> Any:
    try:
        return _decoders[direction].decode(data)
    except BROKEN as error:
        message = f"{direction}: {error}"
        raise PeerError(message) from None


def decode_to_worker(data: bytes) -> ToWorker:
    """Raises PeerError for anything but a message of this direction; so do its siblings."""
    return _decode("ToWorker", data)  # type: ignore[no-any-return]  # the decoder of that name yields that union


def decode_from_worker(data: bytes) -> FromWorker:
    """See decode_to_worker."""
    return _decode("FromWorker", data)  # type: ignore[no-any-return]


def decode_to_submitter(data: bytes) -> ToSubmitter:
    """See decode_to_worker."""
    return _decode("ToSubmitter", data)  # type: ignore[no-any-return]


def decode_from_submitter(data: bytes) -> FromSubmitter:
    """See decode_to_worker."""
    return _decode("FromSubmitter", data)  # type: ignore[no-any-return]


def decode_to_operator(data: bytes) -> ToOperator:
    """See decode_to_worker."""
    return _decode("ToOperator", data)  # type: ignore[no-any-return]


def decode_from_operator(data: bytes) -> FromOperator:
    """See decode_to_worker."""
    return _decode("FromOperator", data)  # type: ignore[no-any-return]
