"""A disk that remembers every write and sync, so that a loss of power can be tried after each of them.

What was written is there for whoever reads, as in a page cache. What is there after a crash is another question:

- the process alone dies: all of it, the last write perhaps in part;
- the power fails: what was synced, and of the rest any writes in any order, torn at 512 bytes.

A name that was made, or taken away, is sure once its directory was synced; SQLite does that for its own files (its
unix VFS syncs the directory with the first sync of a WAL), so here the first sync of a file of SQLite makes its name
sure, too.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

import apsw

from zmqtasks.scheduler.journal.files import Files, SyncError

LENGTH: Final = 32 + 20 * (4096 + 24)  # bytes that a WAL has from the start, so that it is soon longer
SECTOR: Final = 512
_OURS: Final = apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


@dataclass(slots=True)
class Change:
    """What was done to a file and is not synced yet: bytes from `offset` on, or (no bytes) its length."""

    offset: int
    data: bytes | None


@dataclass(slots=True)
class File:
    """One file.

    Attributes:
        data: what whoever reads sees.
        sure: what the disk holds for sure.
        changes: what lies between the two.
        named: whether its name is there for sure.
    """

    data: bytearray = field(default_factory=bytearray)
    sure: bytes = b""
    changes: list[Change] = field(default_factory=list)
    named: bool = False

    def write(self, offset: int, data: bytes) -> None:
        """Seen at once."""
        put(self.data, offset, data)
        self.changes.append(Change(offset, bytes(data)))

    def truncate(self, size: int) -> None:
        """Seen at once."""
        resize(self.data, size)
        self.changes.append(Change(size, None))

    def sync(self) -> None:
        """On the disk."""
        self.sure = bytes(self.data)
        self.changes.clear()

    def after(self, random: Random, mode: str) -> bytes:
        """What is there after the power has failed."""
        if mode == "all":
            return bytes(self.data)
        data = bytearray(self.sure)
        upto = random.randint(0, len(self.changes)) if mode == "prefix" else len(self.changes)
        for change in self.changes[:upto] if mode != "none" else ():
            if mode == "any" and random.random() < 0.5:
                continue
            if change.data is None:
                resize(data, change.offset)
            elif mode == "any" and random.random() < 0.5:
                self._tear(data, change.offset, change.data, random)
            else:
                put(data, change.offset, change.data)
        return bytes(data)

    @staticmethod
    def _tear(data: bytearray, offset: int, new: bytes, random: Random) -> None:
        """Some sectors of a write."""
        at = 0
        while at < len(new):
            end = min(len(new), at + SECTOR - (offset + at) % SECTOR)
            if random.random() < 0.5:
                put(data, offset + at, new[at:end])
            at = end


def _folder(name: str) -> str:
    return name.rpartition("/")[0]


def put(data: bytearray, offset: int, new: bytes) -> None:
    """Write into a buffer as into a file."""
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(new)] = new


def resize(data: bytearray, size: int) -> None:
    """Cut or lengthen a buffer as a file."""
    del data[size:]
    data.extend(bytes(size - len(data)))


class Disk:
    """All files of a machine.

    Attributes:
        steps: how often something was done to it.
        on_step: called before each step, with what is to be done: "write", "sync" …; may raise an error.
    """

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.removed: dict[str, File] = {}  # their directory was not synced since
        self.steps = 0
        self.on_step: Callable[[str, str], None] = lambda what, name: None

    def step(self, what: str, name: str) -> None:
        """Something is done now."""
        self.steps += 1
        self.on_step(what, name)

    def make(self, name: str) -> File:
        """A new, empty file, or the one that is there."""
        file = self.files.get(name)
        if file is None:
            file = self.files[name] = File()
        return file

    def remove(self, name: str) -> None:
        """Its name goes; surely only with the next sync of its directory."""
        file = self.files.pop(name, None)
        if file is not None and file.named:
            self.removed[name] = file

    def sync_folder(self, folder: str) -> None:
        """The names in it are sure."""
        for name, file in self.files.items():
            if _folder(name) == folder:
                file.named = True
        for name in [name for name in self.removed if _folder(name) == folder]:
            del self.removed[name]

    def crash(self, random: Random, mode: str) -> "Disk":
        """The disk that the next life finds. `mode`: "all" (the process alone died), or what is left of what was not
        synced: "none", "prefix" (of each file), "any"."""
        after = Disk()
        for name, file in self.files.items():
            if file.named or mode == "all" or (mode != "none" and random.random() < 0.5):
                after.put(name, file.after(random, mode))
        for name, file in self.removed.items() if mode != "all" else ():
            if name not in after.files and (mode == "none" or random.random() < 0.5):
                after.put(name, file.after(random, mode))
        return after

    def put(self, name: str, data: bytes) -> None:
        """A file is there, for sure."""
        self.files[name] = File(bytearray(data), data, [], named=True)

    def copy(self) -> "Disk":
        """All that is seen now, for sure."""
        after = Disk()
        for name, file in self.files.items():
            after.put(name, bytes(file.data))
        return after


class Slots:
    """A small file that is written in place."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk, self._name = disk, name
        disk.make(name)

    def write(self, offset: int, data: bytes) -> None:
        """See files.Slots."""
        self._disk.step("write", self._name)
        self._disk.files[self._name].write(offset, data)

    def sync(self) -> None:
        """See files.Slots."""
        _sync(self._disk, self._name)
        self._disk.files[self._name].sync()

    def close(self) -> None:
        """See files.Slots."""


