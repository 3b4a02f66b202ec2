"""The jobs of a history: what each does when it runs, and what they have in common."""

from dataclasses import dataclass
from random import Random
from typing import Any

import msgspec

from zmqtasks.payload import function_digest
from zmqtasks.resources import parse
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import Function, Spec

KINDS = ("ok", "ok", "ok", "ok", "ok", "fail", "error", "crash")
MILD = ("ok", "fail", "error")
LARGE = 66_000  # bytes: over the bulk connection


@dataclass(slots=True, frozen=True)
class Plan:
    """What a job does: `ok` succeeds, `fail` raises `fails_times` times before it succeeds, `error` raises for good,
    `crash` kills its child `fails_times` times. Travels as the job's arguments.

    Attributes:
        retries: after which it may be tried again; `own`: the worker says so with each failure, and how many seconds
            the job is to wait before the next attempt; below 0: its Spec says both.
    """

    serial: int
    kind: str
    fails_times: int
    seconds: float
    size: int
    retries: int
    crash_budget: int
    own: float = -1.0

    def encode(self) -> bytes:
        """The arguments."""
        return msgspec.msgpack.encode([self, b"x" * self.size])

    def value(self, attempt: int) -> bytes:
        """The result of a successful attempt."""
        return f"{self.serial}:{attempt}:".encode() + b"y" * self.size


_decoder = msgspec.msgpack.Decoder(tuple[Plan, bytes])


def decode(data: bytes) -> Plan:
    """The plan in a job's arguments."""
    return _decoder.decode(data)[0]


@dataclass(slots=True, frozen=True)
class Habits:
    """What the jobs of a history are like.

    Attributes:
        kinds: see Plan.
        lengths: in seconds.
        batches: how many jobs are submitted at once.
        spill: payloads above so many bytes are kept by the journal.
        large: how often argument and result are larger than a control message.
    """

    kinds: tuple[str, ...]
    lengths: tuple[float, ...]
    batches: tuple[int, ...]
    spill: int
    large: float


MIXED = (1e-5, 1e-5, 1e-3, 0.05, 1.0, 4.0)
SHORT = (1e-5, 1e-3, 0.05, 0.3)  # many of them, and all have to end
UNEVEN = (1e-5,) * 9 + (0.5,)  # a long one now and then, behind which the others wait
# of what workers have; some only of some, some of none
NEEDS = tuple(map(parse, ({"gpu": 0.5}, {"gpu": 0.25}, {"gpu": 1}, {"gpu": 2}, {"mem": 1}, {"mem": 3, "gpu": 1})))
BRISK = (1e-5, 1e-4, 2e-4)  # short enough to be held in advance


def draw(random: Random, habits: Habits, serial: int, spec: Spec) -> Plan:
    """A random plan."""
    kind = random.choice(habits.kinds)
    times = random.choice((1, 1, 2, 5)) if kind in ("fail", "crash") else 0
    seconds = random.choice(habits.lengths)
    size = habits.spill + 10 if random.random() < 0.1 else random.choice((0, 10))
    if random.random() < habits.large:
        size = LARGE
    own = serial % 3 == 0  # no draw: the histories of all seeds stay what they were
    return Plan(
        serial, kind, times, seconds, size, spec.retries + own, spec.crash_budget, 0.1 * (serial % 5) if own else -1.0
    )


def draw_spec(random: Random, wall: float, *, brief: bool, once: float, durable: bool) -> Spec:
    """What the jobs of a batch have in common.

    Args:
        random: source of chance.
        wall: Unix time.
        brief: most outcomes are kept for a moment only.
        once: how often a job is to run at most once.
        durable: the scheduler has a disk.
    """
    return Spec(
        retries=random.choice((0, 1, 2)),
        backoff=random.choice((0.0, 0.3)),
        crash_budget=random.choice((0, 1, 3)),
        jitter=random.random() < 0.3,
        result_ttl=random.choice((0.3, 0.3, -1.0) if brief else (-1.0, -1.0, -1.0, 0.3, 2.0, 50.0)),
        not_before=wall + random.uniform(0, 5) if random.random() < 0.15 else 0.0,
        durability=random.choice(("", "", "", "disk", "os", "memory") if durable else ("", "", "memory")),
        acks_late=random.random() >= once,
        priority=random.choice((0, 0, 0, 0, 1, 9)),
        expires=wall + random.uniform(0, 8) if random.random() < 0.05 else 0.0,
        rate=random.choice((5.0, 50.0)) if random.random() < 0.1 else 0.0,
        burst=random.choice((1, 3)),
        rate_key=random.choice(("", "a")),
        cap=random.choice((1, 2)) if random.random() < 0.1 else 0,
        cap_key=random.choice(("", "b")),
        resources=random.choice(NEEDS) if random.random() < 0.3 else (),
    )


def draw_call(random: Random, spec: Spec) -> Call:
    """A registered task, or a shipped function, which may be large."""
    if random.random() < 0.75:
        return Call("task", None, "msgpack", spec)
    blob = b"code %d" % random.randrange(4)
    if random.random() < 0.2:
        blob += b"z" * LARGE
    fields: dict[str, Any] = {name: getattr(spec, name) for name in spec.__struct_fields__}
    shipped = Spec(**{**fields, "python": "3.11"})
    return Call("function", Function(function_digest(blob), "function", blob), "cloudpickle", shipped)
