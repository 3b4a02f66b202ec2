"""Losses of power and damage from fixed seeds: no law may break. `python -m tests.crash --points 20000` tries more."""

from collections import Counter

import pytest

from tests.crash import damage, history
from zmqtasks.scheduler.journal.store import PAGE

SEEDS = 12
LAST = 1  # records that are cut at every fifth byte; nightly more, at every byte


def test_no_crash_loses_what_was_acknowledged() -> None:
    """And there are enough of them, otherwise the laws watch nothing."""
    crashes: Counter[str] = Counter()
    for seed in range(SEEDS):
        crashes.update(history.run(seed))
    assert crashes["points"] >= 200
    assert set(crashes) == {"points", "all", "none", "prefix", "any"}


def test_no_damage_goes_unseen() -> None:
    """Of each kind of damage both outcomes are met."""
    damages: Counter[str] = Counter()
    for seed in range(SEEDS):
        damages.update(damage.run(seed))
    kinds = {f"{kind} {end}" for kind in ("flip", "cut", "old") for end in ("whole", "refused")}
    assert kinds | {"gone refused"} <= set(damages)


def test_a_seed_always_gives_the_same_crashes() -> None:
    assert history.run(3) == history.run(3)


def test_a_flipped_bit_in_every_kind_of_page_is_seen() -> None:
    disk, ledger, least = damage.plain(closed=True, turns=60)
    kinds = damage.pages(disk)
    assert set(kinds) == {"table", "table leaf", "index leaf", "other"}
    ends: Counter[str] = Counter()
    for page in [page for numbers in kinds.values() for page in numbers]:
        for place in (0, 5, 107, 1_000, 4_000):
            damaged = damage.flipped(disk, damage.DB, page * PAGE + place, place % 8)
            ends[damage.examine(damaged, ledger, least, f"page {page}, byte {place}")] += 1
    assert ends["refused"] > 0


def test_a_flipped_bit_in_every_frame_of_the_wal_is_seen() -> None:
    disk, ledger, least = damage.plain(closed=False, turns=40)
    ends: Counter[str] = Counter()
    for frame in range(32, damage.used(disk), PAGE + 24):
        for place in (0, 10, 20, 24, 1_000):
            damaged = damage.flipped(disk, damage.WAL, frame + place, place % 8)
            ends[damage.examine(damaged, ledger, least, f"frame at {frame}, byte {place}")] += 1
    assert ends["refused"] > ends["whole"]


@pytest.mark.parametrize(("last", "step"), [(LAST, 5), pytest.param(3 * LAST, 1, marks=pytest.mark.nightly)])
def test_a_wal_that_is_cut_at_any_byte_of_its_last_records_is_seen(last: int, step: int) -> None:
    disk, ledger, least = damage.plain(closed=False, turns=20)
    size = damage.used(disk)
    ends: Counter[str] = Counter()
    for left in range(size - damage.frames(last), size, step):
        ends[damage.examine(damage.cut(disk, damage.WAL, left), ledger, least, f"WAL cut at {left}")] += 1
    assert ends["refused"] > 0
