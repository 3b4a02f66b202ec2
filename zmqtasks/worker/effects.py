"""What the worker's core is told at its start, and what it asks its driver to do."""

from dataclasses import dataclass

from msgspec import Struct

from zmqtasks.wire import FromWorker
from zmqtasks.worker.claims import Claim


@dataclass(slots=True, frozen=True)
class Identity:
    """Who this worker is.

    Attributes:
        nonce: 16 random bytes, one life of it.
        rates: of its tasks: name, starts per second, burst.
        caps: of its tasks: name, jobs that may run at once.
    """

    release: str
    python: str
    host: str
    pid: int
    name: str
    nonce: bytes
    queues: tuple[str, ...]
    tasks: tuple[str, ...]
    rates: tuple[tuple[str, float, int], ...] = ()
    caps: tuple[tuple[str, int], ...] = ()


class Effects(Struct):
    """What is to be done after a turn.

    Attributes:
        sends: messages to the scheduler, in order.
        bulk: messages for the bulk connection, in order among themselves; the driver opens it when there are any.
        open_bulk: the scheduler asks for the bulk connection.
        close_bulk: a hello begins anew on the same connection, so the bulk connection must, too.
        pushes: claims for the children.
        kills: slots whose child, with its process group, is to be killed; answered by on_child_exit.
        reclaim: read the shared queue until it is empty; answered by on_reclaimed.
        look: read the cells of all slots; answered by on_running.
    """

    sends: list[FromWorker] = []
    bulk: list[FromWorker] = []
    open_bulk: bool = False
    close_bulk: bool = False
    pushes: list[Claim] = []
    kills: list[int] = []
    reclaim: bool = False
    look: bool = False
