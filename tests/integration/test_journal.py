"""The journal on real files: what is appended is there again, and what is not as it was written is refused."""

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from tests.golden import make_journal
from tests.helpers.processes import BOUND, until
from zmqtasks import clock
from zmqtasks.config import SchedulerSettings
from zmqtasks.errors import JournalDamaged, JournalError, JournalInUse, JournalTooNew
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.records import Record, Succeeded
from zmqtasks.scheduler.journal.blocks import Block, join
from zmqtasks.scheduler.journal.disk import DiskJournal
from zmqtasks.scheduler.journal.files import Files, SyncError
from zmqtasks.scheduler.journal.head import SLOT
from zmqtasks.scheduler.journal.migrations import migrate
from zmqtasks.scheduler.leaders import Leaders

PREFIX = b"journal-test"
MIB = 1024 * 1024

Open = Callable[..., DiskJournal]


def record(number: int, data: bytes = b"value") -> Record:
    return Succeeded(PREFIX, [number], [data], 1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def open_(path: Path) -> Iterator[Open]:
    """Opens the journal; what is left open is let go."""
    opened: list[DiskJournal] = []

    def make(**how: Any) -> DiskJournal:
        journal = DiskJournal.open(path, lambda: None, **how)
        opened.append(journal)
        return journal

    yield make
    for journal in opened:
        journal.close()


def filled(open_: Open, count: int = 10) -> None:
    """A journal of so many blocks of one record each, closed."""
    journal = started(open_)
    for number in range(1, count + 1):
        write(journal, [record(number)])
    journal.close()


def started(open_: Open, live: dict[int, int] | None = None, **how: Any) -> DiskJournal:
    journal = open_(**how)
    list(journal.records())
    journal.start(live or {})
    return journal


def write(journal: DiskJournal, records: list[Record], *, sync: bool = True) -> None:
    """Append, and wait until it is durable."""
    before = journal.durable
    journal.append(records, sync=sync)
    journal.flush()
    until(lambda: journal.durable == before + len(records) or journal.fatal, "it is durable")


def read_all(open_: Open) -> list[tuple[int, list[Record]]]:
    journal = open_()
    try:
        return list(journal.records())
    finally:
        journal.close()


def database(path: Path) -> apsw.Connection:
    return apsw.Connection(str(path / "journal.db"))


# ---------------------------------------------------------------------------------------------- in order


def test_what_was_appended_is_there_again(open_: Open) -> None:
    journal = started(open_)
    write(journal, [record(1), record(2)])
    write(journal, [record(3)], sync=False)
    journal.close()
    assert read_all(open_) == [(1, [record(1), record(2)]), (3, [record(3)])]


def test_turns_that_wait_are_one_block_in_order(path: Path, open_: Open) -> None:
    journal = started(open_)
    for number in range(1, 1001):
        journal.append([record(number)], sync=True)
    journal.flush()
    journal.close()
    assert [first for first, _ in read_all(open_)] == list(range(1, 1001))
    assert database(path).execute("SELECT count(*) FROM block").get < 100


def test_whoever_waits_is_woken(path: Path) -> None:
    woken = threading.Event()
    journal = DiskJournal.open(path, woken.set)
    list(journal.records())
    journal.start({})
    journal.append([record(1)], sync=True)
    assert not woken.wait(0.05), "nothing is written before flush"
    journal.flush()
    assert woken.wait(BOUND)
    assert (journal.durable, journal.pending, journal.waiting) == (1, 0, 0)
    journal.close()


def test_it_goes_on_where_it_ended(open_: Open) -> None:
    filled(open_, 3)
    journal = started(open_)
    assert (journal.last, journal.durable) == (3, 3)
    write(journal, [record(4)])
    journal.close()
    assert [first for first, _ in read_all(open_)] == [1, 2, 3, 4]


def test_kept_from_the_eyes_of_others(path: Path, open_: Open) -> None:
    journal = started(open_)
    journal.store(1, b"large")
    write(journal, [record(1)])
    for file in path.rglob("*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_closing_what_was_never_started_changes_nothing(path: Path, open_: Open) -> None:
    filled(open_)
    before = (path / "journal.db").read_bytes()
    open_().close()
    assert (path / "journal.db").read_bytes() == before


# ---------------------------------------------------------------------------------------------- payloads


def test_large_payloads_come_back_until_they_are_dropped(path: Path, open_: Open) -> None:
    journal = started(open_)
    journal.store(7, b"large" * 1000)
    journal.load(7)  # from memory: it may not be written yet
    assert journal.loaded() == [(7, b"large" * 1000)]
    write(journal, [record(1)])
    journal.load(7)
    found: list[tuple[int, bytes | None]] = []
    until(lambda: found.extend(journal.loaded()) or found, "it is loaded")
    assert found == [(7, b"large" * 1000)]
    journal.drop(7)
    write(journal, [record(2)])
    until(lambda: not list((path / "payloads").iterdir()), "its file is gone")
    journal.close()


def test_payloads_that_nobody_names_go_at_the_start(path: Path, open_: Open) -> None:
    journal = started(open_)
    for number in (1, 2):
        journal.store(number, b"large")
    write(journal, [record(1)])
    journal.close()
    journal = started(open_, {2: 5})
    journal.flush()
    until(lambda: [file.name for file in (path / "payloads").iterdir()] == ["2"], "the other one is gone")


def test_a_payload_that_is_missing_or_short_stops_the_start(path: Path, open_: Open) -> None:
    journal = started(open_)
    journal.store(2, b"large")
    write(journal, [record(1)])
    journal.close()
    for live in ({3: 5}, {2: 6}):
        journal = open_()
        list(journal.records())
        with pytest.raises(JournalDamaged, match=r"payload \d of \d bytes is missing or short.*zmqtasks repair"):
            journal.start(live)
        journal.close()


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_payload_that_is_damaged_is_told_to_be_lost(path: Path, open_: Open, damage: bytes | None) -> None:
    journal = started(open_)
    journal.store(2, b"large" * 20)
    write(journal, [record(1)])
    file = path / "payloads" / "2"
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(bytes(data) if damage is None else damage)
    assert journal.fetch(2) is None


# ---------------------------------------------------------------------------------------------- damage


def test_a_head_that_is_missing_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    (path / "head").unlink()
    with pytest.raises(JournalDamaged, match=r"the head is missing, or cannot be read.*zmqtasks repair"):
        read_all(open_)


def test_one_slot_of_the_head_is_enough(path: Path, open_: Open) -> None:
    filled(open_)
    whole = (path / "head").read_bytes()
    found = []
    for slot in (0, SLOT):
        (path / "head").write_bytes(whole[:slot] + bytes(40) + whole[slot + 40 :])
        found.append(len(read_all(open_)))
    assert found == [10, 10]
    (path / "head").write_bytes(bytes(4096))
    with pytest.raises(JournalDamaged, match="the head is missing, or cannot be read"):
        read_all(open_)


def test_records_that_only_the_head_knows_are_missed(path: Path, open_: Open) -> None:
    filled(open_)
    db = database(path)
    db.execute("DELETE FROM block WHERE last > 7")
    db.close()
    with pytest.raises(JournalDamaged, match="records 8 to 10: they are missing; the head names them"):
        read_all(open_)


def edited(path: Path, statement: str, *values: Any) -> None:
    db = database(path)
    db.execute(statement, values)
    db.close()


def test_a_gap_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    edited(path, "DELETE FROM block WHERE last IN (4, 5)")
    with pytest.raises(JournalDamaged, match="records 4 to 5: they are missing"):
        read_all(open_)


def test_a_wrong_check_sum_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    edited(path, "UPDATE block SET data = zeroblob(length(data)) WHERE last = 10")
    with pytest.raises(JournalDamaged, match="records 10 to 10: their check sum is wrong"):
        read_all(open_)


def replaced(path: Path, number: int, prev: bytes | None = None) -> None:
    """A block that is right in itself, in the place of another."""
    db = database(path)
    old = db.execute("SELECT prev FROM block WHERE last = ?", (number,)).get
    block = Block(number, number, prev or old, join([b"\x91" + make_journal.r.encode([record(77)])[1:]]))
    db.execute(
        "UPDATE block SET prev = ?, data = ?, crc = ? WHERE last = ?", (block.prev, block.data, block.crc, number)
    )
    db.close()


def test_a_block_of_another_past_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    replaced(path, 5, prev=bytes(16))
    with pytest.raises(JournalDamaged, match="records 5 to 5: they do not belong to those before them"):
        read_all(open_)


def test_another_block_in_the_place_of_the_last_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    replaced(path, 10)
    with pytest.raises(JournalDamaged, match="records 10 to 10: they are others than those that the head names"):
        read_all(open_)


def test_a_garbled_row_is_seen(path: Path, open_: Open) -> None:
    filled(open_)
    edited(path, "UPDATE block SET crc = 'text' WHERE last = 3")
    with pytest.raises(JournalDamaged, match="the row of record 3 is garbled"):
        read_all(open_)


@pytest.mark.parametrize("left", [None, b"", b"this is no database" * 300])
def test_a_database_that_is_gone_or_none_is_not_taken_for_a_new_one(
    path: Path, open_: Open, left: bytes | None
) -> None:
    filled(open_)
    (path / "journal.db").unlink()
    if left is not None:
        (path / "journal.db").write_bytes(left)
    with pytest.raises(JournalDamaged, match=r"journal\.db.*zmqtasks repair"):
        read_all(open_)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot be used: Not a directory; give another --data DIR"):
        DiskJournal.open(tmp_path / "file" / "journal", lambda: None)


# ---------------------------------------------------------------------------------------------- versions


def test_a_journal_of_a_later_release_is_refused(path: Path, open_: Open) -> None:
    filled(open_)
    edited(path, "UPDATE meta SET value = 99 WHERE key = 'version'")
    edited(path, "UPDATE meta SET value = '7.1' WHERE key = 'release'")
    with pytest.raises(JournalTooNew, match=r"written by zmqtasks 7\.1 \(journal version 99\); this is zmqtasks 0\."):
        open_()


def test_each_step_of_a_migration_is_taken_once() -> None:
    db = apsw.Connection(":memory:")
    taken: list[int] = []
    steps = [lambda _db, number=number: taken.append(number) for number in (1, 2, 3)]
    migrate(db, 2, steps)
    assert taken == [2, 3]
    migrate(db, 4, steps)
    assert taken == [2, 3]


def test_journal_version_1_is_read(tmp_path: Path) -> None:
    """As it was written by the release that had it; a scheduler goes on from it."""
    path = tmp_path / "journal"
    shutil.copytree(make_journal.HERE, path)
    journal = DiskJournal.open(path, lambda: None)
    turns = list(journal.records())
    expected = json.loads((path / "expected.json").read_text(encoding="utf-8"))
    assert make_journal.told([records for _, records in turns]) == expected
    kinds = {kind for records in expected for kind, _ in records}
    assert kinds == {kind.__name__ for kind in make_journal.r.Record.__args__}
    core, fx = Core(SchedulerSettings(), Identity(1, "golden", durable=True)), Effects()
    for first, records in turns:
        core.restore(first, records)
    live = core.begin(clock.now(), fx)
    core.check()
    assert live == {5: 512, 6: 18, 7: 14}
    journal.start(live)
    assert journal.fetch(5) == make_journal.LARGE
    assert journal.fetch(6) == make_journal.PAGE
    journal.append(fx.records, sync=True)
    journal.close()


# ---------------------------------------------------------------------------------------------- one at a time

_HOLDER = """
import sys, time
from pathlib import Path
from zmqtasks.scheduler.core.records import Succeeded
from zmqtasks.scheduler.journal.disk import DiskJournal
journal = DiskJournal.open(Path(sys.argv[1]), lambda: None)
list(journal.records())
journal.start({})
number = journal.durable
while True:
    number += 1
    journal.append([Succeeded(b"journal-test", [number], [b"x" * 50], 1.0)], sync=True)
    journal.flush()
    while journal.durable < number:
        time.sleep(0.0001)
    print(number, flush=True)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that appends one record after the other, and says how far it is."""
    return subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE, text=True)


def test_a_second_one_is_refused_as_long_as_the_first_lives(path: Path, open_: Open) -> None:
    with holder(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(JournalInUse, match=f"used by another scheduler \\(pid {process.pid}\\)"):
            open_()
        process.kill()
        process.wait()
    assert read_all(open_)


def test_kill_9_loses_nothing_that_was_told(path: Path, open_: Open) -> None:
    chance = Random(9)
    for _ in range(15):
        with holder(path) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(chance.randrange(1, 40))]
            os.kill(process.pid, signal.SIGKILL)
            told += process.stdout.readlines()
        numbers = [int(line) for line in told if re.fullmatch(r"\d+\n", line)]
        found = read_all(open_)
        assert [first for first, _ in found] == list(range(1, len(found) + 1))
        assert len(found) >= max(numbers)


# ---------------------------------------------------------------------------------------------- wear


def test_what_was_trimmed_gives_its_space_back(path: Path, open_: Open) -> None:
    chance = Random(1)
    journal = started(open_)
    for number in range(1, 49):
        write(journal, [record(number, chance.randbytes(MIB))])
        assert (path / "journal.db-wal").stat().st_size < 24 * MIB
    full = (path / "journal.db").stat().st_size
    assert full > 40 * MIB
    journal.trim(47)
    write(journal, [record(49)])
    until(lambda: (path / "journal.db").stat().st_size < full / 2, "the file is smaller")
    until(lambda: journal.size < 2 * MIB, "it knows")
    journal.close()
    assert [first for first, _ in read_all(open_)] == [48, 49]


# ---------------------------------------------------------------------------------------------- trouble


class Slow(Files):
    """A disk on which each sync of a large payload waits for a sign."""

    def __init__(self) -> None:
        self.sign = threading.Event()

    def sync_folder(self, path: Path) -> None:
        if path.name == "payloads":
            self.sign.wait(BOUND)
        super().sync_folder(path)


def test_a_slow_disk_makes_few_commits_of_many_turns(path: Path, open_: Open) -> None:
    slow = Slow()
    journal = started(open_, files=slow)
    journal.store(1, b"large")
    for number in range(1, 501):
        journal.append([record(number)], sync=True)
        journal.flush()
    assert (journal.durable, journal.pending > 0) == (0, True)
    slow.sign.set()
    until(lambda: journal.durable == 500, "all is durable")
    journal.close()
    assert database(path).execute("SELECT count(*) FROM block").get <= 3


def test_a_commit_is_made_by_whoever_asks_where_the_disk_is_quick(open_: Open) -> None:
    journal = started(open_)

    def at_once() -> bool:
        before = journal.durable
        journal.append([record(before + 1)], sync=True)
        assert journal.commit()
        done = journal.durable == before + 1
        until(lambda: journal.durable == before + 1, "the writer was at work")
        return done

    until(at_once, "it was durable when the call came back")
    last = journal.durable
    journal.close()
    assert [first for first, _ in read_all(open_)] == list(range(1, last + 1))


def test_who_is_stuck_in_a_commit_is_replaced_by_the_writer_and_writes_then(open_: Open) -> None:
    slow, written, leaders = Slow(), [0], [threading.current_thread()]
    journal = open_(files=slow)
    list(journal.records())

    def gets_stuck() -> bool:
        slow.sign.clear()
        written[0] += 1
        journal.store(written[0], b"large")  # its sync waits for the sign
        journal.append([record(written[0])], sync=True)
        return not journal.commit()

    def lead() -> None:
        leaders.append(threading.current_thread())
        while len(leaders) < 5:
            until(lambda: not journal.pending, "all is written, if by the one that was stuck")
            if gets_stuck():  # somebody else leads
                if journal.work():
                    lead()
                return
            slow.sign.set()  # the writer was at work, or the disk was slow

    journal.start({}, replace=lead)
    first = threading.Thread(target=lead)
    first.start()
    for count in (3, 4, 5):
        until(lambda count=count: len(leaders) == count, "the writer leads")
        slow.sign.set()
    until(lambda: not journal.pending, "all is written")
    journal.close()
    first.join(BOUND)
    assert not first.is_alive()
    assert leaders[1] == leaders[3] == first
    assert leaders[2] == leaders[4] != first
    assert [first for first, _ in read_all(open_)] == list(range(1, written[0] + 1))


def test_a_loop_that_ends_while_a_commit_is_stuck_leaves_no_thread(open_: Open) -> None:
    slow, led = Slow(), list[threading.Thread]()
    journal = open_(files=slow)
    list(journal.records())
    numbers = iter(range(1, 1_000))

    def turn() -> bool:
        if threading.current_thread() not in led:
            led.append(threading.current_thread())
        if len(led) == 2:  # the writer leads, and is told to end
            return False
        slow.sign.set()
        until(lambda: not journal.pending, "all is written")
        slow.sign.clear()
        number = next(numbers)
        journal.store(number, b"large")
        journal.append([record(number)], sync=True)
        leaders.wanted = True
        return True

    leaders = Leaders(turn, journal)
    journal.start({}, replace=leaders.lead)
    leaders.run()
    slow.sign.set()
    journal.close()
    for thread in led:
        thread.join(BOUND)
    assert [thread.is_alive() for thread in led] == [False, False]
    assert [first for first, _ in read_all(open_)] == list(range(1, next(numbers)))


def test_who_gets_the_disk_after_a_commit_finds_nothing_noted_of_that(open_: Open) -> None:
    """Otherwise a commit that begins right behind one that was stuck is watched by nobody."""
    journal = started(open_)
    writer: Any = journal._writer
    disk, noted = writer._disk, list[float | None]()

    class Watched:
        acquire = disk.acquire

        def release(self) -> None:
            if threading.current_thread() is threading.main_thread():
                noted.append(writer._began)
            disk.release()

    writer._disk = Watched()

    def at_once() -> bool:
        journal.append([record(journal.durable + 1)], sync=True)
        assert journal.commit()
        until(lambda: not journal.pending, "it is written")
        return bool(noted)

    until(at_once, "it committed by itself")
    assert noted == [None]


def test_a_writer_that_finds_no_memory_ends_the_scheduler(open_: Open) -> None:
    """Nobody would ever be answered without it."""
    journal = started(open_)

    def starved() -> float:
        raise MemoryError

    journal._writer._clock = starved  # type: ignore[union-attr]
    journal.drop(1)  # it wakes up, and wants to know the time before it sleeps again
    journal.flush()
    until(lambda: journal.fatal, "it gives up")
    assert "the journal's writer failed: MemoryError()" in journal.fatal


class Broken(Files):
    """A disk whose directory cannot be synced once it is told so."""

    broken = False

    def sync_folder(self, path: Path) -> None:
        if self.broken:
            raise SyncError(5, "Input/output error")
        super().sync_folder(path)


@pytest.mark.parametrize("hand_over", [DiskJournal.flush, DiskJournal.commit], ids=["writer", "leader"])
def test_after_a_sync_that_failed_nothing_is_acknowledged_any_more(
    open_: Open, hand_over: Callable[[DiskJournal], object]
) -> None:
    broken = Broken()
    journal = started(open_, files=broken)
    write(journal, [record(1)])
    broken.broken = True
    journal.store(1, b"large")
    journal.append([record(2)], sync=True)
    hand_over(journal)
    until(lambda: journal.fatal, "it gives up")
    said = journal.fatal
    assert "cannot be written any more" in journal.fatal
    assert "Input/output error" in journal.fatal
    journal.append([record(3)], sync=True)
    hand_over(journal)
    journal.close()
    assert (journal.durable, journal.fatal) == (1, said)
    assert read_all(open_) == [(1, [record(1)])]


# ---------------------------------------------------------------------------------------------- what reviews found


class Unreadable(Files):
    """Payloads cannot be read, for a while or for ever."""

    def __init__(self, number: int, times: int) -> None:
        self.number, self.times = number, times

    def read(self, path: Path) -> bytes:
        if path.parent.name == "payloads" and self.times:
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number))
        return super().read(path)


