"""Two numbers per slot in shared memory: which claim the child holds and which job it runs.

The memory outlives the child, so what a killed child was doing is known without a message per job. A child writes
only its own cell; the agent reads all of them, and clears the cell of a dead one.
"""

import mmap
import os
import tempfile

_WIDTH = 16  # bytes: two 64-bit numbers


def anonymous_file(name: str) -> int:
    """A file descriptor of a file in memory that has no name, so nothing of it can be left behind."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    fd, path = tempfile.mkstemp(prefix=name)
    os.unlink(path)  # noqa: PTH108  (what mkstemp gave)
    return fd


class Cells:
    """The cells of all slots.

    Args:
        slots: how many.
        fd: of the memory, in a process that inherited it; None: make it.
    """

    def __init__(self, slots: int, fd: int | None = None) -> None:
        size = slots * _WIDTH
        self.slots = slots
        if fd is None:
            fd = anonymous_file("zmqtasks-cells")
            os.ftruncate(fd, size)
        self.fd = fd
        self._map = mmap.mmap(fd, size)
        self.words = memoryview(self._map).cast("Q")  # claim of slot 0, number of slot 0, claim of slot 1, …

    def read(self, slot: int) -> tuple[int, int]:
        """(claim, number) of one slot; 0 stands for none."""
        return self.words[2 * slot], self.words[2 * slot + 1]

    def read_all(self) -> list[tuple[int, int]]:
        """The same of all slots."""
        words = self.words.tolist()
        return list(zip(words[::2], words[1::2], strict=True))

    def clear(self, slot: int) -> None:
        """For a new child."""
        self.words[2 * slot] = self.words[2 * slot + 1] = 0

    def close(self) -> None:
        """Give the memory back."""
        self.words.release()
        self._map.close()
        os.close(self.fd)
