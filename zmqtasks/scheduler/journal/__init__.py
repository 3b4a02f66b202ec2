"""The durable log behind the core: `append` facts, learn how far they are durable, keep large payloads beside them."""

from collections.abc import Sequence
from sys import maxsize
from typing import Protocol

from zmqtasks.scheduler.core.records import Record


class Journal(Protocol):
    """What the daemon needs of a journal. Records are numbered 1, 2, 3 … over all lives of the scheduler.

    Nothing here but `commit` and `work` blocks on a disk, and nothing is done out of order: what is stored is durable
    before the records that are appended after it, and what is dropped or trimmed goes only when those appended before
    are durable.

    Attributes:
        durable: number of the last record that is as durable as was asked for.
        size: bytes of the records that it keeps.
        pending: bytes of what it has taken and not yet written.
        waiting: bytes of these that wait for `flush`.
        trimming: records that are needed no more are still there.
        trouble: why it cannot write just now, for people, when it will go on by itself once that is mended; else "".
        fatal: why it will never write again: the scheduler must end; else "".
    """

    @property
    def durable(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def trimming(self) -> bool: ...
    @property
    def trouble(self) -> str: ...
    @property
    def fatal(self) -> str: ...

    def append(self, records: Sequence[Record], *, sync: bool) -> None:
        """Take these facts; `durable` reaches them some time after `flush`.

        `sync`: they must outlive the machine, not only the process.
        """

    def flush(self) -> None:
        """Begin to write all that was taken."""

    def commit(self) -> bool:
        """As `flush`, but where that is quick by this thread, which waits for the disk then.

        False: it took so long that another thread took the place of this one, which must do what that did: `work`.
        """

    def work(self) -> bool:
        """Write what is flushed until nothing comes any more (False), or until this thread replaces another (True)."""

    def store(self, number: int, data: bytes) -> None:
        """Keep a large payload under a new number."""

    def load(self, number: int) -> None:
        """Fetch a large payload; `loaded` will yield it."""

    def loaded(self) -> list[tuple[int, bytes | None]]:
        """The payloads that were fetched since the last call; None: its bytes are damaged or gone."""

    def drop(self, number: int) -> None:
        """A large payload is needed no more."""

    def trim(self, upto: int) -> None:
        """Records up to this number are needed no more."""

    def close(self) -> None:
        """Write what was taken, as far as that is possible in a few seconds, and let go of everything."""


class MemoryJournal:
    """Holds nothing up, and keeps large payloads in memory. An accepted job lives as long as this process."""

    def __init__(self) -> None:
        self.durable = maxsize  # every fact is at once, as far as memory is
        self.size = self.pending = self.waiting = 0
        self.trimming = False
        self.trouble = self.fatal = ""
        self._payloads: dict[int, bytes] = {}
        self._loaded: list[tuple[int, bytes | None]] = []

    def append(self, records: Sequence[Record], *, sync: bool) -> None:
        """Nothing is kept."""

    def flush(self) -> None:
        """Nothing waits."""

    def commit(self) -> bool:
        """Nothing waits."""
        return True

    def work(self) -> bool:
        """Nothing will come."""
        return False

    def store(self, number: int, data: bytes) -> None:
        """Keep it in memory."""
        self._payloads[number] = data

    def load(self, number: int) -> None:
        """Fetched at once."""
        self._loaded.append((number, self._payloads[number]))

    def loaded(self) -> list[tuple[int, bytes | None]]:
        """See Journal."""
        loaded, self._loaded = self._loaded, []
        return loaded

    def drop(self, number: int) -> None:
        """Forget it."""
        self._payloads.pop(number, None)

    def trim(self, upto: int) -> None:
        """Nothing is kept anyway."""

    def close(self) -> None:
        """Nothing is left to be done."""
