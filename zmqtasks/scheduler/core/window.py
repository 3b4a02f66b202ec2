"""How many jobs a worker holds: as many as are back soon, however fast scheduler, network, agent and children are.

The horizon bounds the measured work that a worker holds. What a micro-job takes besides it, nobody measures one by
one: messages that wait for the scheduler's turn, for the agent's, for a core. So one job at a time is timed on its
whole way, there and back, and the window follows the delay, as congestion controls that look at delays do (Brakmo and
Peterson, *TCP Vegas*, 1995): where jobs are away for longer than their work and the bare way explain, they stand in
some queue, and a shorter queue would do the same in less time. Then nothing that comes after them waits for long.

The bare way is the shortest that was seen. Ways get longer, too: where jobs are late though the window is at its least,
it is not the window that makes them late, and that is the bare way from then on.
"""

from collections.abc import Container
from math import inf
from typing import Final

_FIRST: Final = 256  # jobs of a worker that was never timed
LEAST: Final = 100  # messages of fewer would cost more than the jobs in them
TIMED: Final = LEAST // 2  # jobs: whoever holds fewer is not timed
_PER_SLOT: Final = 48  # nor fewer than these: a claim that runs, one that is next, one on its way, of 16 jobs each


class Window:
    """What one worker may hold. Args: slots, offered: of the worker; it takes so many jobs at most.

    Attributes:
        size: jobs; `least`, `most`: its bounds. More may be held for a while: it shrinks, and nothing is taken back.
        number: of the assignment that is timed; 0: none.
    """

    __slots__ = (
        "_before", "_expected", "_floor", "_full", "_overtaken", "_since", "least", "most", "number", "size",
    )  # fmt: skip

    def __init__(self, slots: int = 1, offered: int = LEAST) -> None:
        self.least = max(LEAST, _PER_SLOT * slots)
        self.size = max(_FIRST, self.least)
        self.most = max(self.size, offered)
        self.number = 0
        self._floor = inf  # seconds of the bare way, without the work
        # of the one that is timed:
        self._before = 0  # jobs held when it was sent, with it
        self._overtaken = 0  # jobs that are back by when it is given up
        self._full = False  # the window kept them so few then
        self._since = 0.0  # monotonic time at which it was sent
        self._expected = 0.0  # seconds of work before its end

    def sent(
        self, number: int, held: Container[int], count: int, behind: int, work: float, done: int, mono: float
    ) -> None:
        """Time this assignment, unless another one is still being timed.

        The first of those that are sent together: what it meets on its way was there before, and is not what a
        window that has just grown sent all at once.

        Args:
            number: of the assignment.
            held: numbers that the worker holds; `count`: how many, of which `behind` came after this one.
            work: seconds until that job should be over.
            done: jobs that came back from the worker so far. One that twice as many have overtaken as were before it
                runs for long, and is not waited for.
            mono: monotonic time, in seconds.
        """
        if self.number not in held or done > self._overtaken:
            self.number = number
            self._before = count - behind
            self._overtaken = done + 2 * self._before
            self._full = 4 * count >= 3 * self.size
            self._since = mono
            self._expected = work

    def returned(self, target: float, mono: float) -> None:
        """The job that was timed is back: more may be held, or less.

        Args:
            target: seconds that jobs should stand in queues at most; as long as the bare way, where that is more: ways
                differ as they are long.
            mono: monotonic time, in seconds.
        """
        self.number = 0
        way = max(0.0, mono - self._since - self._expected)
        self._floor = min(self._floor, way)
        target = max(target, self._floor)
        queued = way - self._floor
        if queued > target:
            if self._before <= self.least == self.size:
                self._floor = way
            size = int(self._before * max(0.5, (self._floor + target) / way))  # Little's law
            self.size = max(min(size, self.size), self.least)
        elif self._full:  # else it was not what kept them few
            grown = 2 * self.size if 2 * queued < target else self.size + self.size // 8
            self.size = min(grown, self.most)
