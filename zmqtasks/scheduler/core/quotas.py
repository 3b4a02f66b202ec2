"""How many jobs may start in a time, and how many may run at once, in the whole cluster.

A rate is kept by the generic cell rate algorithm (ITU-T I.371): a job may start if the time at which it would be due at
that rate has come, less what a burst allows; so no window of any length holds more than its share. A job counts when it
is given to a free slot. A cap counts the jobs that workers hold.
"""

from math import inf
from typing import Any, Final

from zmqtasks.scheduler.core.needs import LimitKey

LATE: Final = 0.001  # seconds that a start may be late, and a share of the interval
LATE_SHARE: Final = 0.05


class Rate:
    """Starts per second.

    Attributes:
        since: monotonic time before which it is not known what started; -inf: that is nothing.
        tat: monotonic time at which the next start is due, if they come at that rate.
    """

    __slots__ = ("burst", "declared", "interval", "key", "lines", "shut", "since", "tat")

    def __init__(self, key: LimitKey, since: float = -inf) -> None:
        self.key = key
        self.since = since
        self.lines: dict[Any, None] = {}
        self.declared = (0.0, 1)  # rate and burst, as tasks say; an operator may say otherwise
        self.interval = 0.0
        self.burst = 1
        self.tat = -inf
        self.shut = False

    def allow(self, rate: float, burst: int, mono: float) -> None:
        """From now on so many starts per second; 0: as many as may be. What has started counts as many intervals on."""
        before, self.interval = self.interval, 1.0 / rate if rate > 0 else 0.0
        self.burst = max(1, burst)
        if before and self.tat > mono:
            self.tat = mono + (self.tat - mono) / before * self.interval
        elif not before and self.interval:
            self.tat = max(self.tat, self.since + self.burst * self.interval)

    @property
    def opens_at(self) -> float:
        """Monotonic time from which a job may start."""
        return self.tat - (self.burst - 1) * self.interval if self.interval else -inf

    def opens_after(self, jobs: int, mono: float) -> float:
        """Monotonic time from which a job may start at the earliest, if from now on so many others start before it."""
        if not self.interval:
            return -inf
        return max(self.tat, mono) + (jobs + 1 - self.burst) * self.interval

    def room(self, mono: float) -> int:
        """How many jobs may start now."""
        if not self.interval:
            return 2**31
        free = mono - self.opens_at
        return 0 if free < 0 else min(self.burst, 1 + int(min(free / self.interval, 2**31)))

    def count(self, jobs: int, mono: float) -> None:
        """They start now. A start that is only a little late does not put off all that follow."""
        late = mono - self.tat
        begin = self.tat if 0.0 <= late <= min(LATE, LATE_SHARE * self.interval) else max(self.tat, mono)
        self.tat = begin + jobs * self.interval


class Cap:
    """Jobs that run at once.

    Attributes:
        declared: how many may, as tasks say; 0: they say nothing. `limit`: what holds.
        running: those that workers hold.
    """

    __slots__ = ("declared", "key", "limit", "lines", "running", "shut")

    def __init__(self, key: LimitKey) -> None:
        self.key = key
        self.lines: dict[Any, None] = {}
        self.declared = 0
        self.limit = 0
        self.running = 0
        self.shut = False

    def room(self, _mono: float) -> int:
        """How many jobs may start now."""
        return max(0, self.limit - self.running) if self.limit else 2**31

    def count(self, jobs: int, _mono: float) -> None:
        """They start now."""
        self.running += jobs


Limit = Rate | Cap
