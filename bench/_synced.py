"""`python _synced.py FILE scheduler …`: a scheduler in memory that does one bare fsync before each result goes out.

What a journal costs at least: 4 KiB appended to a file and synced, in the place where a commit is, and no journal.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from zmqtasks.cli import main
from zmqtasks.scheduler.core.effects import Send
from zmqtasks.scheduler.daemon import Daemon
from zmqtasks.wire import Results

BYTES = bytes(4096)


def syncing(path: Path) -> None:
    """Have every scheduler of this process do so."""
    file = path.open("ab", buffering=0)
    send = Daemon._send  # noqa: SLF001  (nothing else knows what goes out)

    def send_synced(daemon: Daemon, sends: list[Send]) -> None:
        if any(isinstance(each.message, Results) for each in sends):
            file.write(BYTES)
            os.fsync(file.fileno())
        send(daemon, sends)

    Daemon._send = send_synced  # type: ignore[method-assign]  # noqa: SLF001


if __name__ == "__main__":
    syncing(Path(sys.argv.pop(1)))
    sys.exit(main())
