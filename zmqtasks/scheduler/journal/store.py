"""The blocks in SQLite: one row each, written by one connection, synced with each commit that asks for it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from zmqtasks.errors import JournalDamaged, JournalTooNew
from zmqtasks.scheduler.journal.blocks import ORIGIN, Block
from zmqtasks.scheduler.journal.head import Mark
from zmqtasks.scheduler.journal.migrations import VERSION, migrate

PAGE: Final = 4096  # bytes; a lone commit writes one or two pages: larger ones make it slower, and a batch no faster
WAL_PAGES: Final = 1_000  # of the WAL, after which it goes into the main file
WAL_BYTES: Final = 32 + (WAL_PAGES + 50) * (PAGE + 24)  # that it has then, about
WAL_LEFT: Final = 8 * 1024 * 1024  # bytes that the WAL's file may keep after that
VACUUM: Final = 256  # pages given back to the file system at a time
FREE: Final = 4_096  # free pages that are kept for what comes
SLICE: Final = 4 * 1024 * 1024  # bytes deleted in one transaction

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE block (last INTEGER PRIMARY KEY, first INTEGER NOT NULL, crc INTEGER NOT NULL,
                    prev BLOB NOT NULL, data BLOB NOT NULL);
"""
_TYPES: Final = (int, int, bytes, bytes, int)


def is_row(values: tuple[Any, ...]) -> bool:
    """Whether (first, last, prev, data, crc) are of the kinds that a row of ours has."""
    return tuple(map(type, values)) == _TYPES


class Row(NamedTuple):
    """A block as it stands there, and the check sum that stands beside it."""

    block: Block
    crc: int


