"""Laws of what is given out: never too often, never too late."""

from math import inf

from tests.sim.laws import Broken
from zmqtasks.clock import Now
from zmqtasks.scheduler.core.quotas import LATE_SHARE
from zmqtasks.scheduler.core.records import Assigned, Record, Submitted
from zmqtasks.wire import Spec

Key = tuple[str | bytes, str]


class PolicyLaws:
    """Watches what is given out. Where submissions of one key differ in their rates, the highest of them is the law."""

    def __init__(self) -> None:
        self._specs: dict[tuple[bytes, int], tuple[Spec, str | bytes]] = {}
        self._rates: dict[Key, tuple[float, int]] = {}
        self._due: dict[Key, float] = {}

    def forget(self) -> None:
        """The scheduler has no journal, and begins anew."""
        self._due.clear()

    def take(self, record: Record, now: Now) -> None:
        """One fact, when it happens."""
        if isinstance(record, Submitted):
            target = record.function or record.task
            for counter in range(record.first, record.first + len(record.args)):
                self._specs[record.prefix, counter] = record.spec, target
            if record.spec.rate:
                key = target, record.spec.rate_key
                rate, burst = self._rates.get(key, (0.0, 1))
                higher = max(rate, record.spec.rate)
                self._rates[key] = higher, max(burst, record.spec.burst)
                ahead = self._due.get(key, now.mono) - now.mono
                if ahead > 0.0:  # what has started counts as many intervals of the new rate
                    self._due[key] = now.mono + ahead * rate / higher
        elif isinstance(record, Assigned):
            for prefix, counters in record.jobs:
                for counter in counters:
                    self._started(*self._specs[prefix, counter], counter, now)

    def _started(self, spec: Spec, target: str | bytes, counter: int, now: Now) -> None:
        if 0.0 < spec.expires < now.wall:
            raise Broken("expiry", f"job {counter} was given out {now.wall - spec.expires:.3f} s after its time")
        if spec.rate:
            key = target, spec.rate_key
            rate, burst = self._rates[key]
            due = self._due.get(key, -inf)
            earliest = due - (burst - 1 + LATE_SHARE) / rate - 1e-6
            if now.mono < earliest:
                raise Broken("rate", f"job {counter} started {earliest - now.mono:.6f} s too early for {rate}/s")
            self._due[key] = max(due, now.mono) + 1 / rate
