"""Every message between processes, once.

Messages are tagged, array-like `msgspec.Struct`s in MessagePack: ``[tag, field, field, …]``. Each direction has one
closed union and one decoder, which validates while it decodes. One message is one ZeroMQ frame. Fields and messages
are only ever appended. `docs/protocol.md` tells the same for people who write a client in another language.

A connection begins with the peer's hello; the scheduler answers `Welcome` (of the peer's kind), `Refused`, or, to any
other message of a connection it does not know, `HelloAgain`. A connection is FIFO until it breaks and is never
resumed: after a break both sides begin a new one with a hello and tell each other what they hold.

Whatever is large travels over a second connection, the bulk connection, in chunks, so that no heartbeat waits behind
it. A peer opens it when it needs it or is asked to (`OpenBulk`), and binds it to its session by a `BulkHello`. The two
break together. There is no order between what the one carries and what the other carries.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal

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
    durability: Literal["", "memory", "os", "disk"] = ""  # what an accepted job outlives; empty: as its queue says
    acks_late: bool = True  # False: it runs once or ends as an error, whatever dies; it never runs again by itself
    priority: int = 0  # 0 to 9; the higher, the sooner
    expires: float = 0.0  # Unix time after which it does not start any more; 0: never
    rate: float = 0.0  # starts per second, in the whole cluster, of all jobs of its target with this key; 0: no limit
    burst: int = 1  # of these, starts at once after a pause
    rate_key: str = ""  # jobs with another one have a rate of their own
    cap: int = 0  # how many of them may run at once, of all jobs of its target with this key; 0: no limit
    cap_key: str = ""  # as rate_key
    resources: tuple[tuple[str, int], ...] = ()  # (name, 1/10,000) that each job takes of its worker; sorted by name
    fail_unserved: bool = False  # end the job if for a minute no worker of its queue can run it


class Held(Struct, array_like=True, gc=False, frozen=True):
    """One attempt that a worker holds: received and not yet released by a DoneAck."""

    number: int
    prefix: bytes
    counter: int
    attempt: int
    resources: tuple[tuple[str, int], ...] = ()  # what it takes, as in Spec


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
    resources: tuple[tuple[str, int], ...] = ()  # what it has for its jobs, as in Spec
    rates: list[tuple[str, float, int]] = []  # task, starts per second, burst: of tasks whose jobs say nothing of it
    caps: list[tuple[str, int]] = []  # task, and how many of its jobs may run at once if they say nothing of it


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


class BulkHello(Struct, array_like=True, gc=False, tag=4):
    """First message of a bulk connection: it belongs to this session's connection of that number."""

    magic: str
    protocol: int
    release: str
    key: bytes  # a worker's nonce or a submitter's prefix
    connection: int  # of the hello that its control connection began with


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


class OpenBulk(Struct, array_like=True, gc=False, tag=13):
    """Something large waits for this peer: please open the bulk connection."""


# ------------------------------------------------------------------------------------------------ the bulk connection


class BulkWelcome(Struct, array_like=True, gc=False, tag=14):
    """The bulk connection is bound. `window`: bytes that each side may send before it gets Credit."""

    window: int


class Chunk(Struct, array_like=True, gc=False, tag=15):
    """Part of a message that is too large for the control connection; the parts of several may alternate."""

    stream: int  # which message, by a number that its sender chose
    last: bool
    data: bytes


class Credit(Struct, array_like=True, gc=False, tag=16):
    """So many bytes of chunks were taken in: as many more may be sent."""

    amount: int


# ---------------------------------------------------------------------------------------------------- to the worker


class WorkerWelcome(Struct, array_like=True, gc=False, tag=20):
    """The worker is in. `dropped`: numbers of its hello that are not its own any more; their outcomes are void.

    Where there are any, a heartbeat comes at once: until it tells what of them still runs, each counts as a taken slot.
    """

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
    late: list[int] = []  # places in `args` that are empty: their bytes follow as Argument over the bulk connection
    priority: int = 0  # what waits with a lower one lets these pass
    resources: tuple[tuple[str, int], ...] = ()  # what each of its jobs takes while it runs, as in Spec
    queue: str = ""  # that they came from


class Assign(Struct, array_like=True, gc=False, tag=21):
    """Jobs to run. They are numbered and their attempts are counted in the order of `works`, from the first on."""

    number: int
    attempt: int
    works: list[Work]
    functions: list[Function]  # those that this connection has not carried yet; without bytes: these follow as Code
    retried: list[tuple[int, int]] = []  # (number, retries so far), of those that were retried
    again: list[int] = []  # numbers of those that were, or may have been, running in something that died


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


class Argument(Struct, array_like=True, gc=False, tag=26):
    """Over the bulk connection: the encoded (args, kwargs) of one number, announced as late by its Assign."""

    number: int
    data: bytes


class Code(Struct, array_like=True, gc=False, tag=27):
    """Over the bulk connection: the bytes of a shipped function that an Assign named without them."""

    digest: bytes
    blob: bytes


