"""A script: submits, waits, asks for others' jobs, cancels."""

from typing import Any

from tests.sim.laws import Broken, JobKey, Laws
from tests.sim.load import Plan
from tests.sim.nodes import Network, Node
from tests.sim.world import World
from zmqtasks import payload, wire
from zmqtasks.config import SubmitterSettings
from zmqtasks.scheduler.core.model import OS
from zmqtasks.states import SUCCEEDED
from zmqtasks.submitter.core import SubmitterCore
from zmqtasks.submitter.effects import Effects, Identity, Submission


class SubmitterNode(Node):
    """One session.

    Attributes:
        wanted: jobs whose outcome it must get.
        may_vanish: of these, those that may end without one: their outcomes are kept for a moment only.
        conflicts: ids that another session uses with other content.
    """

    def __init__(self, world: World, network: Network, laws: Laws, name: str) -> None:
        self.laws, self.law = laws, "submitter"
        self.prefix = name.encode().ljust(12, b"-")
        settings = SubmitterSettings(unaccepted=60, held_bytes=10_000_000)
        self.core = SubmitterCore(settings, Identity(self.prefix, "sim", "3.11", "host", 2, "user"))
        self.effects = Effects
        self.decode = wire.decode_to_submitter
        self.wanted: set[JobKey] = set()
        self.may_vanish: set[JobKey] = set()
        self.conflicts: set[JobKey] = set()
        self.unanswered: set[object] = set()  # cancels
        self.counter = 0
        super().__init__(world, network, name)

    def submit(self, call: Any, plans: list[Plan], *, may_vanish: bool = False) -> None:
        """One batch."""
        first, self.counter = self.counter, self.counter + len(plans)
        keys = [(self.prefix, first + i) for i in range(len(plans))]
        for key, plan in zip(keys, plans, strict=True):
            self.laws.plans[key] = plan
            self.wanted.add(key)
            if may_vanish:
                self.may_vanish.add(key)
        submission = Submission(self.prefix, first, call, [plan.encode() for plan in plans], list(keys), first)
        self.event(lambda fx: self.core.submit(submission, self.world.now(), fx))

    def submit_given(self, key: JobKey, call: Any, plan: Plan) -> None:
        """A job under an id that the user chose, which another session may have submitted, too."""
        if key in self.wanted:
            return
        known = self.laws.plans.setdefault(key, plan)
        if known is plan:
            self.wanted.add(key)
        else:
            self.conflicts.add(key)
        submission = Submission(key[0], key[1], call, [plan.encode()], [key], key[1])
        self.event(lambda fx: self.core.submit(submission, self.world.now(), fx))

    def repeat_given(self, key: JobKey, call: Any) -> None:
        """The same job as another session's, submitted once more."""
        if key not in self.wanted and key not in self.conflicts:
            self.wanted.add(key)
            submission = Submission(key[0], key[1], call, [self.laws.plans[key].encode()], [key], key[1])
            self.event(lambda fx: self.core.submit(submission, self.world.now(), fx))

    def ask(self, key: JobKey) -> None:
        """Want the outcome of somebody else's job."""
        if key not in self.wanted and key not in self.conflicts:
            self.wanted.add(key)
            self.event(lambda fx: self.core.ask(*key, key, self.world.now(), fx))

    def cancel(self, counter: int, force: object) -> None:
        """Ask to cancel one job."""
        token = object()
        self.unanswered.add(token)
        self.event(lambda fx: self.core.cancel(self.prefix, [(counter, 1)], bool(force), token, self.world.now(), fx))

    def carry_out(self, fx: Effects) -> None:
        """As the client's I/O thread does."""
        self.send(fx)
        for finished in fx.finished:
            for handle, value in zip(finished.handles, finished.values, strict=True):
                self.laws.finished(self.name, handle, SUCCEEDED, value)
        self.unanswered.difference_update(answer.token for answer in fx.cancel_answers)
        for ended in fx.ended:
            if ended.cause in ("result", "cancelled"):
                if ended.cause == "cancelled":  # it never left: nobody else knows of it
                    self.wanted.discard(ended.handle)
                    continue
                self.laws.finished(self.name, ended.handle, ended.state, ended.payload)
            elif not self._expected(ended):
                raise Broken(
                    "result", f"job {ended.counter} ended as {ended.cause}: {payload.read_failure(ended.payload)}"
                )

    def _expected(self, ended: Any) -> bool:
        """Whether a job may end without an outcome like that; nobody waits for it any more then."""
        key = ended.handle
        own = key[0] == self.prefix
        if ended.cause == "forgotten" or (ended.cause == "unknown" and own and key in self.laws.at_most_once):
            self.wanted.discard(key)
            return key in self.laws.at_most_once and self.laws.restarts > 0
        if ended.cause == "rejected" and payload.read_failure(ended.payload).type_name == "JournalUnavailable":
            self.wanted.discard(key)
            return self.laws.troubled
        if ended.cause == "unknown" and self.laws.blackout and self.laws.levels.get(key) == OS:
            self.wanted.discard(key)  # it outlives the process only, as was asked for
            return True
        if ended.cause == "rejected":
            return key in self.conflicts and payload.read_failure(ended.payload).type_name == "JobConflict"
        brief = key in self.may_vanish | self.laws.short_lived or (key[0] != self.prefix and self.laws.few_kept)
        vanished = ended.cause == "expired" and brief
        foreign = ended.cause == "unknown" and key[0] != self.prefix  # its owner had not got it through yet
        if vanished or foreign:
            self.wanted.discard(key)
        return vanished or foreign
