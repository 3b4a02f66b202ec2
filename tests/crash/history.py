"""The journal over several lives on a disk that loses power: what was acknowledged must be there again.

Laws, after each crash:

- *acknowledged*: what was told to be durable is there, and what is there is what was written, in order, from the first
  record that is still needed;
- *refused*: a crash alone never makes a journal that does not open;
- *payload*: every large payload that a record names and that was not let go is there, byte for byte;
- *sync*: after a sync that failed nothing is written any more, and nothing told to be durable;
- *again*: the journal that was opened takes more, and holds that as well.
"""

import errno
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.crash.disk import Disk, SimFiles, SimVFS
from zmqtasks.errors import JournalError
from zmqtasks.scheduler.core.records import Forgot, Record, Stored, Succeeded, Totals, decode, encode
from zmqtasks.scheduler.journal.disk import DiskJournal

FOLDER: Final = Path("/journal")
PREFIX: Final = b"crash-points"
MODES: Final = ("all", "none", "prefix", "any", "any")


class Broken(AssertionError):
    """A law did not hold; the message begins with its name."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")


@dataclass(slots=True)
class Turn:
    """One turn's records, as they were handed over."""

    first: int
    last: int
    data: bytes
    sync: bool


@dataclass(slots=True)
class Ledger:
    """What was handed to the journal, in all its lives.

    Attributes:
        turns: by the order in which they came.
        payloads: number → (bytes, record that names it).
        gone: number → record that lets it go.
        freed: (record, upto): this record says that those up to `upto` are needed no more.
    """

    turns: list[Turn] = field(default_factory=list)
    payloads: dict[int, tuple[bytes, int]] = field(default_factory=dict)
    gone: dict[int, int] = field(default_factory=dict)
    freed: list[tuple[int, int]] = field(default_factory=list)
    number: int = 0  # of the last payload

    @property
    def last(self) -> int:
        """Number of the last record."""
        return self.turns[-1].last if self.turns else 0

    def asked(self, durable: int) -> int:
        """The last record that must outlive the machine, of those that are as durable as was asked for."""
        return max((turn.last for turn in self.turns if turn.sync and turn.last <= durable), default=0)

    def needed_from(self, last: int) -> int:
        """The first record that is still needed by a journal that ends with this one."""
        return max((upto for at, upto in self.freed if at <= last), default=0) + 1

    def live(self, last: int) -> dict[int, bytes]:
        """The payloads that a journal that ends with this record needs."""
        first = self.needed_from(last)
        return {
            number: data
            for number, (data, at) in self.payloads.items()
            if first <= at <= last and self.gone.get(number, last + 1) > last
        }

    def cut(self, last: int) -> None:
        """What comes after this record was lost, as it may be."""
        self.turns = [turn for turn in self.turns if turn.last <= last]
        self.payloads = {number: known for number, known in self.payloads.items() if known[1] <= last}
        self.gone = {number: at for number, at in self.gone.items() if at <= last}
        self.freed = [(at, upto) for at, upto in self.freed if at <= last]


@dataclass(slots=True)
class Snapshot:
    """What a crash has left, and what must be found there."""

    disk: Disk
    least: int
    most: int
    what: str


