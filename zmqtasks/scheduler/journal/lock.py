"""One scheduler a journal: the lock is held as long as its process lives."""

import fcntl
import os
from pathlib import Path

from zmqtasks.errors import JournalInUse


class Lock:
    """The lock of a journal's directory.

    Raises:
        JournalInUse: another process holds it.
        OSError: it cannot be opened or locked.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._file, 32, 0).decode("ascii", "replace").strip()
            os.close(self._file)
            message = (
                f"the journal in {path.parent} is used by another scheduler"
                f"{f' (pid {owner})' if owner else ''}; stop it, or give another --data DIR"
            )
            raise JournalInUse(message) from None
        except OSError:
            os.close(self._file)
            raise
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next one have it."""
        os.close(self._file)
