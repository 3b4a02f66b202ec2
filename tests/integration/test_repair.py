"""A damaged journal is shown as it is, and mended into one that opens, with a copy of what was there."""

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.crash import damage
from tests.crash.disk import Disk
from tests.crash.history import FOLDER, Ledger
from zmqtasks.errors import JournalDamaged, JournalError, JournalInUse
from zmqtasks.scheduler.core.records import Record, decode
from zmqtasks.scheduler.journal import repair
from zmqtasks.scheduler.journal.disk import DiskJournal

PREFIX = b"repair-tests"


def written(disk: Disk, path: Path) -> Path:
    """A disk of the crash tests as real files."""
    for name, file in disk.files.items():
        real = path / Path(name).relative_to(FOLDER)
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes(file.data)
    (path / "payloads").mkdir(parents=True, exist_ok=True)
    return path


def records_of(path: Path) -> list[Record]:
    """All records of a journal that opens."""
    journal = DiskJournal.open(path, lambda: None)
    try:
        return [record for _, records in journal.records() for record in records]
    finally:
        journal.close()


def told(ledger: Ledger) -> list[Record]:
    return [record for turn in ledger.turns for record in decode(turn.data)]


def is_within(some: list[Record], everything: list[Record]) -> bool:
    """Whether these stand there in the same order."""
    rest = iter(everything)
    return all(record in rest for record in some)


@pytest.mark.parametrize("seed", range(30))
def test_what_was_damaged_anyhow_opens_once_it_is_mended(seed: int, tmp_path: Path) -> None:
    disk, ledger, past, _ = damage.grown(seed)
    random = Random(seed)
    name = random.choice([name for name in (damage.DB, damage.WAL, damage.HEAD) if disk.files.get(name)])
    size = len(disk.files[name].data)
    damaged = {
        0: lambda: damage.flipped(disk, name, random.randrange(size), 3),
        1: lambda: damage.cut(disk, name, random.randrange(size)),
        2: lambda: damage.old(disk, random.choice(past), name),
    }[seed % 3]()
    path = written(damaged, tmp_path / "journal")
    how = random.choice((repair.CUT, repair.SKIP))
    found = repair.examine(path)
    if found.damages:
        repair.mend(found, how)
    else:
        how = repair.CUT
    left = found.left(how)
    kept = records_of(path)
    assert len(kept) == left.records
    assert is_within(kept, told(ledger))
    assert not repair.examine(path).damages


