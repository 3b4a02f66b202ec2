"""A scheduler's daemon as a process, and peers that speak the wire to it with bare Links."""

import signal
import subprocess
import sys
import time

from tests.helpers.scheduler_harness import RELEASE
from zmqtasks import wire
from zmqtasks.transport import Link, wait

PREFIX = b"session 0001"


class Daemon:
    """``python -m zmqtasks.scheduler.daemon URL``."""

    def __init__(self, *arguments, code=None, **options):
        command = [sys.executable, *(["-c", code] if code else ["-m", "zmqtasks.scheduler.daemon"]), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        self.url = ""

    def ready(self):
        """Wait for its line."""
        line = self.process.stdout.readline()
        assert line.startswith("zmqtasks scheduler ready on "), line + self.process.stderr.read()
        self.url = line.split()[-1]
        return self

    def end(self, number=signal.SIGTERM):
        """Stop it; its exit status and what it said on stderr."""
        if number and self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out + err


class Peer:
    """A Link that can wait."""

    def __init__(self, context, url, decode):
        self.link = Link(context, url, 0.0)
        self.decode = decode

    def _until(self, condition, seconds=10.0):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "nothing came"
            self.link.service(time.monotonic())
            wait(self.link.readers(), 0.01)
        return value

    def send(self, message):
        self._until(lambda: self.link.connected)
        self.link.send(message if isinstance(message, bytes) else wire.encode(message))

    def next(self, kind=None):
        """The next message but Pings, which must be of this kind."""
        while True:
            message = self.decode(self._until(self.link.receive))
            if not isinstance(message, wire.Ping):
                break
        assert kind is None or isinstance(message, kind), message
        return message

    def ask(self, message, kind=None):
        self.send(message)
        return self.next(kind)


def worker_hello(**changes):
    fields = {
        "magic": wire.MAGIC, "protocol": 1, "release": RELEASE, "python": "3.11", "host": "h", "pid": 1, "name": "w",
        "nonce": b"of the worker w.", "slots": 2, "credit": 2000, "queues": ["default"], "tasks": ["add"], "seen": 0,
        "held": [],
        **changes,
    }  # fmt: skip
    return wire.WorkerHello(**fields)


def submitter_hello(**changes):
    fields = {
        "magic": wire.MAGIC, "protocol": 1, "release": RELEASE, "python": "3.11", "host": "h", "pid": 1, "user": "u",
        "prefix": PREFIX, **changes,
    }  # fmt: skip
    return wire.SubmitterHello(**fields)


def submit(first, count, size=3):
    args = [b"%d".ljust(size) % (first + i) for i in range(count)]
    return wire.Submit(PREFIX, first, "add", b"", "msgpack", wire.Spec(), args, [])


def joined(peers, url):
    w, s = peers(url, wire.decode_to_worker), peers(url, wire.decode_to_submitter)
    assert w.ask(worker_hello(), wire.WorkerWelcome).release == RELEASE
    assert s.ask(submitter_hello(), wire.SubmitterWelcome).durable is False
    return w, s


def round_trip(w, s, first=0):
    """One job through the daemon."""
    assert s.ask(submit(first, 1)) == wire.Accepted(PREFIX, [(first, 1)])
    assign = w.next(wire.Assign)
    w.send(wire.Done([wire.Run(assign.number, [b"result"], 0.1, 0.1)], []))
    results = s.next(wire.Results)
    assert (results.counters, results.values) == ([first], [b"result"])
    s.send(wire.ResultAck(results.delivery))
    assert w.next() == wire.DoneAck([(assign.number, 1)])
