"""Time as a parameter: the cores never read a clock, they are told what time it is."""

import time

from msgspec import Struct


class Now(Struct, frozen=True, gc=False):
    """One instant, read from both clocks.

    Attributes:
        mono: seconds of the monotonic clock; for leases, heartbeats, back-off. Means nothing in another process.
        wall: Unix time in seconds; for eta, cron and expiry, and for whatever is journaled.
    """

    mono: float
    wall: float


def now() -> Now:
    """The present instant of this machine."""
    return Now(time.monotonic(), time.time())


def soonest(*deadlines: float | None) -> float | None:
    """The first of some times, None among them being never."""
    first = None
    for at in deadlines:
        if at is not None and (first is None or at < first):
            first = at
    return first
