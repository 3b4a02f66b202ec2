"""Each mutant of the journal dies of its law on its recorded seed: the crash points see."""

import pytest

from tests.crash.mutants import MUTANTS, TABLE
from tests.helpers.mutation import Mutant

TIMEOUT = 100.0  # seconds; a bound, not an expectation
OTHERS = 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_dies(mutant: Mutant) -> None:
    found = TABLE.kill(mutant, [mutant.seed, *range(OTHERS)], TIMEOUT)
    assert found is not None, f"seed {mutant.seed} no longer kills it: python -m tests.crash.mutants --record"
    assert found[1].startswith(mutant.law + ":")
