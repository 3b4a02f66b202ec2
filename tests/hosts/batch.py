"""Submits a batch and prints what became of it: a script as users write them, run on one of the hosts.

python batch.py URL LEDGER COUNT SECONDS [REPLY_BYTES [ARGUMENT_BYTES]]

Each execution appends a line to LEDGER. Prints one JSON line with the results' check, or none if a job failed.
"""

import json
import logging
import sys

import zmqtasks

TIMEOUT = 240.0  # seconds; the test that started this gives up sooner


def work(ledger: str, number: int, seconds: float, reply: int, argument: bytes) -> tuple[int, str, bytes]:
    """Leave a trace, take some time, answer with the square of the number."""
    import socket
    import time
    from pathlib import Path

    with Path(ledger).open("a") as file:
        file.write(f"{number} {socket.gethostname()} {len(argument)}\n")
    time.sleep(seconds)
    return number * number, socket.gethostname(), bytes([number % 256]) * reply


def main() -> None:
    url, ledger, count, seconds, reply, argument = [*sys.argv[1:], "0", "0"][:6]
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    data = b"x" * int(argument)
    calls = [((ledger, number, float(seconds), int(reply), data), {}) for number in range(int(count))]
    with zmqtasks.Client(url, connect_timeout=20) as client:
        jobs = client.submit_many(work, calls)
        client.flush(TIMEOUT)
        print("accepted", flush=True)
        hosts = []
        for number, job in enumerate(jobs):
            square, host, filling = job.result(timeout=TIMEOUT)
            assert (square, filling) == (number * number, bytes([number % 256]) * int(reply)), (number, square)
            hosts.append(host)
        print(json.dumps({"results": len(hosts), "hosts": sorted(set(hosts))}), flush=True)


if __name__ == "__main__":
    main()
