"""Laws of what is given out: never too often, never too late."""

from collections import Counter
from math import inf

from tests.sim.laws import Broken
from zmqtasks.clock import Now
from zmqtasks.scheduler.core.quotas import LATE_SHARE, Cap
from zmqtasks.scheduler.core.records import Assigned, Record, Submitted
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import Spec

Key = tuple[str | bytes, str]


class PolicyLaws:
    """Watches what is given out. Where submissions of one key differ in their rates, the highest of them is the law."""

    def __init__(self) -> None:
        self._specs: dict[tuple[bytes, int], tuple[Spec, str | bytes]] = {}
        self._rates: dict[Key, tuple[float, int]] = {}
        self._due: dict[Key, float] = {}
        self._given: list[tuple[Spec, str | bytes]] = []  # what was given out in this turn

    def check(self, state: State) -> None:
        """After a turn: of what was given out in it no task has more with workers than may run at once."""
        given, self._given = self._given, []
        if not given:
            return
        most = {(task, ""): cap for task, cap in state.limits.caps.items() if cap}
        most |= {cap.key[1:]: cap.declared for cap in state.limits.all() if isinstance(cap, Cap) and cap.declared}
        held = [job.submission for worker in state.workers.values() for job in worker.held.values()]
        running = Counter(_cap(one.spec, one.target.key, state) for one in held)
        for key in {_cap(spec, target, state) for spec, target in given} & most.keys():
            if running[key] > most[key]:
                told = f"{running[key]} jobs of {key} are with workers, {most[key]} may be"
                raise Broken("at once", f"{told}, and one was given out")

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
        self._given.append((spec, target))
        if spec.rate:
            key = target, spec.rate_key
            rate, burst = self._rates[key]
            due = self._due.get(key, -inf)
            earliest = due - (burst - 1 + LATE_SHARE) / rate - 1e-6
            if now.mono < earliest:
                raise Broken("rate", f"job {counter} started {earliest - now.mono:.6f} s too early for {rate}/s")
            self._due[key] = max(due, now.mono) + 1 / rate


def _cap(spec: Spec, target: str | bytes, state: State) -> Key | None:
    """Which cap a job counts for: its own, else what workers say of its task."""
    if spec.cap:
        return target, spec.cap_key
    return (target, "") if target in state.limits.caps else None
