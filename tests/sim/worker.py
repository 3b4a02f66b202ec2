"""A worker: agent core, shared queue, children."""

from collections import Counter, deque

from tests.sim.laws import Broken, Laws
from tests.sim.load import Plan, decode
from tests.sim.nodes import Network, Node
from tests.sim.world import Link, World
from zmqtasks import payload, wire
from zmqtasks.config import WorkerSettings
from zmqtasks.ids import Span, expand
from zmqtasks.resources import GPU, UNIT, parse
from zmqtasks.wire import FAILED, RETRYABLE, End, Run
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.core import WorkerCore
from zmqtasks.worker.effects import Effects, Identity

NOTHING = (0, 0)
BY_US = "killed by its agent"  # nobody is charged with that


class Child:
    """A pool process: claims, runs, reports, dies.

    Attributes:
        until: it stands still (SIGSTOP) up to this time.
    """

    def __init__(self, owner: "WorkerNode", index: int) -> None:
        self.owner, self.index = owner, index
        self.alive = True
        self.until = 0.0
        self.busy = False
        self.cell = NOTHING
        self.claim: Claim | None = None
        self.jobs: deque[tuple[int, bytes, int, int, bytes]] = deque()  # number, prefix, counter, attempt, args
        self.stream: deque[tuple[int, list[Run], list[End], bool]] = deque()
        self.runs: list[Run] = []
        self.ends: list[End] = []

    def _later(self, delay: float, action, *args) -> None:
        self.owner.world.after(delay, self._unless_dead, action, args)

    def _unless_dead(self, action, args) -> None:
        if not self.alive:
            return
        if self.owner.world.time < self.until:
            self.owner.world.after(self.until - self.owner.world.time, self._unless_dead, action, args)
            return
        action(*args)

    def ask(self) -> None:
        """Take a claim if one is there."""
        queue = self.owner.queue
        if self.busy or not self.alive or not queue or self.owner.world.time < self.until:
            return
        self.busy = True
        self.claim = queue.popleft()
        self.owner.check_resources()
        self._later(1e-6, self._begin)

    def _begin(self) -> None:
        assert self.claim is not None
        self.cell = (self.claim.id, 0)
        for piece in self.claim.pieces:
            for i, args in enumerate(piece.args):
                self.jobs.append((piece.first + i, piece.prefix, piece.counters[i], piece.attempt + i, args))
        self._later(1e-6, self._next)

    def _next(self) -> None:
        assert self.claim is not None
        if not self.jobs:
            self._report(finished=True)
            self._later(1e-6, self._over)
            return
        number, prefix, counter, attempt, args = self.jobs.popleft()
        self.cell = (self.claim.id, number)
        plan = decode(args)
        laws = self.owner.laws
        laws.started((prefix, counter), attempt, self.owner.nonce, number, self.owner.world.time)
        if plan.seconds > 0.01:
            self._tell(number)
        if plan.kind == "crash" and laws.lives[prefix, counter].kills < plan.fails_times:
            self._later(plan.seconds, self.owner.child_dies, self, "crashed by its job")
        else:
            self._later(plan.seconds, self._done, number, (prefix, counter), attempt, plan)

    def _tell(self, number: int) -> None:
        """The job tells how far it has come."""
        index, now = self.index, self.owner.world.now
        value = b"x" * self.owner.world.random.choice((1, 1, 5000))
        self.owner.event(
            lambda fx: self.owner.core.on_progress(index, [(number, value), (number + 1, b"y")], now(), fx)
        )

    def _done(self, number: int, key: tuple[bytes, int], attempt: int, plan: Plan) -> None:
        failures = self.owner.laws.lives[key].raised
        if plan.kind == "error" or (plan.kind == "fail" and failures < plan.fails_times):
            kind = FAILED if plan.kind == "error" else RETRYABLE
            own = (plan.own, plan.retries) if kind == RETRYABLE and plan.own >= 0 else (-1.0, -1)
            if kind == RETRYABLE:
                self.owner.laws.raised(key, self.owner.world.time + max(0.0, plan.own))
            self.ends.append(End(number, kind, payload.failure("ValueError", "as planned"), plan.seconds, *own))
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
        self.owner.world.after(self.owner.world.random.uniform(0, 1e-4), self.flush)

    def flush(self) -> None:
        """What was written into the report stream arrives, even if the child is dead by now."""
        if self.stream and self.owner.alive:
            claim, runs, ends, finished = self.stream.popleft()
            index, now = self.index, self.owner.world.now
            self.owner.event(lambda fx: self.owner.core.on_report(index, claim, runs, ends, finished, now(), fx))

    def _over(self) -> None:
        self.cell, self.claim, self.busy = NOTHING, None, False
        self.ask()


