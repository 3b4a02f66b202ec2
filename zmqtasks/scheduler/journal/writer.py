"""The one writer: it takes all that waits as one block, commits it, and says how far it has come.

It is a thread of its own that waits for something to be written. What is small another thread may commit by itself
while the writer has nothing to do; should the disk then not answer, the two change places (`commit`, `work`).

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
QUICK: Final = 0.002  # seconds of a commit; after a longer one nobody but the writer waits for the disk
STUCK: Final = 0.01  # seconds of a commit by another thread after which that thread's work is done by the writer
WATCHED: Final = 0.1  # seconds without such commits after which the writer looks no more whether one of them is stuck
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
        committed: called when `durable` has changed, instead of `wake`.
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
        committed: Callable[[], object] | None = None,
    ) -> None:
        self._store, self._head, self._large = store, head, large
        self._blocks, self._link, self._wake = blocks, link, wake
        self._committed = committed or wake
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
        self._disk = threading.Lock()  # held by whoever uses the store, the head and the payloads
        self._lock = threading.Lock()  # for what follows
        self._left = 0  # tasks that were handed over and not dealt with
        self._began: float | None = None  # when the commit of another thread did, while it lasts
        self._used = -WATCHED  # when the last of them began
        self._watching = False  # the writer looks at these every now and then
        self._replaced = False  # the writer has gone to do the work of the one whose commit lasts
        self._took = 0.0  # seconds of the last commit
        self._ended = threading.Event()
        self._closing = threading.Event()
        self._clock, self._pause = clock, pause or self._closing.wait
        self._threaded = False

    def start(self, replace: Callable[[], object] = lambda: None) -> None:
        """Begin to write, in a thread of its own. `replace`: does the work of the one whose `commit` lasts too long."""
        self._threaded = True
        threading.Thread(target=self._run, args=(replace,), name="journal", daemon=True).start()

    def put(self, tasks: list[Task]) -> None:
        """Hand something over, in order. By one thread only, as is `commit`."""
        with self._lock:
            self._left += len(tasks)
        self._queue.put(tasks)

    def commit(self, tasks: list[Task]) -> bool:
        """Write this at once if nothing else is being written and the disk is a quick one; otherwise hand it over.

        False: that took so long that the writer does the work of this thread now; this one must go on with `work`.
        """
        if self._left or self._took > QUICK or not self._disk.acquire(blocking=False):
            self.put(tasks)
            return True
        try:
            with self._lock:
                self._began = self._used = self._clock()
                if not self._watching:
                    self._queue.put([])
            self._safely(self._write_all, tasks)
            with self._lock:  # with the disk: the one that has replaced this thread may begin a commit right after it
                self._began = None
                replaced, self._replaced = self._replaced, False
        finally:
            self._disk.release()
        return not replaced

    def work(self) -> bool:
        """Be the writer, until nothing comes any more (False) or this thread has to replace another one (True)."""
        going = True
        while going:
            tasks = self._take(self._patience())
            if not self._disk.acquire(timeout=-1.0 if tasks else STUCK):
                if self._replaces():
                    return True
                continue  # another thread commits; it can do so only if nothing was handed over
            try:
                going = self._safely(self._go_on, tasks)
            finally:
                self._disk.release()
        self._ended.set()
        return False

    def _replaces(self) -> bool:
        """Whether a commit of another thread is stuck: then the work of that thread is this one's."""
        with self._lock:
            self._replaced = self._began is not None and self._clock() - self._began > STUCK
            return self._replaced

    def close(self, patience: float) -> None:
        """Write what waits, as far as that is possible in so many seconds, and end."""
        if self._threaded:
            self.put([Stop()])
            self._ended.wait(patience)
            self._closing.set()  # no more tries
            self._ended.wait(patience)
        else:
            self.put([Stop()])
            while self._safely(self._go_on, self._take(self._patience())):
                pass

    def step(self) -> None:
        """Write what waits now, by hand."""
        self._safely(self._go_on, self._take(0.0))

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self, replace: Callable[[], object]) -> None:
        try:
            replaces = self.work()
        except Exception as error:  # there is no memory, say: without a writer nobody would ever be answered
            logger.exception("the journal's writer failed", extra={"action": "journal-failed"})
            with self._disk:
                self._end(f"the journal's writer failed: {error!r}")
            self._ended.set()
            return
        if replaces:
            replace()

    def _safely(self, action: Callable[[list[Task]], bool], tasks: list[Task]) -> bool:
        """One group; False: there will be no other."""
        if self.fatal:
            return False
        try:
            return action(tasks)
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

    def _go_on(self, tasks: list[Task]) -> bool:
        self._write_all(tasks)
        with self._lock:
            self._left -= len(tasks)
        ending = any(isinstance(task, Stop) for task in tasks)
        if self._unsynced_since is not None and (ending or self._clock() >= self._unsynced_since + LATE):
            self._sync()
        if tasks:
            self._sync_head()
        self._clear_away()
        self._checkpoint()
        if not tasks or (ending and not self._closing.is_set()):
            self._sync_head()
        if ending or self._closing.is_set():
            self._head.close()
            self._store.close()
            return False
        return True

    def _write_all(self, tasks: list[Task]) -> bool:
        turns = [task for task in tasks if isinstance(task, Turn)]
        puts = [task for task in tasks if isinstance(task, Put)]
        if puts:
            self._try(self._store_all, puts)
        if turns:
            self._write(turns)
        self._drops.extend((self.durable, task.number) for task in tasks if isinstance(task, Drop))
        self._trims.extend((self.durable, task.upto) for task in tasks if isinstance(task, Trim))
        return True

    def _patience(self) -> float | None:
        """Seconds to wait for something to be handed over, until something else is due."""
        patience: float | None = None
        unsynced_since = self._unsynced_since  # a commit of another thread may change it
        if self._trim_to:
            patience = 0.0  # a slice of it between two blocks
        elif self._head_due:
            patience = EVERY
        elif unsynced_since is not None:
            patience = max(0.0, unsynced_since + LATE - self._clock())
        with self._lock:
            self._watching = self._began is not None or self._clock() - self._used < WATCHED
            if self._watching:
                return min(STUCK, EVERY if patience is None else patience)
        return patience

    def _take(self, patience: float | None) -> list[Task]:
        """All that waits, up to a block's size; waits for the first of it."""
        tasks: list[Task] = []
        with suppress(Empty):
            some = self._queue.get(timeout=patience)
            size = 0
            while True:
                tasks += some
                size += sum(len(task.data) for task in some if isinstance(task, Turn | Put))
                if size >= BLOCK or (some and isinstance(some[-1], Stop)):
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
        began = self._clock()
        self._try(self._insert, block, sync)
        self._took = self._clock() - began
        self.durable = block.last
        self._committed()  # somebody waits: all else comes after it
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
