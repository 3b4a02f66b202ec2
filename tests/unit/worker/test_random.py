"""A worker between a scheduler and children that do anything the rules allow: what is assigned is never lost."""

import random

import pytest

from tests.unit.worker.harness import BASE, Worker, work
from zmqtasks.ids import expand, spans
from zmqtasks.wire import Assign, Done, DoneAck, End, Heartbeat, HelloAgain, Kill, Retract, Retracted, Run, WorkerHello
from zmqtasks.worker.ledger import ENDED

SLOTS, CREDIT = 3, 60


class World:
    """What scheduler and children know. `mine`: numbers that the scheduler believes this worker to hold."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.worker = Worker(SLOTS, CREDIT, ahead=self.random.choice([1, 2, 3]))
        self.mine: set[int] = set()
        self.unacked: set[int] = set()
        self.voided: set[int] = set()
        self.next = 1
        self.pipe: list[tuple[int, list[int]]] = []
        self.cells: list[tuple[int, int]] = [(0, 0)] * SLOTS
        self.claims: dict[int, list[int]] = {}  # by child: what is left of its claim, the running one first
        self.ran: list[tuple[int, list[int]]] = []  # by child: ran, not reported
        self.unreported: list[list[int]] = [[] for _ in range(SLOTS)]
        self.starts: dict[int, int] = {}
        self.connected = False

    def settle(self) -> None:
        """Carry out what the worker wants, as its loop does."""
        worker = self.worker
        while True:
            for claim in worker.pushes():
                numbers = [n for p in claim.pieces for n in range(p.first, p.first + len(p.args))]
                if len(self.pipe) < 4:
                    self.pipe.append((claim.id, numbers))
                else:
                    worker.core.on_push_refused(claim.id)
                    worker.core.check()
            self.listen()
            for child in worker.kills:
                self.die(child)
            worker.kills.clear()
            if worker.reclaim:
                ids = [claim for claim, _ in self.pipe]
                self.pipe.clear()
                worker.reclaimed(*ids)
            elif worker.look:
                worker.running(*self.cells)
            else:
                return

    def listen(self) -> None:
        for message in self.worker.all_sent():
            if isinstance(message, WorkerHello):
                held = {h.number for h in message.held}
                lost = {n for n in self.mine if n <= message.seen} - held
                late = {n for n in self.mine if n > message.seen}
                self.mine -= lost | late
                dropped = held - self.mine
                some = set(self.random.sample(sorted(self.mine & held), k=min(3, len(self.mine & held))))
                dropped |= some
                self.mine -= some
                over = {n for n in dropped if self.worker.core.work.ledger.state(n) == ENDED}
                self.voided |= (
                    dropped - over
                )  # what came of the others is told again, and kept until it is acknowledged
                self.unacked.clear()
                self.worker.welcome(spans(sorted(dropped)))
                return self.listen()
            if isinstance(message, Done):
                numbers = [n for r in message.runs for n in range(r.first, r.first + len(r.results))]
                numbers += [e.number for e in message.ends]
                assert self.voided.isdisjoint(numbers), "an outcome of a number that is not the worker's"
                self.mine -= set(numbers)
                self.unacked |= set(numbers)
            elif isinstance(message, Retracted):
                back = set(expand(message.numbers))
                assert back <= self.mine, f"{back - self.mine} handed back that are not its own"
                assert back.isdisjoint(self.running()), "handed back although it runs"
                self.mine -= back
            elif isinstance(message, Heartbeat):
                lost = self.mine - set(expand(message.held))
                assert not lost, f"a heartbeat that does not list {lost}"
                assert set(message.running) <= self.running()
        return None

    def running(self) -> set[int]:
        return {number for _, number in self.cells if number}

    # ---------------------------------------------------------------------------------------- what may happen

    def assign(self) -> None:
        room = CREDIT - len(self.mine)
        count = min(room, self.random.choice([1, 2, 5, 20]))
        if self.connected and count > 0:
            first = self.next
            self.next += count
            self.mine |= set(range(first, first + count))
            works, at = [], first
            while at < self.next:
                n = self.random.randint(1, self.next - at)
                works.append(work(at, n, self.random.choice(["a", "a", "b"])))
                at += n
            self.worker.handle(Assign(first, BASE + first, works, []))

    def ack(self) -> None:
        if self.connected and self.unacked:
            some = self.random.sample(sorted(self.unacked), self.random.randint(1, len(self.unacked)))
            self.unacked -= set(some)
            self.worker.handle(DoneAck(spans(sorted(some))))

    def ask_back(self) -> None:
        if self.connected and self.mine:
            some = self.random.sample(sorted(self.mine), min(len(self.mine), 5))
            kind = self.random.choice([Retract, Kill])
            self.worker.handle(kind(spans(sorted(some))))

    def take(self) -> None:
        child = self.random.randrange(SLOTS)
        if child not in self.claims and self.pipe:
            claim, numbers = self.pipe.pop(0)
            self.claims[child] = list(numbers)
            self.cells[child] = (claim, self.random.choice([0, numbers[0]]))

    def work(self) -> None:
        for child, left in list(self.claims.items()):
            claim, number = self.cells[child]
            if number:
                self.unreported[child].append(left.pop(0))
            if left:
                self.cells[child] = (claim, left[0])
            if not left or self.random.random() < 0.3:
                self.report(child, claim, finished=not left)

    def report(self, child: int, claim: int, *, finished: bool) -> None:
        runs, ends = [], []
        for first, count in spans(self.unreported[child]):
            if self.random.random() < 0.2:
                ends += [End(n, 1, b"no", 1e-5) for n in range(first, first + count)]
            else:
                runs.append(Run(first, [b"r"] * count, 1e-5 * count, self.random.choice([1e-5, 0.1])))
        self.unreported[child].clear()
        if finished:
            del self.claims[child]
            self.cells[child] = (0, 0)
        self.worker.report(claim, runs, ends, finished=finished)

    def die(self, child: int | None = None) -> None:
        child = self.random.randrange(SLOTS) if child is None else child
        claim, number = self.cells[child]
        if child not in self.claims and self.pipe and self.random.random() < 0.5:
            self.pipe.pop(0)  # taken, not yet in the cell
        self.claims.pop(child, None)
        self.unreported[child].clear()
        self.cells[child] = (0, 0)
        self.worker.exit(claim, number, child)

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            self.worker._do("on_connected")

    def disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self.worker.disconnect()

    def hello_again(self) -> None:
        if self.connected:
            self.worker.handle(HelloAgain())

    def wait(self) -> None:
        self.worker.turn(self.random.choice([0.001, 0.05, 1.5]))


@pytest.mark.parametrize("seed", range(40))
def test_every_number_ends_or_comes_back_and_only_once(seed):
    world = World(seed)
    moves = [
        *[world.assign] * 4, *[world.take] * 8, *[world.work] * 8, *[world.ack] * 3, *[world.wait] * 3,
        world.ask_back, world.die, world.connect, world.connect, world.disconnect, world.hello_again,
    ]  # fmt: skip
    for _ in range(600):
        world.random.choice(moves)()
        world.settle()
    world.connect()
    for _ in range(200):
        world.settle()
        world.take()
        world.work()
        world.wait()
    world.settle()
    world.unacked and world.worker.handle(DoneAck([(1, world.next)]))
    assert world.mine == set(), f"never heard of again: {world.mine}"
    world.worker.drain()
    world.settle()
    assert world.worker.core.drained