class Life:
    """One process that holds the journal on a disk, and crashes in thought again and again.

    Args:
        disk: where it is; what is done to it is what the crashes fall upon.
        ledger: knows what must be there.
        random: chooses.
        chance: of a crash at each step of the disk.
    """

    def __init__(self, disk: Disk, ledger: Ledger, random: Random, chance: float) -> None:
        self.disk, self.ledger, self.random, self.chance = disk, ledger, random, chance
        self.time = 0.0
        self.failing = 0  # so many writes find no room
        self.bad_sync = False  # the next sync fails
        self.broken_at = 0  # step of the disk at which it did
        self.aged = 0  # records up to this one are older than a second
        self.snapshots: list[Snapshot] = []
        self.journal: DiskJournal | None = None
        self.durable = 0
        self._vfs = SimVFS(f"sim-{id(self)}", disk)

    def run(self, turns: int) -> list[Snapshot]:
        """Open, work, close; returns the crashes."""
        self.disk.on_step = self._on_step
        try:
            self.open()
            for _ in range(turns):
                self.act()
            chosen = self.random.random()
            if chosen < 0.4:
                self.close()
            elif chosen < 0.6:
                self.break_()
            return self.snapshots
        finally:
            self.disk.on_step = lambda what, name: None
            self.let_go()

    def _on_step(self, what: str, name: str) -> None:
        if self.random.random() < self.chance:
            durable = self.durable
            if self.journal is not None and self.journal.started:
                durable = max(durable, self.journal.durable)
            mode = self.random.choice(MODES)
            least = durable if mode == "all" else max(self.aged, self.ledger.asked(durable))
            text = f"{mode}, before step {self.disk.steps}: {what} {name}"
            self.snapshots.append(Snapshot(self.disk.crash(self.random, mode), least, self.ledger.last, text))
        if what in ("write", "create") and self.failing:
            self.failing -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        if what == "sync" and self.bad_sync:
            self.bad_sync = False
            self.broken_at = self.disk.steps
            raise OSError(self.random.choice((errno.EIO, errno.ENOSPC)), "this disk is broken")

    # ------------------------------------------------------------------------------------------ what it does

    def open(self, least: int = 0, most: int | None = None, *, damaged: bool = False) -> None:
        """Open the journal, and compare what it holds with the ledger, which then knows what was lost.

        Raises:
            Broken: a law did not hold.
            JournalError: it is refused, and may be: it was `damaged`.
        """
        most = self.ledger.last if most is None else most
        try:
            journal = DiskJournal.open(FOLDER, lambda: None, files=SimFiles(self.disk), vfs=self._vfs.name)
            self.journal = journal
            found = list(journal.records())
        except JournalError as error:
            if damaged:
                raise
            raise Broken("refused", str(error)) from error
        self._compare(found, journal.last, least, most)
        self.ledger.cut(journal.last)
        live = self.ledger.live(journal.last)
        try:
            journal.start({number: len(data) for number, data in live.items()}, by_hand=self._clock)
        except JournalError as error:
            if damaged:
                raise
            raise Broken("payload", str(error)) from error
        for number, data in live.items():
            got = journal.fetch(number)
            if got != data and not (damaged and got is None):
                raise Broken("payload", f"payload {number} is not what was stored")
        self.durable = journal.last

    def _compare(self, found: list[tuple[int, list[Record]]], last: int, least: int, most: int) -> None:
        if not least <= last <= most:
            raise Broken("acknowledged", f"the journal ends with record {last}, not with one of {least} to {most}")
        first = found[0][0] if found else last + 1
        if first > self.ledger.needed_from(last):
            raise Broken("acknowledged", f"the journal begins with {first}; needed: {self.ledger.needed_from(last)}")
        told = {turn.first: turn for turn in self.ledger.turns}
        for number, records in found:
            turn = told.get(number)
            if turn is None or decode(turn.data) != records:
                raise Broken("acknowledged", f"record {number} is not what was written")

    def _clock(self) -> float:
        return self.time

    def act(self) -> None:
        """One thing that a scheduler does."""
        random, journal = self.random, self._open
        choice = random.random()
        if choice < 0.5:
            self.append([self.small() for _ in range(random.choice((1, 1, 5, 200)))])
        elif choice < 0.62:
            self._store()
        elif choice < 0.7:
            self._forget()
        elif choice < 0.76:
            self._renew()
        elif choice < 0.8:
            self.failing = random.choice((1, 2, 5))
        else:
            self.time += random.choice((0.001, 0.05, 0.2, 1.1))
            if random.random() < 0.2:
                journal.step()
                self.time += 1.1
                journal.step()
                self.aged = journal.durable
        if random.random() < 0.6:
            random.choice((journal.step, journal.step, journal.commit, journal.flush))()
        self.durable = max(self.durable, journal.durable)

    @property
    def _open(self) -> DiskJournal:
        assert self.journal is not None
        return self.journal

    def append(self, records: list[Record], *, sync: bool | None = None) -> int:
        ledger, journal = self.ledger, self._open
        sync = self.random.random() < 0.7 if sync is None else sync
        ledger.turns.append(Turn(ledger.last + 1, ledger.last + len(records), encode(records), sync))
        journal.append(records, sync=sync)
        return ledger.last

    def small(self) -> Record:
        random = self.random
        return Succeeded(PREFIX, [random.getrandbits(31)], [random.randbytes(random.choice((0, 8, 700)))], 1.0)

    def _store(self) -> None:
        ledger, random = self.ledger, self.random
        data = random.randbytes(random.choice((1, 600, 5_000)))
        ledger.number += 1
        number = ledger.number
        self._open.store(number, data)
        ledger.payloads[number] = (data, ledger.last + 1)
        self.append([Succeeded(PREFIX, [number], [Stored(number, len(data))], 1.0)])

    def _forget(self) -> None:
        live = sorted(self.ledger.live(self.ledger.last))
        if live:
            number = self.random.choice(live)
            self.ledger.gone[number] = self.append([Forgot(PREFIX, [(number, number)], 1.0)])
            self._open.drop(number)

    def _renew(self) -> None:
        """The oldest records are needed no more, says the newest."""
        ledger = self.ledger
        first = ledger.needed_from(ledger.last)
        if ledger.last <= first:
            return
        upto = self.random.randint(first, ledger.last)
        needed = [number for number in ledger.live(ledger.last) if ledger.payloads[number][1] <= upto]
        at = self.append([Totals(1, 0, 0, 0, {"upto": upto})])
        ledger.freed.append((at, upto))
        for number in needed:
            self._open.drop(number)
        self._open.trim(upto)

    def break_(self) -> None:
        """A sync fails: what is on the disk is not known any more, and asking again would give a wrong answer."""
        journal = self._open
        self.failing = 0
        self.bad_sync = True
        while self.bad_sync:
            self.append([self.small()], sync=True)
            self.time += 1.2
            journal.step()
        durable = journal.durable
        if not journal.fatal:
            raise Broken("sync", "a sync failed, and the journal goes on")
        self.append([self.small()], sync=True)
        journal.step()
        journal.close()
        if (durable, self.broken_at) != (journal.durable, self.disk.steps):
            raise Broken("sync", "a sync failed, and the disk was written to afterwards")

    def sync_head(self) -> int:
        """Let some time pass, so that the head is on the disk; returns what is durable then."""
        self.failing = 0
        for _ in range(3):
            self.time += 1.2
            self._open.step()
        self.durable = self._open.durable
        return self.durable

    def close(self) -> None:
        """The end of a life in order: all is on the disk."""
        self.failing = 0
        self._open.close()
        self.durable = self._open.durable
        if self._open.durable != self.ledger.last:
            raise Broken("acknowledged", f"closed at record {self._open.durable} of {self.ledger.last}")

    def let_go(self) -> None:
        """Nothing of this is needed any more."""
        if self.journal is not None:
            self.journal.abandon()
        self.journal = None
        with suppress(ValueError):  # it was let go before
            self._vfs.unregister()


