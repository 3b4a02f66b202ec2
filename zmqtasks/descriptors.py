"""File descriptors of this process: each connection needs one, and a listener that finds none spins for ever."""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Final

SPARE: Final = 8  # descriptors kept back, so that a connection can still be taken in order to be closed
MARGIN: Final = 32  # for files, pipes and libraries that come later
SHARE: Final = 0.9  # of the limit that may be in use before new connections are turned away
_CLONE_FILES: Final = 0x400
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


class Doorman:
    """Takes and closes the connections that wait at a listener when this process has no descriptor left for them.

    A listener whose `accept` fails for want of one is ready again at once, so the thread that owns it spins. The
    doorman is a thread with a table of descriptors of its own (Linux: ``unshare(CLONE_FILES)``), in which there is
    always room, and which nobody else can use up. It runs no code but its own: what it opened or closed elsewhere
    would be another descriptor than meant.

    Args:
        listener: a descriptor of the listener that the doorman may keep.

    Attributes:
        turned_away: connections so far.
        able: whether the system lets it have its own table; None: not known yet.
    """

    def __init__(self, listener: int) -> None:
        self._listener = listener
        self._called = threading.Event()
        self._over = False
        self.turned_away = 0
        self.able: bool | None = None
        self._thread = threading.Thread(target=self._run, name="zmqtasks doorman", daemon=True)
        self._thread.start()

    def call(self) -> None:
        """Connections wait, and there is no descriptor for them."""
        self._called.set()

    def close(self) -> None:
        """End the thread; the listener is the caller's again."""
        self._over = True
        self._called.set()
        self._thread.join()

    def _run(self) -> None:
        self.able = _own_table({0, 1, 2, self._listener})
        while self.able:
            self._called.wait()
            self._called.clear()
            if self._over:
                return
            self._clear_out()

    def _clear_out(self) -> None:
        listener = socket.socket(fileno=self._listener)
        try:
            while True:
                listener.accept()[0].close()
                self.turned_away += 1
        except OSError:  # none waits any more
            pass
        finally:
            listener.detach()


def _own_table(kept: set[int]) -> bool:
    """Give this thread a table of descriptors of its own with nothing but `kept`; whether the system lets us."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # what wakes the main thread is not in that table
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_FILES) != 0:
            return False  # some containers forbid it
        for fd in [int(name) for name in os.listdir("/proc/thread-self/fd")]:  # noqa: PTH208  (names, not paths)
            if fd not in kept:
                with contextlib.suppress(OSError):  # the one that read the directory
                    os.close(fd)
    except (OSError, AttributeError):
        return False
    return True


class Spares:
    """Descriptors kept back for the moment when there are no others, where there can be no `Doorman`.

    One is given up, and the waiting connections are taken with it and closed: their peers try again later. The thread
    that owns the listener may be quicker, so this is second best.
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
