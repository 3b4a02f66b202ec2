"""`python -m tests.sim`: histories by the thousand."""

import argparse
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.sim.history import run


def attempt(seed: int) -> tuple[int, str, dict[str, int]]:
    """Run a seed; the text is empty when all laws held."""
    try:
        outcome = run(seed)
    except Exception:  # noqa: BLE001  (whatever breaks is a finding)
        return seed, traceback.format_exc(), {}
    return seed, "", {**outcome.counters, "jobs": outcome.jobs, "steps": outcome.steps}


def main() -> int:
    """Returns 1 if a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="one history only, with its traceback")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first broken law")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    began, totals, broken = time.monotonic(), Counter[str](), 0
    with ProcessPoolExecutor(options.jobs) as pool:
        for seed, text, counters in pool.map(attempt, seeds, chunksize=8):
            totals.update(counters)
            if text:
                broken += 1
                print(f"seed {seed}:\n{text}")
                if not options.keep_going:
                    pool.shutdown(cancel_futures=True)
                    break
    print(f"{len(seeds)} histories, {broken} broken, {time.monotonic() - began:.1f} s: {dict(totals)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
