"""The loop of ``zmqtasks submit``: feed jobs to a client within a window, take in what is over, never block blindly.

Memory is bounded by the window, however long the source is: a job is forgotten as soon as its outcome is written.
"""

import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from types import FrameType, TracebackType
from typing import Any, Final, Protocol, Self

from zmqtasks.cli._jobs import JobRequest
from zmqtasks.cli._outcomes import Tally
from zmqtasks.cli._sources import Source
from zmqtasks.cli._targets import ByName, Target
from zmqtasks.errors import JobAborted, JobCancelled, JobError, ZmqTasksError
from zmqtasks.submitter.results import Job, Stream, watch_all
from zmqtasks.submitter.submitting import Item

WINDOW: Final = 10_000  # jobs submitted and not yet over
GROUP: Final = 500  # jobs that travel together
TICK: Final = 0.1  # seconds between two looks at the clock, for the progress bar and Ctrl-C
GLANCE: Final = 0.02  # seconds that a stream is waited for while results may come in
ACCEPT_TIMEOUT: Final = 30.0  # seconds until what was submitted must be accepted
LAST_RESULTS: Final = 2.0  # seconds that a cancelled job has to say so
LAST_GLANCE: Final = 0.2  # seconds for the result of a job that ended just before it would have been cancelled
FIRST_LOOK: Final = 0.25  # seconds in which a task that no worker knows is told, when nobody waits for results


class Sender(Protocol):
    """What is asked of a client; `_sender` makes one of a `zmqtasks.Client`."""

    def submit(self, target: Target, calls: list[Item], **options: Any) -> Sequence[Job[Any]]:
        """Submit calls of one target."""

    def flush(self, timeout: float) -> object:
        """Wait until everything is accepted."""

    def forget(self) -> None:
        """Everything submitted is accepted, and nobody waits for its results."""

    def cancel(self, jobs: list[Job[Any]]) -> Sequence[bool]:
        """Cancel what has not started; returns for each whether it is cancelled."""