def survive(snapshot: Snapshot, ledger: Ledger, random: Random) -> None:
    """Open what a crash has left; take more; open that again.

    Raises:
        Broken: a law did not hold.
    """
    disk = snapshot.disk.copy()
    known = copied(ledger)
    try:
        life = Life(disk, known, random, 0.0)
        try:
            life.open(snapshot.least, snapshot.most)
            before = life.journal and life.journal.last
            for _ in range(3):
                life.append([life.small()], sync=True)
                life._open.step()
            life.close()
        finally:
            life.let_go()
        again = Life(disk, known, random, 0.0)
        try:
            again.open(known.last)
        except Broken as error:
            raise Broken("again", f"after record {before}: {error}") from error
        finally:
            again.let_go()
    except Broken as error:
        raise type(error)(str(error).partition(":")[0], f"{str(error).partition(': ')[2]} ({snapshot.what})") from None


def copied(ledger: Ledger) -> Ledger:
    """A ledger that knows the same."""
    return Ledger(list(ledger.turns), dict(ledger.payloads), dict(ledger.gone), list(ledger.freed), ledger.number)


def run(seed: int, points: int | None = None) -> dict[str, Any]:
    """Three lives, each on what a crash of the one before has left; returns what was tried.

    Args:
        seed: of all choices.
        points: end after so many crash points.

    Raises:
        Broken: a law did not hold.
    """
    random = Random(seed)
    disk, ledger = Disk(), Ledger()
    tried = 0
    modes: dict[str, int] = {}
    for _ in range(3):
        began = copied(ledger)
        life = Life(disk, ledger, random, random.choice((0.02, 0.1)))
        snapshots = life.run(random.randint(5, 60))
        for snapshot in snapshots:
            survive(snapshot, ledger, random)
            modes[snapshot.what.partition(",")[0]] = modes.get(snapshot.what.partition(",")[0], 0) + 1
        tried += len(snapshots)
        if points is not None and tried >= points:
            break
        if not snapshots:
            continue
        del began
        chosen = random.choice(snapshots)
        disk = chosen.disk
        ledger.cut(chosen.most)
        ledger = _found(disk, ledger, chosen)
    return {"points": tried, **modes}


def _found(disk: Disk, ledger: Ledger, snapshot: Snapshot) -> Ledger:
    """What the next life will find there."""
    known = copied(ledger)
    life = Life(disk.copy(), known, Random(0), 0.0)
    try:
        life.open(snapshot.least, snapshot.most)
    finally:
        life.let_go()
    return known
