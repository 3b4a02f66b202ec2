"""What the core asks its driver to do.

The driver carries it out in this order: stores, records, drops, trim, loads, forget, reset, bulks, sends, logs.
"""

from typing import NamedTuple

from msgspec import Struct

from zmqtasks.scheduler.core.records import Record
from zmqtasks.wire import ToPeer


class Send(Struct, frozen=True):
    """One message to one peer; `route` is its control connection.

    `bulk`: it goes over the bulk connection that belongs to that one, which the driver asks for if there is none yet.
    `after`: the number of the record that must be durable first; 0 waits for nothing. Order per connection is kept,
    except that a message that waits for nothing may overtake a DoneAck that does, and a Notice or Rejected anything.
    """

    route: bytes
    message: ToPeer
    after: int = 0
    bulk: bool = False


class Log(NamedTuple):
    """One line for the log: `level` of logging, `action` a stable key for machines.

    `source`: address of the peer that caused it, for the driver to fill in where it knows.
    """

    level: int
    action: str
    text: str
    source: str = ""


class Effects(Struct):
    """Filled during one turn, carried out and thrown away after it.

    Attributes:
        records: facts for the journal; the first has the number that follows the last one of the turn before.
        sync: some of them must outlive the machine's power, not only the process.
        unwritten: facts of jobs that are kept in memory only, for those who watch.
        trim: records up to this number are not needed any more; 0: nothing new.
        stores: (reference, bytes) of large payloads, to be kept before the records that name them.
        loads: references whose bytes are wanted; answered by `Core.on_loaded`.
        drops: references that nobody needs any more.
        reset: routes whose session is over while the connection stays: what waits for them is void.
        bulks: (control route, bulk route): a bulk connection was bound to its control connection.
        sends: messages.
        forget: routes whose connection the core is done with.
        logs: lines for the log.
    """

    records: list[Record] = []
    sync: bool = False
    unwritten: list[Record] = []
    trim: int = 0
    stores: list[tuple[int, bytes]] = []
    loads: list[int] = []
    drops: list[int] = []
    reset: list[bytes] = []
    bulks: list[tuple[bytes, bytes]] = []
    sends: list[Send] = []
    forget: list[bytes] = []
    logs: list[Log] = []

    def __bool__(self) -> bool:
        return self != _NOTHING


_NOTHING = Effects()
