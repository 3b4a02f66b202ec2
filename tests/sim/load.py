"""The jobs of a history: what each does when it runs."""

from dataclasses import dataclass
from random import Random

import msgspec

KINDS = ("ok", "ok", "ok", "ok", "ok", "fail", "error", "crash")
MILD = ("ok", "fail", "error")


@dataclass(slots=True, frozen=True)
class Plan:
    """What a job does: `ok` succeeds, `fail` raises `fails_times` times before it succeeds, `error` raises for good,
    `crash` kills its child `fails_times` times. Travels as the job's arguments.
    """

    serial: int
    kind: str
    fails_times: int
    seconds: float
    size: int
    retries: int
    crash_budget: int

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


def draw(random: Random, kinds: tuple[str, ...], serial: int, retries: int, crash_budget: int, spill: int) -> Plan:
    """A random plan."""
    kind = random.choice(kinds)
    times = random.choice((1, 1, 2, 5)) if kind in ("fail", "crash") else 0
    seconds = random.choice((1e-5, 1e-5, 1e-3, 0.05, 1.0, 4.0))
    size = spill + 10 if random.random() < 0.1 else random.choice((0, 10))
    return Plan(serial, kind, times, seconds, size, retries, crash_budget)
