"""Looking for news for a moment before sleeping, where the last waits say that it pays.

A thread that sleeps has to be woken, and on a virtual machine often a whole core with it: 50 µs and more, as much as
the work that it is woken for. So whoever expects an answer at once goes on asking, lets others run between two
questions (`sched_yield`), and learns from each wait whether the next news may come in that time. The rule is that of
the kernel's own polling for halted guests (Linux, *The KVM halt polling system*): short waits make it look for longer,
a long one ends that.
"""

from typing import Final

from zmqtasks.cpus import cores

FIRST: Final = 0.00005  # seconds for which it looks after the first wait that was short


class BusyPoll:
    """How long waits of one kind look for news without sleeping.

    Args:
        most: seconds at most; 0: never at all. On one core, where whoever brings the news could not run, neither.

    Attributes:
        seconds: of the next wait.
    """

    __slots__ = ("most", "seconds")

    def __init__(self, most: float) -> None:
        self.most = most if cores() > 1 else 0.0
        self.seconds = 0.0

    def waited(self, seconds: float, *, news: bool) -> None:
        """A wait has taken so long. `news`: it has ended with some, and not for another reason."""
        if seconds > self.most:
            self.seconds = 0.0
        elif news:
            self.seconds = min(self.most, max(FIRST, 2 * self.seconds))
