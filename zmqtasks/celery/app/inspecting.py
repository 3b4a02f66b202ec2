"""Inspect: what workers and jobs there are, in the form that Celery's workers answer in."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from zmqtasks import wire
from zmqtasks.celery import _later
from zmqtasks.config import MAX_JOBS_PER_MESSAGE
from zmqtasks.errors import NotAvailable
from zmqtasks.ids import given_id
from zmqtasks.operators import CONNECT_TIMEOUT, Operator
from zmqtasks.request import delivery_info

SCHEDULER: Final = "scheduler"  # in place of a worker's name, where a job is at none
_STATES: Final = {"running": "active", "assigned": "reserved", "delayed": "scheduled", "ready": "ready"}

Info = dict[str, Any]


@_later.without("app.control.inspect()", _later.INSPECT)
class Inspect:
    """What `app.control.inspect()` makes. Each method asks the scheduler, which answers for all workers at once.

    They return a dict by the names of workers; None if there are none; and if `destination` is one name, what that
    worker would answer. Workers that have lost their connection are left out, as if they did not answer.

    Raises:
        SchedulerUnreachable: the scheduler does not answer within 5 s, or `timeout` if that is longer.

    Args:
        destination: names of workers, or one of them; None: all.
        timeout: seconds; not how long answers are waited for, since there is only one.
        callback, connection, limit: not needed.
        app: the Celery app.
        pattern: that names of workers have to match, a glob.
        matcher: None or "glob".
    """

    def __init__(
        self,
        destination: str | Iterable[str] | None = None,
        timeout: float | None = 1.0,
        callback: object = None,
        connection: object = None,
        app: Any = None,
        limit: object = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        if matcher not in (None, "glob"):
            raise NotAvailable(f"option matcher={matcher!r} of inspect() is not available: patterns are globs")
        self.app = app
        self.destination = destination if destination is None or isinstance(destination, str) else list(destination)
        self.timeout = max(CONNECT_TIMEOUT, timeout or 0.0)
        self.pattern = pattern

    # -------------------------------------------------------------------------------------------- workers

    def ping(self, destination: str | Iterable[str] | None = None) -> Any:
        """{worker: {"ok": "pong"}}."""
        if destination:
            self.destination = destination if isinstance(destination, str) else list(destination)
        return self._of_workers(lambda _: {"ok": "pong"})

    def registered(self, *taskinfoitems: str) -> Any:
        """{worker: [names of the tasks that it knows]}.

        Raises:
            NotAvailable: options of tasks are asked for.
        """
        if taskinfoitems:
            raise NotAvailable(
                "inspect().registered() tells names of tasks; `zmqtasks check -A APP` shows where they go, and why"
            )
        return self._of_workers(lambda worker: sorted(worker.tasks))

    registered_tasks = registered

    def active_queues(self) -> Any:
        """{worker: [{"name", "exchange": {"name", "type"}, "routing_key"}]} of the queues that it takes from."""
        queues = self.app.routing.queues
        return self._of_workers(lambda worker: [_queue(name, queues.binding(name)) for name in worker.queues])

    def stats(self) -> Any:
        """{worker: {"pid", "pool": {"max-concurrency"}, "prefetch_count", "broker", …}}, and what else is known."""
        return self._of_workers(self._stats)

    def _stats(self, worker: wire.WorkerStatus) -> Info:
        return {
            "pid": worker.pid,
            "pool": {"max-concurrency": worker.slots},
            "prefetch_count": worker.held,
            "broker": {"hostname": self.app.client.url, "transport": "zmqtasks"},
            "hostname": worker.host,
            "state": worker.state,
            "running": worker.running,
            "done": worker.done,
            "silent": worker.silent,
            "python": worker.python,
            "resources": worker.resources,
            "taken": worker.taken,
        }

    # -------------------------------------------------------------------------------------------- jobs

    def active(self, safe: object = None) -> Any:
        """{worker: [what runs there]}, 500 jobs at most. Arguments are None: the scheduler does not look into them."""
        return self._of_jobs("running")

    def reserved(self, safe: object = None) -> Any:
        """The same of what workers hold and have not started."""
        return self._of_jobs("assigned")

    def scheduled(self, safe: object = None) -> Any:
        """{"scheduler": [{"eta", "priority", "request"}]}: what is not to start yet waits there, and at no worker."""
        return self._of_jobs("delayed", _planned)

    def revoked(self) -> Any:
        """{"scheduler": [ids]}, of cancelled jobs whose results are kept."""
        return self._of_jobs("cancelled", lambda row: row.id)

    def query_task(self, *ids: str | Iterable[str]) -> Any:
        """{worker: {id: [state, info]}}, of jobs that are not over.

        The state is active, reserved, scheduled or ready; the last two are at the scheduler.
        """
        wanted = [one for some in ids for one in ([some] if isinstance(some, str) else some)]
        with self._operator() as operator:
            names = self._names(operator.status())
            rows = [(one, operator.job(given_id(one)).job) for one in wanted]
        found: dict[str, Any] = {name: {} for name in names}
        for one, row in rows:
            if row is not None and row.state in _STATES:
                found.setdefault(row.worker or SCHEDULER, {})[one] = [_STATES[row.state], _info(row)]
        return self._answer(found)

    # -------------------------------------------------------------------------------------------- answers

    def _operator(self) -> Operator:
        return Operator(self.app.client.url, self.timeout)

    def _names(self, status: wire.Status) -> list[str]:
        return [worker.name for worker in status.workers if worker.state != "suspect"]

    def _of_workers(self, tell: Callable[[wire.WorkerStatus], Any]) -> Any:
        with self._operator() as operator:
            status = operator.status()
        return self._answer({worker.name: tell(worker) for worker in status.workers if worker.state != "suspect"})

    def _of_jobs(self, state: str, tell: Callable[[wire.JobStatus], Any] | None = None) -> Any:
        with self._operator() as operator:
            names = self._names(operator.status())
            rows = operator.jobs([state], MAX_JOBS_PER_MESSAGE).rows
        found: dict[str, list[Any]] = {name: [] for name in names}
        for row in rows:
            found.setdefault(row.worker or SCHEDULER, []).append((tell or _info)(row))
        return self._answer(found)

    def _answer(self, found: dict[str, Any]) -> Any:
        """Of the workers that were asked."""
        if isinstance(self.destination, str):
            return found.get(self.destination)
        if self.destination is not None:
            found = {name: told for name, told in found.items() if name in self.destination}
        if self.pattern:
            found = {name: told for name, told in found.items() if fnmatchcase(name, self.pattern)}
        return found or None


def _queue(name: str, binding: Any) -> Info:
    return {
        "name": name,
        "exchange": {"name": binding.exchange, "type": binding.type},
        "routing_key": binding.key,
    }


def _info(row: wire.JobStatus) -> Info:
    """One job, as Celery's workers tell of one."""
    return {
        "id": row.id,
        "name": row.task,
        "type": row.task,
        "args": None,
        "kwargs": None,
        "hostname": row.worker or None,
        "time_start": row.since or None,
        "acknowledged": False,
        "delivery_info": {**delivery_info(row.queue, 0, redelivered=row.crashes > 0), "priority": None},
        "worker_pid": None,
        "retries": row.retries,
    }


def _planned(row: wire.JobStatus) -> Info:
    eta = datetime.fromtimestamp(row.due, UTC).isoformat() if row.due else None
    return {"eta": eta, "priority": None, "request": _info(row)}
