"""The client of ``zmqtasks submit``, behind the few calls that the feed needs."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from zmqtasks.cli._client import open_client
from zmqtasks.cli._targets import ByName, Target
from zmqtasks.errors import JobTimeout
from zmqtasks.submitter import options as job_options
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.ledger import Call
from zmqtasks.submitter.results import Job, Source
from zmqtasks.submitter.submitting import Item, Prepared, Submitting

FLUSH = 5.0  # seconds for what is not accepted yet, at the end
FAREWELL = 1.0  # the same after an error
MAX_KNOWN = 256  # sets of options that are remembered
MAX_OPEN = 100_000  # jobs that nobody waits for and that a client still holds


class ClientSender:
    """Sends functions and tasks by name, each group with its options."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = self._open()
        self._known: dict[tuple[tuple[str, Any], ...], Submitting] = {}

    def _open(self) -> Client:
        return open_client(self._url)

    def submit(self, target: Target, calls: list[Item], **options: Any) -> Sequence[Job[Any]]:
        """Submit calls of one target. Raises as `Client.submit_many` does."""
        submitting = self._submitting(options)
        if isinstance(target, ByName):
            prepared = self._prepared(target, options)
            if "job_id" not in options:
                return submitting.send_batch(prepared, calls)
            ((args, kwargs),) = calls
            return [submitting.send_one(prepared, tuple(args), kwargs, submitting.submit_timeout)]
        if "job_id" not in options:
            return submitting.submit_many(target, calls)
        ((args, kwargs),) = calls
        return [submitting.submit(target, *args, **kwargs)]

    def flush(self, timeout: float) -> None:
        """Wait until everything is accepted. Raises JobTimeout."""
        self._client.flush(timeout)

    def cancel(self, jobs: list[Job[Any]]) -> list[bool]:
        """Cancel what has not started; see `Client.cancel`. Raises JobTimeout if the scheduler does not answer."""
        return self._client.cancel(jobs)

    def forget(self) -> None:
        """What is accepted needs no client any more; a client holds it until it is over, so begin with a new one.

        Raises:
            SchedulerUnreachable, ProtocolMismatch, NotAuthorized: see `Client`.
        """
        if self._client.connection.open_count > MAX_OPEN:
            self._known.clear()
            self._client.close()
            self._client = self._open()

    def close(self, timeout: float) -> None:
        """End the session. Raises JobTimeout if something is not accepted within `timeout` seconds."""
        self._client.close(timeout)

    def _submitting(self, options: dict[str, Any]) -> Submitting:
        needed = tuple(sorted(options.get("resources", {}).items()))  # the only option that has no hash
        key = tuple(sorted({**options, "resources": needed}.items()))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            found = self._known[key] = self._client.options(**options)
        return found

    def _prepared(self, target: ByName, options: dict[str, Any]) -> Prepared:
        spec = job_options.spec(job_options.check(options), python="", wall=time.time())
        connection = self._client.connection
        call = Call(target.name, None, job_options.codec(options, target.codec), spec)
        return Prepared(call, Source(connection, connection.prefix, target.name, spec=spec), None)


@contextmanager
def connect(url: str, make: Callable[[], ClientSender] | None = None) -> Iterator[ClientSender]:
    """A sender; local:// brings a scheduler and workers of its own, and takes them away again.

    Args:
        url: of the scheduler.
        make: makes another kind of sender.

    Raises:
        SchedulerUnreachable, ProtocolMismatch, NotAuthorized: see `Client`.
    """
    if url.startswith("local://"):
        import zmqtasks.local  # noqa: F401  (teaches Client what local:// is)
    sender = ClientSender(url) if make is None else make()
    try:
        yield sender
    except BaseException:
        with suppress(JobTimeout):  # what went wrong before is what is told
            sender.close(FAREWELL)
        raise
    sender.close(FLUSH)
