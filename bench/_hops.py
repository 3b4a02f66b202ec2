"""The processes of the ceiling: scheduler, agent and children, with the real hops and none of the features.

    submitter ─DEALER→ ROUTER scheduler ROUTER ─→ DEALER agent ─one SOCK_SEQPACKET pair→ 2 children ─a pair each→ …

Each process is exec'ed, never forked, so that it can be started from a script that has threads or ZeroMQ sockets.
Each ends when its lifeline closes: scheduler and agent with the script's pipe, children with the agent's end of
the claims.
"""

from __future__ import annotations

import bisect
import contextlib
import gc
import os
import pickle
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator

import msgspec
import zmq
from _jobs import add

HWM = 20_000  # messages a pipe: above any window used here, so that nothing is dropped; a run would miss it
DRAIN = 500  # messages a turn at most
ASSIGN = 500  # jobs a message at most
MESSAGE = 1 << 16  # bytes: what one read takes


class Hello(msgspec.Struct, tag=0, array_like=True):
    """The agent is there."""


class Submit(msgspec.Struct, tag=1, array_like=True):
    """Jobs `first`, `first + 1`, … of one submitter, with their pickled arguments."""

    first: int
    args: list[bytes]


class Assign(msgspec.Struct, tag=2, array_like=True):
    """Jobs under the scheduler's numbers; the same struct travels from the agent to its children as a claim."""

    number: int
    args: list[bytes]


class Done(msgspec.Struct, tag=3, array_like=True):
    """The pickled results of jobs `number`, `number + 1`, …."""

    number: int
    payloads: list[bytes]


class Outcomes(msgspec.Struct, tag=4, array_like=True):
    """What an agent's children finished since its last message."""

    runs: list[Done]


class Result(msgspec.Struct, tag=5, array_like=True):
    """The same for a submitter, under its own job ids."""

    runs: list[Done]


