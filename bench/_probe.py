"""A submitter of lone jobs: `python _probe.py URL`; one round trip after another, until its stdin closes.

Writes a line for each: its milliseconds. A process of its own, so that the one that makes the load does not keep it
from running: what is measured is the cluster, not who holds whose GIL.
"""

from __future__ import annotations

import sys
import threading
import time

from _jobs import add

import zmqtasks

PAUSE = 0.02  # seconds between round trips


def main() -> None:
    """Submit, wait, compare, tell."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    with zmqtasks.Client(sys.argv[1]) as client:
        count = 0
        while not over.wait(PAUSE):
            begin = time.perf_counter()
            value = client.submit(add, count, 1).result()
            print((time.perf_counter() - begin) * 1000, flush=True)
            count += 1
            if value != count:
                raise AssertionError(f"add({count - 1}, 1) gave {value!r}")


if __name__ == "__main__":
    main()
