"""What may go wrong with a disk: what passes by itself, and what does not."""

import errno
import os
from pathlib import Path
from typing import Final

import apsw

from zmqtasks.scheduler.journal.files import SyncError

# What fails so changed nothing, and works again once somebody has made room.
SHORT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_PASSING: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, *SHORT_OF})
_CORRUPT: Final = (apsw.CorruptError, apsw.NotADBError)


class Passing(Exception):
    """It cannot be written now; it can be tried again."""


class Fatal(Exception):
    """What is on the disk is not known any more: nothing may be tried again, and nobody may be told anything."""


def meaning(error: apsw.Error | OSError, number: int, folder: Path) -> Exception:
    """What an error is: Passing or Fatal.

    Args:
        error: what was raised.
        number: errno of the operating system, as SQLite tells it; 0: none.
        folder: of the journal.
    """
    if isinstance(error, OSError):
        return _of_file(error, folder)
    return _of_database(error, number, folder / "journal.db")


def _of_file(error: OSError, path: Path) -> Exception:
    text = f"{path}: {error.strerror or error}"
    if error.errno in _PASSING and not isinstance(error, SyncError):
        return Passing(text)
    return Fatal(text)


def _of_database(error: apsw.Error, number: int, path: Path) -> Exception:
    said = os.strerror(number) if number else str(error)
    text = f"{path}: {said}"
    extended = getattr(error, "extendedresult", 0)
    synced = extended in (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)
    if isinstance(error, apsw.FullError):
        return Passing(f"{path}: {os.strerror(errno.ENOSPC)}")
    if isinstance(error, apsw.IOError) and number in _PASSING and not synced:
        return Passing(text)
    if isinstance(error, apsw.ReadOnlyError):
        return Passing(f"{path}: {os.strerror(errno.EROFS)}")
    if isinstance(error, _CORRUPT):
        return Fatal(f"{path}: {error}")
    return Fatal(f"{text} ({error})")