def drain(sock: zmq.Socket[bytes], first: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (peer, body) for the message whose peer was received already, and for what else waits on a ROUTER."""
    receive = sock.recv
    peer = first
    for _ in range(DRAIN):
        yield peer, receive()  # never blocks: the parts of a message arrive together
        try:
            peer = receive(zmq.DONTWAIT)
        except zmq.Again:
            return
    yield peer, receive()


def end_with(lifeline: int) -> None:
    """End this process when the pipe's other end closes; a thread that sleeps in read() costs the loop nothing."""

    def wait() -> None:
        os.read(lifeline, 1)
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def scheduler(endpoint: str) -> None:
    """Pass jobs from submitters to the agent and outcomes back; what waits together travels together."""
    sock = zmq.Context().socket(zmq.ROUTER)
    sock.set_hwm(HWM)
    sock.setsockopt(zmq.ROUTER_MANDATORY, 1)
    sock.bind(endpoint)
    print(sock.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Hello | Submit | Outcomes).decode
    agent = b""
    number = 0  # of the next job to assign
    starts: list[int] = []  # numbers at which a run of one submitter's ids begins …
    owners: list[tuple[bytes, int]] = []  # … and whose it is, with what to take from a number to get the id

    def assign(jobs: list[bytes]) -> None:
        nonlocal number
        for at in range(0, len(jobs), ASSIGN):
            part = jobs[at : at + ASSIGN]
            sock.send(agent, zmq.SNDMORE)
            sock.send(encode(Assign(number, part)))
            number += len(part)

    while True:
        waiting: list[bytes] = []
        results: dict[bytes, list[Done]] = {}
        for peer, body in drain(sock, sock.recv()):
            message = decode(body)
            if type(message) is Submit:
                owner = (peer, number + len(waiting) - message.first)
                if not owners or owners[-1] != owner:
                    starts.append(number + len(waiting))
                    owners.append(owner)
                waiting += message.args
            elif type(message) is Outcomes:
                for run in message.runs:
                    submitter, shift = owners[bisect.bisect_right(starts, run.number) - 1]
                    run.number -= shift
                    results.setdefault(submitter, []).append(run)
            else:
                agent = peer
                print("ready", flush=True)
        if waiting:
            assign(waiting)
        for submitter, runs in results.items():
            sock.send(submitter, zmq.SNDMORE)
            sock.send(encode(Result(runs)))


def agent(endpoint: str, slots: int, claim: int) -> None:
    """Cut assignments into claims of at most `claim` jobs for whichever child reads first; report outcomes."""
    sock = zmq.Context().socket(zmq.DEALER)
    sock.set_hwm(HWM)
    sock.connect(endpoint)
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Assign).decode
    decode_done = msgspec.msgpack.Decoder(Done).decode
    claims, shared = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answers: dict[int, socket.socket] = {}
    for _ in range(slots):
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        answers[mine.fileno()] = mine
        start(__file__, "child", str(shared.fileno()), str(theirs.fileno()), keep=(shared.fileno(), theirs.fileno()))
        theirs.close()
    shared.close()
    claims.setblocking(False)
    sock.send(encode(Hello()))

    poller = zmq.Poller()
    for source in (sock, *answers):
        poller.register(source, zmq.POLLIN)
    backlog: deque[bytes] = deque()  # claims that the pair has no room for yet
    while True:
        done: list[Done] = []
        for source, _ in poller.poll():
            if source is not sock:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        body = answers[source].recv(MESSAGE)
                        if not body:
                            raise SystemExit("ceiling: a child ended")
                        done.append(decode_done(body))
                continue
            with contextlib.suppress(zmq.Again):
                for _ in range(DRAIN):
                    message = decode(sock.recv(zmq.DONTWAIT))
                    jobs = message.args
                    size = min(claim, -(-len(jobs) // slots))
                    for at in range(0, len(jobs), size):
                        backlog.append(encode(Assign(message.number + at, jobs[at : at + size])))
        with contextlib.suppress(BlockingIOError):
            while backlog:
                claims.send(backlog[0])
                backlog.popleft()
        if done:
            sock.send(encode(Outcomes(done)))


def child(claims: int, answers: int) -> None:
    """Read a claim, run its jobs, answer; no message names a job twice, so two children can read one queue."""
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(Assign).decode
    loads, dumps = pickle.loads, pickle.dumps
    while body := os.read(claims, MESSAGE):
        message = decode(body)
        os.write(answers, encode(Done(message.number, [dumps(add(*loads(args)), 5) for args in message.args])))


def start(script: str, *arguments: str, keep: tuple[int, ...], stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start a script of this folder as a process, with the descriptors in `keep` open in it."""
    command = [sys.executable, script, *arguments]
    return subprocess.Popen(command, bufsize=0, pass_fds=keep, stdin=subprocess.DEVNULL, stdout=stdout)


class Family:
    """Processes that end when the stack unwinds: by themselves as their lifeline closes, else killed."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        stack.callback(self._end)

    def start(self, script: str, *arguments: str, keep: tuple[int, ...]) -> None:
        """Start a script as a process of the family."""
        self._processes.append(start(script, *arguments, keep=keep, stdout=subprocess.PIPE))

    def line(self, index: int, patience: float) -> str:
        """Return the next line that a process prints, or nothing if it ends or `patience` seconds pass."""
        out = self._processes[index].stdout
        ready = out is not None and select.select([out], [], [], patience)[0]
        return out.readline().decode().strip() if out is not None and ready else ""

    def _end(self) -> None:
        for process in self._processes:
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def main(role: str, arguments: list[str]) -> None:
    """Run one role; the first argument of scheduler and agent is the lifeline."""
    gc.freeze()
    if role == "child":
        child(int(arguments[0]), int(arguments[1]))
        return
    end_with(int(arguments[0]))
    if role == "scheduler":
        scheduler(arguments[1])
    else:
        agent(arguments[1], int(arguments[2]), int(arguments[3]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
