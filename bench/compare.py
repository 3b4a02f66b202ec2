"""Is this checkout as fast as another one? The same rows of both, alternately, in one run.

    git worktree add /tmp/other COMMIT
    python bench/compare.py /tmp/other

Each checkout runs its own package under this checkout's jobs. What counts is the ratio, this one over the other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import _report

HERE = Path(__file__).resolve().parent
PATIENCE = 300.0  # seconds for one row of one checkout
ROWS = ("submit_many", "client.submit in a loop", "task.delay in a loop", "client.map, chunksize 1")

# Runs in a process of its own, with PYTHONPATH set to one checkout or the other.
CHILD = """
import contextlib, os, sys
import _cluster, throughput
from pathlib import Path
import zmqtasks
name, jobs, home = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
assert Path(zmqtasks.__file__).is_relative_to(home), zmqtasks.__file__
with contextlib.ExitStack() as stack:
    if name.startswith("task."):
        os.environ["ZMQTASKS_BROKER"] = stack.enter_context(_cluster.daemons(throughput.SLOTS))
        run = throughput.task_rows()[name]
    else:
        run = throughput.client_rows(stack.enter_context(_cluster.local_client(throughput.SLOTS)))[name]
    throughput.checked(run, throughput.WARM_UP)
    print(max(throughput.checked(run, jobs) for _ in range(3)))
"""


def rate(checkout: Path, row: str, jobs: int) -> float:
    """Return jobs/s, the best of three, of one row in a checkout."""
    paths = os.pathsep.join((str(checkout), str(HERE)))
    done = subprocess.run(
        [sys.executable, "-c", CHILD, row, str(jobs), str(checkout)],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{row} in {checkout} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every row in both checkouts, turn by turn."""
    parser = _report.arguments(__doc__, jobs=50_000, repeat=5)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("other", type=Path, help="another checkout")
    given = parser.parse_args()
    before = _report.facts()
    checkouts = {"this": HERE.parent, "other": given.other.resolve()}
    rows = []
    for row in ROWS:
        runs: dict[str, Callable[[], float]] = {
            name: partial(rate, checkout, row, given.jobs) for name, checkout in checkouts.items()
        }
        values = _report.interleaved(runs, given.repeat)
        for name, each in values.items():
            extra: dict[str, float | str] = {"× other": _report.ratio(each, values["other"])}
            rows.append(_report.Row(f"{row}: {name}", "jobs/s", each, extra))
    _report.show(f"this checkout beside {given.other} ({given.jobs:,} jobs)", rows, before, given.json)


if __name__ == "__main__":
    main()
