"""Asks a scheduler for its status again and again and prints each answer with the time at which it came.

python watch.py URL: what `zmqtasks status --json` in a loop would tell, without starting Python each time.
"""

import contextlib
import io
import json
import sys
import time

from zmqtasks.cli import main as zmqtasks

PAUSE = 0.05  # seconds


def main() -> None:
    while True:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = zmqtasks(["status", "--broker", sys.argv[1], "--json", "--timeout", "1"])
        status = json.loads(out.getvalue()) if code == 0 else None
        print(json.dumps({"at": time.monotonic(), "code": code, "status": status}), flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
