"""A submitter that keeps a scheduler busy: `python _load.py URL JOBS_PER_SECOND`, until its stdin closes."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque

from _jobs import add

import zmqtasks

EVERY = 0.01  # seconds between batches
BEHIND = 5_000  # jobs without a result at which it waits: an overload is not what is measured


def main() -> None:
    """Submit at an even rate, compare every value, and say at the end how many there were."""
    url, rate = sys.argv[1], int(sys.argv[2])
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    with zmqtasks.Client(url) as client:
        batch = int(rate * EVERY)
        waiting: deque[list[zmqtasks.Job[int]]] = deque()
        done, due = 0, time.monotonic()
        while not over.is_set():
            waiting.append(client.submit_many(add, [((i, 1), {}) for i in range(batch)]))
            while waiting and (waiting[0][-1].done() or len(waiting) * batch > BEHIND):
                if [job.result() for job in waiting.popleft()] != list(range(1, batch + 1)):
                    raise AssertionError("a value is wrong")
                done += batch
            due += EVERY
            time.sleep(max(0.0, due - time.monotonic()))
        print(done)


if __name__ == "__main__":
    main()
