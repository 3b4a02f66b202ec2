"""The three cores, each driven as its loop drives it, but in virtual time."""

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.sim.laws import Broken, Laws
from tests.sim.load import Plan, decode
from tests.sim.world import Link, World
from zmqtasks import payload, wire
from zmqtasks.config import SchedulerSettings, SubmitterSettings, WorkerSettings
from zmqtasks.ids import Span, expand
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.core import Identity as SchedulerIdentity
from zmqtasks.scheduler.core.effects import Effects as SchedulerEffects
from zmqtasks.scheduler.core.model import Worker
from zmqtasks.scheduler.core.payloads import Payloads
from zmqtasks.scheduler.core.transitions import IllegalMoveError
from zmqtasks.scheduler.gate import Gate
from zmqtasks.states import SUCCEEDED
from zmqtasks.submitter.core import SubmitterCore
from zmqtasks.submitter.effects import Effects as SubmitterEffects
from zmqtasks.submitter.effects import Identity as SubmitterIdentity
from zmqtasks.submitter.effects import Submission
from zmqtasks.wire import FAILED, RETRYABLE, End, Run
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.core import WorkerCore
from zmqtasks.worker.effects import Effects as WorkerEffects
from zmqtasks.worker.effects import Identity as WorkerIdentity

FSYNC = 0.002  # seconds, the mean
LOAD = 0.005
BACKOFF = 0.5


class Scheduler:
    """The scheduler's core behind its gate, over a journal that takes its time."""

    def __init__(self, world: World, laws: Laws, settings: SchedulerSettings) -> None:
        self.world, self.laws = world, laws
        self.core = Core(settings, SchedulerIdentity(1_750_000_000_000, "sim"))
        self.core.state.payloads = Payloads(settings.spill, cache=0)
        self.gate = Gate()
        self.durable = 0
        self.inbox: deque[tuple[bytes, bytes]] = deque()
        self.gone: deque[bytes] = deque()
        self.loaded: deque[tuple[int, bytes]] = deque()
        self.links: dict[bytes, Link] = {}
        self._stored: dict[int, bytes] = {}
        self._commit_at = 0.0
        self._turn_due = False
        self._alarm = -1.0

    def arrive(self, route: bytes, data: bytes) -> None:
        """A message comes out of a link."""
        self.inbox.append((route, data))
        self.wake()

    def lost(self, route: bytes) -> None:
        """The network says that this connection is dead."""
        self.gone.append(route)
        self.wake()

    def wake(self) -> None:
        """Have a turn soon."""
        if not self._turn_due:
            self._turn_due = True
            self.world.after(self.world.random.uniform(0, 0.0005), self._turn)

    def _turn(self) -> None:
        try:
            self._take_turn()
        except IllegalMoveError as error:
            raise Broken("moves", str(error)) from error

    def _take_turn(self) -> None:
        self._turn_due = False
        now, fx = self.world.now(), SchedulerEffects()
        workers = dict(self.core.state.workers)
        budget = self.world.random.choice((1, 3, 100))
        while self.inbox and budget:
            self.core.receive(*self.inbox.popleft(), now, fx)
            budget -= 1
        while self.gone:
            route = self.gone.popleft()
            self.gate.forget(route)
            self.core.on_gone(route, now, fx)
        while self.loaded:
            self.core.on_loaded(*self.loaded.popleft(), now, fx)
        self.core.tick(now, fx, caught_up=not self.inbox)
        for nonce, worker in workers.items():
            if self.core.state.workers.get(nonce) is not worker:
                self.laws.given_up(nonce)
        self._carry_out(fx)
        self.core.check()
        if self.inbox:
            self.wake()
        self._set_alarm()

    def _carry_out(self, fx: SchedulerEffects) -> None:
        for number, data in fx.stores:
            self._stored[number] = data
        for record in fx.records:
            self.laws.record(record)
        if fx.records:
            delay = self.world.random.expovariate(1 / FSYNC)
            self._commit_at = max(self._commit_at, self.world.time + delay)
            self.world.after(self._commit_at - self.world.time, self._committed, self.laws.seq)
        for number in fx.drops:
            del self._stored[number]
        for number in fx.loads:
            self.world.after(self.world.random.expovariate(1 / LOAD), self._fetched, number)
        for route in fx.forget:
            self.gate.forget(route)
        self._emit(self.gate.pass_(fx.sends, self.durable))

    def _emit(self, sends: list[Any]) -> None:
        for send in sends:
            peer = self.core.state.peers.get(send.route)
            self.laws.sent(send, self.durable, peer.nonce if isinstance(peer, Worker) else None)
            link = self.links[send.route]
            if link.alive:
                link.down.send(wire.encode(send.message))

    def _committed(self, seq: int) -> None:
        self.durable = max(self.durable, seq)
        self._emit(self.gate.pass_((), self.durable))

    def _fetched(self, number: int) -> None:
        if number in self._stored:  # it may have been dropped meanwhile
            self.loaded.append((number, self._stored[number]))
            self.wake()

    def _set_alarm(self) -> None:
        deadline = self.core.next_deadline(self.world.now())
        if deadline is not None and deadline != self._alarm:
            self._alarm = deadline
            self.world.after(max(0.0, deadline - self.world.time) + 1e-6, self.wake)


