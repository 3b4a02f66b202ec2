"""Questions to a running scheduler and their answers: what whoever watches or steers is made of."""

import ipaddress
import os
import random
import socket
import time
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from zmqtasks import errors, transport, wire
from zmqtasks.submitter.whoami import release

CONNECT_TIMEOUT = 5.0  # seconds

_Control = wire.SetRate | wire.SetQueue | wire.Purge | wire.SetConsumer
_Question = wire.AskStatus | wire.AskJobs | wire.AskJob | _Control
_ANSWERS: Final[dict[type, type]] = {
    wire.AskStatus: wire.Status,
    wire.AskJobs: wire.Jobs,
    wire.AskJob: wire.JobReport,
    wire.SetRate: wire.Controlled,
    wire.SetQueue: wire.Controlled,
    wire.Purge: wire.Controlled,
    wire.SetConsumer: wire.Controlled,
}


def ask_status(url: str, timeout: float = CONNECT_TIMEOUT) -> wire.Status:
    """How the scheduler is. Raises as `Operator` does."""
    with Operator(url, timeout) as operator:
        return operator.status()


def change(url: str, wanted: _Control, timeout: float = CONNECT_TIMEOUT) -> wire.Controlled:
    """Change something. Raises as `Operator` does, and BadOption with what the scheduler says against it."""
    with Operator(url, timeout) as operator:
        done = operator.control(wanted)
    if done.error:
        raise errors.BadOption(done.error)
    return done


class Operator:
    """An operator's connection; each of its methods asks one thing.

    They raise SchedulerUnreachable where no answer comes within the time-out, and ProtocolMismatch or NotAuthorized
    where the scheduler refuses.

    Args:
        url: of the scheduler.
        timeout: seconds for each answer.
    """

    def __init__(self, url: str, timeout: float = CONNECT_TIMEOUT) -> None:
        self._context = transport.Context()
        self._link = transport.Link(self._context, url, random.random())
        self._url = url
        self._timeout = timeout
        self._welcome = False
        self._answered = False  # whether anything that we understand came from the other side

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._link.close()
        self._context.close()

    def status(self) -> wire.Status:
        """The scheduler, its workers and queues."""
        return self._ask(wire.AskStatus())  # type: ignore[no-any-return]  # _ANSWERS says so; and so below

    def jobs(self, states: list[str], limit: int, queue: str = "") -> wire.Jobs:
        """Some jobs in these states (names); of one queue, if it is named."""
        return self._ask(wire.AskJobs(states, queue, limit))  # type: ignore[no-any-return]

    def job(self, pair: tuple[bytes, int]) -> wire.JobReport:
        """All about one job."""
        return self._ask(wire.AskJob(*pair))  # type: ignore[no-any-return]

    def control(self, change: _Control) -> wire.Controlled:
        """Change something; done again if the connection broke meanwhile, which changes nothing more."""
        return self._ask(change)  # type: ignore[no-any-return]

    def _ask(self, question: _Question) -> Any:
        deadline = time.monotonic() + self._timeout
        if self._welcome:
            self._link.send(wire.encode(question))
        while (mono := time.monotonic()) < deadline:
            changes = self._link.service(mono)
            if transport.Change.CONNECTED in changes:
                self._hello()
            while (data := self._link.receive()) is not None:
                answer = self._on_message(data, question)
                if answer is not None:
                    return answer
            due = min(deadline, self._link.next_deadline() or deadline)
            transport.wait(self._link.readers(), max(0.0, due - time.monotonic()), self._link.writers())
            self._link.flush()
        raise errors.SchedulerUnreachable(self._silence())

    def _hello(self) -> None:
        self._welcome = False
        hello = wire.OperatorHello(wire.MAGIC, wire.PROTOCOL, release(), socket.gethostname(), os.getpid())
        self._link.send(wire.encode(hello))

    def _on_message(self, data: bytes, question: _Question) -> Any:
        """The answer, if this message is it."""
        try:
            message = wire.decode_to_operator(data)
        except errors.PeerError:
            return None  # not a scheduler that we know; the time-out says so
        self._answered = True
        if isinstance(message, wire.OperatorWelcome):
            self._welcome = True
            self._link.send(wire.encode(question))
        elif isinstance(message, wire.HelloAgain):
            self._hello()
        elif isinstance(message, wire.Refused):
            raise refusal(message, self._url)
        return message if isinstance(message, _ANSWERS[type(question)]) else None

    def _silence(self) -> str:
        if self._link.connected:
            went = "but stopped answering" if self._answered else "but it does not answer as a zmqtasks scheduler"
            return f"something listens at {self._url}, {went} (waited {self._timeout:g} s)"
        return no_scheduler(self._url, self._timeout)


def refusal(message: wire.Refused, url: str) -> errors.ZmqTasksError:
    """The error for a scheduler's refusal."""
    kind = errors.NotAuthorized if message.code == "authorization" else errors.ProtocolMismatch
    return kind(f"the scheduler at {url} (zmqtasks {message.release}) refused: {message.reason}")


def no_scheduler(url: str, timeout: float) -> str:
    """What to say and to advise where no scheduler answered for `timeout` seconds."""
    told = f"no scheduler answered at {url} within {timeout:g} s"
    if _is_here(url):
        return f"{told}; start one with: zmqtasks scheduler --bind {url}"
    return f"{told}; is {urlsplit(url).hostname} the right host, and is the scheduler started there?"


def _is_here(url: str) -> bool:
    """Whether a URL stays on this machine, as far as its text says."""
    host = urlsplit(url).hostname or ""
    if url.startswith("ipc://") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
