"""A journal that does not open: what is damaged, what is left, and how to go on with that.

`examine` changes nothing. `mend` keeps a copy of what was there, and writes a journal of the blocks that are whole:
those before the first damage (`CUT`), or all of them (`SKIP`). What the others told is lost: jobs that were accepted
there are gone, jobs that ended there run again.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec

from zmqtasks import clock
from zmqtasks.config import SchedulerSettings
from zmqtasks.errors import JournalError, JournalTooNew
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.records import Record, decode
from zmqtasks.scheduler.core.restore import RestoreError
from zmqtasks.scheduler.journal.blocks import ORIGIN, Block, split
from zmqtasks.scheduler.journal.files import Files
from zmqtasks.scheduler.journal.head import Head, Mark, read
from zmqtasks.scheduler.journal.large import HEADER_BYTES, sizes_in
from zmqtasks.scheduler.journal.lock import Lock
from zmqtasks.scheduler.journal.migrations import VERSION
from zmqtasks.scheduler.journal.store import Row, Store, is_row
from zmqtasks.scheduler.journal.wal import resealed

CUT: Final = "cut"
SKIP: Final = "skip"
START: Final = Mark(0, ORIGIN)
_NAMES: Final = ("journal.db", "journal.db-wal", "head")


@dataclass(slots=True, frozen=True)
class Damage:
    """Records `first … last` (0: nobody knows how many) that are not there as they were written."""

    first: int
    last: int
    what: str

    def __str__(self) -> str:
        where = f"records {self.first:,} to {self.last:,}" if self.last else f"records from {self.first:,} on"
        return f"{where}: {self.what}" if self.first else self.what


@dataclass(slots=True, frozen=True)
class Left:
    """What a scheduler would find in a journal of some blocks.

    Attributes:
        records, unfinished, results: how many.
        lost: payloads that it would miss: their jobs end with PayloadLost.
        error: why it would not start with them; "": it would.
    """

    records: int
    unfinished: int = 0
    results: int = 0
    lost: tuple[tuple[int, int], ...] = ()
    error: str = ""


@dataclass(slots=True)
class Examination:
    """A journal as it was found.

    Attributes:
        path: its directory.
        anchor: where it begins.
        head: what must be there; None: nobody knows.
        blocks: those that are whole, in order.
        damages: all that is wrong, in order.
    """

    path: Path
    anchor: Mark = START
    head: Mark | None = None
    blocks: list[Block] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)

    @property
    def last(self) -> int:
        """Number of the last record that is whole."""
        return self.blocks[-1].last if self.blocks else self.anchor.number

    def chosen(self, how: str) -> list[Block]:
        """The blocks that a mended journal holds."""
        bad = min((damage.first for damage in self.damages if damage.first), default=0)
        if how == SKIP or not bad:
            return self.blocks
        return [block for block in self.blocks if block.last < bad]

    def left(self, how: str) -> Left:
        """What a scheduler would find in a journal that was mended so."""
        blocks = self.chosen(how)
        records = sum(block.last - block.first + 1 for block in blocks)
        core = Core(SchedulerSettings(), Identity(0, version("zmqtasks"), durable=True))
        first = self.anchor.number + 1
        try:
            for turn in _turns(blocks):
                core.restore(first, turn)
                first += len(turn)
            live = core.begin(clock.now(), Effects())
        except RestoreError as error:
            return Left(records, error=str(error))
        sizes = sizes_in(self.path / "payloads", Files())
        lost = tuple((number, size) for number, size in live.items() if sizes.get(number, -1) < size)
        return Left(records, core.state.open, core.state.results, lost)


def examine(path: Path) -> Examination:
    """Look at a journal that no scheduler works on; nothing is changed.

    Raises:
        JournalInUse: a scheduler works on it.
        JournalTooNew: a later release wrote it.
        JournalError: there is none, or it cannot be read at all.
    """
    files = Files()
    if not (path / "head").exists() and not (path / "journal.db").exists():
        raise JournalError(f"there is no journal in {path}; name its directory with --data DIR")
    lock = _locked(path, files)
    try:
        head = read(path / "head", files)
        found = _looked(Examination(path, head=head), path / "journal.db")
        if head is not None and found.last < head.number:
            found = _looked_into_wal(found)
        return found
    except OSError as error:
        raise JournalError(f"the journal in {path} cannot be read: {error.strerror}") from None
    finally:
        lock.release()


def _locked(path: Path, files: Files) -> Lock:
    try:
        return files.lock(path / "lock")
    except OSError as error:
        raise JournalError(f"the journal in {path} cannot be locked: {error.strerror}") from None


def _looked_into_wal(found: Examination) -> Examination:
    """SQLite ends a WAL at the first check sum that is wrong: what stands behind it is seen in a copy without that."""
    path = found.path
    with contextlib.suppress(FileNotFoundError), tempfile.TemporaryDirectory(prefix=".examined-", dir=path) as folder:
        wal = resealed((path / "journal.db-wal").read_bytes())
        copy = Path(folder) / "journal.db"
        shutil.copyfile(path / "journal.db", copy)
        Path(f"{copy}-wal").write_bytes(wal)
        again = _looked(Examination(path, head=found.head), copy)
        if again.last > found.last:
            what = f"a check sum in {copy.name}-wal is wrong: a scheduler sees nothing behind record {found.last:,}"
            again.damages.insert(0, Damage(0, 0, what))
            return again
    return found


def _looked(found: Examination, database: Path) -> Examination:
    rows: list[Row | int] = []
    if not database.exists() or not database.stat().st_size:
        found.damages.append(Damage(0, 0, f"{database.name} is gone"))
    else:
        connection = _opened(database)
        try:
            rows = _read_all(connection, found)
        finally:
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close(force=True)
    _sort_out(found, rows)
    _compare(found)
    return found


def _opened(database: Path) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    except apsw.Error as error:
        raise JournalError(f"{database} cannot be opened: {error}") from None
    return connection


def _read_all(connection: apsw.Connection, found: Examination) -> list[Row | int]:
    """All rows that can be reached, in order; of one that cannot be read, only its last record's number."""
    try:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
    except apsw.Error as error:
        found.damages.append(Damage(0, 0, f"where it begins cannot be read ({error})"))
        meta = {}
    written = meta.get("version", VERSION)
    if isinstance(written, int) and written > VERSION:
        raise JournalTooNew(
            f"{found.path} was written by zmqtasks {meta.get('release')} (journal version {written}): "
            "use that release's `zmqtasks repair`"
        )
    number, link = meta.get("number"), meta.get("link")
    if isinstance(number, int) and isinstance(link, bytes):
        found.anchor = Mark(number, link)
    keys: set[int] = set()
    for order, sign in (("ASC", ">"), ("DESC", "<")):
        keys.update(_keys(connection, order, sign, found))
    return [_row(connection, key) for key in sorted(keys)]


