"""The process that runs jobs: take a claim, run its jobs, report. The hot path of the worker.

It is forked by the fork server (`run`), or started by itself where the app's import starts threads (`main`).
"""

import ctypes
import difflib
import gc
import os
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.errors import PayloadError
from zmqtasks.task import Running, TaskBase, set_current
from zmqtasks.wire import FAILED, RETRYABLE, End, Run
from zmqtasks.worker import hostinfo
from zmqtasks.worker.cells import Cells
from zmqtasks.worker.claims import INLINE_BYTES, Claim, Report, decode_claim, encode
from zmqtasks.worker.loading import Tasks, innermost, load_app
from zmqtasks.worker.packets import BLOB_FILE, BODY_FILE, HEADER, files_in

FLUSH_AFTER: Final = 0.001  # seconds: results older than this are reported before the next job begins
MAX_FUNCTIONS: Final = 256  # shipped ones kept loaded
_ROOM: Final = 2 * INLINE_BYTES + 64 * 1024  # bytes of a claim message: arguments, function, and what describes them
_MISSING: Final = object()

Call = Callable[..., Any]


class _Unrunnable(Exception):
    def __init__(self, failure: bytes) -> None:
        super().__init__()
        self.failure = failure


class Child:
    """One slot's process.

    Args:
        index: of the slot.
        cells: of all slots.
        claims: shared by all children of the agent; each message is one claim.
        reports: this child's own stream to the agent.
        tasks: registered ones by name.
        worker: name of the worker.
    """

    def __init__(
        self,
        index: int,
        cells: Cells,
        claims: socket.socket,
        reports: socket.socket,
        tasks: Tasks,
        worker: str,
    ) -> None:
        self._words = cells.words
        self._claim_cell = 2 * index
        self._number_cell = 2 * index + 1
        self._claims = claims
        self._reports = reports
        self._tasks = tasks
        self._worker = worker
        self._functions: OrderedDict[bytes, Call] = OrderedDict()
        self._claim: Claim | None = None
        self._runs: list[Run] = []
        self._ends: list[End] = []

    def loop(self) -> None:
        """Run claims until the agent is gone."""
        buffer = bytearray(_ROOM)
        view = memoryview(buffer)
        receive, unpack = self._claims.recvmsg_into, HEADER.unpack_from
        words, claim_cell, number_cell = self._words, self._claim_cell, self._number_cell
        room = socket.CMSG_SPACE(2 * ctypes.sizeof(ctypes.c_int))
        while True:
            size, ancillary, _, _ = receive((buffer,), room)
            if not size:
                return
            flags, words[claim_cell] = unpack(buffer)
            files = files_in(ancillary) if flags else []
            body: memoryview | bytes = view[HEADER.size : size]
            if flags & BODY_FILE:
                body = _read_all(files[0])
            claim = decode_claim(body)
            if flags & BLOB_FILE and claim.digest not in self._functions:
                claim.blob = _read_all(files[-1])
            for fd in files:
                os.close(fd)
            self._run(claim)
            words[number_cell] = 0
            words[claim_cell] = 0

    def current(self) -> Running | None:
        """What runs now; looked up when a job asks for it, not kept per job."""
        number, claim = self._words[self._number_cell], self._claim
        for piece in claim.pieces if claim else ():
            place = number - piece.first
            if 0 <= place < len(piece.args):
                assert claim is not None  # noqa: S101  (the loop had pieces)
                return piece.prefix, piece.counters[place], piece.attempt + place, claim.name, self._worker
        return None

    # -------------------------------------------------------------------------------------------- one claim

    def _run(self, claim: Claim) -> None:
        self._claim = claim
        try:
            call, retry, never = self._callable(claim)
            decode, encode_result = payload.decoder(claim.codec), payload.encoder(claim.codec)
        except _Unrunnable as reason:
            self._fail_all(claim, reason.failure)
        except PayloadError as error:
            self._fail_all(claim, payload.failure("PayloadError", f"{claim.name}: {error}"))
        else:
            self._run_jobs(claim, call, decode, encode_result, retry, never)
        self._report(finished=True)
        self._claim = None

    def _run_jobs(
        self,
        claim: Claim,
        call: Call,
        decode: Callable[[bytes], Any],
        encode_result: Callable[[object], bytes],
        retry: tuple[type[BaseException], ...],
        never: tuple[type[BaseException], ...],
    ) -> None:
        words, cell, clock = self._words, self._number_cell, perf_counter
        results: list[bytes] = []
        first = 0
        total = longest = 0.0
        flushed = last = clock()
        for piece in claim.pieces:
            if results and piece.first != first + len(results):
                self._close(first, results, total, longest)
                results, total, longest = [], 0.0, 0.0
            number = piece.first - 1
            for raw in piece.args:
                number += 1
                if last - flushed > FLUSH_AFTER:
                    self._close(first, results, total, longest)
                    results, total, longest = [], 0.0, 0.0
                    self._report(finished=False)
                    flushed = last = clock()
                words[cell] = number
                given = value = _MISSING
                try:
                    given = decode(raw)
                    args, kwargs = given
                    value = call(*args, **kwargs)
                    data = encode_result(value)
                except BaseException as error:  # noqa: BLE001  (a job may raise anything, SystemExit too: the child lives on)
                    kind, told = self._failure(claim, error, given, value, retry, never)
                    now = clock()
                    self._close(first, results, total, longest)
                    results, total, longest = [], 0.0, 0.0
                    self._ends.append(End(number, kind, told, now - last))
                    last = now
                    continue
                if not results:
                    first = number
                results.append(data)
                now = clock()
                took = now - last
                last = now
                total += took
                longest = max(longest, took)
        self._close(first, results, total, longest)

    def _close(self, first: int, results: list[bytes], total: float, longest: float) -> None:
        """A run of successes is over. What is too large for the scheduler becomes a failure."""
        if not results:
            return
        claim = self._claim
        assert claim is not None  # noqa: S101  (called while one runs)
        if max(map(len, results)) <= claim.max_payload:
            self._runs.append(Run(first, results, total, longest))
            return
        share = total / len(results)
        for number, data in enumerate(results, first):
            if len(data) <= claim.max_payload:
                self._runs.append(Run(number, [data], share, longest))
            else:
                text = f"{claim.name}: the result has {len(data)} bytes, the scheduler takes {claim.max_payload}"
                self._ends.append(End(number, FAILED, payload.failure("PayloadTooLarge", text), share))

    def _failure(
        self,
        claim: Claim,
        error: BaseException,
        given: object,
        value: object,
        retry: tuple[type[BaseException], ...],
        never: tuple[type[BaseException], ...],
    ) -> tuple[int, bytes]:
        """What became of a job that did not give a result: the kind of End, and its payload."""
        if given is _MISSING:
            text = f"{claim.name}: the arguments cannot be decoded as {claim.codec}: {innermost(error)}"
            return FAILED, payload.failure("PayloadError", text)
        if value is not _MISSING:
            try:
                payload.encode_result(claim.codec, value, claim.name)
            except PayloadError as told:
                return FAILED, payload.failure("PayloadError", str(told))
            except BaseException:  # noqa: BLE001, S110  (it fails in yet another way: the first one is told)
                pass
        frames = error.__traceback__
        kind = RETRYABLE if isinstance(error, retry) and not isinstance(error, never) else FAILED
        return kind, payload.encode_exception(error.with_traceback(frames.tb_next if frames else None))

    def _fail_all(self, claim: Claim, failure: bytes) -> None:
        for piece in claim.pieces:
            for number in range(piece.first, piece.first + len(piece.args)):
                self._ends.append(End(number, FAILED, failure, 0.0))

    def _report(self, *, finished: bool) -> None:
        assert self._claim is not None  # noqa: S101  (called while one runs)
        data = encode(Report(self._claim.id, self._runs, self._ends, finished))
        self._reports.sendall(len(data).to_bytes(8, "little") + data)
        self._runs, self._ends = [], []

    # -------------------------------------------------------------------------------------------- what to call

    def _callable(self, claim: Claim) -> tuple[Call, tuple[type[BaseException], ...], tuple[type[BaseException], ...]]:
        """What to call, which exceptions may be tried again, and which never."""
        task: TaskBase[..., Any] | Call | None
        if claim.digest:
            task = self._shipped(claim)
            if not isinstance(task, TaskBase):
                return task, (Exception,), ()
        else:
            task = self._tasks.get(claim.name)
            if task is None:
                raise _Unrunnable(payload.failure("TaskNotRegistered", self._not_registered(claim.name)))
        call = partial(task.fn, task) if task.bind else task.fn
        return call, task.autoretry_for or (Exception,), task.dont_autoretry_for

    def _not_registered(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._tasks, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        if not self._tasks:
            hint = "; it was started without an app (-A)"
        return f"worker {self._worker} knows no task {name!r}{hint}"

    def _shipped(self, claim: Claim) -> Call:
        functions = self._functions
        call = functions.get(claim.digest)
        if call is not None:
            functions.move_to_end(claim.digest)
            return call
        try:
            call = payload.unship(claim.blob)
        except BaseException as error:  # noqa: BLE001  (unpickling imports user modules, which raise anything)
            text = f"function {claim.name} cannot be loaded on worker {self._worker}: {innermost(error)}"
            if isinstance(error, ImportError | AttributeError):
                text += "; make its module importable there (install it, or start the worker in its directory)"
            raise _Unrunnable(payload.failure("PayloadError", text)) from None
        functions[claim.digest] = call
        if len(functions) > MAX_FUNCTIONS:
            functions.popitem(last=False)
        return call


def _read_all(fd: int) -> bytes:
    """A whole file, wherever another process has left the position that they share."""
    size = os.fstat(fd).st_size
    parts = []
    at = 0
    while at < size:
        parts.append(os.pread(fd, size - at, at))
        at += len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)


