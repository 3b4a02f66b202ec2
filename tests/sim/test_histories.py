"""Histories from fixed seeds: no law may break. `make sim SEEDS=…` runs more of them."""

import pytest

from tests.sim.history import run

SEEDS = 300
CHUNK = 30


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_law_breaks(first: int) -> None:
    for seed in range(first, first + CHUNK):
        run(seed)


def test_a_seed_always_gives_the_same_history() -> None:
    assert run(7) == run(7)


def test_the_histories_are_not_idle() -> None:
    """Together they must have met every kind of trouble; otherwise the laws watch nothing."""
    totals: dict[str, int] = {}
    for seed in range(60):
        for name, count in run(seed).counters.items():
            totals[name] = totals.get(name, 0) + count
    for name in ("crashed", "requeued", "retried", "retracts", "workers_lost", "adopted", "stale_results", "strangers"):
        assert totals.get(name), f"no history of these met {name}: {totals}"
