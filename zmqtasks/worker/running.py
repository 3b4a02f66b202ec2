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
from functools import partial
from mmap import mmap
from time import perf_counter
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.errors import PayloadError, Retry
from zmqtasks.ids import job_id
from zmqtasks.request import Arguments, Request, delivery_info
from zmqtasks.resources import number as number_of
from zmqtasks.task import CurrentJob, before_outcomes
from zmqtasks.wire import FAILED, End, Run
from zmqtasks.worker.cells import Cells
from zmqtasks.worker.claims import INLINE_BYTES, Claim, Report, decode_claim
from zmqtasks.worker.failures import MISSING, Failed, Rules
from zmqtasks.worker.functions import Functions, Unrunnable
from zmqtasks.worker.gpus import Visible
from zmqtasks.worker.hooks import Hooks, too_large
from zmqtasks.worker.packets import BODY_FILE, HEADER, Taker, files_in, read_all

FLUSH_AFTER: Final = 0.001  # seconds: results older than this are reported before the next job begins
_ROOM: Final = 2 * INLINE_BYTES + 64 * 1024  # bytes of a claim message: arguments, function, and what describes them
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
        visible: the devices that the process shows to its jobs.
        mend: puts right, after a claim, what its jobs may have changed in the process.
        alone: the process has one slot.
        worker, host: names, for those who ask.
    """

    cells: Cells
    claims: socket.socket
    functions: Functions
    send: Callable[[Report], None]
    finish: Callable[[int], None]
    disarm: Callable[[], None]
    mend: Callable[[], None]
    visible: Visible
    alone: bool
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
        self._rules: Rules | None = None  # of the claim
        self._request: Request | None = None  # that a job asked for
        self._request_number = 0  # of that job
        self._wanted: dict[int, Retry] = {}  # by number: jobs are tried again whatever they come to
        self._runs: list[Run] = []
        self._ends: list[End] = []
        self._forked = False
        os.register_at_fork(after_in_child=self._after_fork)
        self._thread = 0  # that runs `loop`

    def _after_fork(self) -> None:
        self._forked = True

    def loop(self) -> None:
        """Run claims until the agent is gone, or one comes that needs another process.

        Raises:
            OSError: EMFILE: this process may open no more files, so a part of a claim is lost.
        """
        self._thread = threading.get_ident()
        buffer = mmap(-1, _ROOM)  # only the pages that were used take memory
        view = memoryview(buffer)
        around = self._around
        take, unpack = Taker(around.claims, alone=around.alone).take, HEADER.unpack_from
        words, claim_cell, number_cell = self._words, self._claim_cell, self._number_cell
        room = socket.CMSG_SPACE(2 * ctypes.sizeof(ctypes.c_int))
        while True:
            size, ancillary = take(buffer, room)
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
            claim = decode_claim(body)
            if (claim.devices or not around.visible.plain) and not around.visible.choose(claim):
                return  # no job of it has begun, so it goes to another child; this one has seen other devices
            self._run(claim, files[0] if files else -1)
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
        found = self._find()
        return found[0] if found is not None else None

    def request(self) -> Request | None:
        """The same, as its task sees it: made when a job asks for it first, and the same one until that job ends."""
        known = self._request
        if known is not None and self._request_number == self.number:
            return known
        found = self._find()
        if found is None:
            return None
        job, number, raw, claim = found
        task = self._rules.task if self._rules is not None else None
        self._request_number = number
        self._request = request = Request(
            id=job.id,
            task=job.task if task is None else task.name,
            retries=job.retries,
            attempt=job.attempt,
            hostname=job.worker,
            delivery_info=delivery_info(claim.queue, claim.priority, redelivered=number in claim.again),
            arguments=partial(_decoded, claim.codec, raw),
            retry_later=partial(self._wanted.__setitem__, number),
        )
        return request

    def _find(self) -> tuple[CurrentJob, int, bytes, Claim] | None:
        """What runs now, its number, its encoded arguments, and the claim that it is of."""
        number, claim = self.number, self._claim
        for piece in claim.pieces if claim else ():
            place = number - piece.first
            if 0 <= place < len(piece.args):
                assert claim is not None  # noqa: S101  (the loop had pieces)
                job = CurrentJob(
                    job_id(piece.prefix, piece.counters[place]),
                    piece.attempt + place,
                    claim.name,
                    self._around.worker,
                    claim.retried.get(number, 0),
                    host=self._around.host,
                    resources={name: number_of(amount) for name, amount in claim.resources},
                    devices=tuple(claim.devices),
                )
                return job, number, piece.args[place], claim
        return None

    # -------------------------------------------------------------------------------------------- one claim

    def _run(self, claim: Claim, function_fd: int) -> None:
        self._claim = claim
        try:
            try:
                call, retry, never, task = self._around.functions.find(claim, function_fd)
            finally:
                if function_fd >= 0:
                    os.close(function_fd)
            decode = payload.decoder(claim.codec, self._around.functions.accept)
            encode = payload.encoder(claim.codec, result=True)
        except Unrunnable as reason:
            self._fail_all(claim, reason.failure)
        except PayloadError as error:
            self._fail_all(claim, payload.failure("PayloadError", f"{claim.name}: {error}"))
        else:
            self._rules = Rules(claim, call, retry, never, task)
            hooks = None
            if task is not None and task.hooked:
                hooks = Hooks(task, call, encode, claim.max_payload, self.current, self._take_wanted)
            self._run_jobs(claim, decode, hooks.encode if hooks else encode, self._rules, hooks)
        self._report(finished=True)
        self._claim = self._rules = self._request = None
        self._wanted.clear()  # a thread may have asked for a job that was over

    def _run_jobs(
        self,
        claim: Claim,
        decode: Callable[[bytes], Any],
        encode_result: Callable[[object], bytes],
        rules: Rules,
        hooks: Hooks | None,
    ) -> None:
        call = rules.call if hooks is None else hooks.call
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
                given = value = MISSING
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
                    failed = self._failed(number, error, given, value, hooks)
                    now = clock()
                    self._close(first, results, total, longest)
                    results, total, longest = [], 0.0, 0.0
                    self._ends.append(failed.end(number, now - last))
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

    def _failed(self, number: int, error: BaseException, given: object, value: object, hooks: Hooks | None) -> Failed:
        """What became of a job that raised; its task's class is told."""
        assert self._rules is not None  # noqa: S101  (called while a claim runs)
        request = self._request if self._request_number == number else None
        failed = self._rules.failed(number, self._take_wanted() or error, given, value, request)
        if hooks is not None:
            hooks.failed(failed, given=given is not MISSING)
            if getsignal(_ALARM):
                self._around.disarm()
        return failed

    def _take_wanted(self) -> Retry | None:
        """What the job that runs asked for by `retry(throw=False)`."""
        return self._wanted.pop(self.number, None) if self._wanted else None

    def _close(self, first: int, results: list[bytes], total: float, longest: float) -> None:
        """A run of successes is over. What is too large for the scheduler becomes a failure."""
        if not results:
            return
        claim, rules = self._claim, self._rules
        assert claim is not None  # noqa: S101  (called while one runs)
        assert rules is not None  # noqa: S101  (the same)
        if max(map(len, results)) <= claim.max_payload and not self._wanted:
            self._runs.append(Run(first, results, total, longest))
            return
        share = total / len(results)
        for number, data in enumerate(results, first):
            again = self._wanted.pop(number, None)
            if again is not None:
                self._ends.append(rules.asked(number, again).end(number, share))
            elif len(data) <= claim.max_payload:
                self._runs.append(Run(number, [data], share, longest))
            else:
                text = too_large(claim.name, len(data), claim.max_payload)
                self._ends.append(End(number, FAILED, payload.failure("PayloadTooLarge", text), share))

    def _fail_all(self, claim: Claim, failure: bytes) -> None:
        for piece in claim.pieces:
            for number in range(piece.first, piece.first + len(piece.args)):
                self._ends.append(End(number, FAILED, failure, 0.0))

    def _report(self, *, finished: bool) -> None:
        """Who sees the result finds in the log what the job printed, and at the scheduler what it submitted."""
        assert self._claim is not None  # noqa: S101  (called while one runs)
        if self._forked:
            os._exit(0)  # a job forked, and its other half came back as well: the outcome is the first one's to tell
        self._around.disarm()
        for settle in before_outcomes:
            settle()
        self._around.finish(self.index)
        self._around.send(Report(self._claim.id, self._runs, self._ends, finished))
        self._runs, self._ends = [], []


def _decoded(codec: str, raw: bytes) -> Arguments:
    args, kwargs = payload.decoder(codec)(raw)
    return args, kwargs