class WorkerNode(Node):
    """A worker's agent with its children."""

    def __init__(
        self,
        world: World,
        network: Network,
        laws: Laws,
        name: str,
        slots: int,
        gpus: int = 0,
        queues: tuple[str, ...] = ("default",),
        caps: tuple[tuple[str, int], ...] = (),
    ) -> None:
        self.laws, self.law = laws, "worker"
        self.leaving = False  # it was told so; while it is stopped it does not know
        self.nonce = name.encode().ljust(16, b"-")
        identity = Identity("sim", "3.11", "host", 1, name, self.nonce, queues, ("task",), caps=caps)
        has = parse({"gpu": gpus, "mem": 2 * gpus})
        devices = tuple(f"GPU-{place}" for place in range(gpus))
        settings = WorkerSettings(slots=slots, credit=slots * 20, resources=has, devices=devices)
        self.core = WorkerCore(settings, identity)
        self.queue: deque[Claim] = deque()
        self.children = [Child(self, i) for i in range(slots)]
        self.effects = Effects
        self.decode = wire.decode_to_worker
        super().__init__(world, network, name)

    def arrive(self, link: Link, data: bytes) -> None:
        """Notes what a Welcome drops: what is not in a child's hands then must never begin."""
        super().arrive(link, data)
        if self.alive and link is self.link:
            message = wire.decode_to_worker(data)
            if isinstance(message, wire.WorkerWelcome) and message.dropped:
                self.event(lambda fx: self._note_dropped(message.dropped))
            elif isinstance(message, wire.Disown):
                self.event(lambda fx: self._note_dropped(message.numbers))

    def _note_dropped(self, dropped: list[Span]) -> None:
        claims = [child.claim for child in self.children if child.claim is not None]
        begun = {n for claim in claims for p in claim.pieces for n in range(p.first, p.first + len(p.args))}
        self.laws.dropped.update((self.nonce, number) for number in expand(dropped) if number not in begun)

    def check_resources(self) -> None:
        """What the jobs take that run now is no more than there is, and no whole device has two."""
        claims = [child.claim for child in self.children if child.claim is not None and child.claim.resources]
        taken: Counter[str] = Counter()
        shares: Counter[str] = Counter()
        for claim in claims:
            needed = dict(claim.resources)
            taken.update(needed)
            devices = claim.devices
            shares.update(dict.fromkeys(devices, min(needed.get(GPU, 0), UNIT)))
            if len(devices) != -(-needed.get(GPU, 0) // UNIT):
                raise Broken("devices", f"{self.name} gave {devices} to a job that needs {needed}")
        for name, amount in taken.items():
            if amount > dict(self.core.settings.resources).get(name, 0):
                raise Broken("resources", f"jobs on {self.name} take {amount} of {name}: {claims}")
        if max(shares.values(), default=0) > UNIT:
            raise Broken("devices", f"jobs on {self.name} share what is one's own: {shares}")

    def carry_out(self, fx: Effects) -> None:
        """As the agent does."""
        now = self.world.now()
        while True:
            self.send(fx)
            for claim in fx.pushes:
                if len(self.queue) > len(self.children) and self.world.chance(0.05):
                    self.core.on_push_refused(claim.id)
                else:
                    self.queue.append(claim)
            for index in fx.kills:
                self.child_dies(self.children[index], BY_US)
            if fx.reclaim:
                read = [claim.id for claim in self.queue]
                self.queue.clear()
                fx = Effects()
                self.core.on_reclaimed(read, now, fx)
            elif fx.look:
                fx = Effects()
                self.core.on_running([child.cell for child in self.children], now, fx)
            else:
                break
        if self.core.drained:
            self._end()
            return
        for child in self.children:
            child.ask()

    def _end(self) -> None:
        """The drain is over: the agent ends in good order, and what it has said still arrives."""
        self.alive = False
        for child in self.children:
            child.alive = False
        link, self.link = self.link, None
        if link is not None:
            self.world.after(1.0, self.network.cut, link, self)

    def terminate(self) -> None:
        """SIGTERM; the second one hurries."""
        self.leaving = True
        hurry = self.core.draining
        self.event(lambda fx: (self.core.abandon if hurry else self.core.drain)(self.world.now(), fx))

    def child_dies(self, child: Child, why: str) -> None:
        """A child is killed; another takes its place."""
        if not child.alive or not self.alive:
            return
        child.alive = self.laws.faultless = False
        claim, number = child.cell
        if number and why != BY_US:
            self._charge(child, number)
        while child.stream:
            child.flush()
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
