"""The journal on disk: SQLite for records, a file for each large payload, and a head that knows what must be there."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import apsw
import msgspec

from zmqtasks.errors import JournalDamaged, JournalError
from zmqtasks.scheduler.core.records import Record, decode, encode
from zmqtasks.scheduler.journal.blocks import Block, split
from zmqtasks.scheduler.journal.files import Files
from zmqtasks.scheduler.journal.head import Head, Mark, read
from zmqtasks.scheduler.journal.large import Large
from zmqtasks.scheduler.journal.lock import Lock
from zmqtasks.scheduler.journal.store import WAL_BYTES, Row, Store
from zmqtasks.scheduler.journal.troubles import SHORT_OF, meaning
from zmqtasks.scheduler.journal.writer import Drop, Put, Task, Trim, Turn, Writer

logger = logging.getLogger("zmqtasks.scheduler.journal")

AGAIN: Final = 0.1  # seconds until a payload is read again that could not be for want of memory or descriptors
PATIENCE: Final = 5.0  # seconds for the last writes at the end
_ADVICE: Final = "nothing was changed; `zmqtasks repair --data {}` shows what can be done"


class DiskJournal:
    """One journal, held by one process. Read all of `records`, then `start`, then write.

    Attributes:
        path: its directory.
        last: number of the last record that was read.
        waiting: see Journal.
    """

    def __init__(
        self, path: Path, lock: Lock, store: Store, large: Large, files: Files, wake: Callable[[], None]
    ) -> None:
        self.path = path
        self.last = 0
        self._lock, self._store, self._files, self._wake = lock, store, files, wake
        self._blocks: deque[tuple[int, int, int]] = deque()
        self._link = b""
        self._large = large
        self._writer: Writer | None = None
        self._taken = 0
        self._collected: list[Task] = []  # until `flush`, in order
        self.waiting = 0
        self._trim_to = 0
        self._closed = False
        self._unreadable = ""
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._loaded: deque[tuple[int, bytes | None]] = deque()
        self._reader: threading.Thread | None = None

    @classmethod
    def open(
        cls, path: Path, wake: Callable[[], None], *, files: Files | None = None, vfs: str | None = None
    ) -> "DiskJournal":
        """Open a journal, or make a new one.

        Args:
            path: its directory; made if it is not there.
            wake: called, by another thread, when `durable`, `trouble`, `fatal` or `loaded` have changed.
            files: does what is done to plain files.
            vfs: the SQLite VFS to use.

        Raises:
            JournalInUse: another scheduler holds it.
            JournalDamaged, JournalTooNew: see there.
            JournalError: its directory cannot be used.
        """
        files = files or Files()
        try:
            files.make_folder(path)
            lock = files.lock(path / "lock")
        except OSError as error:
            message = f"the journal's directory {path} cannot be used: {error.strerror}; give another --data DIR"
            raise JournalError(message) from None
        try:
            used = _find_database(path, files)
            files.touch(path / "journal.db")
            store = Store(path / "journal.db", version("zmqtasks"), vfs, used=used)
            return cls(path, lock, store, Large(path / "payloads", files), files, wake)
        except (apsw.Error, OSError) as error:
            lock.release()
            said = error.strerror if isinstance(error, OSError) else error
            raise JournalError(f"the journal in {path} cannot be opened: {said}") from None
        except BaseException:
            lock.release()
            raise

    @property
    def started(self) -> bool:
        """Whether it is written to."""
        return self._writer is not None

    # ------------------------------------------------------------------------------------------ what is there

    def records(self) -> Iterator[tuple[int, list[Record]]]:
        """All records, one turn's at a time, with the number of its first. Each is verified before it is told.

        Raises:
            JournalDamaged: some are missing, or are not what was written.
        """
        mark = read(self.path / "head", self._files)
        anchor = self._store.anchor()
        number, link = anchor
        try:
            for row in self._store.rows():
                block = self._verified(row, number, link)
                first = block.first
                for turn in split(block.data):
                    records = decode(turn)
                    yield first, records
                    first += len(records)
                if first != block.last + 1:
                    raise self._damage(block.first, block.last, "the block holds another number of records")
                self._blocks.append((block.first, block.last, len(block.data)))
                number, link = block.last, block.link
                if mark is not None and mark.number == number and mark.link != link:
                    raise self._damage(block.first, number, "they are others than those that the head names")
        except apsw.CorruptError as error:  # SQLite says so of a read that fails, too
            raise self._damage(number + 1, 0, f"{error}, or cannot be read from the disk") from None
        except (apsw.Error, ValueError, msgspec.DecodeError) as error:
            raise self._damage(number + 1, 0, str(error)) from None
        self.last, self._link = number, link
        self._compare(mark, anchor)

    def _verified(self, row: Row, number: int, link: bytes) -> Block:
        block = row.block
        if block.first != number + 1:
            raise self._damage(number + 1, block.first - 1, "they are missing")
        if block.crc != row.crc:
            raise self._damage(block.first, block.last, "their check sum is wrong")
        if block.prev != link:
            raise self._damage(block.first, block.last, "they do not belong to those before them")
        return block

    def _compare(self, mark: Mark | None, anchor: Mark) -> None:
        """What the head says must be there, is."""
        if mark is None:
            if self.last:
                raise self._damage(self.last, 0, "the head is missing, or cannot be read: later ones may be missing")
        elif mark.number > self.last:
            raise self._damage(self.last + 1, mark.number, "they are missing; the head names them")
        elif mark.number < anchor.number:
            raise self._damage(
                anchor.number, 0, f"the head names record {mark.number} as the last: it is that of another journal"
            )

    def _damage(self, first: int, last: int, what: str) -> JournalDamaged:
        those = f"records {first} to {last}: " if last else f"records from {first} on: " if first else ""
        return JournalDamaged(f"the journal in {self.path} is damaged: {those}{what}; {_ADVICE.format(self.path)}")

    def start(
        self,
        live: Mapping[int, int],
        *,
        by_hand: Callable[[], float] | None = None,
        committed: Callable[[], object] | None = None,
        replace: Callable[[], object] = lambda: None,
    ) -> None:
        """Begin to write.

        Args:
            live: the large payloads that are still needed, with their sizes; all others go.
            by_hand: there is to be no thread: `step` writes what waits, at the time that this tells.
            committed: called by whoever writes when `durable` has changed; by default `wake` is.
            replace: what this journal's thread does once the one that calls `commit` is stuck in that.

        Raises:
            JournalDamaged: one of them is missing, or the database cannot be written because it is not sound.
            JournalError: it cannot be written: the disk is full, for one.
        """
        try:
            sizes = self._large.sizes()
        except OSError as error:
            raise JournalError(f"{self._large.path} cannot be read: {error.strerror}; nothing was changed") from None
        for number, size in live.items():
            if sizes.get(number, -1) < size:
                raise JournalDamaged(
                    f"the journal in {self.path} is damaged: payload {number} of {size:,} bytes is missing or short; "
                    f"{_ADVICE.format(self.path)}"
                )
        try:
            self._store.begin()
            self._files.lengthen(self.path / "journal.db-wal", WAL_BYTES)
            head = Head(self.path / "head", self._files, Mark(self.last, self._link))
            self._files.sync_folder(self.path)
        except (apsw.CorruptError, apsw.NotADBError) as error:
            raise self._damage(0, 0, f"its database is not sound: {error}") from None
        except (apsw.Error, OSError) as error:
            message = f"the journal cannot be written: {meaning(error, self._store.errno, self.path)}"
            raise JournalError(message) from None
        clock, pause = (time.monotonic, None) if by_hand is None else (by_hand, lambda _: None)
        self._writer = Writer(
            self._store, head, self._large, self._blocks, self._link, self._wake, clock, pause, committed
        )
        for number in sizes.keys() - live.keys():
            self._collect(Drop(number))
        if by_hand is None:
            self._writer.start(replace)

    def step(self) -> None:
        """Write what waits, of a journal that was started by hand."""
        self.flush()
        self._running.step()

    # ------------------------------------------------------------------------------------------ Journal

    @property
    def _running(self) -> Writer:
        assert self._writer is not None, "the journal was not started"  # noqa: S101
        return self._writer

    @property
    def durable(self) -> int:
        """See Journal."""
        return self._running.durable

    @property
    def size(self) -> int:
        """See Journal."""
        return self._running.size

    @property
    def pending(self) -> int:
        """See Journal."""
        return self._taken - self._running.written

    @property
    def trimming(self) -> bool:
        """See Journal."""
        return self._trim_to > self._running.trimmed

    @property
    def trouble(self) -> str:
        """See Journal."""
        return self._running.trouble

    @property
    def fatal(self) -> str:
        """See Journal."""
        return self._running.fatal or self._unreadable

    def append(self, records: Sequence[Record], *, sync: bool) -> None:
        """See Journal."""
        data = encode(records)
        self._collect(Turn(len(records), data, sync), len(data))

    def _collect(self, task: Task, size: int = 0) -> None:
        self._collected.append(task)
        self._taken += size
        self.waiting += size

    def flush(self) -> None:
        """See Journal."""
        if self._collected:
            self._running.put(self._collected)
            self._collected, self.waiting = [], 0

    def commit(self) -> bool:
        """See Journal."""
        tasks, self._collected, self.waiting = self._collected, [], 0
        return self._running.commit(tasks)

    def work(self) -> bool:
        """See Journal."""
        return self._running.work()

    def store(self, number: int, data: bytes) -> None:
        """See Journal."""
        self._running.unwritten[number] = data
        self._collect(Put(number, data), len(data))

    def load(self, number: int) -> None:
        """See Journal."""
        data = self._running.unwritten.get(number)
        if data is not None:
            self._loaded.append((number, data))
            self._wake()
            return
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, name="journal-reader", daemon=True)
            self._reader.start()
        self._wanted.put(number)

    def _read(self) -> None:
        """A thread of its own: a slow read holds up no commit."""
        try:
            while (number := self._wanted.get()) is not None:
                self._loaded.append((number, self._fetch_patiently(number)))
                self._wake()
        except Exception as error:
            logger.exception("the journal's reader failed", extra={"action": "journal-failed"})
            self._unreadable = f"the journal cannot be read any more: {error}"
            self._wake()

    def _fetch_patiently(self, number: int) -> bytes | None:
        """As `fetch`; where this process has no memory or no descriptors left it is tried again."""
        while True:
            try:
                return self.fetch(number)
            except (OSError, MemoryError) as error:
                if self._closed or (isinstance(error, OSError) and error.errno not in SHORT_OF):
                    raise
            time.sleep(AGAIN)

    def fetch(self, number: int) -> bytes | None:
        """The bytes of a large payload; None: they are damaged or gone. Raises OSError: nobody knows."""
        data = self._large.read(number)
        if data is None:
            path = self._large.path / str(number)
            logger.error("payload %s is damaged or gone", path, extra={"action": "payload-damaged"})
        return data

    def loaded(self) -> list[tuple[int, bytes | None]]:
        """See Journal."""
        if not self._loaded:
            return []
        return [self._loaded.popleft() for _ in range(len(self._loaded))]

    def drop(self, number: int) -> None:
        """See Journal."""
        self._collect(Drop(number))

    def trim(self, upto: int) -> None:
        """See Journal."""
        self._trim_to = upto
        self._collect(Trim(upto))

    def close(self) -> None:
        """See Journal."""
        if self._closed:
            return
        self._closed = True
        self._wanted.put(None)
        if self._reader is not None:
            self._reader.join(PATIENCE)
        if self._writer is None:
            self._store.abandon()
        else:
            self.flush()
            self._writer.close(PATIENCE)
        self._lock.release()

    def abandon(self) -> None:
        """Let go of everything as it is, as if this process had died here; of a journal without a thread."""
        if not self._closed:
            self._closed = True
            self._store.abandon()
            self._lock.release()


def _find_database(path: Path, files: Files) -> bool:
    """Whether there is one with records; one that is gone must not be taken for one that never was."""
    mark = read(path / "head", files)
    if mark is None or not mark.number:
        return False
    database = path / "journal.db"
    try:
        size = files.size(database)
    except FileNotFoundError:
        size = 0
    if not size:
        raise JournalDamaged(
            f"the journal in {path} is damaged: {database.name} with records up to {mark.number} is gone; "
            f"{_ADVICE.format(path)}"
        )
    return True
