"""How fast can these hops be at all? The bare way of a job, without any feature, is the ceiling for the real thing.

Submitter, scheduler, agent and two children are separate processes; messages are columnar MessagePack structs; every
job is a real `add(i, 1)` whose arguments are unpickled and whose result is pickled, and every value is compared.

To be honest, the ceiling must be at least 1.5 × the base line that is measured in the same run: a bare pyzmq ROUTER
with two DEALER workers and one message a job, where the submitter itself holds the ROUTER and so saves two hops.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial

import _bare
import _hops
import _report
import msgspec
import zmq

HONEST = 1.5  # times the base line
PATIENCE = 20.0  # seconds without any result before a run counts as stuck
SIZES = (1, 10, 100, 500)  # jobs a Submit message
SLOTS = 2
WINDOW = 8_000  # jobs under way at most


class Stuck(Exception):
    """A process did not start, or no result came in time: a process ended or a message was lost."""


class Submitter:
    """The submitting end: pickles arguments, sends them in messages of a given size, compares all values."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._sock = self._context.socket(zmq.DEALER)
        self._sock.set_hwm(_hops.HWM)
        self._sock.setsockopt(zmq.LINGER, 0)
        self._sock.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        self._sock.setsockopt(zmq.SNDTIMEO, int(PATIENCE * 1000))
        self._sock.connect(endpoint)
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_hops.Result).decode

    def close(self) -> None:
        """Give the socket and its thread back."""
        self._context.destroy(0)

    def run(self, jobs: int, size: int) -> float:
        """Submit `add(0, 1)` … `add(jobs - 1, 1)`, `size` jobs a message; return the seconds until all are compared."""
        values: list[int | None] = [None] * jobs
        dumps, encode, send = pickle.dumps, self._encode, self._sock.send
        done = 0
        begin = time.perf_counter()
        for first in range(0, jobs, size):
            while first - done >= WINDOW:
                done += self._collect(values, 0)
            send(encode(_hops.Submit(first, [dumps((i, 1), 5) for i in range(first, min(first + size, jobs))])))
            if first & 0xFF < size:  # look for results now and then, without waiting
                done += self._collect(values, zmq.DONTWAIT)
        while done < jobs:
            done += self._collect(values, 0)
        if done != jobs or values != list(range(1, jobs + 1)):
            raise AssertionError("a value is wrong, missing or came twice")
        return time.perf_counter() - begin

    def round_trips(self, rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` jobs, one after the other on an idle system."""
        return [self.run(1, 1) for _ in range(rounds)]

    def _collect(self, values: list[int | None], flags: int) -> int:
        """Take one message of results; return how many it held, 0 if none is there and `flags` says not to wait."""
        try:
            message = self._decode(self._sock.recv(flags))
        except zmq.Again:
            if flags & zmq.DONTWAIT:
                return 0
            raise Stuck(f"no result for {PATIENCE:.0f} s") from None
        count = 0
        for run in message.runs:
            values[run.number : run.number + len(run.payloads)] = map(pickle.loads, run.payloads)
            count += len(run.payloads)
        return count


@contextlib.contextmanager
def hops(*, tcp: bool = False, claim: int = 100, slots: int = SLOTS) -> Iterator[Submitter]:
    """Start scheduler, agent and children, yield a warm submitter, and leave nothing behind."""
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="ceiling-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        lifeline, held = os.pipe()
        stack.callback(os.close, lifeline)
        processes = _hops.Family(stack)
        stack.callback(os.close, held)  # runs before the family's end: that is what ends its members
        where = "tcp://127.0.0.1:*" if tcp else f"ipc://{folder}/scheduler"
        processes.start(_hops.__file__, "scheduler", str(lifeline), where, keep=(lifeline,))
        endpoint = processes.line(0, PATIENCE)
        if not endpoint:
            raise Stuck("the scheduler did not start")
        options = (str(slots), str(claim))
        processes.start(_hops.__file__, "agent", str(lifeline), endpoint, *options, keep=(lifeline,))
        if processes.line(0, PATIENCE) != "ready":
            raise Stuck("the agent did not say hello")
        submitter = Submitter(endpoint)
        stack.callback(submitter.close)
        submitter.run(2_000, 100)
        submitter.round_trips(50)
        yield submitter


def main() -> int:
    """Measure ceiling and base line side by side; the exit code says whether the ceiling is honest."""
    parser = _report.arguments(__doc__, jobs=100_000, repeat=5, rounds=2_000, claim=100)
    parser.add_argument("--tcp", action="store_true", help="TCP on loopback instead of ipc")
    given = parser.parse_args()
    before = _report.facts()
    with hops(tcp=given.tcp, claim=given.claim) as top, _bare.bare(tcp=given.tcp, slots=SLOTS) as base:
        runs: dict[str, Callable[[], float]] = {"base line": lambda: given.jobs / base.run(given.jobs)}
        for size in SIZES:
            name = f"ceiling, {size} a message" if size > 1 else "ceiling, one by one"
            runs[name] = partial(lambda size: given.jobs / top.run(given.jobs, size), size)
        values = _report.interleaved(runs, given.repeat)
        trips = {"ceiling, round trip": top.round_trips, "base line, round trip": base.round_trips}
        rounds = {name: [second * 1000 for second in trip(given.rounds)] for name, trip in trips.items()}
    rows = _report.rates(values, {"base line": "× base line"})
    rows += [_report.spread(name, each) for name, each in rounds.items()]
    _report.show(f"ceiling ({'tcp' if given.tcp else 'ipc'}, {given.jobs:,} jobs)", rows, before, given.json)
    share = _report.ratio(values["ceiling, 100 a message"], values["base line"])
    honest = share >= HONEST
    print(f"batches of 100 run {share:.2f} × the base line: {'honest' if honest else f'NOT honest, {HONEST} is asked'}")
    return 0 if honest else 1


if __name__ == "__main__":
    raise SystemExit(main())
