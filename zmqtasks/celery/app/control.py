"""Control: what a script may do to jobs of others, and to tasks while all runs."""

from collections.abc import Iterable
from typing import Any

from zmqtasks import control
from zmqtasks.celery import _later
from zmqtasks.celery.app.inspecting import Inspect

__all__ = ["Control", "Inspect"]


@_later.without("app.control", _later.CONTROL)
class Control:
    """`app.control`: Celery's signatures of what `zmqtasks.control.Control` does, and the verbs that only this has.

    Args:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._native = control.Control(lambda: app.client)
        self.pause = self._native.pause
        self.resume = self._native.resume
        self.weight = self._native.weight

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
        return sum(self._native.purge(name) for name in queues.names or [queues.default])

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
        return self._native.revoke(task_id, terminate=terminate)

    def terminate(self, task_id: str | Iterable[str], destination: object = None, **celery: Any) -> list[bool]:
        """Cancel jobs even if they run."""
        return self.revoke(task_id, terminate=True)

    def rate_limit(
        self, task_name: str, rate_limit: float | str | None, destination: object = None, **celery: Any
    ) -> None:
        """Have the jobs of a task start so often, in the whole cluster, from now on.

        Args:
            task_name: its name.
            rate_limit: "10/m", or a number per second; 0 or None: without a limit; "default": as the jobs say.
            destination: not needed: the scheduler counts.
            celery: not needed.

        Raises:
            BadOption: there is no such rate.
        """
        self._native.rate_limit(task_name, rate_limit)

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
        return self._native.add_consumer(queue, destination)

    def cancel_consumer(self, queue: str, destination: Iterable[str] | None = None, **celery: Any) -> int:
        """Have workers take from a queue no longer. Args, returns, raises: see `add_consumer`."""
        return self._native.cancel_consumer(queue, destination)
