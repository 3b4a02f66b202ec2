"""Sleeping until there is something to do."""

import errno
import os
import select
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from os import sched_yield
from time import perf_counter
from typing import Final

import zmq

from zmqtasks.transport.busy import BusyPoll
from zmqtasks.transport.sockets import Socket

Waitable = Socket | int
Ready = Mapping[Waitable, int]

SHORT: Final = 0.02  # seconds below which a fraction of a millisecond matters
_FD_SETSIZE: Final = 1024
_EVENTS: Final = int(zmq.EVENTS)
_IN: Final = int(zmq.POLLIN)
_OUT: Final = int(zmq.POLLOUT)


class Wakeup:
    """Lets another thread (or a signal handler) end a `wait`."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._closed = False

    def fileno(self) -> int:
        """For `wait`."""
        return self._read

    @property
    def write_fd(self) -> int:
        """For `signal.set_wakeup_fd`."""
        return self._write

    def set(self) -> None:
        """End the wait that runs, or the next one. Safe from any thread."""
        if self._closed:
            return
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # it is full of wake-ups already

    def clear(self) -> bytes:
        """Forget all wake-ups so far; returns what was written, for signal numbers."""
        try:
            return os.read(self._read, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        if not self._closed:
            self._closed = True
            os.close(self._read)
            os.close(self._write)


class Sleeper:
    """Sleeps until one of some sockets or descriptors is ready, with two or three system calls; zmq_poll makes eight.

    zmq tells by a descriptor that a socket has commands to take in, among them that messages are there; any call to the
    socket takes them in, and then the descriptor says nothing of the messages. So each socket is asked (EVENTS) before
    the sleep. Not so a monitor: it is always read to its end.

    Args:
        quiet: other sockets that are always read to their end, and after whatever is sent by them.
        baton: a lock that is held by whoever uses the sockets; it is let go of while this one sleeps.

    Attributes:
        slept: nothing was ready when the last wait began.
    """

    def __init__(self, *quiet: Socket, baton: "threading.Lock | None" = None) -> None:
        self._quiet = quiet
        self._baton = baton
        self._watched: tuple[list[Waitable], list[Waitable]] | None = None
        self._given: tuple[object, object] = (None, None)  # the very ones that it was made of
        self._poll = select.poll()
        self._wanted: dict[Waitable, int] = {}  # events of each
        self._asked: list[tuple[Socket, int]] = []
        self._fresh = False
        self._known: dict[int, Waitable] = {}  # by descriptor
        self._low: tuple[list[int], list[int]] | None = None  # what select takes: only low descriptors
        self.slept = False

    def wait(
        self,
        readers: Sequence[Waitable],
        timeout: float | None,
        writers: Sequence[Waitable] = (),
        busy: BusyPoll | None = None,
    ) -> dict[Waitable, int]:
        """Sleep until one of these is ready.

        Args:
            readers: to read from. Given again, the very same list is not looked through: it must not have changed.
            timeout: seconds; None is for ever.
            writers: to write to; likewise.
            busy: looks for news before it sleeps; None: sleeps at once.

        Returns:
            The ready ones. A zmq socket must then be read until it is empty; that it was so already may be found out.
        """
        given = self._given
        if given[0] is not readers or given[1] is not writers:
            self._given = (readers, writers)
            watched = (list(readers), list(writers))
            if watched != self._watched:
                self._watch(*watched)
        ready: dict[Waitable, int] = {}
        for sock, wanted in self._asked:
            events = sock.getsockopt(_EVENTS) & wanted  # type: ignore[operator]  # zmq's types fear that it is bytes
            if events:
                ready[sock] = events
        if self._fresh:
            self._fresh = False
            quiet = self._quiet
            self._asked = [one for one in self._asked if one[0] not in quiet and one[0].type != zmq.PAIR]
        self.slept = timeout != 0.0 and not ready
        if ready:
            timeout, busy = 0.0, None
        pause = self._sleep if busy is None or not busy.most or timeout == 0.0 else partial(self._pause, busy)
        if self._baton is None:
            pause(timeout, ready)
            return ready
        self._baton.release()
        try:
            pause(timeout, ready)
        finally:
            self._baton.acquire()
        for sock, wanted in self._asked:  # whoever held it may have taken in what the descriptor would have told
            if sock not in ready and not sock.closed and (events := sock.getsockopt(_EVENTS) & wanted):  # type: ignore[operator]  # as above
                ready[sock] = events
        return ready

    def _pause(self, busy: BusyPoll, timeout: float | None, ready: dict[Waitable, int]) -> None:
        """Sleep, but look for news for a moment first."""
        began = perf_counter()
        until = began + (busy.seconds if timeout is None else min(busy.seconds, timeout))
        poll = self._poll.poll
        while perf_counter() < until:
            for fd, told in poll(0):
                ready[self._known[fd]] = told
            if ready:
                break
            sched_yield()
        else:
            self._sleep(timeout if timeout is None else max(0.0, timeout + began - perf_counter()), ready)
        busy.waited(perf_counter() - began, news=bool(ready))

    def _sleep(self, timeout: float | None, ready: dict[Waitable, int]) -> None:
        if timeout is not None and 0.0 < timeout < SHORT and self._low:
            self._wait_shortly(timeout, ready)
            return
        milliseconds = None if timeout is None else max(0, int(timeout * 1000 + 0.999))
        for fd, told in self._poll.poll(milliseconds):
            ready.setdefault(self._known[fd], told)

    def _wait_shortly(self, timeout: float, ready: dict[Waitable, int]) -> None:
        """As poll, which counts in whole milliseconds; this one does in microseconds."""
        assert self._low is not None  # noqa: S101  (else it is not called)
        try:
            readable, writable, _ = select.select(*self._low, (), timeout)
        except OSError as error:
            if self._baton is None or error.errno != errno.EBADF:
                raise
            return  # whoever has the baton now has closed one of them, and will open another
        for fd in readable:
            ready[self._known[fd]] = select.POLLIN
        for fd in writable:
            ready[self._known[fd]] = ready.get(self._known[fd], 0) | select.POLLOUT

    def _watch(self, readers: list[Waitable], writers: list[Waitable]) -> None:
        """Others than before: sockets come and go, and descriptors are used again."""
        self._watched = (readers, writers)
        self._wanted = dict.fromkeys(readers, _IN)
        for writer in writers:
            self._wanted[writer] = self._wanted.get(writer, 0) | _OUT
        self._poll, self._known = select.poll(), {}
        low: tuple[list[int], list[int]] = [], []
        for one, wanted in self._wanted.items():
            if isinstance(one, int):
                fd, events = one, (select.POLLIN if wanted & _IN else 0) | (select.POLLOUT if wanted & _OUT else 0)
            else:
                fd, events = int(one.getsockopt(zmq.FD)), select.POLLIN
            self._poll.register(fd, events)
            self._known[fd] = one
            for wish, fds in ((select.POLLIN, low[0]), (select.POLLOUT, low[1])):
                if events & wish:
                    fds.append(fd)
        self._low = low if all(fd < _FD_SETSIZE for fd in self._known) else None
        self._asked = [(one, wanted) for one, wanted in self._wanted.items() if not isinstance(one, int)]
        self._fresh = True  # a monitor may have been asked by somebody else before


def has_input(sock: Socket) -> bool:
    """Whether a message can be received at once."""
    return bool(sock.getsockopt(_EVENTS) & _IN)  # type: ignore[operator]  # as above


def wait(readers: Sequence[Waitable], timeout: float | None, writers: Sequence[Waitable] = ()) -> dict[Waitable, int]:
    """The same, once."""
    return Sleeper().wait(readers, timeout, writers)
