"""File descriptors of this process: each connection needs one, and a listener that finds none spins for ever."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

SPARE: Final = 8  # descriptors kept back, so that a connection can still be taken in order to be closed
MARGIN: Final = 32  # for files, pipes and libraries that come later
SHARE: Final = 0.9  # of the limit that may be in use before new connections are turned away
_MOST: Final = 1_048_576  # where the hard limit is "unlimited", kernels still refuse more


def raise_limit() -> int:
    """Raise the soft limit of open files as far as the hard one allows; returns what it is now."""
    import resource  # not at the top: submitters run on Windows, too, which has none

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    while soft != resource.RLIM_INFINITY and wanted > soft:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # macOS refuses more than its kern.maxfilesperproc, which is below "unlimited"
            wanted //= 2
        else:
            return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


def in_use() -> int:
    """How many descriptors are open. O(open ones)."""
    return sum(1 for _ in Path("/dev/fd").iterdir()) - 1  # it was read through one itself


def room() -> int:
    """How many connections may be open at once beside what is open now."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MOST if soft == resource.RLIM_INFINITY else soft
    return max(1, min(int(limit * SHARE), limit - SPARE - MARGIN) - in_use())


class Spares:
    """Descriptors kept back for the moment when there are no others.

    A listener whose `accept` fails for want of one is ready again at once, so the thread that owns it spins. The cure
    is to give one up, take the waiting connections with it and close them: their peers try again later.
    """

    def __init__(self) -> None:
        self._held: list[int] = []
        self._fill()

    def shed(self, listeners: list[socket.socket]) -> int:
        """Take and close the connections that wait at these listeners, none of which blocks; how many it was."""
        self.close()
        count = 0
        try:
            for listener in listeners:
                with contextlib.suppress(OSError):  # none waits any more, or the owner was quicker with the descriptor
                    while True:
                        listener.accept()[0].close()
                        count += 1
        finally:
            self._fill()
        return count

    def _fill(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._held) < SPARE:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Give them up."""
        while self._held:
            os.close(self._held.pop())
