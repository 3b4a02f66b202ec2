"""One of several submitters: `python _peer.py URL`; for each number on stdin so many jobs, all values compared."""

from __future__ import annotations

import sys

from _jobs import add

import zmqtasks


def main() -> None:
    """Until stdin closes."""
    with zmqtasks.Client(sys.argv[1]) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            jobs = int(line)
            submitted = client.submit_many(add, [((i, 1), {}) for i in range(jobs)])
            if [job.result() for job in submitted] != list(range(1, jobs + 1)):
                raise AssertionError("a value is wrong, missing or came twice")
            print("done", flush=True)


if __name__ == "__main__":
    main()
