"""The simulation runs the production cores, nearly all of them: where it does not come, it sees nothing."""

import subprocess
import sys


def test_histories_run_nine_lines_of_ten() -> None:
    command = [sys.executable, "-m", "tests.sim.covered", "--seeds", "50", "--at-least", "90"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
