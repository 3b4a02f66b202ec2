"""Who has the next turn: the laws hold in many histories, and each mutant breaks one."""

import pytest

from tests.helpers.mutation import Mutant
from tests.sim import turns
from tests.sim.turn_mutants import MUTANTS, TABLE

TIMEOUT = 100.0  # seconds; a bound, not an expectation
HISTORIES = 60
OTHERS = 20


@pytest.mark.parametrize("first", range(0, HISTORIES, 20))
def test_the_laws_hold(first: int) -> None:
    for seed in range(first, first + 20):
        turns.run(seed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: Mutant) -> None:
    found = TABLE.kill(mutant, [mutant.seed, *range(OTHERS)], TIMEOUT)
    assert found is not None, f"seed {mutant.seed} no longer kills it: python -m tests.sim.turn_mutants --record"
    assert found[1].startswith(mutant.law + ":")
