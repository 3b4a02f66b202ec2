"""A scheduler for tests of the submitter alone: real sockets, no workers. What it does with a job, the test says."""

import threading
from collections.abc import Callable
from typing import Any, Self

from zmqtasks import payload, wire
from zmqtasks.config import MAX_BYTES_PER_MESSAGE
from zmqtasks.ids import spans
from zmqtasks.scheduler.lanes import Lanes
from zmqtasks.states import FAILED
from zmqtasks.transport import Context, Router, Wakeup, wait

Run = Callable[[wire.Submit, dict[bytes, bytes]], list[bytes | BaseException]]


def call(submit: wire.Submit, functions: dict[bytes, bytes]) -> list[bytes | BaseException]:
    """Run the shipped function here."""
    fn = payload.unship(functions[submit.function])
    out: list[bytes | BaseException] = []
    for data in submit.args:
        args, kwargs = payload.decoder(submit.codec)(data)
        try:
            out.append(payload.encode_result(submit.codec, fn(*args, **kwargs), submit.task))
        except Exception as error:  # noqa: BLE001
            out.append(error)
    return out


class FakeScheduler:
    """Accepts every Submit and answers with what `run` makes of it, unless the test steps in.

    Attributes:
        received: every message of every submitter, in order.
        hold: results are not sent before `release`.
        deaf: nothing is answered at all.
    """

    def __init__(self, url: str, run: Run = call, *, durable: bool = False) -> None:
        self._url = url
        self.run = run
        self.durable = durable
        self.received: list[Any] = []
        self.hold = False
        self.deaf = False
        self.accepting = True
        self.epoch = 1
        self.max_payload = 64 * 1024 * 1024
        self.greeting: wire.ToSubmitter | None = None
        self.routes: list[bytes] = []
        self._functions: dict[bytes, bytes] = {}
        self._jobs: dict[tuple[bytes, int], bytes | BaseException] = {}
        self._codecs: dict[tuple[bytes, int], str] = {}
        self._delivery: dict[tuple[bytes, bool], int] = {}  # by control route, for control and for bulk
        self._held: list[Callable[[], None]] = []
        self._commands: list[Callable[[], None]] = []
        self._stop = False
        self._open()

    def _open(self) -> None:
        self._stop = False
        self._context = Context()
        self._router = Router(self._context)
        self._lanes = Lanes(self._router.send)
        self._sessions: dict[bytes, bytes] = {}  # control routes by prefix
        self.url = self._router.bind(self._url)
        self._wakeup = Wakeup()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def restart(self, *, forget: bool) -> None:
        """Close the socket and bind it anew; `forget`: as a new process without a journal."""
        self.close()
        if forget:
            self._jobs.clear()
            self._functions.clear()
            self.epoch += 1
        self._delivery.clear()
        self._held.clear()
        self._url = self.url
        self._open()

    def do(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        self._wakeup.set()

    def release(self) -> None:
        """Send what was held, and hold nothing more."""

        def command() -> None:
            self.hold = False
            held, self._held = self._held, []
            for send in held:
                send()

        self.do(command)

    def release_one(self) -> None:
        """Send what was held longest."""

        def command() -> None:
            self._held.pop(0)()

        self.do(command)

    def close(self) -> None:
        self._stop = True
        self._wakeup.set()
        self._thread.join(5)
        self._wakeup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def of(self, kind: type) -> list[Any]:
        """The messages of a type that came so far."""
        return [message for message in list(self.received) if isinstance(message, kind)]

    # ---------------------------------------------------------------------------------------- the loop

    def _loop(self) -> None:
        while not self._stop:
            wait([*self._router.readers(), self._wakeup.fileno()], 0.005 if self._router.parked else 1.0)
            self._wakeup.clear()
            self._router.flush()
            while self._commands:
                self._commands.pop(0)()
            while (got := self._router.receive()) is not None:
                whole = self._from_bulk(*got)
                if whole is None:
                    continue
                message = wire.decode_from_submitter(whole[1])
                self.received.append(message)
                if not self.deaf:
                    self._answer(whole[0], message)
            self._lanes.pump(1_000)
        self._router.close()
        self._context.close()

    def _from_bulk(self, route: bytes, data: bytes) -> tuple[bytes, bytes] | None:
        """What came whole, with the control connection that it came over or belongs to."""
        if route in self._lanes.by_bulk:
            return self._lanes.receive(route, data, 0.0)
        hello = wire.decode_hello(data)
        if not isinstance(hello, wire.BulkHello):
            return route, data
        self._lanes.bind(self._sessions[hello.key], route)
        return None

    def send(self, route: bytes, message: wire.ToSubmitter) -> None:
        self._router.send(route, wire.encode(message))

    def _answer(self, route: bytes, message: wire.FromSubmitter) -> None:
        if isinstance(message, wire.SubmitterHello):
            self.routes.append(route)
            self._sessions[message.prefix] = route
            welcome = wire.SubmitterWelcome(self.epoch, "fake", self.durable, self.max_payload)
            self.send(route, self.greeting or welcome)
        elif isinstance(message, wire.Submit):
            for function in message.functions:
                self._functions[function.digest] = function.blob
            if self.accepting:
                self._take(route, message)
        elif isinstance(message, wire.Ask):
            self._on_ask(route, message)
        elif isinstance(message, wire.Cancel):
            self.send(route, wire.CancelAck(message.request, message.counters, [], []))

    def _take(self, route: bytes, message: wire.Submit) -> None:
        count = len(message.args)
        self.send(route, wire.Accepted(message.prefix, [(message.first, count)]))
        outcomes = self.run(message, self._functions)
        counters = range(message.first, message.first + count)
        for counter, outcome in zip(counters, outcomes, strict=True):
            self._jobs[message.prefix, counter] = outcome
            self._codecs[message.prefix, counter] = message.codec
        self._later(lambda: self._results(route, message.prefix, list(counters)))

    def _later(self, send: Callable[[], None]) -> None:
        if self.hold:
            self._held.append(send)
        else:
            send()

    def _on_ask(self, route: bytes, message: wire.Ask) -> None:
        known: list[int] = []
        unknown: list[int] = []
        for first, count in message.counters:
            for counter in range(first, first + count):
                (known if (message.prefix, counter) in self._jobs else unknown).append(counter)
        if unknown:
            self.send(route, wire.Unknown(message.prefix, spans(unknown), False))
        if known:
            self._later(lambda: self._results(route, message.prefix, known))

    def _results(self, route: bytes, prefix: bytes, counters: list[int]) -> None:
        good = [c for c in counters if isinstance(self._jobs[prefix, c], bytes)]
        bad = [c for c in counters if c not in good] if len(good) < len(counters) else []
        values = [self._jobs[prefix, c] for c in good]
        large = sum(map(len, values)) > MAX_BYTES_PER_MESSAGE  # type: ignore[arg-type]
        number = self._delivery[route, large] = self._delivery.get((route, large), 0) + 1
        ends = []
        for counter in bad:
            outcome = self._jobs[prefix, counter]
            assert isinstance(outcome, BaseException)
            ends.append(wire.JobEnd(counter, FAILED, payload.encode_exception(outcome)))
        codec = self._codecs[prefix, counters[0]]
        results = wire.Results(number, prefix, codec, good, values, ends, large)  # type: ignore[arg-type]
        if large:
            self._lanes.send(route, results)
        else:
            self.send(route, results)
