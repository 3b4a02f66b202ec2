"""The durable log behind the core: `append` facts, learn how far they are durable, keep large payloads.

There is one implementation yet, `MemoryJournal`, which counts: a scheduler keeps its facts in memory and is as durable
as its process. The core and the daemon already wait for it wherever they will wait for a disk.
"""

from collections.abc import Sequence
from typing import Protocol

from zmqtasks.scheduler.core.records import Record


class Journal(Protocol):
    """What the daemon needs of a journal."""

    durable: int  # number of the last record that is durable

    def append(self, records: Sequence[Record]) -> None:
        """Take these facts; `durable` will reach them."""

    def store(self, number: int, data: bytes) -> None:
        """Keep a large payload."""

    def load(self, number: int) -> None:
        """Fetch a large payload; `loaded` will yield it."""

    def loaded(self) -> list[tuple[int, bytes]]:
        """The payloads that were fetched since the last call."""

    def drop(self, number: int) -> None:
        """A large payload is needed no more."""


class MemoryJournal:
    """Counts the facts and keeps large payloads in memory. An accepted job lives as long as this process."""

    def __init__(self) -> None:
        self.durable = 0
        self._payloads: dict[int, bytes] = {}
        self._loaded: list[tuple[int, bytes]] = []

    def append(self, records: Sequence[Record]) -> None:
        """Every fact is durable at once, as far as memory is."""
        self.durable += len(records)

    def store(self, number: int, data: bytes) -> None:
        """Keep it in memory."""
        self._payloads[number] = data

    def load(self, number: int) -> None:
        """Fetched at once."""
        self._loaded.append((number, self._payloads[number]))

    def loaded(self) -> list[tuple[int, bytes]]:
        """See Journal."""
        loaded, self._loaded = self._loaded, []
        return loaded

    def drop(self, number: int) -> None:
        """Forget it."""
        self._payloads.pop(number, None)
