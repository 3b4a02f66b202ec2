"""One slot of a child: take a claim, run its jobs, report. The hot path of the worker."""

import ctypes
import errno
import os
import signal
import socket
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` makes an enum: 80 times as long
from collections.abc import Callable
from dataclasses import dataclass
from mmap import mmap
from time import perf_counter
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.errors import PayloadError
from zmqtasks.ids import job_id
from zmqtasks.task import CurrentJob
from zmqtasks.wire import FAILED, RETRYABLE, End, Run
from zmqtasks.worker.cells import Cells
from zmqtasks.worker.claims import INLINE_BYTES, Claim, Report, decode_claim
from zmqtasks.worker.functions import Call, Exceptions, Functions, Unrunnable
from zmqtasks.worker.loading import innermost
from zmqtasks.worker.packets import BODY_FILE, HEADER, files_in, read_all

FLUSH_AFTER: Final = 0.001  # seconds: results older than this are reported before the next job begins
_ROOM: Final = 2 * INLINE_BYTES + 64 * 1024  # bytes of a claim message: arguments, function, and what describes them
_MISSING: Final = object()
_ALARM: Final = int(signal.SIGALRM)


@dataclass(slots=True, frozen=True)
class Surroundings:
    """What the slots of a child share.

    Attributes:
        cells: of all slots of the agent.
        claims: shared by all children of the agent; each message is one claim.
        functions: what can be called.
        send: writes a report to the agent.
        finish: ends the line that the job of a slot has begun to print.
        disarm: ends the timer that a job has left behind, so that its handler raises in no code but the job's.
        mend: puts right, after a claim, what its jobs may have changed in the process.
        worker, host: names, for those who ask.
    """

    cells: Cells
    claims: socket.socket
    functions: Functions
    send: Callable[[Report], None]
    finish: Callable[[int], None]
    disarm: Callable[[], None]
    mend: Callable[[], None]
    worker: str
    host: str


class Runner:
    """Args: index: of the slot. around: what it shares with others."""

    def __init__(self, index: int, around: Surroundings) -> None:
        self.index = index
        self._around = around
        self._words = around.cells.words
        self._claim_cell = 2 * index
        self._number_cell = 2 * index + 1
        self._claim: Claim | None = None
        self._runs: list[Run] = []
        self._ends: list[End] = []
        self._forked = False
        os.register_at_fork(after_in_child=self._after_fork)
        self._thread = 0  # that runs `loop`

    def _after_fork(self) -> None:
        self._forked = True

    def loop(self) -> None:
        """Run claims until the agent is gone.

        Raises:
            OSError: EMFILE: this process may open no more files, so a part of a claim is lost.
        """
        self._thread = threading.get_ident()
        buffer = mmap(-1, _ROOM)  # only the pages that were used take memory
        view = memoryview(buffer)
        around = self._around
        receive, unpack = around.claims.recvmsg_into, HEADER.unpack_from
        words, claim_cell, number_cell = self._words, self._claim_cell, self._number_cell
        room = socket.CMSG_SPACE(2 * ctypes.sizeof(ctypes.c_int))
        while True:
            size, ancillary, _, _ = receive((buffer,), room)
            if not size:
                return
            flags, words[claim_cell] = unpack(buffer)
            files = files_in(ancillary) if flags else []
            body: memoryview | bytes = view[HEADER.size : size]
            if len(files) < flags.bit_count():  # no job of it has begun, so it goes to another child as it is
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if flags & BODY_FILE:
                fd = files.pop(0)
                body = read_all(fd)
                os.close(fd)
            self._run(decode_claim(body), files[0] if files else -1)
            words[number_cell] = 0
            words[claim_cell] = 0
            around.mend()

    # -------------------------------------------------------------------------------------------- who runs

    @property
    def number(self) -> int:
        """Of the job that runs; 0: none."""
        return self._words[self._number_cell] if self._claim is not None else 0

    @property
    def claim(self) -> int:
        """The id of the claim that it is of."""
        return self._words[self._claim_cell]

    @property
    def here(self) -> bool:
        """Whether the calling thread is this slot's."""
        return threading.get_ident() == self._thread

    def current(self) -> CurrentJob | None:
        """What runs now; looked up when a job asks for it, not kept per job."""
        number, claim = self.number, self._claim
        for piece in claim.pieces if claim else ():
            place = number - piece.first
            if 0 <= place < len(piece.args):
                assert claim is not None  # noqa: S101  (the loop had pieces)
                return CurrentJob(
                    job_id(piece.prefix, piece.counters[place]),
                    piece.attempt + place,
                    claim.name,
                    self._around.worker,
                    claim.retried.get(number, 0),
                    host=self._around.host,
                )
        return None

    # -------------------------------------------------------------------------------------------- one claim

    def _run(self, claim: Claim, function_fd: int) -> None:
        self._claim = claim
        try:
            try:
                call, retry, never = self._around.functions.find(claim, function_fd)
            finally:
                if function_fd >= 0:
                    os.close(function_fd)
            decode, encode_result = payload.decoder(claim.codec), payload.encoder(claim.codec)
        except Unrunnable as reason:
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
        retry: Exceptions,
        never: Exceptions,
    ) -> None:
        words, cell, clock = self._words, self._number_cell, perf_counter
        handler, disarm = getsignal, self._around.disarm
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
                    if handler(_ALARM):
                        disarm()  # here, where what it raises still is the job's; 16 ns where there is no handler
                except BaseException as error:  # noqa: BLE001  (a job may raise anything, SystemExit too: the child lives on)
                    if handler(_ALARM):
                        disarm()
                    if type(error) is TypeError and given is not _MISSING:  # Python's own; others may be anything
                        _tell_place(error, call)
                    kind, told = _failure(claim, error, given, value, retry, never)
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

    def _fail_all(self, claim: Claim, failure: bytes) -> None:
        for piece in claim.pieces:
            for number in range(piece.first, piece.first + len(piece.args)):
                self._ends.append(End(number, FAILED, failure, 0.0))

    def _report(self, *, finished: bool) -> None:
        """Lines first: who sees the result finds in the log what the job printed."""
        assert self._claim is not None  # noqa: S101  (called while one runs)
        if self._forked:
            os._exit(0)  # a job forked, and its other half came back as well: the outcome is the first one's to tell
        self._around.disarm()
        self._around.finish(self.index)
        self._around.send(Report(self._claim.id, self._runs, self._ends, finished))
        self._runs, self._ends = [], []


def _failure(
    claim: Claim, error: BaseException, given: object, value: object, retry: Exceptions, never: Exceptions
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
    try:
        frames = error.__traceback__
        kind = RETRYABLE if isinstance(error, retry) and not isinstance(error, never) else FAILED
        BaseException.with_traceback(error, frames.tb_next if frames else None)
        return kind, payload.encode_exception(error)
    except BaseException as broken:  # noqa: BLE001  (a class can override anything, and do anything there)
        text = f"{payload.message_of(error)} (and telling of it failed: {payload.message_of(broken)})"
        return FAILED, payload.failure(type(error).__name__, text)


def _tell_place(error: TypeError, call: Call) -> None:
    """Where arguments do not fit, the submitter may have another version of the task: say which one the worker has."""
    frames = error.__traceback__
    code = getattr(getattr(call, "func", call), "__code__", None)
    if frames is not None and frames.tb_next is None and code is not None:
        error.add_note(f"the worker runs {code.co_filename}, line {code.co_firstlineno}")
