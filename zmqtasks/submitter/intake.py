"""What threads hand to the loop: jobs and other commands, in order, with room for so many and no more.

A thread appends under a lock, and wakes the loop only where it sleeps: what comes meanwhile travels together.
A KeyboardInterrupt between any two steps leaves at most a gap in the counters.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from zmqtasks.clock import Now
from zmqtasks.config import MAX_JOBS_PER_MESSAGE, MIB
from zmqtasks.errors import ClientClosed, QueueFull
from zmqtasks.ids import MAX_COUNTER
from zmqtasks.submitter.effects import Effects, Submission
from zmqtasks.submitter.job import RUN
from zmqtasks.submitter.ledger import Call
from zmqtasks.submitter.results import Job, Source, Stream

_PENDING_BYTES: Final = 256 * MIB  # payloads that wait to be accepted, before submitting threads are held up


class Tail:
    """Single jobs of one call that follow one another; the last one may still get more.

    Attributes:
        end: counter of the first job that it has no room for: all have the same Source.
    """

    __slots__ = ("call", "end", "first", "pairs", "source")

    def __init__(self, first: int, call: Call, source: Source) -> None:
        self.first = first
        self.end = source.first + RUN
        self.call = call
        self.source = source
        self.pairs: list[tuple[bytes, Job[Any]]] = []


Action = Callable[[Now, Effects], object]
Command = Submission | Tail | Action


class Intake:
    """The way from the threads into the loop.

    Args:
        url: of the scheduler, for messages.
        prefix: of the session.
        max_pending: jobs that are submitted and not accepted, before submitting threads are held up.
        wake: ends the sleep of the loop.
        wake_for_one: the same for a single job, which may be sent by the thread that submits it.
        why: what may explain that there is no room, for messages.

    Attributes:
        closed: why nothing is taken any more.
        fresh: jobs that the loop has not taken yet.
        commands: that the loop has not taken yet.
        asleep: the loop is to be woken for what comes; it takes that back itself when it runs.
        rooms: for `loops`: the lines of coroutines that wait for room, by event loop.
    """

    def __init__(
        self,
        url: str,
        prefix: bytes,
        max_pending: int,
        wake: Callable[[], None],
        wake_for_one: Callable[[], None] | None = None,
        why: Callable[[], str] = str,
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._max_pending = max_pending
        self._wake = wake
        self._wake_for_one = wake_for_one or wake
        self._why = why
        self.rooms: dict[Any, Any] = {}
        self._tellers: list[Callable[[], None]] = []  # coroutines that wait for room
        self.closed: ClientClosed | None = None
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self.commands: list[Command] = []
        self._tail: Tail | None = None
        self._next = 0  # counter of the next job
        self.fresh = self._fresh_bytes = 0
        self._pending = self._pending_bytes = 0  # jobs in the core that are not accepted
        self._hurried = 0  # threads that wait for room
        self.asleep = False

    # ------------------------------------------------------------------------------------------ from threads

    def submit_one(self, source: Source, call: Call, data: bytes, timeout: float) -> Job[Any]:
        """One job under the session's prefix. Waits up to `timeout` seconds for room.

        Raises:
            QueueFull: there was none.
            ClientClosed: the client is closed, or was made before a fork.
        """
        with self._lock:
            if self.closed is not None or self._full():
                self._wait_for_room(timeout)
            counter, tail = self._next, self._tail
            if tail is None or tail.call is not call or tail.first + len(tail.pairs) != counter or counter >= tail.end:
                tail = self._new_tail(call, source)
            made_of = tail.source
            job: Job[Any] = Job(made_of, counter - made_of.first)
            self._next = counter + 1
            tail.pairs.append((data, job))
            self.fresh += 1
            self._fresh_bytes += len(data)
            if not self.asleep:
                return job
            self.asleep = False
        self._wake_for_one()
        return job

    def submit_part(
        self,
        source: Source,
        call: Call,
        args: list[bytes],
        *,
        timeout: float,
        batch: int | None = None,
        first: int | None = None,
        stream: Stream | None = None,
    ) -> list[Job[Any]]:
        """Jobs that follow one another, part of a batch.

        Args:
            source: of these jobs; its prefix may stand for an id given by the user.
            call: what they have in common.
            args: encoded arguments, one per job; taken over.
            timeout: seconds to wait for room.
            batch: counter of the batch's first job; None: the first of these.
            first: counter of the first of them; None: the next one of the session.
            stream: gets each job when it is over.

        Raises:
            QueueFull: there was no room.
            ClientClosed: see `submit_one`.
        """
        with self._lock:
            if self.closed is not None or self._full():
                self._wait_for_room(timeout)
            if first is None:
                first = self._take_counters(len(args))
            jobs = source.jobs(first, len(args))
            if stream is not None:
                for job in jobs:
                    job.feed(stream)
            handles: list[Any] = jobs.copy()
            self.commands.append(
                Submission(source.prefix, first, call, args, handles, first if batch is None else batch)
            )
            self._tail = None
            self.fresh += len(args)
            self._fresh_bytes += sum(map(len, args))
            wake, self.asleep = self.asleep, False
        if wake:
            self._wake()
        return jobs

    def reserve(self, count: int) -> int:
        """Counters for `count` jobs of one batch; returns the first."""
        with self._lock:
            return self._take_counters(count)

    def do(self, action: Action) -> None:
        """Have the loop run `action(now, effects)`, after what was submitted before.

        Raises:
            ClientClosed: see `submit_one`.
        """
        with self._lock:
            self.check_open()
            self.commands.append(action)
            self._tail = None
            self.asleep = False
        self._wake()  # even if the loop is awake: whoever asks waits for an answer

    def when_room(self, tell: Callable[[], None]) -> bool:
        """Have `tell()` called once, in any thread, when there is room or none will ever be; False if that is now."""
        with self._lock:
            waits = self.closed is None and self._full()
            if waits:
                self._tellers.append(tell)
            return waits

    def forget(self, tell: Callable[[], None]) -> None:
        """Undo `when_room`."""
        with self._lock:
            if tell in self._tellers:
                self._tellers.remove(tell)

    def no_room(self, timeout: float) -> QueueFull:
        """What to raise after waiting for `timeout` seconds in vain."""
        return QueueFull(
            f"no room within {timeout:g} s: {self.fresh + self._pending} jobs "
            f"({(self._fresh_bytes + self._pending_bytes) / MIB:.1f} MiB) wait to be accepted by the "
            f"scheduler at {self._url}{self._why()}"
        )

    @property
    def pending(self) -> tuple[int, int]:
        """Jobs that are not accepted, and the bytes of their payloads."""
        return self.fresh + self._pending, self._fresh_bytes + self._pending_bytes

    def check_open(self) -> None:
        """Raise ClientClosed if nothing is taken any more."""
        if self.closed is not None:
            raise ClientClosed(str(self.closed))

    def close(self, reason: ClientClosed) -> None:
        """Take nothing any more; threads that wait for room are told."""
        with self._lock:
            self.closed = self.closed or reason
            self._room.notify_all()
            tellers, self._tellers = self._tellers, []
        for tell in tellers:
            tell()
        self._wake()

    def forked(self) -> None:
        """This process is a forked child: the lock may be held by a thread that does not exist here."""
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self.closed = ClientClosed(
            f"the client of {self._url} was made before this process forked; make a new one in the child"
        )

    # ------------------------------------------------------------------------------------------ from the loop

    def take(self) -> list[Command]:
        """All commands so far."""
        if not self.commands:
            return []
        with self._lock:
            commands, self.commands, self._tail = self.commands, [], None
            self._pending += self.fresh  # until `publish` counts anew
            self._pending_bytes += self._fresh_bytes
            self.fresh = self._fresh_bytes = 0
        return commands

    def publish(self, pending: tuple[int, int]) -> None:
        """Jobs and bytes in the core that are not accepted; wakes those who wait for room."""
        if pending != (self._pending, self._pending_bytes):
            with self._lock:
                self._pending, self._pending_bytes = pending
                if self._hurried:
                    self._room.notify_all()
                tellers: list[Callable[[], None]] = []
                if self._tellers and not self._full():
                    tellers, self._tellers = self._tellers, tellers
            for tell in tellers:
                tell()

    def may_sleep(self) -> bool:
        """Whether nothing is here; then the next command wakes the loop."""
        with self._lock:
            self.asleep = not self.commands and self.closed is None
            return self.asleep

    # ------------------------------------------------------------------------------------------ under the lock

    def _new_tail(self, call: Call, source: Source) -> Tail:
        self._check_counters(1)
        tail = self._tail = Tail(self._next, call, source.at(self._next))
        self.commands.append(tail)
        return tail

    def _take_counters(self, count: int) -> int:
        self._check_counters(count)
        first = self._next
        self._next = first + count
        return first

    def _check_counters(self, count: int) -> None:
        if self._next + count + MAX_JOBS_PER_MESSAGE > MAX_COUNTER:
            raise ClientClosed("this client has used up its four billion job ids; make a new one")

    def _full(self) -> bool:
        return (
            self.fresh + self._pending >= self._max_pending or self._fresh_bytes + self._pending_bytes >= _PENDING_BYTES
        )

    def _wait_for_room(self, timeout: float) -> None:
        end_time = time.monotonic() + timeout
        self._hurried += 1
        try:
            while self.closed is None and self._full():
                left = end_time - time.monotonic()
                if left <= 0 or not self._room.wait(left):
                    raise self.no_room(timeout)
        finally:
            self._hurried -= 1
        self.check_open()


def submission(command: Submission | Tail, prefix: bytes) -> Submission:
    """What the core takes."""
    if isinstance(command, Submission):
        return command
    args, handles = zip(*command.pairs, strict=True) if command.pairs else ((), ())
    return Submission(prefix, command.first, command.call, list(args), list(handles))
