"""One question to a running scheduler and its answer: what every command that watches is made of."""

import os
import random
import socket
import time

from zmqtasks import errors, transport, wire
from zmqtasks.cli._shared import release
from zmqtasks.cli._urls import no_scheduler

CONNECT_TIMEOUT = 5.0  # seconds


def ask_status(url: str, timeout: float = CONNECT_TIMEOUT) -> wire.Status:
    """How the scheduler is. Raises as `_Exchange.run` does."""
    context = transport.Context()
    try:
        return _Exchange(context, url, timeout).run(wire.AskStatus())
    finally:
        context.close()


class _Exchange:
    """Hello, Welcome, one question, one answer, within one bound of time."""

    def __init__(self, context: transport.Context, url: str, timeout: float) -> None:
        self._link = transport.Link(context, url, random.random())
        self._url = url
        self._timeout = timeout
        self._answered = False  # whether anything that we understand came from the other side

    def run(self, question: wire.AskStatus) -> wire.Status:
        """Ask.

        Raises:
            SchedulerUnreachable: no answer within the time-out.
            ProtocolMismatch, NotAuthorized: the scheduler refused.
        """
        deadline = time.monotonic() + self._timeout
        try:
            while (mono := time.monotonic()) < deadline:
                if transport.Change.CONNECTED in self._link.service(mono):
                    self._hello()
                while (data := self._link.receive()) is not None:
                    answer = self._on_message(data, question)
                    if answer is not None:
                        return answer
                due = min(deadline, self._link.next_deadline() or deadline)
                transport.wait(self._link.readers(), max(0.0, due - time.monotonic()), self._link.writers())
                self._link.flush()
            raise errors.SchedulerUnreachable(self._silence())
        finally:
            self._link.close()

    def _hello(self) -> None:
        hello = wire.OperatorHello(wire.MAGIC, wire.PROTOCOL, release(), socket.gethostname(), os.getpid())
        self._link.send(wire.encode(hello))

    def _on_message(self, data: bytes, question: wire.AskStatus) -> wire.Status | None:
        try:
            message = wire.decode_to_operator(data)
        except errors.PeerError:
            return None  # not a scheduler that we know; the time-out says so
        self._answered = True
        if isinstance(message, wire.OperatorWelcome):
            self._link.send(wire.encode(question))
        elif isinstance(message, wire.HelloAgain):
            self._hello()
        elif isinstance(message, wire.Refused):
            raise refusal(message, self._url)
        return message if isinstance(message, wire.Status) else None

    def _silence(self) -> str:
        if self._link.connected:
            went = "but stopped answering" if self._answered else "but it does not answer as a zmqtasks scheduler"
            return f"something listens at {self._url}, {went} (waited {self._timeout:g} s)"
        return no_scheduler(self._url, self._timeout)


def refusal(message: wire.Refused, url: str) -> errors.ZmqTasksError:
    """The error for a scheduler's refusal."""
    kind = errors.NotAuthorized if message.code == "authorization" else errors.ProtocolMismatch
    return kind(f"the scheduler at {url} (zmqtasks {message.release}) refused: {message.reason}")