def test_looking_changes_nothing(tmp_path: Path) -> None:
    disk, _, _ = damage.plain(closed=False, turns=20)
    path = written(damage.flipped(disk, damage.WAL, 30_000, 1), tmp_path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    assert repair.examine(path).damages
    (path / "lock").unlink()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def _amid(disk: Disk, ledger: Ledger) -> int:
    """A byte of the WAL that belongs to the one long block."""
    data = max((turn.data for turn in ledger.turns), key=len)
    places = (disk.files[damage.WAL].data.find(data[at : at + 60]) for at in range(len(data) // 2, len(data), 30))
    return next(place for place in places if place > 0)


def test_a_flip_in_what_was_written_over_costs_nothing(tmp_path: Path) -> None:
    disk, ledger, _ = damage.plain(closed=False, turns=20)
    path = written(damage.flipped(disk, damage.WAL, 30_000, 1), tmp_path)
    found = repair.examine(path)
    assert "a scheduler sees nothing behind record" in str(found.damages[0])
    repair.mend(found, repair.CUT)
    assert records_of(path) == told(ledger)


def test_a_flipped_bit_in_the_wal_costs_its_own_block_only(tmp_path: Path) -> None:
    disk, ledger, last = damage.plain(closed=False, turns=20)
    path = written(damage.flipped(disk, damage.WAL, _amid(disk, ledger), 1), tmp_path)
    with pytest.raises(JournalDamaged, match=f"to {last}: they are missing"):
        records_of(path)
    found = repair.examine(path)
    lost = [damage for damage in found.damages if damage.first]
    assert len(lost) == 1
    assert found.last == last
    copy = repair.mend(found, repair.SKIP)
    kept = records_of(path)
    assert len(kept) == last - (lost[0].last - lost[0].first + 1)
    assert is_within(kept, told(ledger))
    assert {file.name for file in copy.iterdir()} == {"journal.db", "journal.db-wal", "head", "payloads"}


def test_cut_keeps_what_stands_before_the_first_damage(tmp_path: Path) -> None:
    disk, ledger, _ = damage.plain(closed=False, turns=20)
    path = written(damage.flipped(disk, damage.WAL, _amid(disk, ledger), 1), tmp_path)
    found = repair.examine(path)
    first = min(damage.first for damage in found.damages if damage.first)
    repair.mend(found, repair.CUT)
    assert records_of(path) == told(ledger)[: first - 1]


def test_a_payload_that_is_gone_does_not_stop_the_others(tmp_path: Path) -> None:
    path = written(_with_payload(), tmp_path)
    (path / "payloads" / "7").unlink()
    found = repair.examine(path)
    assert found.left(repair.CUT).lost == ((7, 3),)
    repair.mend(found, repair.CUT)
    journal = DiskJournal.open(path, lambda: None)
    list(journal.records())
    journal.start({7: 3})
    assert journal.fetch(7) is None
    journal.close()


def _with_payload() -> Disk:
    """A journal with a job whose arguments are a payload of their own."""
    from tests.crash.history import Life
    from zmqtasks.scheduler.core.records import Began, Stored, Submitted
    from zmqtasks.wire import Spec

    disk, ledger = Disk(), Ledger()
    life = Life(disk, ledger, Random(1), 0.0)
    try:
        life.open()
        assert life.journal is not None
        life.journal.store(7, b"big")
        submitted = Submitted(
            PREFIX, 0, "add", b"", "msgpack", Spec(), [Stored(7, 3)], [], 0, PREFIX, b"digest", 1, 1.0
        )
        life.append([Began(1, 1.0, "0"), submitted], sync=True)
        life.close()
        return disk.copy()
    finally:
        life.let_go()


def test_a_mending_that_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, ledger, _ = damage.plain(closed=False, turns=40)
    path = written(damage.flipped(disk, damage.WAL, _amid(disk, ledger), 1), tmp_path)
    found = repair.examine(path)
    rename = repair.Files.rename

    def failing(files: repair.Files, old: Path, new: Path) -> None:
        if new.name == "journal.db":
            raise OSError(5, "Input/output error")
        rename(files, old, new)

    monkeypatch.setattr(repair.Files, "rename", failing)
    with pytest.raises(JournalError, match="cannot be mended"):
        repair.mend(found, repair.CUT)
    monkeypatch.undo()
    again = repair.examine(path)
    assert (again.damages, again.last) == (found.damages, found.last)


def test_a_journal_in_use_is_left_alone(tmp_path: Path) -> None:
    journal = DiskJournal.open(tmp_path, lambda: None)
    try:
        with pytest.raises(JournalInUse, match=str(os.getpid())):
            repair.examine(tmp_path)
    finally:
        journal.close()


def test_where_there_is_none_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="there is no journal in"):
        repair.examine(tmp_path)
    assert not list(tmp_path.iterdir())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zmqtasks", "repair", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_shows_mends_and_says_what_to_do(tmp_path: Path) -> None:
    disk, ledger, _ = damage.plain(closed=False, turns=20)
    path = written(damage.flipped(disk, damage.WAL, _amid(disk, ledger), 1), tmp_path)
    shown = run("--data", str(path))
    assert shown.returncode == 1
    assert "damaged: records" in shown.stdout
    assert "--cut keeps" in shown.stdout
    assert "--skip keeps" in shown.stdout
    machine = json.loads(run("--data", str(path), "--json").stdout)
    assert machine["damages"]
    assert machine["copy"] is None
    mended = run("--data", str(path), "--skip")
    assert mended.returncode == 0, mended.stderr
    assert "mended; what was there is in" in mended.stdout
    whole = run("--data", str(path))
    assert whole.returncode == 0
    assert "there is nothing to mend" in whole.stdout


def test_the_command_tells_of_wrong_use(tmp_path: Path) -> None:
    both = run("--data", str(tmp_path), "--cut", "--skip")
    assert both.returncode == 2
    assert "give one of them" in both.stderr
    nothing = run("--data", str(tmp_path / "none"))
    assert nothing.returncode == 2
    assert "there is no journal" in nothing.stderr