def _kept(open_: Open, files: Files) -> DiskJournal:
    """A journal with payload 5, opened again: nothing of it is at hand."""
    journal = started(open_)
    journal.store(5, b"payload")
    write(journal, [record(1)])
    journal.close()
    return started(open_, {5: 7}, files=files)


def test_a_payload_is_read_again_when_there_was_no_descriptor_left(open_: Open) -> None:
    journal = _kept(open_, Unreadable(errno.EMFILE, 2))
    journal.load(5)
    loaded: list[tuple[int, bytes | None]] = []
    until(lambda: loaded.extend(journal.loaded()) or loaded, "it is there")
    assert (loaded, journal.fatal) == ([(5, b"payload")], "")


def test_a_payload_that_the_disk_cannot_read_is_not_taken_for_lost(open_: Open) -> None:
    journal = _kept(open_, Unreadable(errno.EIO, -1))
    journal.load(5)
    until(lambda: journal.fatal, "it is told")
    assert "cannot be read any more" in journal.fatal
    assert journal.loaded() == []


def test_what_is_trimmed_goes_though_something_is_always_unsynced(open_: Open) -> None:
    """Facts that need no sync come all the time: what was trimmed before the last one waits for none of them."""
    now = [0.0]
    journal = open_()
    list(journal.records())
    journal.start({}, by_hand=lambda: now[0])
    for number in range(40):
        journal.append([record(number, bytes(MIB))], sync=False)
        journal.step()
    journal.trim(39)
    journal.append([record(99)], sync=False)
    now[0] += 1.1  # the sync that is made once a second
    journal.step()
    sizes = []
    for number in range(20):
        journal.append([record(100 + number)], sync=False)
        journal.step()
        sizes.append(journal.size)
    assert sizes[-1] < 2 * MIB


def test_a_file_system_that_copies_on_write_is_not_written_to_in_memory(path: Path, monkeypatch: Any) -> None:
    """There a full disk would be told by SIGBUS."""
    path.mkdir()
    for kind, mapped in (("btrfs", False), ("ext4", True)):
        monkeypatch.setattr("zmqtasks.scheduler.journal.files.kind", lambda _, kind=kind: kind)
        slots = Files().open_slots(path / "head")
        slots.write(8, b"head")
        slots.sync()
        assert (slots._map is not None) == mapped
        slots.close()
        slots.close()
        assert (path / "head").read_bytes()[8:12] == b"head"
