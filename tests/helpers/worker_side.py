"""A scripted scheduler for one worker, on real sockets, and the worker as a process of its own."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zmqtasks import payload, wire
from zmqtasks.bulk import Incoming
from zmqtasks.config import BULK_WINDOW
from zmqtasks.ids import spans
from zmqtasks.transport import Context, Router, wait

PREFIX = b"p" * 12
TIMEOUT = 20.0


class ScriptedScheduler:
    """Welcomes a worker, numbers what it assigns, keeps and acknowledges what comes back.

    Attributes:
        hello: the last one.
        results: number → encoded result.
        ends: number → End.
        retracted: numbers handed back.
        messages: everything received, in order.
    """

    def __init__(self, url: str, *, heartbeat: float = 0.2, max_payload: int = 64 * 1024 * 1024) -> None:
        self._closed = False
        self.context = Context()
        self.router = Router(self.context)
        try:
            self.url = self.router.bind(url)
        except BaseException:
            self.close()
            raise
        self.heartbeat = heartbeat
        self.max_payload = max_payload
        self.route = b""
        self.hello: wire.WorkerHello | None = None
        self.next = 1
        self.results: dict[int, bytes] = {}
        self.ends: dict[int, wire.End] = {}
        self.retracted: set[int] = set()
        self.messages: list[Any] = []
        self._bulk: dict[bytes, Incoming] = {}
        self._counters = itertools.count()

    def send(self, message: Any) -> None:
        self.router.send(self.route, wire.encode(message))

    def assign(
        self, target: str | payload.Shipped, calls: Iterable[tuple[tuple, dict]], codec: str = "pickle"
    ) -> list[int]:
        """Assign one job per (args, kwargs); returns their numbers."""
        encode = payload.encoder(codec)
        return self.assign_encoded(target, [encode(call) for call in calls], codec)

    def assign_encoded(self, target: str | payload.Shipped, args: list[bytes], codec: str) -> list[int]:
        first = self.next
        counters = list(itertools.islice(self._counters, len(args)))
        if isinstance(target, str):
            work, functions = wire.Work(PREFIX, target, b"", codec, counters, args), []
        else:
            work = wire.Work(PREFIX, target.name, target.digest, codec, counters, args)
            functions = [wire.Function(*target)]
        self.send(wire.Assign(first, (7 << 32) + first, [work], functions))
        self.next += len(args)
        return list(range(first, self.next))

    def pump(self, timeout: float = 0.05) -> None:
        """Handle what has arrived, waiting a little for it."""
        wait(self.router.readers(), timeout)
        self.router.disconnects()
        while (got := self.router.receive()) is not None:
            route, data = got
            joined = self._join(route, bytes(data))
            if joined is None:
                continue
            message = wire.decode_from_worker(joined)
            self.messages.append(message)
            if isinstance(message, wire.WorkerHello):
                self.route = route
                self.hello = message
                self.next = max(self.next, message.seen + 1)
                self.send(wire.WorkerWelcome(1, "0", self.heartbeat, 4.0, self.max_payload, []))
            elif isinstance(message, wire.Done):
                self._on_done(message)
            elif isinstance(message, wire.Retracted):
                self.retracted.update(n for first, count in message.numbers for n in range(first, first + count))
        self.router.flush()

    def _join(self, route: bytes, data: bytes) -> bytes | None:
        """A message of the control connection, or one that the bulk connection has brought whole."""
        if data[1] == wire.BulkHello.__struct_config__.tag:
            self._bulk[route] = Incoming(BULK_WINDOW)
            self.router.send(route, wire.encode(wire.BulkWelcome(BULK_WINDOW)))
            return None
        incoming = self._bulk.get(route)
        if incoming is None:
            return data
        chunk = wire.decode_from_bulk(data)
        assert isinstance(chunk, wire.Chunk), chunk
        whole = incoming.take(chunk)
        if incoming.owes:
            self.router.send(route, wire.encode(wire.Credit(incoming.give())))
        return whole

    def _on_done(self, message: wire.Done) -> None:
        numbers = []
        for run in message.runs:
            self.results.update(zip(range(run.first, run.first + len(run.results)), run.results, strict=True))
            numbers += range(run.first, run.first + len(run.results))
        for end in message.ends:
            self.ends[end.number] = end
            numbers.append(end.number)
        self.send(wire.DoneAck(spans(sorted(numbers))))

    def until(self, condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> None:
        """Pump until it holds; the time-out prints what is known."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                last = [type(m).__name__ for m in self.messages[-10:]]
                raise AssertionError(
                    f"not within {timeout} s: {what}; {len(self.results)} results, {len(self.ends)} ends, "
                    f"{len(self.retracted)} retracted, last messages {last}"
                )
            self.pump()

    def until_over(self, numbers: Iterable[int]) -> None:
        """Until each of these has an outcome or came back."""
        wanted = set(numbers)
        self.until(lambda: wanted <= self.over(), f"outcomes of {len(wanted)} jobs")

    def over(self) -> set[int]:
        return self.results.keys() | self.ends.keys() | self.retracted

    def value(self, number: int, codec: str = "pickle") -> Any:
        assert number in self.results, payload.read_failure(self.ends[number].payload)
        return payload.decoder(codec)(self.results[number])

    def failure(self, number: int) -> payload.Failure:
        return payload.read_failure(self.ends[number].payload)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.router.close()
            self.context.close()


class Host:
    """Starts workers for a test, and sees to it that they are gone after it."""

    def __init__(self, scheduler: ScriptedScheduler) -> None:
        self.scheduler = scheduler
        self.workers: list[subprocess.Popen] = []

    def __call__(self, *, wait: bool = True, **options: Any) -> subprocess.Popen:
        options.setdefault("concurrency", 1)
        worker = start_worker(self.scheduler.url, **options)
        self.workers.append(worker)
        if wait:
            self.scheduler.until(lambda: self.scheduler.hello or worker.poll() is not None, "a hello")
            assert worker.poll() is None, worker.stderr.read()
        return worker

    def stop(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
            worker.stdout.close()
            worker.stderr.close()

    def log_of(self, worker: subprocess.Popen) -> list[str]:
        """Have a worker end in good order; the lines of its log."""
        worker.terminate()
        self.scheduler.until(lambda: worker.poll() is not None, "the end of the worker")
        return worker.stderr.read().splitlines()


def start_worker(
    url: str, *, cwd: Any = None, pass_fds: tuple[int, ...] = (), process_group: int | None = None, **options: Any
) -> subprocess.Popen:
    """A worker's agent as a process of its own; `options` are those of WorkerOptions."""
    given = ", ".join(f"{name}={value!r}" for name, value in {"broker": url, **options}.items())
    code = f"""
import sys
from zmqtasks import logs
from zmqtasks.errors import ZmqTasksError
from zmqtasks.worker.agent import WorkerOptions, run_worker
logs.setup("info")
try:
    sys.exit(run_worker(WorkerOptions({given})))
except ZmqTasksError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        pass_fds=pass_fds,
        process_group=process_group,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
