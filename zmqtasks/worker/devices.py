"""What a worker has for its jobs, and which of its devices each gets. No clock, no environment.

The scheduler counts, and gives a worker no more than it has. What it cannot know is what the worker still runs although
it was told to drop it, and how shares of devices lie: two halves of different GPUs are no whole one. So what does not
fit here waits here, until what runs is over.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from zmqtasks.resources import GPU, UNIT, Amounts, show


@dataclass(slots=True, frozen=True)
class Grant:
    """What one job has while it runs. `devices`: places of its GPUs; `share`: of each, in 1/10,000."""

    resources: Amounts
    devices: tuple[int, ...] = ()
    share: int = UNIT


class Devices:
    """Resources of one worker.

    Args:
        resources: all that it has.
        names: of its GPUs, for CUDA_VISIBLE_DEVICES.

    Attributes:
        free: what no job has now.
    """

    def __init__(self, resources: Amounts, names: tuple[str, ...]) -> None:
        self._total = dict(resources)
        self.free = dict(resources)
        self._names = names
        self._left = [UNIT] * len(names)  # of each device

    def ever(self, resources: Amounts) -> bool:
        """Whether a job that needs these could run here."""
        return all(amount <= self._total.get(name, 0) for name, amount in resources)

    def fits(self, resources: Amounts) -> bool:
        """Whether a job that needs these could run now."""
        return (
            all(amount <= self.free.get(name, 0) for name, amount in resources)
            and self._choose(dict(resources).get(GPU, 0))[0] is not None
        )

    def grant(self, resources: Amounts) -> Grant:
        """What a job gets; it must fit."""
        devices, share = self._choose(dict(resources).get(GPU, 0))
        assert devices is not None, f"nothing is left of {self} for {show(resources)}"  # noqa: S101
        for name, amount in resources:
            self.free[name] -= amount
        for place in devices:
            self._left[place] -= share
        return Grant(resources, devices, share)

    def _choose(self, amount: int) -> tuple[tuple[int, ...] | None, int]:
        """Devices for so much: whole ones, or a share of the fullest that has room for it."""
        if not amount or not self._names:
            return (), UNIT
        left = self._left
        if amount < UNIT:
            place = min((i for i, has in enumerate(left) if has >= amount), key=left.__getitem__, default=None)
            return (None if place is None else (place,)), amount
        whole = [i for i, has in enumerate(left) if has == UNIT][: amount // UNIT]
        return (tuple(whole) if len(whole) == amount // UNIT else None), UNIT

    def give_back(self, grant: Grant) -> None:
        """The job does not run any more."""
        for name, amount in grant.resources:
            self.free[name] += amount
        for place in grant.devices:
            self._left[place] += grant.share

    def names(self, grant: Grant) -> list[str]:
        """The names of its devices."""
        return [self._names[place] for place in grant.devices]

    def check(self, grants: Iterable[Grant]) -> None:
        """Raises AssertionError if what is granted and what is free are not all there is."""
        free, left = dict(self._total), [UNIT] * len(self._left)
        for grant in grants:
            for name, amount in grant.resources:
                free[name] -= amount
            for place in grant.devices:
                left[place] -= grant.share
        assert free == self.free, f"resources: {free} are free, counted {self.free}"  # noqa: S101
        assert left == self._left, f"devices: {left} are left, counted {self._left}"  # noqa: S101
        assert min([*free.values(), *left], default=0) >= 0, f"resources: {free} and {left} are overdrawn"  # noqa: S101

    def __str__(self) -> str:
        return show(tuple(self._total.items())) if self._total else "no resources"