class Disown(Struct, array_like=True, gc=False, tag=28):
    """These numbers are not the worker's any more, as if its Welcome had listed them as dropped."""

    numbers: list[Span]


class Consume(Struct, array_like=True, gc=False, tag=29):
    """Please take from these queues, and no longer from those; answered by Consuming."""

    take: list[str]  # names of queues
    leave: list[str]  # the same


# ---------------------------------------------------------------------------------------------------- from the worker

# Kinds of End.
FAILED: Final = 1  # the task raised
RETRYABLE: Final = 2  # the task raised what its options say may be tried again
CANCELLED: Final = 3  # ended by Kill
CRASHED: Final = 4  # the child died while it ran this job: charged to the crash budget
LOST: Final = 5  # it ran, or may have, and its outcome died with the child: not charged
SUSPECT: Final = 6  # as CRASHED, but other jobs ran in the same process: charged, and from then on it runs alone

UNLIMITED: Final = -2  # the limit of an End whose job is tried again for ever


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
    delay: float = -1.0  # of a RETRYABLE: seconds until it is tried again; below 0: as its Spec says
    limit: int = -1  # of a RETRYABLE: retries that the job has at most; -1: as its Spec says; -2: for ever


class Heartbeat(Struct, array_like=True, gc=False, tag=30):
    """Renews the lease and lists everything the worker holds, so that both sides reconcile."""

    seen: int
    held: list[Span]
    running: list[int]
    void: int = 0  # jobs that it was told to drop and that run on: they take their slots


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


class Progress(Struct, array_like=True, gc=False, tag=35):
    """How far running jobs have come, by their own account; only the newest of each matters, and it may be lost."""

    numbers: list[int]
    values: list[bytes]  # MessagePack, opaque to the scheduler, MAX_PROGRESS bytes each at most


class Consuming(Struct, array_like=True, gc=False, tag=36):
    """The queues that the worker takes from now; its next hello lists the same."""

    queues: list[str]  # their names


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
    """All Results messages of a connection, control or bulk, up to this delivery number have arrived."""

    delivery: int
    bulk: bool = False


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
    volatile: bool = False  # they are not, as was asked for: they end with the scheduler's process


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

    delivery: int  # 1, 2, 3 … on each of the two connections
    prefix: bytes
    codec: str
    counters: list[int]  # of those that succeeded
    values: list[bytes]
    ends: list[JobEnd]
    bulk: bool = False  # it came over the bulk connection


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
    """A warning for the people behind the submitter.

    It is about jobs of a queue; of these about those whose Submit and Spec have what else is named here.
    """

    text: str
    queue: str = ""  # empty: it is about all jobs
    task: str = ""  # of a registered task
    python: str = ""  # that shipped functions need, as in Spec
    resources: tuple[tuple[str, int], ...] = ()  # that each job takes, as in Spec


class Progressed(Struct, array_like=True, gc=False, tag=57):
    """The newest Progress of running jobs of one prefix."""

    prefix: bytes
    counters: list[int]
    values: list[bytes]


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
    python: str = ""  # major.minor
    resources: dict[str, float] = {}  # what it has for its jobs
    taken: dict[str, float] = {}  # of these, by the jobs that it holds


class QueueStatus(Struct, array_like=True, gc=False):
    """One queue, for people."""

    name: str
    ready: int
    workers: int
    durability: str = ""  # what its jobs outlive, where they do not say so themselves: memory, os, disk
    paused: bool = False  # no job of it starts
    weight: float = 1.0  # its share of the slots' time, beside that of others


class JournalStatus(Struct, array_like=True, gc=False):
    """How the journal does, for people. Sizes in bytes."""

    path: str  # its directory
    size: int  # of its records
    pending: int  # taken, and not yet written
    trouble: str  # why it cannot be written now; empty: it can


class RateStatus(Struct, array_like=True, gc=False):
    """A rate that an operator has set, for people."""

    task: str  # its name
    rate: float  # starts per second; 0: no limit
    burst: int  # of these, starts at once after a pause
    since: float  # Unix time; 0: unknown
    declared: float | None = None  # starts per second, as its jobs or the workers say; None: they say nothing
    declared_burst: int = 1  # the same


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
    journal: JournalStatus | None = None  # none: in memory
    rates: list[RateStatus] = []  # that operators have set


class AskJobs(Struct, array_like=True, gc=False, tag=63):
    """Which jobs are there? `states`: names of job states; empty: all that are not over. `queue`: empty: all."""

    states: list[str]
    queue: str
    limit: int


class JobStatus(Struct, array_like=True, gc=False):
    """One job, for people. Times in Unix seconds; 0: none."""

    id: str
    task: str
    state: str
    queue: str
    worker: str  # that holds it; empty: none
    attempt: int
    retries: int
    crashes: int
    due: float  # not before
    submitter: str  # user@host of its session
    since: float = 0.0  # when its worker got it


