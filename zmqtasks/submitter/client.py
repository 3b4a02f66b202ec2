"""Client: a connection to a scheduler, for scripts."""

import atexit
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from types import ModuleType, TracebackType
from typing import Any, Final, Literal, Self, TypeVar, overload

from zmqtasks import payload
from zmqtasks.config import BROKER_VARIABLE, CONFIG_FILE
from zmqtasks.errors import BadOption, BadUrl, ZmqTasksError
from zmqtasks.ids import given_id
from zmqtasks.submitter import shipping
from zmqtasks.submitter.connection import Connection
from zmqtasks.submitter.info import ClientInfo
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.submitting import Submitting
from zmqtasks.task import before_outcomes
from zmqtasks.transport import parse_url

R = TypeVar("R")

LOCAL: Final = "local://"
_EXIT_FLUSH = 5.0  # seconds that leaving the interpreter waits for a client that was not closed
_SETTLE: Final = 5.0  # seconds that the outcome of a job waits for what the job has submitted


class Client(Submitting):
    """A connection to a scheduler, for scripts. Close it, or use it in a `with` block.

    Functions that workers can import are sent by name, others by value (cloudpickle); see
    `zmqtasks.submitter.functions` for when a function is pickled anew.

    Args:
        url: tcp://HOST:PORT, ipc://PATH or local:// (a scheduler and workers of this process's own). None: see
            `broker_url`.
        connect_timeout: seconds until the scheduler must have answered.
        submit_timeout: seconds that `submit` waits for room.
        max_pending: jobs submitted and not accepted, beyond which there is no room.
        accept: codecs that results are decoded from.
        ship: modules that workers cannot import: what they and their submodules define is sent by value while this
            client is open; see `zmqtasks.submitter.shipping`.

    Attributes:
        url: of the scheduler.
        is_local: the scheduler is this process's own (local://).

    Raises:
        BadUrl: the URL is none of these.
        SchedulerUnreachable: nobody answered in time.
        ProtocolMismatch: the scheduler speaks another version of the protocol.
        NotAuthorized: the scheduler refused this client.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        connect_timeout: float = 5.0,
        submit_timeout: float = 30.0,
        max_pending: int = 100_000,
        accept: Collection[str] = payload.ALL_CODECS,
        ship: Iterable[ModuleType] = (),
    ) -> None:
        shipped = shipping.check(ship)
        named = named_broker(url)
        url = named or LOCAL
        self.is_local = url.startswith(LOCAL)
        if self.is_local:
            if open_local is None:
                raise BadUrl(f"{url}: only zmqtasks.Client and zmqtasks.App know how to start a cluster of their own")
            url = open_local(named is None)
        parse_url(url)
        connection = Connection(url, max_pending=max_pending, accept=accept)
        connection.open(connect_timeout)
        super().__init__(connection, {}, submit_timeout)
        self.url = url
        self._shipped = shipped
        shipping.register(shipped)
        _clients.add(self)
        if _settle not in before_outcomes:
            before_outcomes.append(_settle)

    @overload
    def gather(
        self, jobs: Iterable[Job[R]], timeout: float | None = None, *, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    def gather(
        self, jobs: Iterable[Job[R]], timeout: float | None = None, *, return_exceptions: bool
    ) -> list[R | Exception]: ...

    def gather(
        self, jobs: Iterable[Job[Any]], timeout: float | None = None, *, return_exceptions: bool = False
    ) -> list[Any]:
        """The results of these jobs, in their order.

        Args:
            jobs: of any client.
            timeout: seconds for all of them together.
            return_exceptions: the exception of a job that failed stands in its place, instead of being raised.

        Raises:
            JobTimeout: they were not all over in time; they go on.
            Exception: what the first failed one raised.
        """
        if timeout is None and not return_exceptions:
            return [job.result() for job in jobs]
        end_time = None if timeout is None else time.monotonic() + timeout
        told: list[Any] = []
        for job in jobs:
            try:
                told.append(job.result(None if end_time is None else max(0.0, end_time - time.monotonic())))
            except Exception as error:
                if not return_exceptions or not job.done():
                    raise
                told.append(error)
        return told

    def cancel(self, jobs: Iterable[Job[Any]], *, force: bool = False, timeout: float = 5.0) -> list[bool]:
        """Cancel many jobs with one request; see `Job.cancel`. Returns for each whether it is cancelled."""
        wanted = list(jobs)
        left = {job: job.pairs for job in wanted if not job.done()}
        pairs = [pair for some in left.values() for pair in some]
        told = dict(zip(pairs, self.connection.cancel(pairs, timeout, force=force), strict=True))
        return [(bool(left.get(job)) and all(told[pair] for pair in left[job])) or job.cancelled() for job in wanted]

    def info(self) -> ClientInfo:
        """What this client knows of itself and of its scheduler, without asking anybody."""
        return self.connection.info()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything submitted so far is accepted: then it outlives this process.

        Raises:
            JobTimeout: not within `timeout` seconds; says how many are left.
        """
        self.connection.flush(timeout)

    def job(self, job_id: str) -> Job[Any]:
        """The Job of an id, whoever submitted it. An id that the scheduler does not know ends as UnknownJob.

        Args:
            job_id: `Job.id`, or the id that was given with job_id=.
        """
        return self.connection.job(given_id(job_id), job_id)

    def close(self, timeout: float = 5.0) -> None:
        """Wait until everything submitted is accepted, then leave. Jobs without a result end here as ClientClosed.

        Args:
            timeout: seconds for what is not accepted yet.

        Raises:
            JobTimeout: says how many jobs did not get through; the client is closed all the same.
        """
        if self in _clients:
            _clients.discard(self)
            shipping.unregister(self._shipped)
        self.connection.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(5.0 if kind is None else 1.0)

    def __repr__(self) -> str:
        connection = self.connection
        state = "connected" if connection.connected else "not connected"
        where = f"{LOCAL} ({self.url})" if self.is_local else self.url
        return f"<Client {where} {state}, {connection.open_count} jobs open>"

    def __reduce__(self) -> Any:
        message = "a Client cannot be pickled: make one where it is needed"
        raise TypeError(message)


