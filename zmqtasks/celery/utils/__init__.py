"""What users of Celery import from its utilities."""

from uuid import uuid4

from zmqtasks.queues import Queue, direct

__all__ = ["gen_unique_id", "uuid", "worker_direct"]


def uuid() -> str:
    """A new id for a job, as text."""
    return str(uuid4())


gen_unique_id = uuid


def worker_direct(hostname: str | Queue) -> Queue:
    """The queue that only the worker of this name takes from; see the setting `worker_direct`."""
    return hostname if isinstance(hostname, Queue) else Queue(direct(hostname))
