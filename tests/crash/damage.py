"""A journal whose files were damaged behind its back: it opens whole, or says loudly that it does not.

Law *silent*: what opens holds all that was acknowledged, and nothing else; a payload is what was stored, or told to be
lost. That it opens is not asked for: a flipped bit has to be found, and nothing can mend it.
"""

from collections import Counter
from random import Random
from typing import Final

from tests.crash.disk import Disk
from tests.crash.history import FOLDER, Broken, Ledger, Life, copied
from zmqtasks.errors import JournalError
from zmqtasks.scheduler.journal.store import PAGE

DB: Final = str(FOLDER / "journal.db")
WAL: Final = f"{DB}-wal"
HEAD: Final = str(FOLDER / "head")
_KINDS: Final = {0x02: "index", 0x05: "table", 0x0A: "index leaf", 0x0D: "table leaf"}


def grown(seed: int) -> tuple[Disk, Ledger, list[Disk], int]:
    """A journal with some past: its disk, what it must hold, what its files were earlier, and what was acknowledged."""
    random = Random(seed)
    disk, ledger = Disk(), Ledger()
    past: list[Disk] = []
    for closes in (True, random.random() < 0.5):
        life = Life(disk, ledger, random, 0.0)
        try:
            life.open()
            for _ in range(random.randint(20, 120)):
                life.act()
                if random.random() < 0.05:
                    past.append(disk.copy())
            durable = life.sync_head()
            if closes:
                life.close()
                durable = ledger.last
            past.append(disk.copy())
        finally:
            end = disk.copy()  # abandoning must not change anything
            life.let_go()
        disk = end
        ledger.cut(max(durable, ledger.asked(durable)))
    return disk, ledger, past, ledger.asked(ledger.last)


def examine(disk: Disk, ledger: Ledger, least: int, what: str) -> str:
    """Open a damaged journal; "whole" or "refused".

    Raises:
        Broken: it opened, and does not hold what it should.
    """
    known = copied(ledger)
    before = contents(disk)
    life = Life(disk, known, Random(0), 0.0)
    try:
        life.open(least, ledger.last, damaged=True)
    except JournalError:
        life.let_go()
        if contents(disk) != before:
            raise Broken("silent", f"it was refused, and changed nevertheless ({what})") from None
        return "refused"
    except Broken as error:
        raise Broken("silent", f"{error} ({what})") from None
    except Exception as error:
        raise Broken("silent", f"not an error for people: {error!r} ({what})") from error
    finally:
        life.let_go()
    return "whole"


def contents(disk: Disk) -> dict[str, bytes]:
    """All files that hold something."""
    return {name: bytes(file.data) for name, file in disk.files.items() if file.data}


def flipped(disk: Disk, name: str, place: int, bit: int) -> Disk:
    """One bit of a file is another."""
    after = disk.copy()
    data = bytearray(after.files[name].data)
    data[place] ^= 1 << bit
    after.put(name, bytes(data))
    return after


def cut(disk: Disk, name: str, size: int) -> Disk:
    """A file is shorter."""
    after = disk.copy()
    after.put(name, bytes(after.files[name].data[:size]))
    return after


def old(disk: Disk, past: Disk, name: str) -> Disk:
    """A file is what it was earlier, or is not there any more."""
    after = disk.copy()
    after.files.pop(name, None)
    if name in past.files:
        after.put(name, bytes(past.files[name].data))
    return after


def gone(disk: Disk, name: str) -> Disk:
    """A file is not there any more."""
    after = disk.copy()
    del after.files[name]
    return after


def run(seed: int, points: int = 40) -> Counter[str]:
    """Damage one journal in so many ways, each by itself; returns what came of it.

    Raises:
        Broken: a law did not hold.
    """
    disk, ledger, past, least = grown(seed)
    random = Random(seed)
    found: Counter[str] = Counter()
    names = sorted(name for name, file in disk.files.items() if file.data)
    for _ in range(points):
        name = random.choice(names)
        size = len(disk.files[name].data)
        kind = random.choice(("flip", "flip", "cut", "old", "gone"))
        if kind == "flip":
            place, bit = random.randrange(size), random.randrange(8)
            damaged, what = flipped(disk, name, place, bit), f"bit {bit} of byte {place} of {name} flipped"
        elif kind == "cut":
            left = random.randrange(size)
            damaged, what = cut(disk, name, left), f"{name} cut at {left} of {size}"
        elif kind == "old":
            index = random.randrange(len(past))
            damaged, what = old(disk, past[index], name), f"{name} put back from copy {index}"
        else:
            damaged, what = gone(disk, name), f"{name} taken away"
        found[f"{kind} {examine(damaged, ledger, least, f'seed {seed}: {what}')}"] += 1
    return found


def pages(disk: Disk) -> dict[str, list[int]]:
    """The pages of the database by their kind; those that no tree begins in are "other" (overflow, free, map)."""
    found: dict[str, list[int]] = {}
    data = disk.files[DB].data
    for page in range(len(data) // PAGE):
        first = data[page * PAGE + (100 if page == 0 else 0)]
        found.setdefault(_KINDS.get(first, "other"), []).append(page)
    return found


def plain(*, closed: bool, turns: int) -> tuple[Disk, Ledger, int]:
    """A journal of lone synced records as a good end or a kill has left it: disk, what it must hold, and how much."""
    disk, ledger = Disk(), Ledger()
    life = Life(disk, ledger, Random(turns), 0.0)
    try:
        life.open()
        for turn in range(turns):
            life.append([life.small()] * (300 if turn % 20 == 10 else 1), sync=True)
            life.sync_head()
        if closed:
            life.close()
        return disk.copy(), ledger, ledger.last
    finally:
        life.let_go()


def used(disk: Disk) -> int:
    """Bytes of the WAL that hold frames; what is behind them was only made ready for others."""
    return -(-(len(bytes(disk.files[WAL].data).rstrip(b"\0")) - 32) // (PAGE + 24)) * (PAGE + 24) + 32


def frames(records: int) -> int:
    """Bytes of so many lone commits at the end of a WAL, at least."""
    return records * 2 * (PAGE + 24)
