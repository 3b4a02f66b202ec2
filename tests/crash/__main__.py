"""`python -m tests.crash`: crash points until there were enough of them."""

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice

from tests.crash.points import run


def attempt(seed: int) -> tuple[int, str, Counter[str]]:
    """Run a seed; the text is empty when all laws held."""
    logging.disable()  # the disks are full by design
    try:
        return seed, "", run(seed)
    except Exception:  # noqa: BLE001  (whatever breaks is a finding)
        return seed, traceback.format_exc(), Counter()


def main() -> int:
    """Returns 1 if a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="how many crash points, at least")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one seed only, with its traceback")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    began, totals, broken, seeds = time.monotonic(), Counter[str](), 0, 0
    numbers = count(options.first) if options.seed is None else iter([options.seed])
    with ProcessPoolExecutor(options.jobs) as pool:
        while chunk := list(islice(numbers, 4 * options.jobs)):
            for seed, text, tried in pool.map(attempt, chunk):
                seeds += 1
                totals.update(tried)
                if text:
                    broken += 1
                    print(f"seed {seed}:\n{text}")
            if totals.total() >= options.points:
                break
    took = time.monotonic() - began
    print(
        f"{totals.total()} crash points of {seeds} seeds, {broken} broken, {took:.1f} s: {dict(sorted(totals.items()))}"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
