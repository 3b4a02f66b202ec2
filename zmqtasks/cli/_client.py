"""The client of commands that work with jobs."""

from zmqtasks.errors import SchedulerUnreachable
from zmqtasks.operators import no_scheduler
from zmqtasks.submitter.client import Client

CONNECT_TIMEOUT = 5.0  # seconds


def open_client(url: str, timeout: float = CONNECT_TIMEOUT) -> Client:
    """A client; where nobody answers, the error says what to do.

    Raises:
        SchedulerUnreachable, ProtocolMismatch, NotAuthorized: see `Client`.
    """
    try:
        return Client(url, connect_timeout=timeout)
    except SchedulerUnreachable:
        if url.startswith("local://"):
            raise
        raise SchedulerUnreachable(no_scheduler(url, timeout)) from None