class Interrupts:
    """Ctrl-C and SIGTERM as a flag: the first one is noted, the second one is a KeyboardInterrupt.

    Attributes:
        number: of the signal that came; 0: none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for one in (signal.SIGINT, signal.SIGTERM):
            self._before[one] = signal.signal(one, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


class Feed:
    """One run of ``zmqtasks submit``.

    Args:
        sender: the client.
        resolve: makes a target of the text in a request.
        source: the jobs.
        tally: takes in what is over.
        on_tick: called about ten times a second, and at the end.
    """

    def __init__(
        self,
        sender: Sender,
        resolve: Callable[[str], Target],
        source: Source,
        tally: Tally,
        on_tick: Callable[["Feed"], None],
    ) -> None:
        self._sender = sender
        self._resolve = resolve
        self._source = source
        self.tally = tally
        self._on_tick = on_tick
        self._interrupts = Interrupts()
        self._open: dict[Job[Any], int] = {}  # job → line
        self._over = Stream()
        self._next_tick = 0.0
        self._by_name = False  # whether a task known by its name only was submitted since the last look
        self.submitted = 0
        self.cancelled_at_once = 0

    @property
    def interrupted(self) -> bool:
        """Whether somebody pressed Ctrl-C, or sent SIGTERM."""
        return bool(self._interrupts.number)

    @property
    def interrupted_by(self) -> int:
        """The number of that signal."""
        return self._interrupts.number

    @property
    def source_ended(self) -> bool:
        """Whether every job of the source is submitted."""
        return self._source.ended

    @property
    def open(self) -> int:
        """Jobs submitted and not known to be over."""
        return len(self._open)

    def run(self) -> None:
        """Submit everything and wait for every outcome; after Ctrl-C or SIGTERM cancel what has not started."""
        with self._interrupts:
            while not self.interrupted and not (self._source.ended and not self._open):
                room = min(GROUP, WINDOW - len(self._open))
                took = self._take(room) if room > 0 and not self._source.ended else 0
                if not self._take_in() and not took:
                    self._sleep(TICK, for_source=room > 0)
                self._tick()
            if self.interrupted:
                self._cancel()
            self._on_tick(self)

    def run_accepted(self, tell: Callable[[list[tuple[int, str]]], None]) -> None:
        """Submit everything and wait only until it is accepted; `tell` gets (line, id) of what is."""
        with self._interrupts:
            while not self.interrupted and not self._source.ended:
                while self._take(GROUP) and len(self._open) < WINDOW:
                    pass
                if not self._open:
                    self._sleep(TICK, for_source=True)
                    continue
                self._sender.flush(ACCEPT_TIMEOUT)
                self._first_look()
                tell([(line, job.id) for job, line in self._open.items()])
                self._take_in(_refused)
                self._open.clear()  # nobody waits for them here
                self._sender.forget()
                self._tick()
            self._on_tick(self)

    def _first_look(self) -> None:
        """Give the scheduler the moment it needs to say that no worker knows the task."""
        deadline = time.monotonic() + FIRST_LOOK
        first = next(iter(self._open))
        while self._by_name and not first.done() and time.monotonic() < deadline:
            self._sleep(deadline - time.monotonic(), for_source=False)
        self._by_name = False

    def _take(self, limit: int) -> int:
        """Submit what the source gives; returns how many jobs."""
        requests = self._source.take(limit)
        for group in groups(requests):
            first = group[0]
            target = self._resolve(first.target)
            options = dict(first.options)
            if isinstance(target, ByName):
                self._by_name = True
                options.setdefault("on_unknown", "fail")
            if first.id is not None:
                options["job_id"] = first.id
            jobs = self._sender.submit(target, [(tuple(r.args), r.kwargs) for r in group], **options)
            self.submitted += len(jobs)
            self._open.update(zip(jobs, (request.line for request in group), strict=True))
            watch_all(jobs, self._over)
        return len(requests)

    def _take_in(self, matters: Callable[[Job[Any]], bool] | None = None) -> int:
        """Count and write what is over, and matters; returns how many jobs."""
        count = 0
        while self._over.ready:
            job = self._over.ready.popleft()
            line = self._open.pop(job, None)
            if line is not None and (matters is None or matters(job)):
                self.tally.add(line, job)
                count += 1
        if count:
            self.tally.flush()
        return count

    def _sleep(self, seconds: float, *, for_source: bool) -> None:
        """Until a job is over, the source has more, or the time has passed."""
        if self._over.ready or self.interrupted:
            return
        if for_source and self._source.fd is not None:
            select.select([self._source.fd], [], [], GLANCE if self._open else seconds)
        else:
            self._over.wait(max(0.0, seconds))

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._on_tick(self)

    def _cancel(self) -> None:
        """Cancel what has not started, and take in what that ends; what runs goes on and is not waited for."""
        before = self.tally.states["cancelled"]
        jobs = list(self._open)
        answers = self._sender.cancel(jobs) if jobs else []
        cancelled = {job for job, answer in zip(jobs, answers, strict=True) if answer}
        now = time.monotonic()
        glance, deadline = now + LAST_GLANCE, now + LAST_RESULTS
        while self._open and now < deadline and (now < glance or not cancelled.isdisjoint(self._open)):
            if not self._take_in():
                self._over.wait(TICK)
            now = time.monotonic()
        self._take_in()
        self.cancelled_at_once = self.tally.states["cancelled"] - before


def groups(requests: list[JobRequest]) -> Iterator[list[JobRequest]]:
    """Neighbours that can travel together: one target, the same options. A job with an id of its own travels alone."""

    def alike(request: JobRequest) -> Any:
        own = request.id if request.id is None else (request.line, request.id)
        return own, request.target, request.options

    for _, group in groupby(requests, alike):
        yield list(group)


def _refused(job: Job[Any]) -> bool:
    """Whether a job that is over was never accepted, or never run: where nobody waits, only that is told."""
    try:
        error = job.exception(0)
    except JobCancelled:
        return False
    return isinstance(error, ZmqTasksError) and (isinstance(error, JobAborted) or not isinstance(error, JobError))
