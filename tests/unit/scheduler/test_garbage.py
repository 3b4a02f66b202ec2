"""The steady state of the core makes no reference cycles: automatic garbage collection is off in the daemon."""

import gc
from itertools import count, islice

import pytest

from tests.sim.history import History


@pytest.mark.parametrize("nth", range(3))
def test_a_history_leaves_no_cycles_behind_in_the_core(nth: int) -> None:
    """Of one life of the scheduler: the whole state of one that was killed hangs together."""
    once = (history for seed in count() if not (history := History(seed)).restarts and history.theme == "mixed")
    history = next(islice(once, nth, None))
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        history.run()
        gc.collect()
        ours = [o for o in gc.garbage if type(o).__module__.startswith("zmqtasks.scheduler")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert history.laws.results
    assert not ours, f"unreachable, but not freed: {ours[:5]}"
