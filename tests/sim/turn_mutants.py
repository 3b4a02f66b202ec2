"""Defects in who has the next turn, each a patch of one line, with the law of `turns.py` that kills it.

`python -m tests.sim.turn_mutants` looks for the first seed that kills each (`--record`: into the table below).
"""

# ruff: noqa: E501  (quoted production lines are as long as they are)

import sys

from tests.helpers.mutation import Mutant, Table

_CORE = "scheduler.core."

MUTANTS = (
    Mutant("the least urgent go first", _CORE + "dispatch",
           "        top = max(profile.top for profile in profiles)\n        turns = state.shares.turns(profile for profile in profiles if profile.top == top)\n        while turns:\n            profile = turns.next()\n            if profile.top == top and",
           "        top = min(profile.top for profile in profiles)\n        turns = state.shares.turns(profile for profile in profiles if profile.top == top)\n        while turns:\n            profile = turns.next()\n            if profile.top == top and", "urgent", 0),
    Mutant("the most urgent lines of a queue stay those that were", _CORE + "lines",
           "                profile.top, profile.flows = priority, level\n", "                profile.top = priority\n", "line", 0),
    Mutant("weights are not looked at", _CORE + "shares", "cost / self.weights.get(queue, 1.0)", "cost", "share", 1),
    Mutant("a turn is not charged", _CORE + "shares", "self._now + cost / self.weights.get(queue, 1.0)", "self._now", "share", 1),
    Mutant("a queue with a weight is charged twice", _CORE + "shares",
           "    cost = jobs * (", "    cost = jobs * (1 + (queue in self.weights)) * (", "share", 1),
    Mutant("what a queue did not use is saved up", _CORE + "shares",
           "return max(self._clocks.get(queue, 0.0), self._now)", "return self._clocks.get(queue, 0.0)", "share", 1),
    Mutant("submitters take no turns", _CORE + "lines",
           "            level.move_to_end(line.turn)\n        if profile in self.ready", "            pass\n        if profile in self.ready", "turn", 1),
    Mutant("a retract is forgotten", _CORE + "retracts", "        worker.asked.update(numbers)\n", "", "way", 2),
    Mutant("what is as urgent makes way", _CORE + "retracts", "submission.urgency < priority", "submission.urgency <= priority", "way", 2),
    Mutant("nobody makes way", _CORE + "dispatch", "        retracts.overtake(state, fx)\n", "        pass\n", "way", 2),
)  # fmt: skip

TABLE = Table("tests.sim.turn_mutants", "tests.sim.turns", MUTANTS)

if __name__ == "__main__":
    sys.exit(TABLE.main())
