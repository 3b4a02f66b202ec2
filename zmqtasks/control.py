"""Control: what a script may change of how a running scheduler gives out jobs. The verbs of ``zmqtasks control``."""

import logging
from collections.abc import Callable, Iterable
from typing import Any

from zmqtasks import operators, rates, wire
from zmqtasks.config import MAX_NAME
from zmqtasks.errors import BadOption
from zmqtasks.submitter.client import Client

_log = logging.getLogger(__name__)


class Control:
    """`app.control`. What it sets holds for the whole cluster, and after a restart of the scheduler.

    All of its methods raise SchedulerUnreachable where no answer comes in time, and BadOption with what the scheduler
    says against the change. A name that nobody knows is logged as a warning, with the one that was perhaps meant.

    Args:
        client: tells the client of this process, whose scheduler it is.
        timeout: seconds for each answer.
    """

    def __init__(self, client: Callable[[], Client], timeout: float = operators.CONNECT_TIMEOUT) -> None:
        self._client = client
        self._timeout = timeout

    def revoke(self, job_id: str | Iterable[str], *, terminate: bool = False) -> list[bool]:
        """Cancel jobs, whoever submitted them, and wait up to 5 s for the scheduler's answer.

        Args:
            job_id: an id, or several.
            terminate: even if they run; their processes are killed.

        Returns:
            For each whether it is cancelled.
        """
        client = self._client()
        ids = [job_id] if isinstance(job_id, str) else job_id
        return client.cancel([client.job(one) for one in ids], force=terminate)

    def rate_limit(self, task: str, rate: str | float | None, *, burst: int = 1) -> None:
        """Have the jobs of a task start so often, whatever they say themselves.

        Args:
            task: its name.
            rate: ``"10/m"``, or a number per second; 0 or None: without a limit; ``"default"``: as the jobs say.
            burst: of these, starts at once after a pause, 1 or more.
        """
        if type(burst) is not int or burst < 1:
            raise BadOption(f"a burst is a number of starts at once, 1 or more, not {burst!r}")
        parsed = None if rate == "default" else rates.parse(rate)
        self._change(wire.SetRate(_name(task), parsed, burst))

    def pause(self, queue: str) -> None:
        """Have no job of a queue start any more; what workers hold and has not started comes back."""
        self._change(wire.SetQueue(_name(queue), paused=True))

    def resume(self, queue: str) -> None:
        """Have its jobs start again."""
        self._change(wire.SetQueue(_name(queue), paused=False))

    def weight(self, queue: str, weight: float) -> None:
        """Give a queue another share of the slots' time, above 0, beside others of the same priority; 1 is usual."""
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise BadOption(f"a weight is a number above 0, not {weight!r}")
        self._change(wire.SetQueue(_name(queue), weight=float(weight)))

    def add_consumer(self, queue: str, destination: Iterable[str] | None = None) -> int:
        """Have workers take from a queue, too, until they end.

        Args:
            queue: its name.
            destination: names of workers; None: all that there are.

        Returns:
            How many workers were told.
        """
        return self._consume(queue, destination, take=True)

    def cancel_consumer(self, queue: str, destination: Iterable[str] | None = None) -> int:
        """Have workers take from a queue no longer. Args and returns: see `add_consumer`."""
        return self._consume(queue, destination, take=False)

    def purge(self, queue: str) -> int:
        """Cancel all jobs of a queue that have not started; returns how many these were."""
        return self._change(wire.Purge(_name(queue)))

    def _consume(self, queue: str, destination: Iterable[str] | None, *, take: bool) -> int:
        if destination is None:
            return self._change(wire.SetConsumer(_name(queue), take))
        names = [destination] if isinstance(destination, str) else destination
        return sum(self._change(wire.SetConsumer(_name(queue), take, _name(name))) for name in names)

    def _change(self, wanted: wire.SetRate | wire.SetQueue | wire.SetConsumer | wire.Purge) -> int:
        done = operators.change(self._client().url, wanted, self._timeout)
        if done.warning:
            _log.warning("%s", done.warning, extra={"action": "control"})
        return done.count


def _name(name: Any) -> str:
    """A name that the scheduler can read; it knows best whether there is such a thing."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise BadOption(f"a task, a queue or a worker has a name of 1 to {MAX_NAME:,} characters, not {name!r:.100}")
    return name
