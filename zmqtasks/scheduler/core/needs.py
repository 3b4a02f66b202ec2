"""What a worker must have to run a job of a line, and the limits that the line is under."""

from typing import Final

from msgspec import Struct

from zmqtasks.resources import Amounts

RATE: Final = "rate"
CAP: Final = "cap"

LimitKey = tuple[str, str | bytes, str]  # RATE or CAP, key of the target, and the key that its jobs gave


class Need(Struct, frozen=True):
    """What a worker must have to run a job of a line, and what else tells lines apart."""

    queue: str
    task: str  # name of a registered task; empty for shipped functions
    python: str  # major.minor for shipped functions
    strict: bool = False  # no job of the line may wait for a worker that knows its task
    priority: int = 0
    limits: tuple[LimitKey, ...] = ()
    resources: Amounts = ()  # what it must have free for each of them
    bound: bool = False  # they are for one worker: they end when it is gone
