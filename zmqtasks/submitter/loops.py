"""asyncio: what the I/O thread has for event loops, with one wake-up of a loop for all that came together."""

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any

from zmqtasks.submitter.waiting import Stream, unwatch, watch

Loop = asyncio.AbstractEventLoop


def call(loop: Loop | None, fn: Callable[[], object]) -> bool:
    """Have a loop call `fn`, from any thread; False if the loop is over, and nobody waits in it any more."""
    if loop is None:
        return False
    try:
        loop.call_soon_threadsafe(fn)
    except RuntimeError:  # it is closed
        return False
    return True


class LoopStream(Stream):
    """Jobs that are over, for one event loop. All but `wake` is called in the loop's thread.

    Args:
        loop: only weakly held; it may end at any time.
    """

    __slots__ = ("_called", "_loop")

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self._loop = weakref.ref(loop)
        self._called = False  # the loop is about to look

    def wake(self) -> None:
        """Something is in `ready`: one call into the loop for however many jobs, until it has looked."""
        with self._changed:
            if self._called:
                return
            self._called = True
        if not call(self._loop(), self._look):
            self.ready.clear()
            self._called = False

    def _look(self) -> None:
        self._called = False  # before looking: what comes from now on wakes again
        self.look()

    def look(self) -> None:
        """Tell the coroutines what is in `ready`."""
        raise NotImplementedError


class Waits(LoopStream):
    """The jobs that coroutines of a loop await."""

    __slots__ = ("_waiting",)

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop)
        self._waiting: dict[Any, list[asyncio.Future[None]]] = {}

    def look(self) -> None:
        ready, waiting = self.ready, self._waiting
        while ready:
            for future in waiting.pop(ready.popleft(), ()):
                if not future.done():
                    future.set_result(None)

    def until_over(self, job: Any) -> Generator[Any, None, None]:
        """Wait until a job is over. Whoever gives up leaves nothing behind, and does not end the job."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        futures = self._waiting.get(job)
        if futures is None:
            futures = self._waiting[job] = []
            watch(job, self)
            if self.ready:
                self.wake()  # it has ended just now
        futures.append(future)
        try:
            yield from future
        finally:
            futures.remove(future)
            if not futures and self._waiting.get(job) is futures:
                del self._waiting[job]
                unwatch(job, self)


class Completed(LoopStream):
    """Jobs in the order in which they end, for one coroutine of the running loop."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._future: asyncio.Future[None] | None = None

    def look(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def until_ready(self, timeout: float | None = None) -> bool:
        """Wait until something is in `ready`; whether it is, within `timeout` seconds."""
        if self.ready:
            return True
        try:
            async with asyncio.timeout(timeout):
                while not self.ready:
                    self._future = asyncio.get_running_loop().create_future()
                    await self._future
        except TimeoutError:
            return bool(self.ready)
        return True


class Event:
    """A `threading.Event` that a coroutine waits for; set from any thread. One wait only."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def set(self) -> None:
        """It has happened."""
        call(self._loop, self._tell)

    def _tell(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float | None) -> bool:
        """Whether it happened within `timeout` seconds."""
        await asyncio.wait((self._future,), timeout=timeout)
        return self._future.done()


# ------------------------------------------------------------------------------------------------ one per loop

_waits: weakref.WeakKeyDictionary[Loop, Waits] = weakref.WeakKeyDictionary()
_lock = threading.Lock()  # loops of several threads


def _renew_lock() -> None:
    global _lock  # noqa: PLW0603  (another thread may have held it at the fork)
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def waits() -> Waits:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    with _lock:
        found = _waits.get(loop)
        if found is None:
            found = _waits[loop] = Waits(loop)
        return found
