"""Each mutant dies of its law on its recorded seed, or on one of the first seeds where a change of the core or of the
simulation has made another history of that seed: the simulation sees.
"""

import pytest

from tests.helpers.mutation import Mutant
from tests.sim.mutants import MUTANTS, TABLE

TIMEOUT = 100.0  # seconds; a bound, not an expectation
OTHERS = 60


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: Mutant) -> None:
    found = TABLE.kill(mutant, [mutant.seed, *range(OTHERS)], TIMEOUT)
    assert found is not None, f"seed {mutant.seed} no longer kills it: python -m tests.sim.mutants --record"
    assert found[1].startswith(mutant.law + ":")