def _sync(disk: Disk, name: str) -> None:
    try:
        disk.step("sync", name)
    except OSError as error:
        raise SyncError(error.errno, error.strerror) from None


class NoLock:
    """Nobody else is there."""

    def release(self) -> None:
        """See lock.Lock."""


class SimFiles(Files):
    """Plain files on such a disk."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def write(self, path: Path, data: bytes) -> None:
        disk, name = self.disk, str(path)
        disk.step("create", name)
        file = disk.make(name)
        if file.data:
            file.truncate(0)
        disk.step("write", name)
        file.write(0, data)
        _sync(disk, name)
        file.sync()

    def touch(self, path: Path) -> None:
        self.disk.make(str(path))

    def sync_folder(self, path: Path) -> None:
        _sync(self.disk, str(path))
        self.disk.sync_folder(str(path))

    def read(self, path: Path) -> bytes:
        file = self.disk.files.get(str(path))
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return bytes(file.data)

    def size(self, path: Path) -> int:
        return len(self.read(path))

    def names(self, path: Path) -> list[str]:
        return [name.rpartition("/")[2] for name in self.disk.files if _folder(name) == str(path)]

    def remove(self, path: Path) -> None:
        self.disk.step("remove", str(path))
        self.disk.remove(str(path))

    def rename(self, path: Path, new: Path) -> None:
        self.disk.step("rename", str(path))
        self.disk.files[str(new)] = self.disk.files.pop(str(path))

    def lengthen(self, path: Path, size: int) -> None:
        """As far as some commits reach: others change the file's size."""
        file = self.disk.files[str(path)]
        missing = min(size, LENGTH) - len(file.data)
        if missing > 0:
            self.disk.step("write", str(path))
            file.write(len(file.data), bytes(missing))
            _sync(self.disk, str(path))
            file.sync()

    def make_folder(self, path: Path) -> None:
        """Directories are always there."""

    def open_slots(self, path: Path) -> Any:
        return Slots(self.disk, str(path))

    def lock(self, path: Path) -> Any:
        return NoLock()


class SimVFS(apsw.VFS):
    """SQLite's files on such a disk."""

    def __init__(self, name: str, disk: Disk) -> None:
        self.disk, self.name = disk, name
        super().__init__(name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        path = name if isinstance(name, str) or name is None else name.filename()
        flags[1] = flags[0]
        return SimFile(self.disk, path, flags[0])

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return pathname in self.disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        self.disk.step("remove", filename)
        self.disk.remove(filename)
        if syncdir:
            self.disk.sync_folder(_folder(filename))

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class SimFile:
    """An open file of SQLite."""

    def __init__(self, disk: Disk, name: str | None, flags: int) -> None:
        self._disk, self._name = disk, name or ""
        self._ours = bool(flags & _OURS)
        self._file = disk.make(name) if name else File()

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._file.data[offset : offset + amount])

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._disk.step("write", self._name)
        self._file.write(offset, bytes(data))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.step("truncate", self._name)
        self._file.truncate(size)

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self._disk.step("sync", self._name)
        except OSError as error:
            failed = apsw.IOError(error.strerror)
            failed.extendedresult = apsw.SQLITE_IOERR_FSYNC
            raise failed from None
        self._file.sync()
        self._file.named = self._file.named or self._ours

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._file.data)

    def xLock(self, level: int) -> None:  # noqa: N802
        """Nobody else is there."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Nobody else is there."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return 4096

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def xClose(self) -> None:  # noqa: N802
        """Nothing to be done."""
