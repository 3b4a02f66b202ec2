"""The messages between agent, children and fork server. They never leave the machine."""

from typing import Final

import msgspec
from msgspec import Struct

from zmqtasks.wire import End, Run

INLINE_BYTES: Final = 64 * 1024  # a claim up to this travels in the message; a larger one in a file without a name
INLINE_BLOB: Final = 8 * 1024  # the same for the function inside a claim

# ------------------------------------------------------------------------------------------------ agent to children


class Piece(Struct, array_like=True, gc=False):
    """Jobs of one prefix with consecutive numbers and consecutive attempts."""

    first: int
    attempt: int
    prefix: bytes
    counters: list[int]
    args: list[bytes]


class Claim(Struct, array_like=True, gc=False):
    """Jobs of one target that one child runs one after the other."""

    id: int
    name: str  # the task, or for people the shipped function
    digest: bytes  # of the shipped function; empty: a registered task
    blob: bytes  # the shipped function itself; the loop may send it along as a file instead
    codec: str
    max_payload: int  # bytes a result may have
    pieces: list[Piece]
    retried: dict[int, int] = {}  # by number, of those that were retried
    resources: tuple[tuple[str, int], ...] = ()  # what its only job has while it runs, in 1/10,000
    devices: list[str] = []  # of these, the names of its GPUs
    queue: str = ""  # that its jobs came from
    priority: int = 0
    again: list[int] = []  # numbers of those that were, or may have been, running in something that died


# ------------------------------------------------------------------------------------------------ child to agent


class Report(Struct, array_like=True, gc=False):
    """Outcomes of one claim, in the order of its jobs; or how far jobs of it have come."""

    claim: int
    runs: list[Run]
    ends: list[End]
    finished: bool  # nothing more comes of this claim
    progress: list[tuple[int, bytes]] = []  # number, MessagePack


# ------------------------------------------------------------------------------------------------ agent to fork server


class Boot(Struct, array_like=True, gc=False, tag=1):
    """The first message: what every child needs."""

    app: str  # MODULE or MODULE:ATTRIBUTE; empty: no app
    directory: str  # where modules are looked for first
    slots: int
    worker: str
    loglevel: str
    broker: str  # that the worker was told; empty: none
    per_child: int = 1  # slots of one child, which are its threads if there are several
    logfile: str = ""  # where the log goes; empty: stderr


class Fork(Struct, array_like=True, gc=False, tag=2):
    """Make the child of this slot; the writing end of its report stream comes along."""

    index: int


class Slay(Struct, array_like=True, gc=False, tag=3):
    """Kill this child with its process group, if it still is the one of that slot."""

    index: int
    pid: int


# ------------------------------------------------------------------------------------------------ fork server to agent


class Ready(Struct, array_like=True, gc=False, tag=1):
    """The app is loaded; or `error` says in one line why it is not."""

    tasks: list[str]
    queues: list[str]
    error: str
    broker: str = ""  # the app's own, if it names one that others can reach
    closed: list[str] = []  # all queues that it allows; empty: any
    direct: bool = False  # the worker takes from a queue of its own, too
    rates: list[tuple[str, float, int]] = []  # of its tasks: name, starts per second, burst
    caps: list[tuple[str, int]] = []  # of its tasks: name, jobs that may run at once


class Forked(Struct, array_like=True, gc=False, tag=2):
    """The child of this slot lives."""

    index: int
    pid: int


class Exited(Struct, array_like=True, gc=False, tag=3):
    """The child of this slot is dead, and its process group with it. `status`: as waitpid tells it.

    With pid 0: it could not be made, and `status` is the errno that says why.
    """

    index: int
    pid: int
    status: int


ToForkServer = Boot | Fork | Slay
FromForkServer = Ready | Forked | Exited

encode = msgspec.msgpack.Encoder().encode
decode_claim = msgspec.msgpack.Decoder(Claim).decode
decode_report = msgspec.msgpack.Decoder(Report).decode
decode_to_forkserver: "msgspec.msgpack.Decoder[ToForkServer]" = msgspec.msgpack.Decoder(ToForkServer)
decode_from_forkserver: "msgspec.msgpack.Decoder[FromForkServer]" = msgspec.msgpack.Decoder(FromForkServer)
