"""Simulated workers and submitters around a real core of the scheduler: they answer what they are sent.

What they say is built and encoded outside the measured time. What is measured is the core's share of a turn: the
messages decoded and handled, the tick, the next deadline. It is measured as processor time of this thread, so that a
busy neighbour does not count.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from zmqtasks import wire
from zmqtasks.clock import Now
from zmqtasks.config import SchedulerSettings
from zmqtasks.ids import spans
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity

RELEASE = "0"
PYTHON = "3.11"
DONES = 10  # messages of workers in one turn
TURN = 0.001  # seconds that pass from turn to turn
PORTION = 100  # jobs in one Submit
RESULTS = 20_000  # outcomes kept: so few that the warm-up reaches them, and what is measured is the steady state
ARGS = b"\x92\x92\x00\x01\x80"


@dataclass(slots=True, frozen=True)
class Shape:
    """How many of what.

    Attributes:
        queued: jobs that stand in lines all the time.
        a_done: jobs that a worker holds, and reports in one message; 1: jobs too long to be given in advance.
        half: workers hold half of what they may: no line has work, every worker has room.
        own_queues: each worker serves a queue of its own besides.
    """

    workers: int = 10
    queued: int = 1_000
    submitters: int = 1
    queues: int = 1
    tasks: int = 1
    a_done: int = 10
    half: bool = False
    own_queues: bool = False


class SimWorker:
    """Holds what it was assigned until it is its turn to report."""

    __slots__ = ("held", "nonce", "route", "seen")

    def __init__(self, index: int) -> None:
        self.nonce = index.to_bytes(16, "big")
        self.route = b"w" + index.to_bytes(4, "big")
        self.held: list[int] = []
        self.seen = 0

    def hello(self, queues: list[str], tasks: list[str]) -> bytes:
        """Its first message."""
        name = f"worker{int.from_bytes(self.nonce, 'big')}"
        return wire.encode(
            wire.WorkerHello(
                wire.MAGIC, wire.PROTOCOL, RELEASE, PYTHON, "host", 1, name, self.nonce, 1, 1_000, queues, tasks, 0, []
            )
        )

    def done(self, took: float) -> bytes:
        """All that it holds succeeded."""
        runs = [wire.Run(first, [b"\x01"] * count, took * count, took) for first, count in spans(self.held)]
        self.held = []
        return wire.encode(wire.Done(runs, []))

    def heartbeat(self) -> bytes:
        """What it says once a second."""
        return wire.encode(wire.Heartbeat(self.seen, spans(self.held), self.held[:1]))


class SimSubmitter:
    """Submits jobs of one kind after another."""

    __slots__ = ("kinds", "next", "prefix", "route")

    def __init__(self, index: int, kinds: Iterator[tuple[str, str]]) -> None:
        self.prefix = index.to_bytes(12, "big")
        self.route = b"s" + index.to_bytes(4, "big")
        self.next = 0
        self.kinds = kinds

    def hello(self) -> bytes:
        """Its first message."""
        return wire.encode(
            wire.SubmitterHello(wire.MAGIC, wire.PROTOCOL, RELEASE, PYTHON, "host", 1, "user", self.prefix)
        )

    def submit(self, count: int) -> bytes:
        """So many jobs in one message."""
        queue, task = next(self.kinds)
        first, self.next = self.next, self.next + count
        spec = wire.Spec(queue=queue)
        return wire.encode(wire.Submit(self.prefix, first, task, b"", "msgpack", spec, [ARGS] * count, []))


class Crowd:
    """One core and all that talk to it. `spent` is its processor time in seconds since that was last set to 0."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.core = Core(SchedulerSettings(max_results=RESULTS), Identity(1_800_000_000_000, RELEASE))
        self.took = 0.0099 / shape.a_done if shape.a_done > 1 else 0.050
        self.mono = 1_000.0
        self.spent = 0.0
        self.waiting = 0  # submitted and not assigned
        self.acks: dict[bytes, int] = {}
        self.busy: deque[SimWorker] = deque()
        names = [f"task{i}" for i in range(shape.tasks)]
        queues = [f"queue{i}" for i in range(shape.queues)]
        pairs = [(queue, task) for task in names for queue in queues]
        self.workers = {w.route: w for w in map(SimWorker, range(shape.workers))}
        self.submitters = [SimSubmitter(i, cycle(pairs[i:] + pairs[:i])) for i in range(shape.submitters)]
        self.turns = cycle(self.submitters)
        self.turn([(s.route, s.hello()) for s in self.submitters])
        own = [[f"own{i}"] if shape.own_queues else [] for i in range(shape.workers)]
        hellos = [(w.route, w.hello(queues + o, names)) for w, o in zip(self.workers.values(), own, strict=True)]
        self.joined = self.turn(hellos)

    @property
    def now(self) -> Now:
        """The simulated present."""
        return Now(self.mono, 1.8e9 + self.mono)

    def turn(self, messages: list[tuple[bytes, bytes]]) -> float:
        """One turn of the daemon's loop without its sockets; returns the seconds that the core took."""
        now, fx, core = self.now, Effects(), self.core
        begin = time.thread_time()
        for route, data in messages:
            core.receive(route, data, now, fx)
        core.tick(now, fx)
        core.next_deadline(now)
        took = time.thread_time() - begin
        for send in fx.sends:
            self._take(send.route, send.message)
        self.mono += TURN
        self.spent += took
        return took

    def _take(self, route: bytes, message: Any) -> None:
        if isinstance(message, wire.Assign):
            worker = self.workers[route]
            count = sum(len(work.counters) for work in message.works)
            if not worker.held:
                self.busy.append(worker)
            worker.held += range(message.number, message.number + count)
            worker.seen = message.number + count - 1
            self.waiting -= count
        elif isinstance(message, wire.Results):
            self.acks[route] = message.delivery

    def submit(self, jobs: int, portion: int = PORTION) -> list[tuple[bytes, bytes]]:
        """Messages for so many jobs, of one submitter after the other."""
        messages = []
        while jobs > 0:
            submitter = next(self.turns)
            messages.append((submitter.route, submitter.submit(min(jobs, portion))))
            self.waiting += min(jobs, portion)
            jobs -= portion
        return messages

    def work(self, portion: int = PORTION) -> int:
        """A turn of the steady state: some workers report, as many jobs are submitted; returns how many."""
        acks, self.acks = self.acks, {}
        messages = [(route, wire.encode(wire.ResultAck(delivery))) for route, delivery in acks.items()]
        jobs = 0
        for _ in range(min(DONES, len(self.busy))):
            worker = self.busy.popleft()
            jobs += len(worker.held)
            messages.append((worker.route, worker.done(self.took)))
        self.turn(messages + self.submit(jobs, portion))
        return jobs

    def fill(self) -> None:
        """Submit what stands in the lines, and let every worker report until all hold what they shall."""
        shape = self.shape
        per_worker = shape.a_done // 2 if shape.half else shape.a_done
        self.turn(self.submit(min(PORTION, shape.workers * per_worker)))
        for _ in range(5):  # run times become known
            self.work()
        target = 0 if shape.half else shape.queued
        jobs = shape.workers * per_worker + target - self.open
        for start in range(0, jobs, 5_000):
            self.turn(self.submit(min(5_000, jobs - start)))

    @property
    def open(self) -> int:
        """Jobs that are not over."""
        return self.core.state.open

    def heartbeats(self) -> float:
        """All workers say that they live; returns the seconds that the core took."""
        return self.turn([(w.route, w.heartbeat()) for w in self.workers.values()])
