"""Whoever waits for a lone job leads the loop meanwhile: nobody has to be woken, neither to send it nor for its result.

The loop has a thread of its own. To hand a job to it, and to be woken by it, costs a lone job a tenth of its whole way.
So a thread that waits for the only job that is open makes the loop's turns itself, for a moment; the loop's thread is
*parked* then, and for some ms after. While it is parked, the next lone job is sent by whoever submits it, too. Jobs
that take longer, or are not alone, go as ever: the thread is woken and leads.

Whoever makes a turn holds the baton, and lets go of it to sleep. Whoever stops leading leaves a thread behind that
sleeps in `park`, where a wake-up reaches it, or wakes it. So there is always one who serves the connection, some ms
late at most.

Handlers of signals run in the main thread, between any two steps of a turn, and may raise there: that of Ctrl-C does.
So while the main thread leads they wait until the turns are over: for `TERM`, and what the last turn takes. Where there
is a handler that may stand for one of C code the main thread does not lead.

Source: D. C. Schmidt et al., Pattern-Oriented Software Architecture, volume 2, "Leader/Followers".
"""

import os
import signal
import sys
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` makes an enum: 80 times as long
from _signal import signal as set_handler
from collections.abc import Callable
from math import inf
from time import monotonic, sleep
from types import FrameType, FunctionType, MethodType
from typing import Final

from zmqtasks.transport import Ready, Sleeper, Wakeup

TERM: Final = 0.02  # seconds for which a caller leads at most: a job that takes longer does not mind being woken for
ROOM: Final = 200  # frames of the stack that a turn may take
PARK: Final = 0.005  # seconds after which the parked thread looks whether somebody still leads
_UNCAUGHT: Final = {int(signal.SIGKILL), int(signal.SIGSTOP)}
_SIGNALS: Final = tuple(sorted({int(number) for number in signal.valid_signals()} - _UNCAUGHT))


class Seat:
    """What a leader sleeps with, and what its last sleep found.

    Attributes:
        ready: what was found; None: it was not looked.
        heard: among it something of the connection.
    """

    __slots__ = ("heard", "ready", "sleeper")

    def __init__(self, baton: threading.Lock) -> None:
        self.sleeper = Sleeper(baton=baton)
        self.ready: Ready | None = None
        self.heard = True


class Leading:
    """Who leads one loop.

    Args:
        turn: makes one; whether there is more to do at once. Called with the baton.
        rest: sleeps until there is something to do, or a monotonic time; False: the client is being closed.
        count: how many jobs are open.
        wakeup: ends the sleep of whoever leads, and of the thread that is parked.

    Attributes:
        baton: held by whoever makes a turn.
        failure: what a turn of a caller has raised: the loop's thread ends with it.
        closed: no turn is made any more.
        quiet: whether nothing was submitted that the loop has not taken; from then on it is woken for that.
    """

    quiet: Callable[[], bool]

    def __init__(
        self,
        turn: Callable[[Seat], bool],
        rest: Callable[[Seat, float], bool],
        count: Callable[[], int],
        wakeup: Wakeup,
    ) -> None:
        self._turn, self._rest, self._count, self._wakeup = turn, rest, count, wakeup
        self.baton = threading.Lock()
        self.failure: Exception | None = None
        self.closed = False
        self._seat = Seat(self.baton)  # of callers
        self._one = threading.Lock()  # held by the caller that leads
        self._leading = False
        self._led_at = -inf  # monotonic time at which a caller led last, with nothing left to do
        self._parked = False
        self._stepped = False  # a caller has sent a job and nobody has waited for it since
        self._nap = Sleeper()  # of the parked thread
        self._naps = (wakeup.fileno(),)

    # ------------------------------------------------------------------------------------------ the loop's thread

    def park(self) -> bool:
        """With the baton: sleep while callers lead, or have just led. Whether that was so: then look for everything."""
        if not self._led_lately() or not self.quiet():
            return False
        if not (self._leading or self._stepped) and self._count():  # what is open is nobody's who leads
            return False
        self._parked = True
        self.baton.release()
        try:
            while self._led_lately():
                if self._nap.wait(self._naps, PARK):
                    self._wakeup.clear()
                    break
        finally:
            self.baton.acquire()
            self._parked = False
        return True

    def _led_lately(self) -> bool:
        return self._leading or monotonic() - self._led_at < PARK

    def end(self) -> None:
        """With the baton: from now on callers make no turns."""
        self.closed = True
        while self._leading:
            self._wakeup.set()
            self.baton.release()
            sleep(0.001)
            self.baton.acquire()

    # ------------------------------------------------------------------------------------------ callers

    def lead(self, done: Callable[[], bool], timeout: float | None) -> None:
        """Lead until a job is done, if it is the only one, for a moment at most: see `Connection.lead`."""
        if self._count() == 1 and (timeout is None or timeout > 0) and not self._one.locked() and _headroom():
            until = monotonic() + (TERM if timeout is None else min(TERM, timeout))
            if guarded(lambda: self._lead(done, until)):
                return
        self.attend()

    def _lead(self, done: Callable[[], bool], until: float) -> None:
        if not self._one.acquire(blocking=False):
            return
        try:  # a turn of somebody else may take its time: a handler of the log, say, which may even wait here itself
            if not self.baton.acquire(timeout=max(0.0, until - monotonic())):
                self.attend()
                return
            try:
                if not (self.closed or self.failure):
                    self._lead_on(done, until)
            finally:
                self.baton.release()
        finally:
            self._one.release()

    def _lead_on(self, done: Callable[[], bool], until: float) -> None:
        """With the baton."""
        self._leading = True
        if not self._parked:  # it sleeps where messages would wake it, too: from now on it need not
            self._wakeup.set()
        calm = False
        try:
            calm = self._turns(done, until)
        finally:
            self._leading = False
            if calm:
                self._led_at = monotonic()
                self._stepped = False
            if not (calm and self._parked) and not self.closed:
                self._wakeup.set()

    def _turns(self, done: Callable[[], bool], until: float) -> bool:
        """Whether nothing is left to do when this ends."""
        seat = self._seat
        seat.ready = None  # whoever led before has seen what there was
        try:
            more = False
            while not done():
                if not more and not self._rest(seat, until):
                    return False
                if self.closed or self.failure:  # by somebody who made turns during that sleep
                    return False
                more = self._turn(seat)
                if monotonic() >= until:
                    break
        except BaseException as error:  # noqa: BLE001  (nobody may be left waiting, whatever happens)
            self._fail(error)
            return False
        return done() and not more and not self._count() and self.quiet()

    def attend(self) -> None:
        """Somebody begins to wait for a job in another way: the loop's thread has to look for its outcome."""
        if self._led_at > -inf:
            self.rouse()

    def rouse(self) -> None:
        """There is something to do for the loop's thread."""
        self._led_at = -inf  # so that it does not park just now
        self._wakeup.set()

    def _fail(self, error: BaseException) -> None:
        """A turn ended in its middle: the loop's thread tells everybody. What is no Exception goes on to the caller.

        So does a client end into whose thread somebody throws an exception from outside (PyThreadState_SetAsyncExc).
        """
        if isinstance(error, Exception):
            self.failure = error
            return
        self.failure = RuntimeError(f"a turn was ended by {error!r}")
        raise error

    def wake(self) -> None:
        """A job was submitted while nobody made turns: send it, or have it sent."""
        if self._parked and not (self._stepped or self.closed or self.failure) and self._count() == 1 and _headroom():
            self._stepped = True
            if guarded(self._step):
                return
        self.rouse()

    def _step(self) -> None:
        calm = False
        if self.baton.acquire(blocking=False):  # else somebody makes a turn: a finalizer may be called in one of ours
            try:
                if not self.closed:
                    self._seat.ready, self._seat.heard = {}, False  # what has come is found before the next sleep
                    calm = not self._turn(self._seat) and self.quiet()
            except BaseException as error:  # noqa: BLE001  (the same)
                self._fail(error)
            finally:
                self._led_at = monotonic() if calm else -inf
                self.baton.release()
        if not calm:
            self._wakeup.set()


def _headroom() -> bool:
    """Whether a turn can be made at this depth of the stack: it must not end in its middle with a RecursionError."""
    try:
        sys._getframe(sys.getrecursionlimit() - ROOM)  # noqa: SLF001
    except ValueError:  # it is not so deep
        return True
    return False


# ------------------------------------------------------------------------------------------------ signals

Handler = Callable[[int, FrameType | None], object]

# The handlers of all signals when they were looked through last, and those of them that are to be replaced. In one
# store: a handler may raise between any two.
_table: list[tuple[list[object], dict[int, Handler]]] = [([], {})]
_kept: dict[int, FrameType | None] = {}  # signals that came while an action was guarded, and where
_main = [threading.main_thread().ident]  # where handlers run
_guarding = [False]


def guarded(action: Callable[[], None]) -> bool:
    """Do this where no handler of a signal can raise in the middle of it; False: that cannot be had.

    Handlers in Python wait until it is over.
    """
    if threading.get_ident() != _main[0] or _guarding[0]:
        action()
        return True
    handlers = list(map(getsignal, _SIGNALS))
    if handlers != _table[0][0] and not _look_through(handlers):
        return False
    before = _table[0][1]
    try:
        _guarding[0] = True
        for number in before:
            set_handler(number, _note)
        action()
    finally:
        _guarding[0] = False
        try:
            _put_back(list(before.items()))
        finally:
            _deliver()
    return True


def _look_through(handlers: list[object]) -> bool:
    """Note what is to be replaced; False: not all of it can be.

    A handler that is no function of Python's may stand for one that Python does not know, as of C code. asyncio sets
    more of its handlers than can be put back (`siginterrupt`).
    """
    before, found = _table[0][1], dict[int, Handler]()
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        if handler is _note and number in before:
            found[number] = before[number]  # another handler has raised while this one was being put back
        elif handler is signal.default_int_handler or (
            isinstance(handler, FunctionType | MethodType) and not str(handler.__module__).startswith("asyncio")
        ):
            found[number] = handler
        elif callable(handler):
            return False
    try:
        if found:
            set_handler(*next(iter(found.items())))
    except ValueError:  # not in the main interpreter
        return False
    _table[0] = (handlers, found)
    return True


def _note(number: int, frame: FrameType | None) -> None:
    """The handler of all these signals meanwhile; and should it ever stay in place, as good as the one before."""
    before = _table[0][1]
    if _guarding[0]:
        _kept[number] = frame
    elif number in before:
        before[number](number, frame)


def _put_back(handlers: list[tuple[int, Handler]]) -> None:
    """One after the other, even if a handler that is back already raises. What others have set meanwhile stays."""
    if handlers:
        number, handler = handlers[0]
        try:
            if getsignal(number) is _note:
                set_handler(number, handler)
        finally:
            _put_back(handlers[1:])


def _deliver() -> None:
    """Call the handlers of what came meanwhile: those that are there now, for one of them may have set another."""
    while _kept:
        number = next(iter(_kept))
        frame = _kept.pop(number)
        handler = getsignal(number)
        try:
            if callable(handler):
                handler(number, frame)
        finally:
            _deliver()  # the others have their turn, too


def _after_fork() -> None:
    """In a child, whose main thread is the one that has forked. The parent's may have been guarded just then."""
    _main[0], _guarding[0] = threading.get_ident(), False
    _kept.clear()
    _put_back(list(_table[0][1].items()))


os.register_at_fork(after_in_child=_after_fork)