class Jobs(Struct, array_like=True, gc=False, tag=64):
    """Some of the jobs that were asked for, and how many there are."""

    rows: list[JobStatus]
    total: int  # below 0: they are too many to be counted


class AskJob(Struct, array_like=True, gc=False, tag=65):
    """All about one job."""

    prefix: bytes
    counter: int


class StoryLine(Struct, array_like=True, gc=False):
    """One move of a job, for people."""

    wall: float  # Unix time
    state: str
    cause: str


class JobReport(Struct, array_like=True, gc=False, tag=66):
    """All about one job. `job`: None: unknown."""

    job: JobStatus | None
    reasons: list[str]  # why it is where it is and what it waits for, a sentence each
    story: list[StoryLine]  # what is still remembered, oldest first
    progress: bytes  # the newest that it told; empty: nothing


class SetRate(Struct, array_like=True, gc=False, tag=67):
    """Have the jobs of a task start so often, in the whole cluster, whatever they say themselves."""

    task: str  # its name
    rate: float | None  # starts per second; 0: no limit; None: as the jobs say
    burst: int = 1  # of these, starts at once after a pause


class SetQueue(Struct, array_like=True, gc=False, tag=68):
    """Change a queue; None: leave it as it is."""

    queue: str  # its name
    paused: bool | None = None  # no job of it starts
    weight: float | None = None  # its share of the slots' time, beside that of others of the same priority


class Purge(Struct, array_like=True, gc=False, tag=69):
    """Cancel all jobs of a queue that have not started."""

    queue: str  # its name


class Controlled(Struct, array_like=True, gc=False, tag=70):
    """A change was made, and is in the journal; or it was not."""

    error: str  # why it was not; empty: it was
    count: int  # of the jobs that it was done to
    warning: str = ""  # it was made, and may not be what was meant


class SetConsumer(Struct, array_like=True, gc=False, tag=71):
    """Have workers take from a queue, or no longer; answered by Controlled, whose count is that of the workers."""

    queue: str  # its name
    take: bool  # False: no longer
    worker: str = ""  # their name; empty: all workers


# ---------------------------------------------------------------------------------------------------- directions

Hello = WorkerHello | SubmitterHello | OperatorHello | BulkHello
ToAnybody = Refused | HelloAgain | Ping
ToWorker = (
    WorkerWelcome
    | Assign
    | DoneAck
    | Retract
    | Kill
    | Forget
    | Argument
    | Code
    | Disown
    | Consume
    | OpenBulk
    | Refused
    | HelloAgain
    | Ping
)
FromWorker = WorkerHello | Heartbeat | Done | Retracted | Draining | Goodbye | Progress | Consuming
FromSubmitter = SubmitterHello | Submit | Ask | ResultAck | Cancel
ToSubmitter = (
    SubmitterWelcome
    | Accepted
    | Rejected
    | Results
    | CancelAck
    | Unknown
    | Notice
    | Progressed
    | OpenBulk
    | Refused
    | HelloAgain
    | Ping
)
FromOperator = OperatorHello | AskStatus | AskJobs | AskJob | SetRate | SetQueue | Purge | SetConsumer
ToOperator = OperatorWelcome | Status | Jobs | JobReport | Controlled | Refused | HelloAgain | Ping
ToBulk = BulkWelcome | Chunk | Credit | Refused | HelloAgain | Ping
FromBulk = BulkHello | Chunk | Credit

ToPeer = ToWorker | ToSubmitter | ToOperator | ToBulk
FromPeer = FromWorker | FromSubmitter | FromOperator | FromBulk

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
    "ToBulk": msgspec.msgpack.Decoder(ToBulk),
    "FromBulk": msgspec.msgpack.Decoder(FromBulk),
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


# One message as the bytes of one frame; and some fields of a message as bytes, for a digest.
encode: Callable[[ToPeer | FromPeer], bytes] = _encoder.encode
encode_part: Callable[[object], bytes] = _encoder.encode


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


# Each raises PeerError for anything but a message of its direction. (A partial costs a lone job less than a function.)
decode_to_worker: Callable[[bytes], ToWorker] = partial(_decode, "ToWorker")
decode_from_worker: Callable[[bytes], FromWorker] = partial(_decode, "FromWorker")
decode_to_submitter: Callable[[bytes], ToSubmitter] = partial(_decode, "ToSubmitter")
decode_from_submitter: Callable[[bytes], FromSubmitter] = partial(_decode, "FromSubmitter")
decode_to_operator: Callable[[bytes], ToOperator] = partial(_decode, "ToOperator")
decode_from_operator: Callable[[bytes], FromOperator] = partial(_decode, "FromOperator")
decode_to_bulk: Callable[[bytes], ToBulk] = partial(_decode, "ToBulk")
decode_from_bulk: Callable[[bytes], FromBulk] = partial(_decode, "FromBulk")
