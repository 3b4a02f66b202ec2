"""The honest base line: a bare pyzmq ROUTER with two DEALER workers and one message a job.

The submitter holds the ROUTER itself, which saves it two hops against the ceiling. It keeps a window of jobs under way
at each worker and drains what waits, as anybody would who wants to be fast without batches.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator

import _hops
import msgspec
import zmq
from _jobs import add

PATIENCE = 20.0  # seconds without any result before a run counts as stuck
WINDOW = 500  # jobs under way at each worker


class Job(msgspec.Struct, array_like=True):
    """One job with its pickled arguments, or its pickled result on the way back; an empty one says hello."""

    number: int
    payload: bytes


class Bare:
    """The ROUTER end: sends one message a job, compares all values."""

    def __init__(self, sock: zmq.Socket[bytes], workers: list[bytes]) -> None:
        self._sock = sock
        self._workers = workers
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Job).decode

    def run(self, jobs: int) -> float:
        """Run `add(0, 1)` … `add(jobs - 1, 1)`; return the seconds until all are compared."""
        values: list[int | None] = [None] * jobs
        encode, decode, dumps, loads = self._encode, self._decode, pickle.dumps, pickle.loads
        send, recv, more, dont_wait = self._sock.send, self._sock.recv, zmq.SNDMORE, zmq.DONTWAIT
        sent = done = 0
        begin = time.perf_counter()
        free = self._workers * WINDOW  # one entry a job that may go out, the two workers in turn
        while done < jobs:
            room = min(len(free), jobs - sent)
            for worker in free[:room]:
                send(worker, more)
                send(encode(Job(sent, dumps((sent, 1), 5))))
                sent += 1
            del free[:room]
            peer = recv()
            try:
                while True:
                    job = decode(recv())
                    values[job.number] = loads(job.payload)
                    done += 1
                    free.append(peer)
                    peer = recv(dont_wait)
            except zmq.Again:
                pass
        if done != jobs or values != list(range(1, jobs + 1)):
            raise AssertionError("a value is wrong, missing or came twice")
        return time.perf_counter() - begin

    def round_trips(self, rounds: int) -> list[float]:
        """Return the seconds of each of `rounds` jobs, one after the other on an idle system."""
        return [self.run(1) for _ in range(rounds)]


def worker(endpoint: str) -> None:
    """One DEALER worker: a message in, a message out."""
    sock = zmq.Context().socket(zmq.DEALER)
    sock.connect(endpoint)
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Job).decode
    loads, dumps, recv, send = pickle.loads, pickle.dumps, sock.recv, sock.send
    send(encode(Job(0, b"")))
    while True:
        job = decode(recv())
        send(encode(Job(job.number, dumps(add(*loads(job.payload)), 5))))


@contextlib.contextmanager
def bare(*, tcp: bool = False, slots: int = 2) -> Iterator[Bare]:
    """Start the workers, yield the warm ROUTER end, and leave nothing behind."""
    with contextlib.ExitStack() as stack:
        folder = tempfile.mkdtemp(prefix="bare-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        context = zmq.Context()
        stack.callback(context.destroy, 0)
        sock = context.socket(zmq.ROUTER)
        sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sock.setsockopt(zmq.RCVTIMEO, int(PATIENCE * 1000))
        sock.bind("tcp://127.0.0.1:*" if tcp else f"ipc://{folder}/router")
        lifeline, held = os.pipe()
        stack.callback(os.close, lifeline)
        processes = _hops.Family(stack)
        stack.callback(os.close, held)  # first of all on the way out: that ends the workers
        where = sock.getsockopt_string(zmq.LAST_ENDPOINT)
        for _ in range(slots):
            processes.start(__file__, str(lifeline), where, keep=(lifeline,))
        workers = [sock.recv_multipart()[0] for _ in range(slots)]
        end = Bare(sock, workers)
        end.run(2_000)
        end.round_trips(50)
        yield end


if __name__ == "__main__":
    gc.freeze()
    _hops.end_with(int(sys.argv[1]))
    worker(sys.argv[2])
