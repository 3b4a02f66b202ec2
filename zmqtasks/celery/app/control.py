"""Control: what a script may do to jobs that it has not submitted itself."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from zmqtasks.celery import _later
from zmqtasks.submitter.client import Client

__all__ = ["Control"]


class Control:
    """`app.control`.

    Args:
        app: the Celery app.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

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

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise _later.attribute("app.control", _later.CONTROL, name)
