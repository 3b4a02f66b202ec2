"""What a worker tells about its host, and what it asks of it."""

import ctypes
import fcntl
import os
import resource
import signal
import socket
import sys
import threading
from importlib import metadata

from zmqtasks.config import MIB

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
SINGLE_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def release() -> str:
    """The installed version of zmqtasks."""
    try:
        return metadata.version("zmqtasks")
    except metadata.PackageNotFoundError:
        return "unknown"


def threads() -> int:
    """How many threads this process has, those of C libraries included where the system tells them."""
    try:
        return sum(1 for _ in os.scandir("/proc/self/task"))
    except OSError:
        return threading.active_count()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux; elsewhere nothing happens).

    Args:
        parent: pid that the parent is expected to have; if it is dead already, this process ends at once.
    """
    _death_signal(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def tether(fd: int, group: int, number: int) -> None:
    """Have the kernel send a signal to a process group when the other end of `fd` closes (Linux; elsewhere nothing).

    That is when the last process that has it open ends, however it does, and nobody need be awake to see it. It works
    as long as some process has this end open. A stranger that gets the group's number later is safe: the kernel
    remembers the group, not its number.

    Args:
        fd: an end of a pipe or of a socket pair through which nothing ever goes.
        group: process group, which exists.
        number: of the signal; SIGKILL, too.
    """
    if sys.platform == "linux":
        try:
            fcntl.fcntl(fd, fcntl.F_SETOWN, -group)
            fcntl.fcntl(fd, fcntl.F_SETSIG, number)
            fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
        except OSError:
            pass  # the group is gone already, or the kernel is another one behind Linux's face


def _death_signal(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: a slot needs one, a connection some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # macOS tells a hard limit that it does not grant; the soft one must do


def keep_freed_memory() -> None:
    """Have glibc keep some freed memory instead of giving it back at once.

    It begins by mapping each block above 128 KiB anew, and the page faults of that cost more than all the copies of a
    1 MB payload (an echo ran at 167 MB/s, with this at 415). These are values that it reaches by itself where larger
    blocks are freed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return  # another C library
    mallopt(_M_MMAP_THRESHOLD, 16 * MIB)
    mallopt(_M_TRIM_THRESHOLD, 32 * MIB)


def child_environment() -> dict[str, str]:
    """The environment of the fork server: one slot is one core, so numeric libraries start no threads of their own.

    What the user has set stays.
    """
    return {**dict.fromkeys(SINGLE_THREAD_VARIABLES, "1"), **os.environ}


def how_it_ended(status: int) -> str:
    """A wait status for people: "was killed by SIGKILL", "ended with exit code 3"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
