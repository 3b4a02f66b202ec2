"""Each mutant dies on its recorded seed, of its law: the simulation sees."""

import pytest

from tests.sim.mutants import MUTANTS, Mutant, kill

TIMEOUT = 100.0  # seconds; a bound, not an expectation


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: Mutant) -> None:
    found = kill(mutant, [mutant.seed], TIMEOUT)
    assert found is not None, f"seed {mutant.seed} no longer kills it; python -m tests.sim.mutants finds another"
    assert found[1].startswith(mutant.law + ":")
