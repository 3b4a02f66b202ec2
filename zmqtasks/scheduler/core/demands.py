"""Which lines wait for resources, and which workers have these free.

Lines whose jobs need the same, with the same priority, are one demand of their profile. They stand in its index only
while one of its workers has so much free, and a slot; so a line that waits for a GPU holds up nobody, and dispatch
never looks at it. When the resources of a worker change, only the demands of its profiles are looked at.

What is large would wait for ever where small ones always fit. So the demand that has waited longest has a keeper: the
worker that comes closest gets no other job of the same or a lower priority that takes of the same resources, until the
demand had its turn. Then it is the turn of the next one.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import chain, islice
from typing import Final

from zmqtasks.resources import Amounts
from zmqtasks.scheduler.core.model import Demand, Line, Profile, Worker, covers

ABLE: Final = 1  # groups of workers in a team, as bits of `Worker.groups`
HUNGRY: Final = 2
_IDLE: Final = 16  # demands without a line that a profile remembers, with the workers that are able
_LOOK_AHEAD: Final = 8  # workers tried for the one that comes closest
_WANTING: Final = 64  # demands looked at for the one that has waited longest

Index = Callable[[Profile, Line], None]


class Demands:
    """All of them.

    Args:
        put, take_out: put a line into the index of a profile, and take it out.

    Attributes:
        wanting: those with lines and nobody who could be given one, in the order in which that began.
        kept: those that have a keeper.
    """

    def __init__(self, put: Index, take_out: Index) -> None:
        self._put = put
        self._take_out = take_out
        self.wanting: OrderedDict[Demand, None] = OrderedDict()
        self.kept: dict[Demand, None] = {}

    def enter(self, profile: Profile, line: Line) -> None:
        """A line has jobs that may start."""
        demand = self._of(profile, line)
        demand.lines[line] = None
        if demand.fitting:
            self._put(profile, line)
        else:
            self.wanting[demand] = None

    def leave(self, profile: Profile, line: Line) -> None:
        """It has none any more."""
        demand = self._of(profile, line)
        del demand.lines[line]
        if demand.fitting:
            self._take_out(profile, line)
        if not demand.lines:
            self.wanting.pop(demand, None)

    def _of(self, profile: Profile, line: Line) -> Demand:
        resources, priority = line.need.resources, line.level
        demand = profile.demands.get((resources, priority))
        if demand is None:
            if len(profile.demands) >= _IDLE:
                self._sweep(profile)
            demand = profile.demands[resources, priority] = Demand(profile, resources, priority)
            for worker in chain.from_iterable(team.able for team in profile.able):
                self._refit(demand, worker)
        return demand

    @staticmethod
    def _sweep(profile: Profile) -> None:
        """Forget the oldest that have no line and no keeper; those with one stand behind the others then."""
        demands = profile.demands
        for _ in range(min(len(demands), 2 * _IDLE)):
            key, demand = demands.popitem(last=False)
            if demand.lines or demand.keeper is not None:
                demands[key] = demand
            elif len(demands) < _IDLE:
                return

    def refit(self, worker: Worker) -> None:
        """What it may be given, or has free, has changed."""
        if worker.team is not None:
            for profile in worker.team.profiles:
                for demand in profile.demands.values():
                    self._refit(demand, worker)

    def _refit(self, demand: Demand, worker: Worker) -> None:
        able = bool(worker.groups & ABLE) and may_have(worker, demand)
        if able:
            demand.able[worker] = None
        else:
            demand.able.pop(worker, None)
        fitted = bool(demand.fitting)
        if able and worker.groups & HUNGRY:
            demand.fitting[worker] = None
        else:
            demand.fitting.pop(worker, None)
        if bool(demand.fitting) != fitted and demand.lines:
            turn = self._take_out if fitted else self._put
            for line in demand.lines:
                turn(demand.profile, line)
            if fitted:
                self.wanting[demand] = None
            else:
                self.wanting.pop(demand, None)

    def drop(self, profile: Profile) -> None:
        """The last worker of a profile is gone."""
        for demand in profile.demands.values():
            self.wanting.pop(demand, None)
            self.let_go(demand)

    # -------------------------------------------------------------------------------------------- keepers

    def let_go(self, demand: Demand) -> Worker | None:
        """It has no keeper any more; returns who was it, for whom `refit` is due."""
        worker, demand.keeper = demand.keeper, None
        if worker is not None:
            worker.kept = demand.profile.kept = None
            del self.kept[demand]
        return worker

    def keep(self) -> list[Worker]:
        """Every profile with demands that want has a keeper for one: the most urgent, of these the oldest.

        Returns those for whom `refit` is due.
        """
        first: dict[Profile, Demand] = {}
        for demand in islice(self.wanting, _WANTING):
            other = first.get(demand.profile)
            if other is None or demand.priority > other.priority:
                first[demand.profile] = demand
        changed: list[Worker] = []
        for profile, demand in first.items():
            before = profile.kept
            if before is not None:
                if before.priority >= demand.priority:
                    continue
                changed += filter(None, [self.let_go(before)])
            worker = _closest(demand)
            if worker is not None:
                worker.kept, demand.keeper, profile.kept = demand, worker, demand
                self.kept[demand] = None
                changed.append(worker)
        return changed

    def stale(self) -> list[Worker]:
        """Nobody is kept for what waits no more, or by somebody who cannot help; returns whom `refit` is due for."""
        changed: list[Worker] = []
        for demand in list(self.kept):
            worker = demand.keeper
            if not demand.lines or worker is None or not worker.groups & ABLE:
                changed += filter(None, [self.let_go(demand)])
        return changed


def may_have(worker: Worker, demand: Demand) -> bool:
    """Whether it has so much free that is not kept for others."""
    kept = worker.kept
    if kept is not None and kept is not demand and demand.priority <= kept.priority and _meet(kept, demand):
        return False
    return covers(worker.free, demand.resources)


def _meet(one: Demand, other: Demand) -> bool:
    """Whether they take of the same resources."""
    names = {name for name, _ in one.resources}
    return any(name in names for name, _ in other.resources)


def _closest(demand: Demand) -> Worker | None:
    """Who needs only a free slot, else who lacks least of what is needed; of these who has the least to do."""
    profile = demand.profile
    some = islice(chain(demand.able, chain.from_iterable(team.able for team in profile.able)), 2 * _LOOK_AHEAD)
    free = [worker for worker in some if worker.kept is None]
    return min(free, key=lambda worker: (lacks(worker, demand.resources), worker.load / worker.slots), default=None)


def lacks(worker: Worker, resources: Amounts) -> float:
    """How much it lacks of what is needed, as the largest share of it; 0: nothing."""
    return max((amount - min(amount, worker.free.get(name, 0))) / amount for name, amount in resources)


def saves_slot(worker: Worker) -> bool:
    """Whether it has the resources that are kept free, and only lacks a slot: then it must not fill up."""
    kept = worker.kept
    return kept is not None and covers(worker.free, kept.resources)


def take(worker: Worker, resources: Amounts, jobs: int = 1) -> None:
    """It holds more jobs that take these."""
    for name, amount in resources:
        worker.free[name] = worker.free.get(name, 0) - jobs * amount


def give_back(worker: Worker, resources: Amounts) -> None:
    """It holds one job less that takes these."""
    for name, amount in resources:
        worker.free[name] = worker.free.get(name, 0) + amount


def room(worker: Worker, resources: Amounts) -> int:
    """How many jobs that need these it could be given."""
    return min(worker.free.get(name, 0) // amount for name, amount in resources)
