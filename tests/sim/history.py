"""One history: a safety phase full of faults, then healing, then a liveness phase in which everything must end."""

from dataclasses import dataclass, replace

import msgspec

from tests.sim.consumers import Consumers
from tests.sim.copies import Copies
from tests.sim.disk import Disk
from tests.sim.faults import Faults
from tests.sim.laws import Broken, JobKey, Laws
from tests.sim.load import BRISK, KINDS, MILD, MIXED, SHORT, UNEVEN, Habits, draw, draw_call, draw_spec
from tests.sim.nodes import Network
from tests.sim.operator import OperatorNode
from tests.sim.scheduler import Scheduler
from tests.sim.submitter import SubmitterNode
from tests.sim.worker import WorkerNode
from tests.sim.world import World
from zmqtasks.config import SchedulerSettings
from zmqtasks.scheduler.core.model import LEVELS
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import Spec
from zmqtasks.worker.ledger import PUSHED

MAX_STEPS = 80_000  # of one history; beyond it something spins
LIVENESS = 400.0  # seconds of virtual time in which everything must end after the healing
SPILL = 64
RICH = 2  # GPUs of a worker that can run whatever there is
CAP = 3
CAPPED = (11, 16)  # seeds of these histories, modulo 18
FLAPS = {"lonely": 0.3, "watched": 0.3, "mixed": 0.3, "flapping": 0.6}  # connections that break at once
THEMES = ("lonely", "calm restart", "paused", "frozen", "clock", "watched", "flapping", "forgetful")


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
        # Of some histories all faults are of one kind, so that it can be told exactly what must come of them.
        self.theme = random.choice((*THEMES, "forgetful", "flapping", *["mixed"] * 9))
        self.settings = SchedulerSettings(
            spill=random.choice((SPILL, 1_000_000)),
            ack_delay=random.choice((0.0, 0.02)),
            accept_delay=random.choice((0.0, 0.001)),
            results_window=random.choice((3, 50)),
            results_window_bytes=100_000,
            large_window_bytes=100_000,
            max_functions=random.choice((2, 1_000)),
            max_results=3 if self.theme == "watched" else random.choice((20, 200_000, 200_000)),
            max_tombstones=200_000 if self.theme in ("flapping", "lonely", "watched") else random.choice((20, 200_000)),
            adoption=random.choice((20.0, 600.0)),
            compact_above=random.choice((2_000, 20_000, 64_000_000)),
            max_result_bytes=random.choice((100, 256_000_000)),
            ageing=0.0 if seed % 5 else 0.5,
        )
        self.laws.few_kept = self.settings.max_results < 100 or self.settings.max_result_bytes < 1_000
        disk = Disk() if self.theme != "forgetful" and random.random() < 0.6 else None
        self.scheduler = Scheduler(self.world, self.laws, self.settings, disk)
        self.network = Network(self.world, self.scheduler, random.choice((0.0, 0.02, 0.3)))
        self.workers: list[WorkerNode] = []
        self.submitters: list[SubmitterNode] = []
        self.copies = Copies(seed, self.world, self.laws, self.workers, self.submitters)
        for _ in range(1 if self.theme == "lonely" else random.randint(1, 4)):
            self.new_worker()
        for i in range(random.randint(2 if self.theme == "watched" else 1, 3)):
            self.submitters.append(SubmitterNode(self.world, self.network, self.laws, f"s{i}"))
        self.operator = OperatorNode(self.world, self.network, "operator")
        self.consumers = Consumers(seed, self.world, self.operator, self.workers)
        self.jobs = 0
        self.given = 0
        brisk = self.theme in ("frozen", "watched") or random.random() < 0.2
        lengths = {"frozen": UNEVEN, "forgetful": SHORT}
        self.habits = Habits(
            ("ok",) if self.theme == "calm restart" else random.choice((KINDS, KINDS, MILD)),
            lengths.get(self.theme) or (BRISK if brisk else MIXED),
            (20, 60) if brisk or self.theme == "forgetful" else (1, 2, 5, 20),
            SPILL,
            random.choice((0.0, 0.0, 0.1)),
        )
        rates = {
            "lonely": 0.3,
            "calm restart": 0.0,
            "paused": 0.3,
            "frozen": 0.2,
            "clock": 1.0,
            "watched": 4.0,
            "flapping": 2.0,
            "forgetful": 1.0,
        }
        self.rate = rates.get(self.theme, random.choice((0.0, 0.5, 2.0)))  # of faults, per second
        durable = self.scheduler.disk is not None
        often = {"mixed": 0.7 if durable else 0.3, "forgetful": 1.0}
        self.restarts = random.random() < often.get(self.theme, 0.0)
        self.faults = Faults(self, theme=self.theme, restarts=self.restarts)
        self.calm_at = random.uniform(2.0, 15.0)
        self.network.flaps = FLAPS.get(self.theme, 0.0) if self.rate else 0.0
        if self.theme == "flapping":
            self.network.delays = (0.02, 0.3)
        self.counters: dict[str, int] = {}

    def new_worker(self, *, rich: bool = False) -> None:
        """One more worker joins. `rich`: it has all that any job needs."""
        name, slots = f"w{len(self.workers)}", self.world.random.choice((1, 2, 4))
        gpus = RICH if rich else self.world.random.choice((0, 1, RICH))
        # In some histories every other worker says how many jobs may run at once; to the others it does not matter.
        capped = self.seed % 18 in CAPPED and (len(self.workers) + self.seed) % 2 == 0
        queues, caps = self.copies.queues(name), (("task", CAP),) if capped else ()
        node = WorkerNode(self.world, self.network, self.laws, name, slots, gpus, queues, caps)
        self.workers.append(node)
        self.scheduler.workers[node.nonce] = node

    def run(self) -> Outcome:
        """Raises Broken, or an AssertionError of a core's own check."""
        random = self.world.random
        for submitter in self.submitters:
            for _ in range(random.randint(1, 4)):
                self.world.after(random.uniform(0, self.calm_at), self._batch, submitter)
        for _ in range(random.randint(0, 3)):
            self.world.after(random.uniform(0, self.calm_at + 5), self._question)
        if self.rate:
            self.world.after(random.expovariate(self.rate), self._fault)
        self.consumers.begin(self.calm_at)
        self.copies.begin(self.calm_at)
        if self.theme == "calm restart":
            self.world.after(self.calm_at, self._calm_restart)
        self._until(self.calm_at + 0.001, over=False)
        self._heal()
        self._until(self.world.time + LIVENESS, over=True)
        self._settle()
        self._count()
        survivors = {(s.name, key) for s in self.submitters if s.alive for key in s.wanted}
        expected = {key for s in self.submitters for key in s.wanted}
        self.laws.finale(expected, survivors)
        self._themed()
        self._at_rest()
        return Outcome(self.seed, self.jobs, self.world.steps, self.world.time, self.counters)

    def _until(self, time: float, *, over: bool) -> None:
        """Let time pass; `over`: until all jobs are over."""
        while self.world.time < time:
            if over and self.world.steps % 50 == 0 and self._all_over():
                return
            if not self.world.step():
                return
            if self.world.steps > MAX_STEPS:
                raise Broken("liveness", f"{MAX_STEPS} steps and no end: something spins")

    def _settle(self) -> None:
        """Let acknowledgements and heartbeats arrive, and what runs for nobody come to its end."""
        latest = self.world.time + self.settings.adoption + 100.0
        self._until(self.world.time + 12.0, over=False)
        while self.world.time < latest and (
            self.scheduler.core.state.strays or any(w.alive and not w.core.work.empty for w in self.workers)
        ):
            self._until(self.world.time + 5.0, over=False)

    # ------------------------------------------------------------------------------------------ what people do

    def _batch(self, submitter: SubmitterNode) -> None:
        random = self.world.random
        if not submitter.alive:
            return
        count = random.choice(self.habits.batches)
        spec, call = self._kind()
        # At first all are short, and known to be: then much is given in advance.
        habits = self.habits if self.jobs else replace(self.habits, lengths=BRISK)
        plans = [draw(random, habits, self.jobs + i, spec) for i in range(count)]
        keys = [(submitter.prefix, submitter.counter + i) for i in range(count)]
        self.jobs += count
        if spec.durability in ("os", "memory"):
            self.laws.levels.update((key, LEVELS[spec.durability]) for key in keys)
        if not spec.acks_late:
            self.laws.at_most_once.update(keys)
        short = spec.result_ttl >= 0
        if short:
            self.laws.short_lived.update(keys)
        submitter.submit(call, plans, may_vanish=short)
        if self.theme == "frozen":  # while it has much before it
            self.world.after(random.uniform(0.0, 0.5), self.faults.freeze_worker)
        if self.theme != "calm restart":
            self._more(submitter, keys)

    def _kind(self) -> tuple[Spec, Call]:
        random = self.world.random
        if self.theme == "mixed" and random.random() < 0.05:
            spec = Spec(fail_unknown=True)
            return spec, Call("nobody knows it", None, "msgpack", spec)
        spec = (
            Spec()
            if self.theme == "calm restart"
            else draw_spec(
                random,
                self.world.now().wall,
                brief=self.theme in ("flapping", "lonely"),
                once=0.5 if self.theme == "forgetful" else 0.15,
                durable=self.scheduler.disk is not None,
            )
        )
        if self.settings.max_tombstones < 100:  # an id that is soon forgotten may be taken as new, as is said
            spec = msgspec.structs.replace(spec, result_ttl=-1.0)
        return spec, draw_call(random, spec)

    def _more(self, submitter: SubmitterNode, keys: list[JobKey]) -> None:
        """What else becomes of a batch: others ask for its jobs, some are cancelled."""
        random = self.world.random
        other = random.choice(self.submitters)
        if self.theme == "watched":
            for node in self.submitters:
                for key in keys if node is not submitter else ():
                    self.world.after(random.uniform(0.0, 0.5), self._ask, node, key)
        elif other is not submitter and random.random() < 0.3:
            self.world.after(random.expovariate(1.0), self._ask, other, keys[0])
        if random.random() < 0.2:
            force = random.random() < 0.5
            for _, counter in keys[::2]:
                self.world.after(random.expovariate(2.0), submitter.cancel, counter, force)
        if random.random() < 0.3 and self.settings.max_tombstones > 100:  # otherwise a repeat may be taken as new
            self._given(submitter, other)

    def _given(self, submitter: SubmitterNode, other: SubmitterNode) -> None:
        """A job with an id of the user's, submitted by two sessions, sometimes with different content."""
        random = self.world.random
        self.given += 1
        key: JobKey = (b"given %d" % self.given).ljust(12, b"-"), 0
        spec = Spec()
        call = Call("task", None, "msgpack", spec)
        plan = draw(random, self.habits, 100_000 + self.given, spec)
        submitter.submit_given(key, call, plan)
        if other is submitter or not other.alive:
            return
        if self.restarts or random.random() < 0.5:
            other.repeat_given(key, call)
        else:  # whichever comes first is accepted, and nothing may come of the other: here the first is known
            self.world.after(30.0, self._conflict, submitter, other, key, call)

    def _conflict(self, submitter: SubmitterNode, other: SubmitterNode, key: JobKey, call: Call) -> None:
        if other.alive and self.laws.lives.get(key) and self.laws.lives[key].submitted:
            other.submit_given(key, call, draw(self.world.random, self.habits, 200_000, call.spec))

    def _ask(self, submitter: SubmitterNode, key: JobKey) -> None:
        if submitter.alive:
            submitter.ask(key)

    def _question(self) -> None:
        self.operator.ask((self.world.random.choice(self.submitters).prefix, 0))

    def _fault(self) -> None:
        if self.world.time < self.calm_at:
            self.faults.one()
            self.world.after(self.world.random.expovariate(self.rate), self._fault)

    def _calm_restart(self) -> None:
        """The only fault: the scheduler is restarted, and all workers are back before the first submitter is."""
        for worker in self.workers:
            ledger = worker.core.work.ledger  # what is over, an acknowledgement may have reached already
            running = {number for number in worker.core.work.held_numbers() if ledger.state(number) == PUSHED}
            self.laws.once |= self.laws.begun_on(worker.nonce, running)
        self.faults.restart_scheduler()
        if self.scheduler.disk is not None:  # an Assign may be lost with its record: a second run, as is promised
            self.laws.once = {key for key in self.laws.once if self.laws.lives[key].held}
        for submitter in self.submitters:
            submitter.held_back = self.world.time + 15.0

    # ------------------------------------------------------------------------------------------ the end

    def _heal(self) -> None:
        self.network.flaps = 0.0
        for link in list(self.network.links):
            link.resume()
        self.network.isolated.clear()
        self.world.wall_ahead = self.faults.furthest  # else an eta might wait for hours
        self.scheduler.wake()
        for node in (*self.workers, *self.submitters, self.scheduler):
            if node.stopped:
                node.go_on()
        for worker in self.workers:
            for child in worker.children:
                child.until = 0.0
                child.ask()
        if not any(w.alive and not w.leaving and len(w.core.settings.devices) == RICH for w in self.workers):
            self.new_worker(rich=True)

    def _all_over(self) -> bool:
        state = self.scheduler.core.state
        idle = state.open == 0 and all(s.core.open == 0 for s in self.submitters if s.alive)
        return idle and self.scheduler.up and self.world.time > self.calm_at + 10.0

    def _count(self) -> None:
        self.counters = dict(self.scheduler.core.state.counters)
        self.counters["restarts"] = self.laws.restarts

    def _themed(self) -> None:
        """What must come of histories whose faults are all of one kind."""
        lost = self.counters.get("workers_lost", 0)
        if self.theme in ("paused", "clock") and lost:
            raise Broken("lease", f"{lost} workers were given up, and none of them was silent")
        for submitter in self.submitters:
            if submitter.alive and submitter.unanswered:
                raise Broken("cancel", f"{submitter.name} got no answer to {len(submitter.unanswered)} cancels")

    def _at_rest(self) -> None:
        """Nothing is held anywhere any more."""
        state = self.scheduler.core.state
        for worker in state.workers.values():
            if worker.held or worker.strays or worker.credit != worker.offered:
                raise Broken(
                    "credit", f"{worker} rests with {worker.credit} of {worker.offered}, holding {worker.held}"
                )
        self.consumers.at_rest(self.scheduler)
        self.copies.at_rest()
        for node in self.workers:
            if node.alive and not node.core.work.empty:
                raise Broken("rest", f"{node.name} still holds {sorted(node.core.work.held_numbers())}")
        if state.counters.get("malformed_messages"):
            raise Broken("malformed", "a message of ours was refused")
        if len(self.scheduler.gate):
            raise Broken("rest", "the gate still holds messages")
        left = (state.evidence, state.cancels, state.waiting, state.progress, state.strays, state.watchers)
        if any(left):
            raise Broken("rest", f"left behind: {left}")


def run(seed: int) -> Outcome:
    """One whole history."""
    return History(seed).run()
