"""What a client knows of itself and its scheduler."""

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class ClientInfo:
    """See `Client.info`; nothing of it is asked for, so it costs nothing and may be a moment old.

    Attributes:
        url: of the scheduler.
        connected: whether the scheduler has let the client in on the present connection.
        session: first 24 digits of the ids of this client's jobs.
        scheduler_release: version of zmqtasks that the scheduler runs.
        scheduler_epoch: which life of the scheduler it is; grows with each restart.
        durable: accepted jobs survive the end of the scheduler.
        max_payload: bytes that it takes as the arguments or as the result of one job.
        open_jobs: jobs of this client that are not over.
        pending_jobs: of these, those that are not accepted yet.
        pending_bytes: of their arguments.
    """

    url: str
    connected: bool
    session: str
    scheduler_release: str
    scheduler_epoch: int
    durable: bool
    max_payload: int
    open_jobs: int
    pending_jobs: int
    pending_bytes: int
