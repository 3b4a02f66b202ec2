"""One history: a safety phase full of faults, then healing, then a liveness phase in which everything must end."""

from dataclasses import dataclass

from tests.sim.laws import Broken, Laws
from tests.sim.load import KINDS, MILD, draw
from tests.sim.nodes import Network, Scheduler, SubmitterNode, WorkerNode
from tests.sim.world import World
from zmqtasks.config import SchedulerSettings
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import Spec

MAX_STEPS = 60_000  # of one history; beyond it something spins
LIVENESS = 400.0  # seconds of virtual time in which everything must end after the healing
SPILL = 64


@dataclass(slots=True, frozen=True)
class Outcome:
    """What a history was like, when no law was broken."""

    seed: int
    jobs: int
    steps: int
    seconds: float
    counters: dict[str, int]


class History:
    """A cluster and what happens to it, all from one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.world = World(seed)
        random = self.world.random
        self.laws = Laws()
        self.settings = SchedulerSettings(
            spill=SPILL,
            ack_delay=random.choice((0.0, 0.02)),
            accept_delay=random.choice((0.0, 0.001)),
            results_window=random.choice((3, 50)),
            results_window_bytes=100_000,
            max_functions=2,
        )
        self.scheduler = Scheduler(self.world, self.laws, self.settings)
        self.network = Network(self.world, self.scheduler, random.choice((0.0, 0.02, 0.3)))
        self.lonely = random.random() < 0.2  # one worker and partitions only: it is given up and comes back
        self.workers = [self._worker(i) for i in range(1 if self.lonely else random.randint(1, 4))]
        self.submitters = [
            SubmitterNode(self.world, self.network, self.laws, f"s{i}") for i in range(random.randint(1, 3))
        ]
        self.jobs = 0
        self.kinds = random.choice((KINDS, KINDS, MILD))
        self.faults = 0.3 if self.lonely else random.choice((0.0, 0.5, 2.0))  # per second
        self.calm_at = random.uniform(2.0, 15.0)
        self.network.flaps = 0.3 if self.faults else 0.0

    def _worker(self, index: int) -> WorkerNode:
        return WorkerNode(self.world, self.network, self.laws, f"w{index}", self.world.random.choice((1, 2, 4)))

    def run(self) -> Outcome:
        """Raises Broken, or an AssertionError of a core's own check."""
        random = self.world.random
        for submitter in self.submitters:
            for _ in range(random.randint(1, 4)):
                self.world.after(random.uniform(0, self.calm_at), self._batch, submitter)
        if self.faults:
            self.world.after(random.expovariate(self.faults), self._fault)
        self._until(self.calm_at, None)
        self._heal()
        end = self.world.time + LIVENESS
        self._until(end, self._all_over)
        self._settle()
        survivors = {(s.name, key) for s in self.submitters if s.alive for key in s.wanted}
        expected = {key for s in self.submitters for key in s.wanted}
        self.laws.finale(expected, survivors)
        self._at_rest()
        return Outcome(self.seed, self.jobs, self.world.steps, self.world.time, self.scheduler.core.state.counters)

    def _until(self, time: float, over: object) -> None:
        while self.world.time < time:
            if callable(over) and self.world.steps % 50 == 0 and over():
                return
            if not self.world.step():
                return
            if self.world.steps > MAX_STEPS:
                raise Broken("liveness", f"{MAX_STEPS} steps and no end: something spins")

    def _settle(self) -> None:
        """Let acknowledgements and the last heartbeats arrive."""
        self._until(self.world.time + 12.0, None)

    def _batch(self, submitter: SubmitterNode) -> None:
        random = self.world.random
        if not submitter.alive:
            return
        count = random.choice((1, 2, 5, 20))
        retries, budget = random.choice((0, 1, 2)), random.choice((0, 1, 3))
        spec = Spec(retries=retries, backoff=random.choice((0.0, 0.3)), crash_budget=budget)
        plans = [draw(random, self.kinds, self.jobs + i, retries, budget, SPILL) for i in range(count)]
        first = submitter.counter
        submitter.submit(Call("task", None, "msgpack", spec), plans)
        self.jobs += count
        other = random.choice(self.submitters)
        if other is not submitter and random.random() < 0.3:
            self.world.after(random.expovariate(1.0), self._ask, other, (submitter.prefix, first))
        if random.random() < 0.2:
            force = random.random() < 0.5
            for counter in range(first, first + count, 2):
                self.world.after(random.expovariate(2.0), submitter.cancel, counter, force)

    def _ask(self, submitter: SubmitterNode, key: tuple[bytes, int]) -> None:
        if submitter.alive:
            submitter.ask(key)

    # ------------------------------------------------------------------------------------------ what goes wrong

    def _fault(self) -> None:
        random = self.world.random
        if self.world.time >= self.calm_at:
            return
        if self.lonely:
            self._partition()
        else:
            random.choice((self._break, self._break, self._partition, self._kill_worker, self._kill_child,
                           self._kill_child, self._kill_submitter))()  # fmt: skip
        self.world.after(random.expovariate(self.faults), self._fault)

    def _some_link(self) -> tuple[object, object] | None:
        alive = [(link, node) for link, node in self.network.links.items() if node.alive]
        return self.world.random.choice(alive) if alive else None

    def _break(self) -> None:
        found = self._some_link()
        if found:
            self.network.cut(*found)

    def _partition(self) -> None:
        """Nothing passes, one way or both; after 4 s without a sign both ends give the connection up."""
        found = self._some_link()
        if not found:
            return
        link, node = found
        random = self.world.random
        up, down = random.choice(((True, True), (True, False), (False, True)))
        link.stall(up=up, down=down)
        self.network.isolated.add(node.name)
        length = random.uniform(4.5 if self.lonely else 0.2, 9.0)
        if length > 4.0:
            self.world.after(4.0, self.network.cut, link, node)
        self.world.after(length, self._rejoin, link, node)

    def _rejoin(self, link: object, node: object) -> None:
        self.network.isolated.discard(node.name)
        link.resume()

    def _kill_worker(self) -> None:
        random = self.world.random
        alive = [w for w in self.workers if w.alive]
        if alive:
            victim = random.choice(alive)
            victim.die()
            self.world.after(random.uniform(0.1, 3.0), self._new_worker)

    def _new_worker(self) -> None:
        self.workers.append(self._worker(len(self.workers)))

    def _kill_child(self) -> None:
        random = self.world.random
        children = [(w, c) for w in self.workers if w.alive for c in w.children if c.alive]
        if children:
            worker, child = random.choice(children)
            worker.child_dies(child, "killed by SIGKILL")

    def _kill_submitter(self) -> None:
        alive = [s for s in self.submitters if s.alive]
        if len(alive) > 1:
            self.world.random.choice(alive).die()

    # ------------------------------------------------------------------------------------------ the end

    def _heal(self) -> None:
        self.network.flaps = 0.0
        for link in list(self.network.links):
            link.resume()
        self.network.isolated.clear()
        if not any(w.alive for w in self.workers):
            self._new_worker()

    def _all_over(self) -> bool:
        state = self.scheduler.core.state
        return state.open == 0 and all(s.core.open == 0 for s in self.submitters if s.alive)

    def _at_rest(self) -> None:
        """Nothing is held anywhere any more."""
        state = self.scheduler.core.state
        for worker in state.workers.values():
            if worker.held or worker.credit != worker.offered:
                raise Broken(
                    "credit", f"{worker} rests with {worker.credit} of {worker.offered}, holding {worker.held}"
                )
        for node in self.workers:
            if node.alive and not node.core.work.empty:
                raise Broken("rest", f"{node.name} still holds {sorted(node.core.work.held_numbers())}")
        if len(self.scheduler.gate):
            raise Broken("rest", "the gate still holds messages")
        if state.evidence or state.cancels or state.waiting:
            raise Broken("rest", f"left behind: {state.evidence} {state.cancels} {state.waiting}")


def run(seed: int) -> Outcome:
    """One whole history."""
    return History(seed).run()