class _Wal:
    """How many pages the WAL holds. Not a part of the store: the connection that tells it must not hold its owner."""

    def __init__(self) -> None:
        self.pages = 0

    def grown(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        """After each commit."""
        self.pages = pages
        return apsw.SQLITE_OK


class Store:
    """The database. Not to be used by two threads at once.

    Args:
        path: of the database; made if it is not there.
        release: of zmqtasks, for the messages of other releases.
        vfs: name of the SQLite VFS to use; None: the platform's.
        used: it was written to before: an empty one is not taken for a new one.

    Raises:
        JournalDamaged: it is no database of ours, or cannot be read.
        JournalTooNew: a later release wrote it.
    """

    def __init__(self, path: Path, release: str, vfs: str | None = None, *, used: bool = False) -> None:
        self.path = path
        self._release = release
        self._synced = True
        self._smaller = False  # the file has pages at its end that are to go
        self._wal = _Wal()
        try:
            self._connection = apsw.Connection(str(path), vfs=vfs)
            self._prepare(used=used)
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:
            message = f"{path} is no journal, is damaged or cannot be read: {error}; `zmqtasks repair` shows more"
            raise JournalDamaged(message) from None

    def _prepare(self, *, used: bool) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode=EXCLUSIVE")  # nobody else may; and no shared memory is needed
        if not self._get("SELECT count(*) FROM sqlite_schema WHERE name IN ('meta', 'block')"):
            if used:
                message = "it holds no records"
                raise apsw.CorruptError(message)
            run(f"PRAGMA page_size={PAGE}")
            run("PRAGMA auto_vacuum=INCREMENTAL")
            self._use_wal()
            with self._transaction():
                run(_SCHEMA)
                self._put(version=VERSION, release=self._release, number=0, link=ORIGIN, created=time.time())
        self._use_wal()
        run("PRAGMA synchronous=FULL")
        self._connection.set_wal_hook(self._wal.grown)  # instead of checkpoints by SQLite: see `checkpoint`
        run(f"PRAGMA journal_size_limit={WAL_LEFT}")
        found, written = self._meta("version"), self._meta("release")
        if not isinstance(found, int):
            message = "it does not say of which version it is"
            raise apsw.CorruptError(message)
        if found > VERSION:
            raise JournalTooNew(
                f"{self.path} was written by zmqtasks {written} (journal version {found}); this is zmqtasks "
                f"{self._release}, which reads versions up to {VERSION}: install that release again"
            )
        if found < VERSION:
            with self._transaction():
                migrate(self._connection, found)
                self._put(version=VERSION)

    def _use_wal(self) -> None:
        """Whoever made the database may have found no room for that, and died before it said so."""
        mode = self._get("PRAGMA journal_mode=WAL")
        if mode != "wal":
            message = f"its write-ahead log cannot be made (SQLite stays with {mode!r}); is the disk full?"
            raise apsw.CantOpenError(message)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """All or nothing. Not apsw's own way, by savepoints: of an end that finds no room it tells another error."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _get(self, query: str, *values: Any) -> Any:
        return self._connection.execute(query, values).get

    def _meta(self, key: str) -> Any:
        return self._get("SELECT value FROM meta WHERE key = ?", key)

    def _put(self, **values: Any) -> None:
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    @property
    def errno(self) -> int:
        """Of the last error of the operating system."""
        return self._connection.system_errno

    def anchor(self) -> Mark:
        """The last record that was trimmed, and the link of its block."""
        number, link = self._meta("number"), self._meta("link")
        if not isinstance(number, int) or not isinstance(link, bytes):
            raise JournalDamaged(f"{self.path} does not say where it begins; `zmqtasks repair` shows more")
        return Mark(number, link)

    def begin(self) -> None:
        """It was verified, and is written to from now on."""
        self._put(release=self._release, opened=time.time())

    def begin_at(self, anchor: Mark) -> None:
        """What comes first follows this record."""
        self._put(number=anchor.number, link=anchor.link)

    def rows(self) -> Iterator[Row]:
        """All blocks, in order. Errors of SQLite come as they are.

        Raises:
            ValueError: a row holds what no row of ours can hold.
        """
        query = "SELECT first, last, prev, data, crc FROM block ORDER BY last"
        for row in self._connection.execute(query):
            if not is_row(row):
                message = f"the row of record {row[1]} is garbled"
                raise ValueError(message)
            first, last, prev, data, crc = row
            yield Row(Block(first, last, prev, data), crc)

    def insert(self, block: Block, *, sync: bool) -> None:
        """Write a block: one transaction."""
        self._ask_for(sync=sync)
        self._connection.execute(
            "INSERT INTO block (last, first, crc, prev, data) VALUES (?, ?, ?, ?, ?)",
            (block.last, block.first, block.crc, block.prev, block.data),
        )

    def checkpoint(self) -> None:
        """Take the WAL into the main file if it has grown long.

        SQLite would do so by itself after a commit, and keep to itself that an fsync has failed.
        """
        if self._wal.pages >= WAL_PAGES:
            self._connection.wal_checkpoint()
            self._wal.pages = 0  # the next commit begins it anew

    def sync(self, number: int) -> None:
        """Have all that was written on the disk."""
        self._ask_for(sync=True)
        self._put(synced=number)

    def _ask_for(self, *, sync: bool) -> None:
        if sync != self._synced:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
            self._synced = sync

    def trim(self, last: int) -> None:
        """Delete the blocks up to this record; the one after them says what it is bound to."""
        self._ask_for(sync=True)
        with self._transaction():
            link = self._get("SELECT prev FROM block WHERE last > ? ORDER BY last LIMIT 1", last)
            self._connection.execute("DELETE FROM block WHERE last <= ?", (last,))
            self._put(number=last, link=link)

    def give_back(self) -> bool:
        """Make the file smaller by some pages, if many are free; whether there may be more."""
        if self._get("PRAGMA freelist_count") > FREE:
            self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM})").fetchall()
            self._smaller = True
        elif self._smaller:  # only a checkpoint cuts the file
            self._connection.wal_checkpoint()
            self._smaller = False
        return self._smaller

    def close(self) -> None:
        """Let go of it; what is in the WAL goes into the main file."""
        self._connection.close()

    def abandon(self) -> None:
        """Let go of it, and write nothing more: what is in the WAL stays there."""
        with contextlib.suppress(apsw.ConnectionClosedError):
            self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._connection.close(force=True)
