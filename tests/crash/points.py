"""Crash points by the thousand: `python -m tests.crash`. One seed is a history of crashes, and a journal damaged."""

from collections import Counter

from tests.crash import damage, history


def run(seed: int) -> Counter[str]:
    """Try one seed; returns what was tried, by kind.

    Raises:
        Broken: a law did not hold.
    """
    crashes = history.run(seed)
    crashes.pop("points")  # the sum of the others
    tried = Counter({f"power: {kind}" if kind != "all" else "killed": n for kind, n in crashes.items()})
    tried.update({f"damage: {kind}": n for kind, n in damage.run(seed).items()})
    return tried
