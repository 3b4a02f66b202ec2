"""`python -m tests.sim.covered`: how many lines of the production cores some histories run through.

A line that no history reaches is one whose defects the simulation cannot see.
"""

import argparse
import importlib
import io
from pathlib import Path

from coverage import Coverage

PACKAGE = Path(__file__).parents[2] / "zmqtasks"
CORES = (
    "scheduler/core/*.py",
    "scheduler/gate.py",
    "worker/backlog.py",
    "worker/core.py",
    "worker/late.py",
    "worker/ledger.py",
    "worker/workload.py",
    "submitter/book.py",
    "submitter/cancels.py",
    "submitter/core.py",
    "submitter/ledger.py",
)


def measure(seeds: range) -> tuple[float, str]:
    """The share of the cores' lines that these histories run, in percent, and a table with the lines that are left."""
    watched = [str(path) for pattern in CORES for path in PACKAGE.glob(pattern)]
    coverage = Coverage(data_file=None, include=watched, config_file=False)
    coverage.start()
    try:
        history = importlib.import_module("tests.sim.history")
        for seed in seeds:
            history.run(seed)
    finally:
        coverage.stop()
    table = io.StringIO()
    return coverage.report(file=table, show_missing=True, skip_covered=True), table.getvalue()


def main() -> int:
    """Returns 1 if too little is covered."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=150, help="how many histories")
    parser.add_argument("--at-least", type=float, default=0.0, help="percent")
    options = parser.parse_args()
    percent, table = measure(range(options.seeds))
    print(table)
    print(f"{percent:.1f} % of the cores' lines in {options.seeds} histories")
    return 0 if percent >= options.at_least else 1


if __name__ == "__main__":
    raise SystemExit(main())