def broker_url(given: str | None = None) -> str:
    """Where the scheduler is: what was given, else ZMQTASKS_BROKER, else that of ./zmqtasks.toml, else local://.

    Raises:
        BadUrl: zmqtasks.toml cannot be read.
    """
    return named_broker(given) or LOCAL


def named_broker(given: str | None = None) -> str | None:
    """As `broker_url`, but None where nobody named one."""
    found = given or os.environ.get(BROKER_VARIABLE)
    if found:
        return found
    if not os.path.exists(CONFIG_FILE):  # noqa: PTH110  (pathlib costs start-up time)
        return None
    from zmqtasks.conf.settings import broker_in_file

    try:
        return broker_in_file()
    except BadOption as error:
        raise BadUrl(str(error)) from None


# Set by zmqtasks.local, which this module must not import: starts (or finds) the cluster and returns its URL. The
# argument: whether local:// was taken by default, because nobody named a broker.
open_local: Callable[[bool], str] | None = None

_clients: set[Client] = set()  # that are not closed: one that nobody holds any more still has its thread, and jobs


def open_clients() -> list[Client]:
    """Clients of this process that nobody has closed."""
    return list(_clients)


def _settle() -> None:
    """Whoever sees the outcome of a job finds what it has submitted, and nothing of it is lost with the process.

    Where the scheduler is away nothing is waited for: outcomes do not reach it either.
    """
    for client in open_clients():
        connection = client.connection
        if connection.intake.pending[0] and connection.usable and connection.connected:
            try:
                connection.flush(_SETTLE)
            except ZmqTasksError:
                pass  # it goes on, as it would without anybody who waits


@atexit.register
def _close_all() -> None:
    """Leaving the interpreter flushes, for a bounded time."""
    for client in list(_clients):
        if client.connection.usable:
            try:
                client.close(_EXIT_FLUSH)
            except ZmqTasksError as error:
                print(f"zmqtasks: {error}", file=sys.stderr)  # noqa: T201  (logging may be gone already)
