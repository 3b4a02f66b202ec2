"""The scheduler's disk: what was written survives its process, what was synced survives the loss of power."""

from collections.abc import Sequence
from random import Random

from tests.sim.laws import Broken
from zmqtasks.scheduler.core.records import Record, decode, encode


class Disk:
    """A journal and its payloads over all lives of a scheduler.

    Attributes:
        last: number of the last record that was handed over.
        durable: of the last that is as durable as was asked for.
        synced: of the last that survives the loss of power.
        trouble: why nothing can be written now.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[int, bytes, bool]] = []  # (number of the last record, records, sync)
        self._drops: list[tuple[int, int]] = []  # (last record at that time, payload)
        self._trims: list[tuple[int, int]] = []  # (last record at that time, upto)
        self.stored: dict[int, bytes] = {}
        self.first = 1
        self.last = self.durable = self.synced = 0
        self.trouble = ""

    @property
    def size(self) -> int:
        """Bytes of the records."""
        return sum(len(data) for _, data, _ in self._turns)

    @property
    def trimming(self) -> bool:
        """Records that are needed no more are still there."""
        return bool(self._trims)

    def append(self, records: Sequence[Record], *, sync: bool) -> int:
        """Take one turn's records; returns the number of the last."""
        self.last += len(records)
        self._turns.append((self.last, encode(records), sync))
        return self.last

    def drop(self, number: int) -> None:
        """A payload is needed no more, once what says so is synced."""
        self._drops.append((self.last, number))

    def trim(self, upto: int) -> None:
        """Records are needed no more, once what is kept of them is synced."""
        self._trims.append((self.last, upto))

    def commit(self, upto: int, *, anyway: bool) -> None:
        """A block is written, and synced if one of its turns asks for that, or `anyway`."""
        block = [turn for turn in self._turns if self.durable < turn[0] <= upto]
        self.durable = max(self.durable, upto)
        if anyway or any(sync for _, _, sync in block):
            self.synced = self.durable
            for _, number in [drop for drop in self._drops if drop[0] <= self.synced]:
                self.stored.pop(number, None)
            self._drops = [drop for drop in self._drops if drop[0] > self.synced]
            for at, to in self._trims:
                if at <= self.synced:
                    self._cut(to)
            self._trims = [trim for trim in self._trims if trim[0] > self.synced]

    def _cut(self, upto: int) -> None:
        while self._turns and self._turns[0][0] <= upto:
            self.first = self._turns.pop(0)[0] + 1

    def crash(self, random: Random, *, power: bool) -> int:
        """The process dies, or all of the machine. What is left is a prefix; returns its last record's number."""
        least = self.synced if power else self.durable
        left = random.choice([least, *(last for last, _, _ in self._turns if last > least)])
        self._turns = [turn for turn in self._turns if turn[0] <= left]
        self.last = self.durable = self.synced = left
        self._drops.clear()
        self._trims.clear()
        self.trouble = ""
        return left

    def records(self) -> list[Record]:
        """All that is left."""
        return [record for _, data, _ in self._turns for record in decode(data)]

    def needs(self, live: dict[int, int]) -> None:
        """What a new life needs must be there, and nothing else is kept."""
        for number, size in live.items():
            if len(self.stored.get(number, b"")) < size:
                raise Broken("payload", f"payload {number} of {size} bytes is needed, and gone")
        self.stored = {number: self.stored[number] for number in live}
