"""Control: what a script may do to jobs of others, and to tasks while all runs."""

from collections.abc import Iterable
from typing import Any

from zmqtasks import rates, wire
from zmqtasks.celery import _later
from zmqtasks.celery.app.inspecting import Inspect
from zmqtasks.errors import BadOption
from zmqtasks.operators import Operator
from zmqtasks.submitter.client import Client

__all__ = ["Control", "Inspect"]


@_later.without("app.control", _later.CONTROL)
class Control:
    """`app.control`.

    Args:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def inspect(self, destination: str | Iterable[str] | None = None, *args: Any, **options: Any) -> Inspect:
        """What workers and jobs there are. Args: see `Inspect`."""
        return Inspect(destination, *args, **{**options, "app": self._app})

    def ping(
        self, destination: str | Iterable[str] | None = None, timeout: float | None = 1.0, **celery: Any
    ) -> list[dict[str, Any]]:
        """Which workers are there: [{worker: {"ok": "pong"}}]."""
        destination = [destination] if isinstance(destination, str) else destination
        return [{name: told} for name, told in (self.inspect(destination, timeout).ping() or {}).items()]

    def purge(self, connection: object = None) -> int:
        """Cancel all jobs of the app's queues that have not started; each ends as REVOKED.

        Args:
            connection: not needed.

        Returns:
            How many.
        """
        queues = self._app.routing.queues
        return sum(self._change(wire.Purge(name)) for name in queues.names or [queues.default])

    discard_all = purge

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: object = None,
        terminate: bool = False,  # noqa: FBT001, FBT002  (Celery's signature)
        signal: object = None,
        **celery: Any,
    ) -> list[bool]:
        """Cancel jobs, and wait up to 5 s for the scheduler's answer.

        Args:
            task_id: an id, or several.
            destination: not needed: the scheduler knows where they are.
            terminate: even if they run; their processes are killed.
            signal: not needed.
            celery: not needed.

        Returns:
            For each whether it is cancelled.
        """
        client: Client = self._app.client
        ids = [task_id] if isinstance(task_id, str) else task_id
        return client.cancel([client.job(one) for one in ids], force=terminate)

    def terminate(self, task_id: str | Iterable[str], destination: object = None, **celery: Any) -> list[bool]:
        """Cancel jobs even if they run."""
        return self.revoke(task_id, terminate=True)

    def rate_limit(
        self, task_name: str, rate_limit: float | str | None, destination: object = None, **celery: Any
    ) -> None:
        """Have the jobs of a task start so often, in the whole cluster, from now on.

        Args:
            task_name: its name.
            rate_limit: "10/m", or a number per second; 0 or None: without a limit.
            destination: not needed: the scheduler counts.
            celery: not needed.

        Raises:
            BadOption: there is no such rate.
        """
        self._change(wire.SetRate(task_name, rates.parse(rate_limit)))

    def add_consumer(self, queue: str, *, destination: Iterable[str] | None = None, **celery: Any) -> int:
        """Have workers take from a queue, too, until they end.

        Args:
            queue: its name.
            destination: names of workers; None: all that there are.
            celery: not needed.

        Returns:
            How many workers were told.

        Raises:
            BadOption: there is no such worker, or nothing that it could be told.
        """
        return self._consume(queue, destination, take=True)

    def cancel_consumer(self, queue: str, destination: Iterable[str] | None = None, **celery: Any) -> int:
        """Have workers take from a queue no longer. Args, returns, raises: see `add_consumer`."""
        return self._consume(queue, destination, take=False)

    def _consume(self, queue: str, destination: Iterable[str] | None, *, take: bool) -> int:
        names = [""] if destination is None else destination
        return sum(self._change(wire.SetConsumer(queue, take, name)) for name in names)

    def _change(self, change: wire.SetRate | wire.SetConsumer | wire.Purge) -> int:
        """Returns how many were concerned. Raises BadOption with what the scheduler says against it."""
        with Operator(self._app.client.url) as operator:
            done = operator.control(change)
        if done.error:
            raise BadOption(done.error)
        return done.count