# ------------------------------------------------------------------------------------------------ the process


def let_pass(_number: int, _frame: object) -> None:
    """Ctrl-C and a service manager's SIGTERM go to every process; the agent alone decides what ends when.

    A handler, not SIG_IGN: what jobs start by exec must not inherit that.
    """


def quiet_signals() -> None:
    """Let SIGINT and SIGTERM pass."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, let_pass)


def run(index: int, slots: int, claims_fd: int, cells_fd: int, report_fd: int, tasks: Tasks, worker: str) -> None:
    """The life of a child, in its process. Ends when the agent is gone; never returns."""
    code = 1
    try:
        quiet_signals()
        hostinfo.keep_freed_memory()
        _reseed()
        gc.enable()
        claims, reports = socket.socket(fileno=claims_fd), socket.socket(fileno=report_fd)
        child = Child(index, Cells(slots, cells_fd), claims, reports, tasks, worker)
        set_current(child.current)
        child.loop()
        code = 0
    except (BrokenPipeError, ConnectionResetError):
        code = 0  # the agent is gone
    except BaseException:  # noqa: BLE001  (a bug of ours: told, and the slot gets a new child)
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(code)


def _reseed() -> None:
    """Forked children would all draw the same numbers from numpy's global generator; Python's reseeds itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4), "little"))


def main() -> None:
    """A child started by exec: INDEX SLOTS CLAIMS_FD CELLS_FD REPORT_FD PARENT WORKER APP DIRECTORY."""
    index, slots, claims_fd, cells_fd, report_fd, parent = map(int, sys.argv[1:7])
    worker, app, directory = sys.argv[7:10]
    hostinfo.die_with_parent(parent)
    tasks: Tasks = load_app(app, directory).tasks if app else {}
    run(index, slots, claims_fd, cells_fd, report_fd, tasks, worker)


if __name__ == "__main__":
    main()