class Node:
    """A peer with one link at a time, remade after every break."""

    def __init__(self, world: World, network: "Network", name: str) -> None:
        self.world, self.network, self.name = world, network, name
        self.alive = True
        self.link: Link | None = None
        self.inbox: deque[Callable[[Any], None]] = deque()
        self._turn_due = False
        self._alarm = -1.0
        world.after(world.random.uniform(0, 0.1), self.connect)

    def connect(self) -> None:
        """Make a connection, if the network lets us."""
        if not self.alive or self.link is not None:
            return
        self.link = self.network.connect(self)
        if self.link is None:
            self.world.after(self.world.random.uniform(0.05, BACKOFF), self.connect)
            return
        self.event(lambda fx: self.core.on_connected(self.world.now(), fx))

    def broken(self, link: Link) -> None:
        """The network says that our connection is dead."""
        if not self.alive or self.link is not link:
            return
        self.link = None
        self.event(lambda fx: self.core.on_disconnected(self.world.now(), fx))
        self.world.after(self.world.random.uniform(0.05, BACKOFF), self.connect)

    def arrive(self, link: Link, data: bytes) -> None:
        """A message comes out of a link; a fresh socket hears nothing of an old connection."""
        if self.alive and link is self.link:
            message = self.decode(data)
            self.event(lambda fx: self.core.handle(message, self.world.now(), fx))

    def event(self, action: Callable[[Any], None]) -> None:
        """Something for the next turn."""
        self.inbox.append(action)
        self.wake()

    def wake(self) -> None:
        """Have a turn soon."""
        if self.alive and not self._turn_due:
            self._turn_due = True
            self.world.after(self.world.random.uniform(0, 0.0005), self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if not self.alive:
            return
        try:
            self._take_turn()
        except Broken:
            raise
        except AssertionError as error:  # of the core itself
            raise Broken(self.law, str(error)) from error

    def _take_turn(self) -> None:
        fx = self.effects()
        while self.inbox:
            self.inbox.popleft()(fx)
        self.core.tick(self.world.now(), fx)
        self.carry_out(fx)
        if self.alive:
            self.core.check()
            deadline = self.core.next_deadline()
            if deadline is not None and deadline != self._alarm:
                self._alarm = deadline
                self.world.after(max(0.0, deadline - self.world.time) + 1e-6, self.wake)

    def send(self, messages: list[Any]) -> None:
        """Put messages into the link."""
        for message in messages:
            if self.link is not None and self.link.alive:
                self.link.up.send(wire.encode(message))

    def die(self) -> None:
        """kill -9."""
        self.alive = False
        if self.link is not None:
            self.network.cut(self.link, self)
            self.link = None

    law: str  # that its core's own checks keep
    core: Any
    effects: Callable[[], Any]
    decode: Callable[[bytes], Any]

    def carry_out(self, fx: Any) -> None:
        """Do what the core asks."""
        raise NotImplementedError


class Child:
    """A pool process: claims, runs, reports, dies."""

    def __init__(self, owner: "WorkerNode", index: int) -> None:
        self.owner, self.index = owner, index
        self.alive = True
        self.busy = False
        self.cell = (0, 0)
        self.claim: Claim | None = None
        self.jobs: deque[tuple[int, bytes, int, int, bytes]] = deque()  # number, prefix, counter, attempt, args
        self.stream: deque[tuple[int, list[Run], list[End], bool]] = deque()
        self.runs: list[Run] = []
        self.ends: list[End] = []

    def ask(self) -> None:
        """Take a claim if one is there."""
        queue = self.owner.queue
        if self.busy or not self.alive or not queue:
            return
        self.busy = True
        self.claim = queue.popleft()
        self.owner.world.after(1e-6, self._begin)

    def _begin(self) -> None:
        if not self.alive or self.claim is None:
            return
        self.cell = (self.claim.id, 0)
        for piece in self.claim.pieces:
            for i, args in enumerate(piece.args):
                self.jobs.append((piece.first + i, piece.prefix, piece.counters[i], piece.attempt + i, args))
        self.owner.world.after(1e-6, self._next)

    def _next(self) -> None:
        if not self.alive or self.claim is None:
            return
        if not self.jobs:
            self._report(finished=True)
            self.owner.world.after(1e-6, self._over)
            return
        number, prefix, counter, attempt, args = self.jobs.popleft()
        self.cell = (self.claim.id, number)
        plan = decode(args)
        world = self.owner.world
        self.owner.laws.started((prefix, counter), attempt, self.owner.nonce, number)
        if plan.kind == "crash" and self.owner.laws.lives[prefix, counter].kills < plan.fails_times:
            world.after(plan.seconds, self.owner.child_dies, self, "crashed by its job")
        else:
            world.after(plan.seconds, self._done, number, (prefix, counter), attempt, plan)

    def _done(self, number: int, key: tuple[bytes, int], attempt: int, plan: Plan) -> None:
        if not self.alive:
            return
        failures = self.owner.laws.lives[key].raised
        if plan.kind == "error" or (plan.kind == "fail" and failures < plan.fails_times):
            kind = FAILED if plan.kind == "error" else RETRYABLE
            if kind == RETRYABLE:
                self.owner.laws.raised(key)
            self.ends.append(End(number, kind, payload.failure("ValueError", "as planned"), plan.seconds))
        elif self.runs and self.runs[-1].first + len(self.runs[-1].results) == number:
            self.runs[-1].results.append(plan.value(attempt))
            self.runs[-1].total += plan.seconds
            self.runs[-1].longest = max(self.runs[-1].longest, plan.seconds)
        else:
            self.runs.append(Run(number, [plan.value(attempt)], plan.seconds, plan.seconds))
        if self.jobs and self.owner.world.chance(0.3):
            self._report(finished=False)
        self._next()

    def _report(self, *, finished: bool) -> None:
        assert self.claim is not None
        self.stream.append((self.claim.id, self.runs, self.ends, finished))
        self.runs, self.ends = [], []
        self.owner.world.after(self.owner.world.random.uniform(0, 1e-4), self._flush)

    def _flush(self) -> None:
        if self.stream and self.owner.alive:
            claim, runs, ends, finished = self.stream.popleft()
            index, now = self.index, self.owner.world.now
            self.owner.event(lambda fx: self.owner.core.on_report(index, claim, runs, ends, finished, now(), fx))

    def _over(self) -> None:
        if self.alive:
            self.cell, self.claim, self.busy = (0, 0), None, False
            self.ask()


class WorkerNode(Node):
    """A worker: agent core, shared queue, children."""

    def __init__(self, world: World, network: "Network", laws: Laws, name: str, slots: int) -> None:
        self.laws, self.law = laws, "worker"
        self.nonce = name.encode().ljust(16, b"-")
        identity = WorkerIdentity("sim", "3.11", "host", 1, name, self.nonce, ("default",), ("task",))
        self.core = WorkerCore(WorkerSettings(slots=slots, credit=slots * 20), identity)
        self.queue: deque[Claim] = deque()
        self.children = [Child(self, i) for i in range(slots)]
        self.effects = WorkerEffects
        self.decode = wire.decode_to_worker
        super().__init__(world, network, name)

    def arrive(self, link: Link, data: bytes) -> None:
        """Notes what a Welcome drops: what is not in a child's hands then must never begin."""
        super().arrive(link, data)
        if self.alive and link is self.link:
            message = wire.decode_to_worker(data)
            if isinstance(message, wire.WorkerWelcome) and message.dropped:
                self.event(lambda fx: self._note_dropped(message.dropped))

    def _note_dropped(self, dropped: list[Span]) -> None:
        claims = [child.claim for child in self.children if child.claim is not None]
        begun = {n for claim in claims for p in claim.pieces for n in range(p.first, p.first + len(p.args))}
        self.laws.dropped.update((self.nonce, number) for number in expand(dropped) if number not in begun)

    def carry_out(self, fx: WorkerEffects) -> None:
        """As the agent does."""
        now = self.world.now()
        while True:
            self.send(fx.sends)
            for claim in fx.pushes:
                if len(self.queue) > len(self.children) and self.world.chance(0.05):
                    self.core.on_push_refused(claim.id)
                else:
                    self.queue.append(claim)
            for index in fx.kills:
                self.child_dies(self.children[index], "killed by its agent")
            if fx.reclaim:
                read = [claim.id for claim in self.queue]
                self.queue.clear()
                fx = WorkerEffects()
                self.core.on_reclaimed(read, now, fx)
            elif fx.look:
                fx = WorkerEffects()
                self.core.on_running([child.cell for child in self.children], now, fx)
            else:
                break
        for child in self.children:
            child.ask()

    def child_dies(self, child: Child, why: str) -> None:
        """A child is killed; another takes its place."""
        if not child.alive or not self.alive:
            return
        child.alive = self.laws.faultless = False
        claim, number = child.cell
        if number:
            self._charge(child, number)
        while child.stream:
            child._flush()
        index = child.index
        self.children[index] = Child(self, index)
        evidence = f"{why} (child {index})"
        self.event(lambda fx: self.core.on_child_exit(index, claim, number, evidence, self.world.now(), fx))

    def _charge(self, child: Child, number: int) -> None:
        assert child.claim is not None
        for piece in child.claim.pieces:
            if piece.first <= number < piece.first + len(piece.args):
                self.laws.lives[piece.prefix, piece.counters[number - piece.first]].kills += 1

    def die(self) -> None:
        """kill -9 of the agent takes its children along; whatever it held may have been running."""
        super().die()
        for child in self.children:
            child.alive = False


class SubmitterNode(Node):
    """A script: submits, waits, cancels."""

    def __init__(self, world: World, network: "Network", laws: Laws, name: str) -> None:
        self.laws, self.law = laws, "submitter"
        self.prefix = name.encode().ljust(12, b"-")
        self.core = SubmitterCore(
            SubmitterSettings(unaccepted=60), SubmitterIdentity(self.prefix, "sim", "3.11", "host", 2, "user")
        )
        self.effects = SubmitterEffects
        self.decode = wire.decode_to_submitter
        self.wanted: set[tuple[bytes, int]] = set()
        self.counter = 0
        super().__init__(world, network, name)

    def submit(self, call: Any, plans: list[Plan]) -> None:
        """One batch."""
        first, self.counter = self.counter, self.counter + len(plans)
        keys = [(self.prefix, first + i) for i in range(len(plans))]
        for key, plan in zip(keys, plans, strict=True):
            self.laws.plans[key] = plan
            self.wanted.add(key)
        submission = Submission(self.prefix, first, call, [plan.encode() for plan in plans], list(keys), first)
        self.event(lambda fx: self.core.submit(submission, self.world.now(), fx))

    def ask(self, key: tuple[bytes, int]) -> None:
        """Want the outcome of somebody else's job."""
        if key not in self.wanted:
            self.wanted.add(key)
            self.event(lambda fx: self.core.ask(*key, key, self.world.now(), fx))

    def cancel(self, counter: int, force: object) -> None:
        """Ask to cancel one job."""
        self.event(
            lambda fx: self.core.cancel(self.prefix, [(counter, 1)], bool(force), object(), self.world.now(), fx)
        )

    def carry_out(self, fx: SubmitterEffects) -> None:
        """As the client's I/O thread does."""
        self.send(fx.sends)
        for finished in fx.finished:
            for handle, value in zip(finished.handles, finished.values, strict=True):
                self.laws.finished(self.name, handle, SUCCEEDED, value)
        for ended in fx.ended:
            if ended.cause in ("result", "cancelled"):
                if ended.cause == "cancelled":  # it never left: nobody else knows of it
                    self.wanted.discard(ended.handle)
                    continue
                self.laws.finished(self.name, ended.handle, ended.state, ended.payload)
            elif ended.cause == "unknown" and ended.handle[0] != self.prefix:
                self.wanted.discard(ended.handle)  # its owner had not got it through yet
            else:
                raise Broken(
                    "result", f"job {ended.counter} ended as {ended.cause}: {payload.read_failure(ended.payload)}"
                )


class Network:
    """Makes and breaks links."""

    def __init__(self, world: World, scheduler: Scheduler, duplicates: float) -> None:
        self.world, self.scheduler = world, scheduler
        self.duplicates = duplicates
        self.flaps = 0.0
        self.isolated: set[str] = set()  # nodes that cannot connect
        self.links: dict[Link, Node] = {}
        self._routes = 0

    def connect(self, node: Node) -> Link | None:
        """A fresh link, unless the node is cut off."""
        if node.name in self.isolated:
            return None
        self._routes += 1
        route = self._routes.to_bytes(5, "big")
        delay = self.world.random.choice((0.0001, 0.001, 0.02, 0.3))
        link = Link(self.world, route, self.scheduler.arrive, node.arrive, delay, self.duplicates)
        self.scheduler.links[route] = link
        if self.flaps and self.world.chance(self.flaps):  # it breaks while the hello is on its way
            self.world.after(self.world.random.uniform(0, 0.02), self.cut, link, node)
        self.links[link] = node
        return link

    def cut(self, link: Link, node: Node) -> None:
        """Break a link; each side learns of it later, the scheduler perhaps only by silence."""
        if not link.alive:
            return
        self.scheduler.laws.faultless = False
        link.cut()
        self.links.pop(link, None)
        self.world.after(self.world.random.uniform(0, 0.05), node.broken, link)
        silent = self.world.chance(0.2)
        delay = self.world.random.uniform(5, 9) if silent else self.world.random.uniform(0, 0.05)
        self.world.after(delay, self.scheduler.lost, link.route)
