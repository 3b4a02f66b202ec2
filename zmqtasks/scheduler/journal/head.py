"""The head: a small file that names the last record which is surely on the disk.

SQLite opens a WAL with a flipped bit cleanly, as if what follows had never been committed. Only something outside of it
can tell that records are missing. The head is written after each synced commit, in two slots by turns, so that a torn
write leaves the other one whole; it is synced ten times a second, and never says more than the journal holds.
"""

import contextlib
import struct
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

from zmqtasks.scheduler.journal.blocks import LINK_BYTES
from zmqtasks.scheduler.journal.files import Files

SLOT: Final = 2048  # bytes from one to the other: never in one sector
EVERY: Final = 0.1  # seconds between syncs
_MAGIC: Final = b"zmqtasks"
_FORM: Final = struct.Struct(f"<8sQQ{LINK_BYTES}s")  # magic, how often it was written, number, link
_CRC: Final = struct.Struct("<I")


class Mark(NamedTuple):
    """The last record that is surely there, and the link of its block."""

    number: int
    link: bytes


class Head:
    """The open head file.

    Args:
        path: where it is, or is to be.
        files: does what is done.
        mark: what it says now.
    """

    def __init__(self, path: Path, files: Files, mark: Mark) -> None:
        self._slots = files.open_slots(path)
        self._times = 0
        self.mark = mark
        for _ in range(2):  # whatever was in the slots before; one of them is whole at any time
            self.write(mark)
            self._slots.sync()

    def write(self, mark: Mark) -> None:
        """Say that all up to this record is there."""
        self.mark = mark
        self._times += 1
        body = _FORM.pack(_MAGIC, self._times, *mark)
        self._slots.write(SLOT * (self._times % 2), body + _CRC.pack(crc32(body)))

    def sync(self) -> None:
        """Have it on the disk."""
        self._slots.sync()

    def close(self) -> None:
        """Have it on the disk, and let go."""
        try:
            self._slots.sync()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without a sync."""
        self._slots.close()


def read(path: Path, files: Files) -> Mark | None:
    """What a head says; None: there is none, or none that can be read."""
    try:
        data = files.read(path)
    except OSError:
        return None
    found: list[tuple[int, int, bytes]] = []
    for offset in (0, SLOT):
        body = data[offset : offset + _FORM.size]
        with contextlib.suppress(struct.error):
            (crc,) = _CRC.unpack_from(data, offset + _FORM.size)
            magic, times, number, link = _FORM.unpack(body)
            if magic == _MAGIC and crc == crc32(body):
                found.append((number, times, link))
    if not found:
        return None
    number, _, link = max(found)  # the number never goes back
    return Mark(number, link)
