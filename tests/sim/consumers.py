"""Operators who have workers take and leave queues while all goes wrong; and what must come of it."""

from random import Random

from tests.sim.laws import Broken
from tests.sim.operator import OperatorNode
from tests.sim.scheduler import Scheduler
from tests.sim.worker import WorkerNode
from tests.sim.world import World
from zmqtasks.wire import SetConsumer

EVERY = 25  # the last of so many histories is one of these: the others are what they were before there was this
PATIENCE = 5.0  # seconds between two tries to have all workers take from the queue of the jobs again
TRIES = 60


class Consumers:
    """What is asked in one history.

    Args:
        seed: of the history; what happens is drawn from it, and not from the world's randomness.
        world, operator: of the history.
        workers: the same list, to which others may come.
    """

    def __init__(self, seed: int, world: World, operator: OperatorNode, workers: list[WorkerNode]) -> None:
        self._random = Random(seed)
        self._world, self._operator, self._workers = world, operator, workers
        self.active = seed % EVERY == EVERY - 1

    def begin(self, calm_at: float) -> None:
        """Changes up to that time; after it, all workers take from the queue of the jobs."""
        if not self.active:
            return
        for _ in range(self._random.randint(5, 30)):
            self._world.after(self._random.uniform(0.0, calm_at), self._change)
        for number in range(TRIES):  # the scheduler or the operator may be away
            self._world.after(calm_at + number * PATIENCE, self._mend)

    def _change(self) -> None:
        random = self._random
        name = random.choice(["", *(worker.name for worker in self._workers)])
        queue = random.choice(("default", "extra", "other"))
        self._operator.change(SetConsumer(queue, random.random() < 0.6, name))

    def _mend(self) -> None:
        """Where a worker does not take from the queue of the jobs, have it do so."""
        if any(node.alive and "default" not in node.core.queues for node in self._workers):
            self._operator.change(SetConsumer("default", take=True))

    def at_rest(self, scheduler: Scheduler) -> None:
        """Scheduler and workers are of one mind."""
        for node in self._workers:
            worker = scheduler.core.state.workers.get(node.nonce)
            if worker is None or not node.alive or worker.route is None:
                continue
            if worker.wishes or set(worker.queues) != set(node.core.queues):
                told = f"{node.name} takes from {node.core.queues}, the scheduler thinks from {worker.queues}"
                raise Broken("consumers", f"{told}, and waits for {worker.wishes}")
