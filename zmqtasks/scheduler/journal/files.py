"""The few things that the journal does to plain files, in one place, so that a test can stand in for the disk."""

import os
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Final

from zmqtasks.scheduler.journal.lock import Lock
from zmqtasks.scheduler.journal.places import kind

_IN_PLACE: Final = frozenset({"ext3", "ext4", "tmpfs"})  # file systems that never copy on write
_PLENTY: Final = 256  # times as much must be free before a file is lengthened


class SyncError(OSError):
    """What was written may be on the disk or not: nobody knows, and asking again gives a wrong answer."""


class Files:
    """Files by their path. Whoever writes says when it is to be durable."""

    def write(self, path: Path, data: bytes) -> None:
        """Make a file of these bytes, and have them on the disk. Its name is there only after `sync_folder`."""
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
            _sync(os.fsync, file)
        finally:
            os.close(file)

    def touch(self, path: Path) -> None:
        """Make an empty file that only its owner may look into, unless it is there."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def sync_folder(self, path: Path) -> None:
        """Have the names of a directory on the disk."""
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _sync(os.fsync, folder)
        finally:
            os.close(folder)

    def read(self, path: Path) -> bytes:
        """All of a file."""
        return path.read_bytes()

    def size(self, path: Path) -> int:
        """Bytes of a file."""
        return path.stat().st_size

    def names(self, path: Path) -> list[str]:
        """What a directory holds."""
        return [entry.name for entry in path.iterdir()]

    def remove(self, path: Path) -> None:
        """Take a file away; that it is not there is no error."""
        path.unlink(missing_ok=True)

    def rename(self, path: Path, new: Path) -> None:
        """A file gets the name of another, which goes; sure after `sync_folder`."""
        path.replace(new)

    def make_folder(self, path: Path) -> None:
        """A directory that only its owner may look into, and those above it; their names are on the disk."""
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            self.sync_folder(folder.parent)

    def lock(self, path: Path) -> Lock:
        """Hold a directory by its lock file. Raises JournalInUse."""
        return Lock(path)

    def lengthen(self, path: Path, size: int) -> None:
        """Zeros behind the end of a file, up to this size, where a sync is cheaper without a change of size.

        On ext4 an fdatasync of bytes that were written over takes 200 µs, and of those behind the end 310: those change
        the file's size, which goes through the file system's own journal. A help, not a need: where it cannot be, it is
        not. Raises SyncError.
        """
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            missing, disk = size - os.fstat(file).st_size, os.fstatvfs(file)
            if missing > 0 and kind(path) in _IN_PLACE and disk.f_bavail * disk.f_frsize > missing * _PLENTY:
                with suppress(OSError):
                    os.write(file, bytes(missing))
                _sync(os.fsync, file)
        finally:
            os.close(file)

    def open_slots(self, path: Path) -> "Slots":
        """A small file that is written again and again."""
        return Slots(path, mapped=kind(path) in _IN_PLACE)


class Slots:
    """A small open file that is written again and again.

    Where the file system writes in place it is written in memory that it shares with the page cache: a `pwrite` would
    change the file's times, which every fsync of another file on that disk then has to write, too (90 of 480 µs of a
    lone commit on ext4). Elsewhere, with copy on write, that memory cannot be had when the disk is full, and the kernel
    says so by SIGBUS: seen on btrfs.

    Args:
        path: made if it is not there.
        mapped: write in memory.
    """

    BYTES: Final = 4096

    def __init__(self, path: Path, *, mapped: bool) -> None:
        self._closed = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        missing = self.BYTES - os.fstat(self._file).st_size
        if missing > 0:  # written, not only sized: there must be room for it on the disk
            os.pwrite(self._file, bytes(missing), self.BYTES - missing)
        self._map = mmap(self._file, self.BYTES) if mapped else None

    def write(self, offset: int, data: bytes) -> None:
        """Write in place; it is durable after `sync`."""
        if self._map is None:
            os.pwrite(self._file, data, offset)
        else:
            self._map[offset : offset + len(data)] = data

    def sync(self) -> None:
        """Have it on the disk."""
        _sync(os.fsync, self._file)

    def close(self) -> None:
        """Let go of it; once more does nothing."""
        if not self._closed:
            self._closed = True
            if self._map is not None:
                self._map.close()
            os.close(self._file)


def _sync(call: Callable[[int], None], file: int) -> None:
    try:
        call(file)
    except OSError as error:
        raise SyncError(error.errno, error.strerror) from None
