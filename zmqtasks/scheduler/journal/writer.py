"""The one thread that writes: it takes all that waits as one block, commits it, and says how far it has come.

Everything is done in the order in which it was handed over: what is stored is on the disk before the block of the
records behind it, and what is dropped or trimmed goes after a synced commit of the records before it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

import apsw

from zmqtasks.scheduler.journal.blocks import Block, join
from zmqtasks.scheduler.journal.head import EVERY, Head, Mark
from zmqtasks.scheduler.journal.large import Large
from zmqtasks.scheduler.journal.store import SLICE, Store
from zmqtasks.scheduler.journal.troubles import Fatal, Passing, meaning

logger = logging.getLogger("zmqtasks.scheduler.journal")

BLOCK: Final = 8 * 1024 * 1024  # bytes of records in one block, about
LATE: Final = 1.0  # seconds after which what need not be synced is
AGAIN: Final = (0.1, 0.2, 0.5, 1.0)  # seconds between tries of what cannot be written now


class Turn(NamedTuple):
    """The records of one turn, encoded."""

    records: int
    data: bytes
    sync: bool


class Put(NamedTuple):
    """A large payload to be kept."""

    number: int
    data: bytes


class Drop(NamedTuple):
    """A large payload that is needed no more."""

    number: int


class Trim(NamedTuple):
    """Records up to this number are needed no more."""

    upto: int


class Stop(NamedTuple):
    """Nothing comes any more."""


Task = Turn | Put | Drop | Trim | Stop


class Writer:
    """Owns the database, the head and the payloads from its start on.

    Args:
        store, head, large: what it writes to.
        blocks: (first, last, bytes) of the blocks that are there, in order.
        link: of the last block.
        wake: called when there is news.
        clock: monotonic time, in seconds.
        pause: waits before something is tried again; by default until then, or until it is closed.

    Attributes:
        durable: number of the last record that is as durable as was asked for.
        size: bytes of the records that are kept.
        written: bytes that it has dealt with, of those that were handed over.
        unwritten: payloads that are not written yet.
        trimmed: what was to be trimmed up to this record is gone, but for a block that holds others, too.
        trouble, fatal: see Journal.
    """

    def __init__(
        self,
        store: Store,
        head: Head,
        large: Large,
        blocks: deque[tuple[int, int, int]],
        link: bytes,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._store, self._head, self._large = store, head, large
        self._blocks, self._link, self._wake = blocks, link, wake
        self.durable = blocks[-1][1] if blocks else head.mark.number
        self.size = sum(size for _, _, size in blocks)
        self.written = 0
        self.unwritten: dict[int, bytes] = {}
        self.trouble = self.fatal = ""
        self._synced = self.durable
        self._unsynced_since: float | None = None
        self._head_due, self._head_at = False, 0.0
        self._drops: deque[tuple[int, int]] = deque()  # (record that must be synced first, number)
        self._trims: deque[tuple[int, int]] = deque()  # (record that must be synced first, upto)
        self._trim_to = 0  # up to this record all may go now
        self.trimmed = 0
        self._queue: SimpleQueue[list[Task]] = SimpleQueue()
        self._closing = threading.Event()
        self._clock, self._pause = clock, pause or self._closing.wait
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, tasks: list[Task]) -> None:
        """Hand something over, in order."""
        self._queue.put(tasks)

    def close(self, patience: float) -> None:
        """Write what waits, as far as that is possible in so many seconds, and end."""
        if self._thread.is_alive():
            self._queue.put([Stop()])
            self._thread.join(patience)
            self._closing.set()  # no more tries
            self._thread.join(patience)
        elif not self.fatal:
            self._queue.put([Stop()])
            while self._safely():
                pass

    def step(self) -> None:
        """Write what waits now, by hand."""
        if not self.fatal:
            self._safely(wait=False)

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while self._safely():
            pass

    def _safely(self, *, wait: bool = True) -> bool:
        """One group; False: there will be no other."""
        try:
            return self._go_on(wait=wait)
        except (Fatal, Passing) as error:  # what would pass has no time left to do so
            self._end(str(error))
        except Exception as error:
            logger.exception("the journal's writer failed", extra={"action": "journal-failed"})
            self._end(f"the journal's writer failed: {error!r}")
        return False

    def _end(self, text: str) -> None:
        """Nothing is written any more, not even a sync."""
        self.fatal = f"the journal cannot be written any more: {text}"
        for let_go in (self._head.abandon, self._store.abandon):
            with suppress(OSError, apsw.Error):
                let_go()
        self._wake()

    def _go_on(self, *, wait: bool) -> bool:
        tasks = self._gather(wait=wait)
        turns = [task for task in tasks if isinstance(task, Turn)]
        puts = [task for task in tasks if isinstance(task, Put)]
        if puts:
            self._try(self._store_all, puts)
        if turns:
            self._write(turns)
        self._drops.extend((self.durable, task.number) for task in tasks if isinstance(task, Drop))
        self._trims.extend((self.durable, task.upto) for task in tasks if isinstance(task, Trim))
        ending = any(isinstance(task, Stop) for task in tasks)
        if self._unsynced_since is not None and (ending or self._clock() >= self._unsynced_since + LATE):
            self._sync()
        self._clear_away()
        self._checkpoint()
        if self._head_due and not tasks:
            self._sync_head()
        if ending and not self._closing.is_set():
            self._sync_head()
        if ending or self._closing.is_set():
            self._head.close()
            self._store.close()
            return False
        return True

    def _gather(self, *, wait: bool) -> list[Task]:
        """All that waits, up to a block's size; waits for the first of it, unless something is due before."""
        patience: float | None = None
        if not wait:
            patience = 0.0
        elif self._trim_to:
            patience = 0.0  # a slice of it between two blocks
        elif self._head_due:
            patience = EVERY
        elif self._unsynced_since is not None:
            patience = max(0.0, self._unsynced_since + LATE - self._clock())
        tasks: list[Task] = []
        with suppress(Empty):
            some = self._queue.get(timeout=patience)
            size = 0
            while True:
                tasks += some
                size += sum(len(task.data) for task in some if isinstance(task, Turn | Put))
                if size >= BLOCK or isinstance(some[-1], Stop):
                    break
                some = self._queue.get_nowait()
        return tasks

    def _store_all(self, puts: list[Put]) -> None:
        for put in puts:
            self._large.write(put.number, put.data)
        self._large.sync()
        for put in puts:
            self.unwritten.pop(put.number, None)
            self.written += len(put.data)

    def _write(self, turns: list[Turn]) -> None:
        data = join([turn.data for turn in turns])
        first = self.durable + 1
        block = Block(first, self.durable + sum(turn.records for turn in turns), self._link, data)
        sync = any(turn.sync for turn in turns)
        self._try(self._insert, block, sync)
        self.durable = block.last
        self._wake()  # somebody waits: all else comes after it
        self._link = block.link
        self._blocks.append((block.first, block.last, len(data)))
        self.size += len(data)
        self.written += sum(len(turn.data) for turn in turns)
        if sync:
            self._is_synced(block.last)
        elif self._unsynced_since is None:
            self._unsynced_since = self._clock()

    def _insert(self, block: Block, sync: bool) -> None:  # noqa: FBT001
        self._store.insert(block, sync=sync)

    def _sync(self) -> None:
        self._try(self._store.sync, self.durable)
        self._is_synced(self.durable)

    def _is_synced(self, number: int) -> None:
        """All up to this record is on the disk: the head may say so."""
        self._synced = number
        self._unsynced_since = None
        self._try(self._head.write, Mark(number, self._link))
        self._head_due = True
        self._sync_head()

    def _sync_head(self, *, at_once: bool = False) -> None:
        if self._head_due and (at_once or self._clock() >= self._head_at):
            self._try(self._head.sync)
            self._head_due, self._head_at = False, self._clock() + EVERY

    def _clear_away(self) -> None:
        """What is not needed goes; a little at a time."""
        while self._drops and self._drops[0][0] <= self._synced:
            _, number = self._drops.popleft()
            self.unwritten.pop(number, None)
            with suppress(OSError):  # it is looked for again at the next start
                self._large.remove(number)
        while self._trims and self._trims[0][0] <= self._synced:
            self._trim_to = max(self._trim_to, self._trims.popleft()[1])
        if self._trim_to:
            self._trim()

    def _trim(self) -> None:
        """Delete a slice of what is needed no more; then give space back."""
        blocks = self._blocks
        last = size = 0
        while len(blocks) > 1 and blocks[0][1] <= self._trim_to and size < SLICE:
            _, last, length = blocks.popleft()
            size += length
        if last:
            self._sync_head(at_once=True)  # after a loss of power it must not name a record that is gone
            self._try(self._store.trim, last)
            self.size -= size
            return
        self.trimmed = self._trim_to
        if not self._try(self._store.give_back):
            self._trim_to = 0

    def _checkpoint(self) -> None:
        """That there is no room now does not matter: the WAL holds all, and the next commit brings another try."""
        try:
            self._store.checkpoint()
        except apsw.Error as error:
            trouble = self._meaning(error)
            if not isinstance(trouble, Passing):
                raise trouble from error

    def _meaning(self, error: apsw.Error | OSError) -> Exception:
        return meaning(error, self._store.errno, self._large.path.parent)

    def _try(self, action: Callable[..., object], *arguments: object) -> bool:
        """Do something to the disk; again and again while there is no room for it. Whether it said so (True)."""
        for tries in count():
            try:
                done = action(*arguments)
            except (apsw.Error, OSError) as error:
                trouble = self._meaning(error)
                if not isinstance(trouble, Passing) or self._closing.is_set():
                    raise trouble from error
                self._say(str(trouble))
                self._pause(AGAIN[min(tries, len(AGAIN) - 1)])
            else:
                self._say("")
                return bool(done)
        raise AssertionError("unreachable")

    def _say(self, text: str) -> None:
        if text:
            text = f"the journal cannot be written now: {text}"
        if text != self.trouble:
            self.trouble = text
            if text:
                logger.error("%s; it goes on as soon as that is mended", text, extra={"action": "journal-trouble"})
            else:
                logger.warning("the journal can be written again", extra={"action": "journal-mended"})
            self._wake()