def _keys(connection: apsw.Connection, order: str, sign: str, found: Examination) -> Iterator[int]:
    """The rows' keys from one end on, as far as the table can be followed from there."""
    where, key = "", 0
    while True:
        query = f"SELECT last FROM block {where} ORDER BY last {order} LIMIT 1"  # noqa: S608  (our own words)
        try:
            (key,) = next(connection.execute(query, (key,) if where else ()))
        except StopIteration:
            return
        except (apsw.Error, TypeError) as error:
            damage = Damage(0, 0, f"the table of records is broken ({error})")
            if damage not in found.damages:
                found.damages.append(damage)
            return
        yield key
        where = f"WHERE last {sign} ?"


def _row(connection: apsw.Connection, key: int) -> Row | int:
    try:
        row = connection.execute("SELECT first, last, prev, data, crc FROM block WHERE last = ?", (key,)).fetchone()
    except apsw.Error:
        return key
    return Row(Block(*row[:4]), row[4]) if row is not None and is_row(row) else key


def _sort_out(found: Examination, rows: Sequence[Row | int]) -> None:
    """Which blocks are whole, and what is wrong between them."""
    number, link = found.anchor
    if not number and rows:  # where it begins may not be known: then it is where the first row says
        first = rows[0]
        if isinstance(first, Row) and first.block.first > 1 and any(not d.first for d in found.damages):
            number, link = first.block.first - 1, first.block.prev
            found.anchor = Mark(number, link)
    known = True  # `link` is that of the block before
    for row in rows:
        last = row if isinstance(row, int) else row.block.last
        first = number + 1 if isinstance(row, int) else row.block.first
        if first != number + 1:
            found.damages.append(Damage(number + 1, first - 1, "they are missing"))
            known = False
        wrong = "they cannot be read" if isinstance(row, int) else _wrong(row, link if known else None)
        if wrong or isinstance(row, int):
            found.damages.append(Damage(first, last, wrong))
            known = False
        else:
            found.blocks.append(row.block)
            link, known = row.block.link, True
        number = last


def _wrong(row: Row, link: bytes | None) -> str:
    """What is wrong with a block; "": nothing. `link`: of the one before, where it is known."""
    block = row.block
    if block.crc != row.crc:
        return "their check sum is wrong"
    if link is not None and block.prev != link:
        return "they do not belong to those before them"
    try:
        count = sum(len(decode(turn)) for turn in split(block.data))
    except (ValueError, msgspec.DecodeError) as error:
        return f"they cannot be understood ({error})"
    return "" if count == block.last - block.first + 1 else "their number is another"


