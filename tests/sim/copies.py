"""Jobs that are for one worker each, while workers come and go; and what must come of them."""

from random import Random

from tests.sim.laws import Broken, JobKey, Laws
from tests.sim.load import MILD, SHORT, Habits, draw
from tests.sim.submitter import SubmitterNode
from tests.sim.worker import WorkerNode
from tests.sim.world import World
from zmqtasks.queues import direct
from zmqtasks.states import ABORTED
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import Spec

EVERY, WHICH = 25, 17  # one of so many histories is one of these: the others are what they were before there was this
SERIAL = 300_000  # of the first plan
HABITS = Habits(MILD, SHORT, (1,), 64, 0.0)


class Copies:
    """What is broadcast in one history.

    Args:
        seed: of the history; what happens is drawn from it, and not from the world's randomness.
        world, laws: of the history.
        workers, submitters: the same lists, to which others may come.
    """

    def __init__(
        self, seed: int, world: World, laws: Laws, workers: list[WorkerNode], submitters: list[SubmitterNode]
    ) -> None:
        self._random = Random(seed)
        self._world, self._laws, self._workers, self._submitters = world, laws, workers, submitters
        self.active = seed % EVERY == WHICH
        self._sent: dict[JobKey, tuple[SubmitterNode, str]] = {}

    def queues(self, name: str) -> tuple[str, ...]:
        """What a worker takes from."""
        return ("default", direct(name)) if self.active else ("default",)

    def begin(self, calm_at: float) -> None:
        """Broadcasts up to that time."""
        for _ in range(self._random.randint(3, 12) if self.active else 0):
            self._world.after(self._random.uniform(0.0, calm_at), self._broadcast)

    def _broadcast(self) -> None:
        """To the workers that are there, or were, and to one that never was."""
        random = self._random
        submitter = random.choice(self._submitters)
        for name in [*(worker.name for worker in self._workers), "nobody"] if submitter.alive else ():
            spec = Spec(queue=direct(name), fail_unknown=random.random() < 0.5, fail_unserved=True)
            plan = draw(random, HABITS, SERIAL + len(self._sent), spec)
            self._sent[submitter.prefix, submitter.counter] = submitter, name
            submitter.submit(Call("task", None, "msgpack", spec), [plan])

    def at_rest(self) -> None:
        """No worker ran the copy of another; and only those that are gone have not run their own."""
        workers = {worker.name: worker for worker in self._workers}
        for key, (submitter, name) in self._sent.items():
            worker, life = workers.get(name), self._laws.lives.get(key)
            nonce = worker.nonce if worker is not None else b""
            if life is not None and life.holder is not None and life.holder[0] != nonce:
                raise Broken("copies", f"job {key[1]} for {name} was given to {life.holder[0]!r}")
            stays = worker is not None and worker.alive and not worker.core.draining
            if stays and self._laws.results.get((submitter.name, key)) == ABORTED:
                raise Broken("copies", f"job {key[1]} for {name} was given up, and {name} is there")
