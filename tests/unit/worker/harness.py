"""A WorkerCore whose every message passes through the codec; what nobody looked at fails the test."""

from typing import Any

from zmqtasks import wire
from zmqtasks.clock import Now
from zmqtasks.config import WorkerSettings
from zmqtasks.wire import Assign, End, Run, Work, WorkerHello, WorkerWelcome
from zmqtasks.worker import claims
from zmqtasks.worker.core import WorkerCore
from zmqtasks.worker.effects import Effects, Identity

PREFIX = b"p" * 12
EPOCH = 7
BASE = EPOCH << 32
IDENTITY = Identity("0.1", "3.11", "here", 42, "w1", b"n" * 16, ("default",), ("add",))


class Worker:
    """Attributes: sent, pushed, kills, reclaim, look: effects that the test has not taken yet."""

    def __init__(self, slots: int = 1, credit: int = 1000, ahead: int = 2, **more: Any) -> None:
        self.core = WorkerCore(WorkerSettings(slots, credit, ahead=ahead, **more), IDENTITY)
        self.now = 100.0
        self.sent: list[Any] = []
        self.by_bulk: list[Any] = []  # those that went over the bulk connection
        self.pushed: list[claims.Claim] = []
        self.kills: list[int] = []
        self.reclaim = self.look = False
        self.next = 1

    # ---------------------------------------------------------------------------------------- the turn

    def _do(self, verb: str, *args: Any, **more: Any) -> None:
        fx = Effects()
        now = Now(self.now, 1e9 + self.now)
        getattr(self.core, verb)(*args, now, fx, **more)
        if verb not in {"on_reclaimed", "on_running", "tick"}:
            self.core.tick(now, fx)
        self._take(fx)

    def _take(self, fx: Effects) -> None:
        self.sent += [wire.decode_from_worker(wire.encode(message)) for message in (*fx.sends, *fx.bulk)]
        self.by_bulk += fx.bulk
        self.pushed += [claims.decode_claim(claims.encode(claim)) for claim in fx.pushes]
        self.kills += fx.kills
        self.reclaim |= fx.reclaim
        self.look |= fx.look
        self.core.check()

    def turn(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self._do("tick")

    # ---------------------------------------------------------------------------------------- events

    def connect(self) -> WorkerHello:
        self._do("on_connected")
        return self.sent_one(WorkerHello)

    def welcome(self, dropped: list[tuple[int, int]] | None = None) -> None:
        self.handle(WorkerWelcome(EPOCH, "0.1", 1.0, 4.0, 1 << 26, dropped or []))

    def up(self) -> "Worker":
        self.connect()
        self.welcome()
        return self

    def disconnect(self) -> None:
        self._do("on_disconnected")

    def handle(self, message: Any) -> None:
        self._do("handle", wire.decode_to_worker(wire.encode(message)))

    def assign(self, count: int, task: str = "add", number: int | None = None, args: bytes = b"x") -> None:
        number = self.next if number is None else number
        self.handle(Assign(number, BASE + number, [work(number, count, task, args)], []))
        self.next = max(self.next, number + count)

    def report(
        self, claim: int, runs: list[Run] | None = None, ends: list[End] | None = None, *, finished: bool = True
    ) -> None:
        self._do("on_report", 0, claim, runs or [], ends or [], finished)

    def core_progress(self, items: list[tuple[int, bytes]]) -> None:
        self._do("on_progress", 0, items)

    def exit(self, claim: int, number: int, child: int = 0, **how: bool) -> None:
        self._do("on_child_exit", child, claim, number, "child 9 was killed by SIGKILL", **how)

    def reclaimed(self, *ids: int) -> None:
        assert self.reclaim, "nobody asked for claims back"
        self.reclaim = False
        self._do("on_reclaimed", list(ids))

    def running(self, *cells: tuple[int, int]) -> None:
        assert self.look, "nobody asked for a look"
        self.look = False
        self._do("on_running", list(cells))

    def drain(self) -> None:
        self._do("drain")

    def abandon(self) -> None:
        self._do("abandon")

    # ---------------------------------------------------------------------------------------- what came of it

    def all_sent(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent

    def sent_one(self, kind: type) -> Any:
        sent = self.all_sent()
        assert [type(m) for m in sent] == [kind], sent
        return sent[0]

    def pushes(self) -> list[claims.Claim]:
        pushed, self.pushed = self.pushed, []
        return pushed

    def numbers(self) -> list[list[int]]:
        """The numbers of each claim that was pushed."""
        return [[n for p in c.pieces for n in range(p.first, p.first + len(p.args))] for c in self.pushes()]

    def nothing_more(self) -> None:
        left = (self.sent, self.pushed, self.kills, self.reclaim, self.look)
        assert left == ([], [], [], False, False), left


def work(first: int, count: int, task: str = "add", args: bytes = b"x") -> Work:
    return Work(PREFIX, task, b"", "msgpack", list(range(first, first + count)), [args] * count)


def run(first: int, count: int, each: float = 1e-5) -> Run:
    return Run(first, [b"r"] * count, each * count, each)
