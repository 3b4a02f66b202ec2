"""Drives the submitter's core turn by turn, as its loop does; every message goes through the codec in its direction.

After every turn the core checks its invariants. Messages that no test took with `sent` fail the test in `finish`.

    h = Harness()
    h.welcome()
    h.submit(3)
    assert h.sent() == [h.a_submit(0, 3)]
"""

from typing import Any

from zmqtasks import payload, wire
from zmqtasks.clock import Now
from zmqtasks.config import SubmitterSettings
from zmqtasks.ids import Span
from zmqtasks.states import FAILED
from zmqtasks.submitter.core import SubmitterCore
from zmqtasks.submitter.effects import CancelAnswer, Effects, Ended, Identity, Submission
from zmqtasks.submitter.ledger import Call

PREFIX = b"session-----"
OTHER = b"given-by-one"
CALL = Call("task", None, "msgpack", wire.Spec())
FUNCTION = wire.Function(b"d" * 16, "module.fn", b"blob")


def arg(counter: int) -> bytes:
    return f"arg {counter}".encode()


class Harness:
    """A core with the scheduler's end in the test's hands."""

    def __init__(self, **settings: int) -> None:
        identity = Identity(PREFIX, "0.1.0", "3.11", "host", 7, "user")
        self.core = SubmitterCore(SubmitterSettings(**{"ack_delay": 0.0, **settings}), identity)
        self.time = 100.0
        self.next = 0
        self.connections = 0
        self.values: dict[Any, bytes] = {}  # handle → value
        self.ended: dict[Any, Ended] = {}
        self.accepted: list[tuple[bytes, Span]] = []
        self.answers: list[CancelAnswer] = []
        self.notices: list[str] = []
        self.refused: tuple[str, str] | None = None
        self._sent: list[Any] = []
        self.by_bulk: list[Any] = []  # those that went over the bulk connection

    # ---------------------------------------------------------------------------------------- turns

    def turn(self, action: Any = None) -> Any:
        """One turn: an action(now, fx), the tick, and everything that came out of it."""
        self.time += 0.001
        now, fx = Now(self.time, 1e9 + self.time), Effects()
        told = action(now, fx) if action is not None else None
        self.core.tick(now, fx)
        for message in (*fx.sends, *fx.bulk):
            self._sent.append(wire.decode_from_submitter(wire.encode(message)))
        self.by_bulk += fx.bulk
        for done in fx.finished:
            assert len(done.counters) == len(done.handles) == len(done.values)
            for handle, value in zip(done.handles, done.values, strict=True):
                self._once(handle)
                self.values[handle] = value
        for end in fx.ended:
            self._once(end.handle)
            self.ended[end.handle] = end
        for prefix, spans in fx.accepted:
            self.accepted += [(prefix, span) for span in spans]
        self.answers += fx.cancel_answers
        self.notices += fx.notices
        self.refused = fx.refused or self.refused
        self.core.check()
        return told

    def _once(self, handle: Any) -> None:
        assert handle not in self.values, f"{handle} ended twice"
        assert handle not in self.ended, f"{handle} ended twice"

    def hear(self, *messages: wire.ToSubmitter) -> None:
        """Messages of the scheduler, in one turn."""

        def action(now: Now, fx: Effects) -> None:
            for message in messages:
                self.core.handle(wire.decode_to_submitter(wire.encode(message)), now, fx)

        self.turn(action)

    def connect(self) -> None:
        self.connections += 1
        self.turn(self.core.on_connected)

    def lose(self) -> None:
        self.turn(self.core.on_disconnected)

    def welcome(self, *, durable: bool = False) -> None:
        """Connect and be let in; takes the hello."""
        self.connect()
        (hello,) = self.sent()
        assert hello == wire.SubmitterHello("zmqtasks", 1, "0.1.0", "3.11", "host", 7, "user", PREFIX, self.connections)
        self.hear(wire.SubmitterWelcome(1, "0.1.0", durable, 1000))

    # ---------------------------------------------------------------------------------------- the owner

    def submission(
        self, count: int, call: Call = CALL, batch: int | None = None, args: list[bytes] | None = None
    ) -> Submission:
        first = self.next
        self.next += count
        counters = range(first, first + count)
        return Submission(PREFIX, first, call, args or [arg(c) for c in counters], list(counters), batch)

    def submit(
        self, count: int = 1, call: Call = CALL, batch: int | None = None, args: list[bytes] | None = None
    ) -> int:
        """Jobs with their counters as handles; returns the first."""
        made = self.submission(count, call, batch, args)
        self.turn(lambda now, fx: self.core.submit(made, now, fx))
        return made.first

    def submit_given(self, handle: str, data: bytes = b"x", counter: int = 5) -> None:
        """A job with an id of the user's."""
        made = Submission(OTHER, counter, CALL, [data], [handle])
        self.turn(lambda now, fx: self.core.submit(made, now, fx))

    def cancel(self, *spans: Span, force: bool = False, prefix: bytes = PREFIX) -> None:
        self.turn(lambda now, fx: self.core.cancel(prefix, list(spans), force, "token", now, fx))

    # ---------------------------------------------------------------------------------------- what came out

    def sent(self) -> list[Any]:
        """The messages since the last call."""
        sent, self._sent = self._sent, []
        return sent

    def finish(self) -> None:
        """No message is left that the test did not look at."""
        assert self._sent == [], f"nobody expected {self._sent}"

    def a_submit(self, first: int, count: int, **changed: Any) -> wire.Submit:
        """The Submit that is expected."""
        plain = wire.Submit(
            PREFIX,
            first,
            "task",
            b"",
            "msgpack",
            wire.Spec(),
            [arg(c) for c in range(first, first + count)],
            [],
            first,
        )
        for name, value in changed.items():
            setattr(plain, name, value)
        return plain

    # ---------------------------------------------------------------------------------------- the scheduler

    def accept(self, *spans: Span, prefix: bytes = PREFIX) -> None:
        self.hear(wire.Accepted(prefix, list(spans)))

    def results(self, delivery: int, *counters: int, prefix: bytes = PREFIX) -> None:
        values = [b"value %d" % counter for counter in counters]
        self.hear(wire.Results(delivery, prefix, "msgpack", list(counters), values, []))

    def failure(self, delivery: int, counter: int, state: int = FAILED, error: str = "WorkerLost") -> None:
        end = wire.JobEnd(counter, state, payload.failure(error, "as told"))
        self.hear(wire.Results(delivery, PREFIX, "msgpack", [], [], [end]))
