"""Jobs of fanout queues: a copy for each worker that takes from the queue now, in that worker's own queue.

The scheduler knows nothing of it: it is asked who takes from the queue, and gets as many jobs as that are. Each is a
job like any other, accepted, kept and run again by itself.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from zmqtasks.config import DEFAULT_QUEUE
from zmqtasks.errors import JobTimeout, NoWorker
from zmqtasks.queues import direct
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.job import END_WORDS, Job, Pair, Source
from zmqtasks.submitter.ledger import Call
from zmqtasks.submitter.results import finish
from zmqtasks.submitter.routing import Routing
from zmqtasks.submitter.submitting import Item, Prepared, Submitting
from zmqtasks.wire import WorkerStatus

T = TypeVar("T")

Takers = Callable[[], list[str]]  # names of the workers that get a copy


class Copies(Job[dict[str, T]]):
    """The copies of one job, as one: its value is a dict of theirs, by the names of the workers.

    It is over when all of them are, and fails if one of them did, with its exception. Its id is that of the first.

    Attributes:
        jobs: the copies, by the names of their workers.
    """

    __slots__ = ("_ending", "jobs")

    def __init__(self, jobs: Mapping[str, Job[T]]) -> None:
        first = next(iter(jobs.values()))
        prefix, counter = first.pair
        super().__init__(Source(first._source.owner, prefix, first.task, first=counter), 0)  # noqa: SLF001  (a Job's)
        self.jobs = dict(jobs)
        self._ending = threading.Lock()
        for job in jobs.values():
            job.add_done_callback(self._on_copy)

    @property
    def pairs(self) -> Sequence[Pair]:
        """The ids of those that are not over."""
        return [job.pair for job in self.jobs.values() if not job.done()]

    @property
    def state(self) -> str:
        """As for a job; "succeeded" if all did, else how the first that did not has ended."""
        self.done()
        return super().state

    def done(self) -> bool:
        """Whether all copies are over and their outcomes are here."""
        if self._form is None and all(job.done() for job in self.jobs.values()):
            with self._ending:
                if self._form is None:
                    failed = (job.state for job in self.jobs.values() if job.state in END_WORDS)
                    finish([self], [b""], next(failed, "copies"))
        return self._form is not None

    def cancelled(self) -> bool:
        """Whether somebody cancelled the first copy that did not succeed."""
        self.done()
        return super().cancelled()

    def accepted(self, timeout: float | None = None) -> bool:
        """Wait until the scheduler has all copies in its journal; see `Job.accepted`."""
        left = _clock(timeout)
        return all(job.accepted(left()) for job in self.jobs.values())

    def cancel(self, force: bool = False, timeout: float = 5.0) -> bool:  # noqa: FBT001, FBT002  (as in Job)
        """Cancel the copies that are not over; whether all of these are cancelled. See `Job.cancel`."""
        pairs = self.pairs
        if not pairs:
            return self.cancelled()
        return all(self._source.owner.cancel(pairs, timeout, force=force))

    def add_progress_callback(self, fn: Callable[[Job[Any]], object]) -> None:
        """Have `fn(copy)` called when a copy tells how far it is; see `Job.add_progress_callback`."""
        for job in self.jobs.values():
            job.add_progress_callback(fn)

    def _on_copy(self, _job: Job[T]) -> None:
        self.done()

    def _wait(self, timeout: float | None) -> None:
        """Wait in this thread: the one that runs callbacks may be the one that waits."""
        left = _clock(timeout)
        try:
            for job in self.jobs.values():
                if not job.done():
                    job._wait(left())  # noqa: SLF001  (a Job's)
        except JobTimeout:
            late = [name for name, job in self.jobs.items() if not job.done()]
            hint = self._source.owner.hint([self.jobs[name]._source for name in late])  # noqa: SLF001  (a Job's)
            raise JobTimeout(
                f"{self}: {len(late)} of {len(self.jobs)} copies were not over within {timeout:g} s, those of "
                f"{', '.join(late[:10])}; they go on{hint}"
            ) from None
        self.done()

    def _decoded(self) -> Any:
        if self._form not in END_WORDS:
            return {name: job._decoded() for name, job in self.jobs.items()}  # noqa: SLF001  (a Job's)
        failed = {name: job for name, job in self.jobs.items() if job.state in END_WORDS}
        name, job = next(iter(failed.items()))
        error = job._decoded()  # noqa: SLF001  (a Job's)
        note = f"the copy for worker {name} ({len(failed)} of {len(self.jobs)} copies did not succeed)"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        return error

    def __repr__(self) -> str:
        return f"<Copies {self.id} {self.task} {self.state}, for {', '.join(self.jobs)}>"


def _clock(timeout: float | None) -> Callable[[], float | None]:
    """Tells how many seconds are left of a time-out."""
    if timeout is None:
        return lambda: None
    end_time = time.monotonic() + timeout
    return lambda: max(0.0, end_time - time.monotonic())


class Broadcasting(Submitting):
    """Submit to each worker that takes from a fanout queue.

    Args:
        plain: what submits to the queue itself.
        takers: tells the workers.
    """

    def __init__(self, plain: Submitting, takers: Takers) -> None:
        super().__init__(plain.connection, plain._given, plain.submit_timeout)  # noqa: SLF001  (its own kind)
        self._takers = takers

    def send_one(self, prepared: Prepared, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float) -> Job[Any]:
        """A copy for each worker. Raises as `Submitting.send_one`, and NoWorker."""
        return self._to_each(prepared, lambda one, own: [one.send_one(own, args, kwargs, timeout)])[0]

    def send_batch(self, prepared: Prepared, items: list[Item]) -> list[Job[Any]]:
        """A batch for each worker. Raises as `Submitting.send_batch`, and NoWorker."""
        return self._to_each(prepared, lambda one, own: one.send_batch(own, items))

    def _to_each(
        self, prepared: Prepared, send: Callable[[Submitting, Prepared], Sequence[Job[Any]]]
    ) -> list[Job[Any]]:
        sent: dict[str, Sequence[Job[Any]]] = {}
        try:
            for worker in self._takers():
                sent[worker] = send(*self._of(worker, prepared))
        except BaseException:
            self.take_back(job for jobs in sent.values() for job in jobs)
            raise
        return [Copies(dict(zip(sent, jobs, strict=True))) for jobs in zip(*sent.values(), strict=True)]

    def _of(self, worker: str, prepared: Prepared) -> tuple[Submitting, Prepared]:
        """What submits the copies of one worker. Those of an id have ids of their own, the same each time."""
        given, call, queue = self._given, prepared.call, direct(worker)
        if "job_id" in given:
            given = {**given, "job_id": f"{given['job_id']}:{worker}"}
        unknown = given.get("on_unknown", "fail") == "fail"  # no other worker will ever know it in place of this one
        spec = msgspec.structs.replace(call.spec, queue=queue, fail_unknown=unknown, fail_unserved=True)
        own = Call(call.task, call.shipped, call.codec, spec)
        source = Source(self.connection, self.connection.prefix, call.task, spec=spec)
        return Submitting(self.connection, given, self.submit_timeout), Prepared(own, source, prepared.shipped)


class _App(Protocol):
    @property
    def routing(self) -> Routing: ...

    def takers(self, queue: str) -> list[str]: ...


def submitting(app: _App, client: Client, given: Mapping[str, Any]) -> Submitting:
    """What submits with these options: to one queue, or to each worker that takes from it."""
    plain = client.options(**given)
    queue = given.get("queue", DEFAULT_QUEUE)
    return Broadcasting(plain, partial(app.takers, queue)) if app.routing.queues.fans_out(queue) else plain


def takers(workers: Iterable[WorkerStatus], queue: str) -> list[str]:
    """The names of the workers that take from a queue, and go on taking.

    Raises:
        NoWorker: there is none; or one could not be sent a copy of its own.
    """
    staying = [worker for worker in workers if worker.state != "draining"]
    there = [worker for worker in staying if queue in worker.queues]
    if not there:
        raise NoWorker(
            f"no worker takes from queue {queue!r}, and a job of it goes to each that does; start one with: "
            f"zmqtasks worker -A APP -Q {queue}"
        )
    if alone := [worker.name for worker in there if direct(worker.name) not in worker.queues]:
        raise NoWorker(
            f"{', '.join(alone[:10])} takes from queue {queue!r}, but from no queue of its own, by which it would get "
            f"its copy: start it again with the app that declares {queue!r} as a fanout queue (zmqtasks worker -A APP)"
        )
    names = dict.fromkeys(worker.name for worker in there)
    called = Counter(worker.name for worker in staying if worker.state == "up" and direct(worker.name) in worker.queues)
    if same := [name for name in names if called[name] > 1]:
        raise NoWorker(
            f"{called[same[0]]} workers are called {same[0]}, and a copy finds its worker by the name: give them names "
            f"of their own (zmqtasks worker -n NAME)"
        )
    return list(names)