def _compare(found: Examination) -> None:
    """With the head."""
    last = max([found.last, *(damage.last for damage in found.damages)])
    if found.head is None:
        if last:
            found.damages.append(Damage(0, 0, "the head is missing, or cannot be read: later records may be missing"))
    elif found.head.number > last:
        found.damages.append(Damage(last + 1, found.head.number, "they are missing; the head names them"))
    elif found.head.number < found.anchor.number:
        what = f"the head names record {found.head.number:,}: it is that of another journal"
        found.damages.append(Damage(0, 0, what))
    elif any(block.last == found.head.number and block.link != found.head.link for block in found.blocks):
        found.damages.append(Damage(found.head.number, 0, "they are others than those that the head names"))


def _turns(blocks: Sequence[Block]) -> Iterator[list[Record]]:
    for block in blocks:
        for turn in split(block.data):
            yield decode(turn)


# ---------------------------------------------------------------------------------------------- mending


def mend(found: Examination, how: str) -> Path:
    """Write the journal anew, of the blocks that are whole; returns the directory with what was there before.

    Args:
        found: what `examine` has said, of a journal that nobody has touched since.
        how: CUT or SKIP.

    Raises:
        JournalError: what is left contradicts itself, or it cannot be written; what was there is as it was.
        JournalInUse: a scheduler works on it.
    """
    path, files = found.path, Files()
    left = found.left(how)
    if left.error:
        raise JournalError(f"what would be left contradicts itself: {left.error}; try --{CUT if how == SKIP else SKIP}")
    lock = _locked(path, files)
    try:
        before = _keep_copy(path, files)
        mark = _write(found, found.chosen(how), files)
        _exchange(path, files)
        (path / "head").unlink(missing_ok=True)
        Head(path / "head", files, mark).close()
        for number, size in left.lost:
            with (path / "payloads" / str(number)).open("wb") as file:  # no payload: it is told to be lost
                file.truncate(size + HEADER_BYTES)
        files.sync_folder(path)
        return before
    except (OSError, apsw.Error) as error:
        raise JournalError(f"the journal in {path} cannot be mended: {error}") from None
    finally:
        lock.release()


def _exchange(path: Path, files: Files) -> None:
    """The new database takes the place of the old one and its WAL; where that fails all is as it was."""
    wal, aside = path / "journal.db-wal", path / "journal.db-wal.old"
    had = wal.exists()
    if had:
        files.rename(wal, aside)
        files.sync_folder(path)
    try:
        files.rename(path / "journal.db.new", path / "journal.db")
    except OSError:
        if had:
            files.rename(aside, wal)
        raise
    files.sync_folder(path)
    files.remove(aside)


def _keep_copy(path: Path, files: Files) -> Path:
    """All that is there, beside it; large payloads are linked, not copied."""
    stamp = time.strftime("before-repair-%Y%m%d-%H%M%S")
    names = (stamp, *(f"{stamp}-{count}" for count in range(2, 1_000)))  # twice in one second
    copy = next(path / name for name in names if not (path / name).exists())
    files.make_folder(copy / "payloads")
    files.make_folder(path / "payloads")
    for name in _NAMES:
        if (path / name).exists():
            shutil.copy2(path / name, copy / name)
            with (copy / name).open("rb") as file:
                os.fsync(file.fileno())
    for name in files.names(path / "payloads"):
        os.link(path / "payloads" / name, copy / "payloads" / name)
    files.sync_folder(copy / "payloads")
    files.sync_folder(copy)
    return copy


def _write(found: Examination, blocks: Sequence[Block], files: Files) -> Mark:
    """A new database of these blocks, numbered without gaps and linked anew; returns its last record."""
    new = found.path / "journal.db.new"
    for name in (new, Path(f"{new}-wal")):
        files.remove(name)
    files.touch(new)
    store = Store(new, version("zmqtasks"))
    number, link = found.anchor
    store.begin_at(found.anchor)
    for old in blocks:
        block = Block(number + 1, number + old.last - old.first + 1, link, old.data)
        store.insert(block, sync=False)
        store.checkpoint()
        number, link = block.last, block.link
    store.sync(number)
    store.close()
    return Mark(number, link)


def as_dict(found: Examination) -> dict[str, Any]:
    """An examination for machines."""
    return {
        "path": str(found.path),
        "first": found.anchor.number + 1,
        "last": found.last,
        "damages": [{"first": d.first, "last": d.last, "what": d.what} for d in found.damages],
        **{how: msgspec.to_builtins(found.left(how)) for how in (CUT, SKIP)},
    }
