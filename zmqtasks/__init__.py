"""Tasks, queues and workers on ZeroMQ: Celery's programming model without a broker service.

Everything is imported on first use: ``import zmqtasks`` itself costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zmqtasks.app import App
    from zmqtasks.errors import (
        AddressInUse,
        AppNotLoaded,
        BadOption,
        BadUrl,
        ClientClosed,
        JobAborted,
        JobCancelled,
        JobConflict,
        JobError,
        JobExpired,
        JobTimeout,
        JournalError,
        JournalUnavailable,
        MaxRetriesExceeded,
        NoCurrentJob,
        NotAuthorized,
        NotAvailable,
        NotDurable,
        NoWorker,
        PayloadError,
        PayloadLost,
        PayloadTooLarge,
        PeerError,
        ProtocolMismatch,
        QueueFull,
        RemoteError,
        RemoteTraceback,
        ResultExpired,
        Retry,
        SchedulerUnreachable,
        TaskNotRegistered,
        UnknownJob,
        WorkerLost,
        ZmqTasksError,
    )
    from zmqtasks.local import Client, LocalCluster
    from zmqtasks.queues import Broadcast, Exchange, Queue
    from zmqtasks.submitter.aio import AsyncClient
    from zmqtasks.submitter.asyncresult import AsyncResult
    from zmqtasks.submitter.info import ClientInfo
    from zmqtasks.submitter.results import Job, as_completed
    from zmqtasks.submitter.tasks import Task
    from zmqtasks.task import CurrentJob, current_job, progress

    __version__: str

_HOME = {
    "App": "app",
    "AsyncClient": "submitter.aio",
    "Broadcast": "queues",
    "AsyncResult": "submitter.asyncresult",
    "Client": "local",
    "ClientInfo": "submitter.info",
    "CurrentJob": "task",
    "Exchange": "queues",
    "Job": "submitter.results",
    "LocalCluster": "local",
    "Queue": "queues",
    "Task": "submitter.tasks",
    "as_completed": "submitter.results",
    "current_job": "task",
    "progress": "task",
}

__all__ = [
    "AddressInUse",
    "App",
    "AppNotLoaded",
    "AsyncClient",
    "AsyncResult",
    "BadOption",
    "BadUrl",
    "Broadcast",
    "Client",
    "ClientClosed",
    "ClientInfo",
    "CurrentJob",
    "Exchange",
    "Job",
    "JobAborted",
    "JobCancelled",
    "JobConflict",
    "JobError",
    "JobExpired",
    "JobTimeout",
    "JournalError",
    "JournalUnavailable",
    "LocalCluster",
    "MaxRetriesExceeded",
    "NoCurrentJob",
    "NoWorker",
    "NotAuthorized",
    "NotAvailable",
    "NotDurable",
    "PayloadError",
    "PayloadLost",
    "PayloadTooLarge",
    "PeerError",
    "ProtocolMismatch",
    "Queue",
    "QueueFull",
    "RemoteError",
    "RemoteTraceback",
    "ResultExpired",
    "Retry",
    "SchedulerUnreachable",
    "Task",
    "TaskNotRegistered",
    "UnknownJob",
    "WorkerLost",
    "ZmqTasksError",
    "__version__",
    "as_completed",
    "current_job",
    "progress",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("zmqtasks")
    elif name in __all__:
        if name == "AsyncClient":
            import_module("zmqtasks.local")  # tells it what local:// is
        value = getattr(import_module(f"zmqtasks.{_HOME.get(name, 'errors')}"), name)
    else:
        message = f"module 'zmqtasks' has no attribute {name!r}"
        raise AttributeError(message)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
