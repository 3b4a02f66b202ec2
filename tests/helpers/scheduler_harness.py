"""Drives the scheduler's core turn by turn, as the daemon does, with time and disk under the test's control.

Every message goes through the codec in its direction. After every turn the core checks its invariants. A message that
no test expected fails the test that got it, at its end (`Harness.finish`).

    h = Harness()
    w, s = h.worker(slots=2), h.submitter()
    s.submit(2)
    assert w.assigned() == [1, 2]
    w.done(1, 2)
    assert s.results() == {0: b"result 1", 1: b"result 2"}
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from zmqtasks import payload, wire
from zmqtasks.clock import Now
from zmqtasks.config import SchedulerSettings
from zmqtasks.ids import expand, spans
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.model import Job
from zmqtasks.scheduler.core.payloads import Payloads
from zmqtasks.scheduler.core.records import Record, decode, encode
from zmqtasks.scheduler.gate import Gate

EPOCH = 1_800_000_000_000
RELEASE = "0.1.0"


class SlowJournal:
    """Keeps the facts as bytes; can be held back like a slow disk; answers a load in the next turn.

    Attributes:
        trimmed: so many of the first records are gone.
        lost: numbers of payloads that cannot be read any more.
    """

    def __init__(self) -> None:
        self._turns: list[tuple[int, bytes]] = []  # (number of the last record, records)
        self.last = 0
        self.trimmed = 0
        self.durable = 0
        self.held = False
        self.stored: dict[int, bytes] = {}
        self.lost: set[int] = set()
        self.asked: list[int] = []

    def append(self, records: Sequence[Record]) -> None:
        if records:
            self.last += len(records)
            self._turns.append((self.last, encode(records)))
        if not self.held:
            self.durable = self.last

    def trim(self, upto: int) -> None:
        """What is not needed goes, but never a part of a turn."""
        gone = [last for last, _ in self._turns if last <= upto]
        self.trimmed = max([self.trimmed, *gone])
        self._turns = [turn for turn in self._turns if turn[0] > upto]

    def crash(self) -> None:
        """What is not durable is gone."""
        self._turns = [turn for turn in self._turns if turn[0] <= self.durable]
        self.last = self.durable
        self.asked.clear()

    @property
    def records(self) -> list[Record]:
        """All that are kept."""
        return [record for _, turn in self._turns for record in decode(turn)]


class Peer:
    """One process that talks to the scheduler; its `route` is its present connection."""

    decode: Callable[[bytes], Any]

    def __init__(self, harness: "Harness", name: str) -> None:
        self.h = harness
        self.name = name
        self.inbox: list[Any] = []
        self.by_bulk: list[Any] = []  # those that came over the bulk connection
        self.route = b""
        self.connection = 0  # how many it has had
        self.connect()

    def __repr__(self) -> str:
        return self.name

    def connect(self) -> None:
        """Begin a new connection; the scheduler does not know of the end of the old one."""
        self.h.connections += 1
        self.connection += 1
        self.route = b"%s#%d" % (self.name.encode(), self.h.connections)
        self.h.peers[self.route] = self

    def disconnect(self) -> None:
        """Break the connection; the scheduler is told."""
        self.h.peers.pop(self.route)
        self.h.turn(gone=[self.route])

    def send(self, *messages: Any) -> Effects:
        """One turn with these messages."""
        return self.h.turn(*((self, message) for message in messages))

    def expect(self, *wanted: Any) -> Any:
        """The inbox holds exactly these: messages, or their types. Returns them (one: itself) and empties the inbox."""
        got, self.inbox = self.inbox, []
        fits = len(got) == len(wanted) and all(
            type(message) is want if isinstance(want, type) else message == want
            for message, want in zip(got, wanted, strict=True)
        )
        assert fits, f"{self.name} expected\n  {_list(wanted)}\nand got\n  {_list(got)}"
        return got[0] if len(got) == 1 else got

    def take(self, kind: type) -> list[Any]:
        """All messages of this type, out of the inbox."""
        found = [message for message in self.inbox if type(message) is kind]
        self.inbox = [message for message in self.inbox if type(message) is not kind]
        return found


def _list(messages: Iterable[Any]) -> str:
    return "\n  ".join(map(repr, messages)) or "nothing"


class WorkerPeer(Peer):
    """A worker that does what the test says, and remembers what it was given."""

    decode = staticmethod(wire.decode_to_worker)

    def __init__(self, harness: "Harness", name: str, **hello: Any) -> None:
        super().__init__(harness, name)
        self.nonce = name.encode().ljust(16, b"\0")
        self.options: dict[str, Any] = {"slots": 1, "credit": 100, "queues": ["default"], "tasks": ["add"], **hello}
        self.seen = 0
        self.held: dict[int, wire.Held] = {}
        self.silent = False

    def hello(self, **changes: Any) -> wire.WorkerHello:
        """What it says first."""
        fields: dict[str, Any] = {
            "magic": wire.MAGIC, "protocol": wire.PROTOCOL, "release": RELEASE, "python": "3.11", "host": "host",
            "pid": 7, "name": self.name, "nonce": self.nonce, "seen": self.seen, "held": list(self.held.values()),
            "connection": self.connection, **self.options, **changes,
        }  # fmt: skip
        return wire.WorkerHello(**fields)

    def join(self, **changes: Any) -> wire.WorkerWelcome:
        """Say hello; what the welcome says is dropped, is dropped."""
        self.send(self.hello(**changes))
        welcome = self.inbox.pop(0)
        assert isinstance(welcome, wire.WorkerWelcome), welcome
        for number in expand(welcome.dropped):
            self.held.pop(number, None)
        return welcome

    def note(self, message: Any) -> None:
        """Remember assignments, forget acknowledged outcomes."""
        if isinstance(message, wire.Assign):
            number, attempt = message.number, message.attempt
            for work in message.works:
                for counter in work.counters:
                    self.held[number] = wire.Held(number, work.prefix, counter, attempt)
                    self.seen = max(self.seen, number)
                    number, attempt = number + 1, attempt + 1
        elif isinstance(message, wire.DoneAck):
            for number in expand(message.numbers):
                self.held.pop(number, None)

    def assigned(self) -> list[int]:
        """The counters of the jobs that came, in order; the inbox holds nothing but Assigns."""
        got = self.expect(*[wire.Assign] * len(self.inbox))
        messages = got if isinstance(got, list) else [got]
        return [counter for message in messages for work in message.works for counter in work.counters]

    def numbers(self) -> list[int]:
        """What it holds."""
        return sorted(self.held)

    def done(self, *numbers: int, took: float = 0.0001, results: list[bytes] | None = None) -> None:
        """Report successes (all that it holds, if none are given) and take the acknowledgement."""
        told = list(numbers or self.numbers())
        values = results or [b"result %d" % number for number in told]
        runs, at = [], 0
        for first, count in spans(told):
            runs.append(wire.Run(first, values[at : at + count], took * count, took))
            at += count
        self.report(runs=runs)

    def ended(self, number: int, kind: int, text: str = "oops", took: float = 0.01) -> None:
        """Report one that did not succeed and take the acknowledgement."""
        self.report(ends=[wire.End(number, kind, payload.failure("builtins.ValueError", text), took)])

    def report(self, runs: Iterable[wire.Run] = (), ends: Iterable[wire.End] = ()) -> None:
        """Report outcomes and take the acknowledgement."""
        message = wire.Done(list(runs), list(ends))
        numbers = [n for run in message.runs for n in range(run.first, run.first + len(run.results))]
        numbers += [end.number for end in message.ends]
        self.send(message)
        assert self.take(wire.DoneAck) == [wire.DoneAck(spans(sorted(numbers)))]

    def retracted(self, *numbers: int, started: Iterable[int] = ()) -> None:
        """Hand these back."""
        for number in numbers:
            del self.held[number]
        self.send(wire.Retracted(spans(sorted(numbers)), spans(sorted(started))))

    def heartbeat(self, *running: int) -> wire.Heartbeat:
        """What it says once a second."""
        return wire.Heartbeat(self.seen, spans(self.numbers()), list(running))


class SubmitterPeer(Peer):
    """A submitter that does what the test says."""

    decode = staticmethod(wire.decode_to_submitter)

    def __init__(self, harness: "Harness", name: str) -> None:
        super().__init__(harness, name)
        self.prefix = name.encode().ljust(12, b"\0")
        self.next = 0

    def hello(self, **changes: Any) -> wire.SubmitterHello:
        """What it says first."""
        fields: dict[str, Any] = {
            "magic": wire.MAGIC, "protocol": wire.PROTOCOL, "release": RELEASE, "python": "3.11", "host": "host",
            "pid": 8, "user": "user", "prefix": self.prefix, "connection": self.connection, **changes,
        }  # fmt: skip
        return wire.SubmitterHello(**fields)

    def join(self, **changes: Any) -> wire.SubmitterWelcome:
        """Say hello."""
        self.send(self.hello(**changes))
        welcome = self.inbox.pop(0)
        assert isinstance(welcome, wire.SubmitterWelcome), welcome
        return welcome

    def message(self, count: int = 1, **changes: Any) -> wire.Submit:
        """A Submit of the next `count` jobs; fields of Spec may be given besides those of Submit."""
        names = {f.name for f in msgspec.structs.fields(wire.Spec)}
        spec = wire.Spec(**{key: changes.pop(key) for key in list(changes) if key in names})
        first = changes.pop("first", self.next)
        self.next = max(self.next, first + count)
        fields: dict[str, Any] = {
            "prefix": self.prefix, "first": first, "task": "add", "function": b"", "codec": "msgpack", "spec": spec,
            "args": [b"args %d" % (first + i) for i in range(count)], "functions": [], **changes,
        }  # fmt: skip
        return wire.Submit(**fields)

    def submit(self, count: int = 1, **changes: Any) -> wire.Submit:
        """Send a Submit and take its acceptance."""
        message = self.message(count, **changes)
        self.send(message)
        accepted = wire.Accepted(message.prefix, [(message.first, len(message.args))])
        assert self.take(wire.Accepted) == [accepted], self.inbox
        return message

    def results(self, *, ack: bool = True) -> dict[int, Any]:
        """The outcomes that came: values, or the JobEnd of those that did not succeed; acknowledged."""
        came: dict[int, Any] = {}
        messages = self.take(wire.Results)
        for message in messages:
            came.update(zip(message.counters, message.values, strict=True))
            came.update((end.counter, end) for end in message.ends)
        for bulk in (False, True):
            told = [message.delivery for message in messages if message.bulk is bulk]
            if ack and told:
                self.send(wire.ResultAck(told[-1], bulk))
        return came

    def ends(self) -> dict[int, tuple[int, str, str]]:
        """Of the outcomes that came: (state, type of the error, its text)."""
        came = {}
        for counter, end in self.results().items():
            told = payload.read_failure(end.payload)
            came[counter] = (end.state, told.type_name, told.text)
        return came


class OperatorPeer(Peer):
    """The command line."""

    decode = staticmethod(wire.decode_to_operator)

    def hello(self) -> wire.OperatorHello:
        """What it says first."""
        return wire.OperatorHello(wire.MAGIC, wire.PROTOCOL, RELEASE, "host", 9)

    def status(self) -> wire.Status:
        """Ask and get."""
        self.send(wire.AskStatus())
        status = self.expect(wire.Status)
        assert isinstance(status, wire.Status)
        return status

    def jobs(self, *states: str, queue: str = "", limit: int = 100) -> wire.Jobs:
        """Ask for the jobs in some states and get them."""
        self.send(wire.AskJobs(list(states), queue, limit))
        jobs = self.expect(wire.Jobs)
        assert isinstance(jobs, wire.Jobs)
        return jobs

    def control(self, change: Any) -> wire.Controlled:
        """Change something and get the answer."""
        self.send(change)
        answer = self.expect(wire.Controlled)
        assert isinstance(answer, wire.Controlled)
        return answer

    def job(self, counter: int = 0, prefix: bytes = b"s".ljust(12, b"\0")) -> wire.JobReport:
        """Ask for all about one job and get it."""
        self.send(wire.AskJob(prefix, counter))
        report = self.expect(wire.JobReport)
        assert isinstance(report, wire.JobReport)
        return report


class Harness:
    """One scheduler's core with its journal and gate.

    Args:
        cache: bytes of large payloads that the core keeps at hand; None: its default.
        durable: the journal outlives the scheduler.
        recording: the core makes records.
        settings: fields of SchedulerSettings.
    """

    def __init__(
        self, *, cache: int | None = None, durable: bool = False, recording: bool = True, **settings: Any
    ) -> None:
        self.settings = SchedulerSettings(**{"ack_delay": 0.0, "accept_delay": 0.0, **settings})
        self.mono = 1_000.0
        self.wall = 1_700_000_000.0
        self.durable, self.recording, self.cache = durable, recording, cache
        self.journal = SlowJournal()
        self.peers: dict[bytes, Peer] = {}
        self.connections = 0
        self.logs: list[tuple[str, str]] = []
        self._begin()

    def _begin(self) -> None:
        """A life of the scheduler; what an earlier one has written down is restored."""
        identity = Identity(EPOCH, RELEASE, pid=4711, durable=self.durable, started=self.mono)
        self.core = Core(self.settings, identity, recording=self.recording)
        if self.cache is not None:
            self.core.state.payloads = Payloads(self.settings.spill, self.cache)
        self.gate = Gate()
        self.fx = Effects()  # of the last turn
        if self.durable:
            self.core.restore(self.journal.trimmed + 1, self.journal.records)
            fx = Effects()
            live = self.core.begin(self.now, fx)
            assert live.keys() <= self.journal.stored.keys(), "a payload that is needed was dropped"
            self.journal.stored = {number: self.journal.stored[number] for number in live}
            self.core.check()
            self._carry_out(fx)

    def restart(self) -> None:
        """kill -9, and another life: what was not durable is forgotten, all connections are over."""
        self.journal.crash()
        self.peers.clear()
        self._begin()

    @property
    def now(self) -> Now:
        """The test's present."""
        return Now(self.mono, self.wall)

    @property
    def counters(self) -> dict[str, int]:
        """What the core counted."""
        return self.core.state.counters

    def worker(self, name: str = "w", **hello: Any) -> WorkerPeer:
        """A worker that has joined. Keywords: fields of its hello."""
        worker = WorkerPeer(self, name, **hello)
        worker.join()
        return worker

    def submitter(self, name: str = "s") -> SubmitterPeer:
        """A submitter that has joined."""
        submitter = SubmitterPeer(self, name)
        submitter.join()
        return submitter

    def operator(self) -> OperatorPeer:
        """The command line, welcomed."""
        operator = OperatorPeer(self, "operator")
        operator.send(operator.hello())
        operator.expect(wire.OperatorWelcome(EPOCH, RELEASE))
        return operator

    def job(self, counter: int = 0, prefix: bytes = b"s".ljust(12, b"\0")) -> Job:
        """Look at a job."""
        job = self.core.state.find(prefix, counter)
        assert job is not None, f"no job {counter}"
        return job

    def turn(self, *incoming: tuple[Peer, Any], gone: Iterable[bytes] = (), caught_up: bool = True) -> Effects:
        """One turn of the daemon's loop: messages (structs or raw bytes), then timers, then what goes out."""
        fx, now, core = Effects(), self.now, self.core
        for peer, message in incoming:
            data = message if isinstance(message, bytes) else wire.encode(message)
            core.receive(peer.route, data, now, fx)
        for route in gone:
            self.gate.forget(route)
            core.on_gone(route, now, fx)
        asked, self.journal.asked = self.journal.asked, []
        for number in asked:
            data = None if number in self.journal.lost else self.journal.stored[number]
            core.on_loaded(number, data, now, fx)
        core.tick(now, fx, caught_up=caught_up)
        self._carry_out(fx)
        core.check()
        return fx

    def _carry_out(self, fx: Effects) -> None:
        journal = self.journal
        journal.stored.update(fx.stores)
        journal.append(fx.records)
        assert journal.last == self.core.state.seq, "a record has another number than the core thinks"
        if fx.trim:
            journal.trim(fx.trim)
        for number in fx.drops:
            del journal.stored[number]
        journal.asked += fx.loads
        for route in fx.forget:
            self.gate.forget(route)
            self.peers.pop(route, None)
        for send in self.gate.pass_(fx.sends, journal.durable):
            peer = self.peers.get(send.route)
            assert peer is not None, f"a message to a connection that is over: {send}"
            message = type(peer).decode(wire.encode(send.message))
            assert message == send.message, f"{message} came out of the codec, {send.message} went in"
            if send.bulk:
                peer.by_bulk.append(message)
            if not isinstance(message, wire.Argument | wire.Code):  # parts of the Assign before them
                peer.inbox.append(message)
            if isinstance(peer, WorkerPeer):
                peer.note(message)
        self.logs += [(log.action, log.text) for log in fx.logs]
        self.fx = fx

    def pass_time(self, seconds: float) -> None:
        """Let time pass in steps of at most a heartbeat; workers that are not silent send theirs."""
        while seconds > 0:
            step = min(seconds, self.settings.heartbeat)
            seconds = round(seconds - step, 9)
            self.mono += step
            self.wall += step
            beats = [(p, p.heartbeat()) for p in self.peers.values() if isinstance(p, WorkerPeer) and not p.silent]
            self.turn(*beats)

    def jump(self, seconds: float, **options: Any) -> Effects:
        """Let time pass in one step, without heartbeats, then one turn."""
        self.mono += seconds
        self.wall += seconds
        return self.turn(**options)

    def sync(self) -> None:
        """The journal catches up with its disk."""
        self.journal.durable = self.journal.last
        self.turn()

    def finish(self) -> None:
        """At the end of a test: nobody got a message that the test did not expect; all memory is accounted for."""
        left = {peer.name: peer.inbox for peer in self.peers.values() if peer.inbox}
        assert not left, "messages that nobody expected:\n" + "\n".join(f"{n}: {_list(i)}" for n, i in left.items())
        assert self.core.state.moves.counts == [
            sum(1 for source in self.core.state.sources.values() for job in source.jobs if job.state == state)
            for state in range(len(self.core.state.moves.counts))
        ]
