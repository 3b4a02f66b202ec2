"""How many jobs a worker holds: as many as are back soon, however fast scheduler, network, agent and children are.

The horizon bounds the measured work that a worker holds. What a micro-job takes besides it, nobody measures one by
one: messages that wait for the scheduler's turn, for the agent's, for a core. So one job at a time is timed on its
whole way, there and back, and the window follows the delay, as congestion controls that look at delays do (Brakmo and
Peterson, *TCP Vegas*, 1995): where jobs are away for longer than their work and the bare way explain, they stand in
some queue, and a shorter queue would do the same in less time. Then nothing that comes after them waits for long.
"""

from collections.abc import Container
from math import inf
from typing import Final

_FIRST: Final = 256  # jobs of a worker that was never timed
LEAST: Final = 100  # messages of fewer would cost more than the jobs in them
TIMED: Final = LEAST // 2  # jobs: whoever holds fewer is not timed, but for the first message of all
_PER_SLOT: Final = 48  # nor fewer than these: a claim that runs, one that is next, one on its way, of 16 jobs each


class Window:
    """What one worker may hold. Args: slots, offered: of the worker; it takes so many jobs at most.

    Attributes:
        size: jobs.
        number: of the assignment that is timed; 0: none.
    """

    __slots__ = ("_before", "_expected", "_floor", "_full", "_least", "_most", "_since", "number", "size")

    def __init__(self, slots: int = 1, offered: int = LEAST) -> None:
        self._least = max(LEAST, _PER_SLOT * slots)
        self._most = max(self._least, offered)
        self.size = max(_FIRST, self._least)
        self.number = 0
        self._floor = inf  # seconds of the shortest way seen, without the work
        self._before = 0  # jobs held when the one that is timed was sent, with it
        self._full = False  # the window kept them so few then
        self._since = 0.0
        self._expected = 0.0

    def sent(self, number: int, held: Container[int], count: int, behind: int, work: float, mono: float) -> None:
        """Time this assignment, unless another one is still being timed.

        The first of those that are sent together: what it meets on its way was there before, and is not what a
        window that has just grown sent all at once.

        Args:
            number: of the assignment.
            held: numbers that the worker holds; `count`: how many, of which `behind` came after this one.
            work: seconds until that job should be over.
            mono: monotonic time, in seconds.
        """
        if self.number not in held:
            self.number = number
            self._before = count - behind
            self._full = 4 * count >= 3 * self.size
            self._since = mono
            self._expected = work

    def returned(self, target: float, mono: float) -> None:
        """The job that was timed is back: more may be held, or less.

        Args:
            target: seconds that jobs should stand in queues at most.
            mono: monotonic time, in seconds.
        """
        self.number = 0
        way = max(0.0, mono - self._since - self._expected)
        self._floor = min(self._floor, way)
        queued = way - self._floor
        if queued > target:
            size = int(self._before * max(0.5, (self._floor + target) / way))  # Little's law
            self.size = max(min(size, self.size), self._least)
        elif self._full:  # else it was not what kept them few
            grown = 2 * self.size if 2 * queued < target else self.size + self.size // 8
            self.size = min(grown, self._most)
