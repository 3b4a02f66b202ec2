"""What jobs print: whole lines in the worker's log, each with the job that wrote it.

A child's `sys.stdout` and `sys.stderr` are `JobStream`s. A line begins with ``[JOB-ID TASK] `` where a job runs in the
thread that writes; an unfinished one is ended with the job. What code below Python writes goes past this.
Writing never fails: a full disk or a reader that has gone costs lines, which are counted, and no job.
"""

import codecs
import errno
import fcntl
import io
import os
import select
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

MAX_LINE: Final = 10_000  # characters; what is beyond is counted
ATOMIC: Final = 4096  # bytes that a pipe takes as a whole, so that lines of several processes do not mix
_HIGH: Final = 64  # jobs that close descriptors close low ones
_STDERR: Final = 2
_PATIENCE: Final = 1.0  # seconds for the reader of a pipe that does not block

Whose = Callable[[], tuple[int, str]]  # the slot that the calling thread belongs to, -1: none; how its lines begin


class Sink:
    """Where the lines go: a descriptor of our own, or a file that is opened anew after its rotation.

    Args:
        fd: is duplicated, so that a job which closes it, or puts another file in its place, does no harm.
        path: of a log file, instead.
    """

    def __init__(self, fd: int, path: str = "") -> None:
        self._path = path
        self._given = fd
        self._fd = -1
        self._inode = (0, 0)
        self._lost = 0
        self._why = ""
        self._lock = threading.RLock()
        self.write(b"")  # opens it: later a job may have closed what is to be duplicated

    def after_fork(self) -> None:
        """In a process that a job has forked: whoever held the lock is not there."""
        self._lock = threading.RLock()

    def write(self, data: bytes) -> None:
        """Write whole lines; what cannot be written is counted, and told as soon as something can."""
        with self._lock:
            try:
                self._open()
                if self._lost:
                    self._all(f"{self._lost} lines of output could not be written: {self._why}\n".encode())
                    self._lost = 0
                self._all(data)
            except OSError as error:
                self._lost += data.count(b"\n")
                self._why = error.strerror or str(error)
                if error.errno == errno.EBADF:  # a job has closed it
                    self._fd = -1

    def _open(self) -> None:
        if not self._path:
            if self._fd < 0:
                try:
                    self._fd = fcntl.fcntl(self._given, fcntl.F_DUPFD_CLOEXEC, _HIGH)
                except OSError:  # few descriptors are allowed
                    self._fd = os.dup(self._given)
            return
        try:
            found = os.stat(self._path)  # noqa: PTH116  (it is asked for each line)
            inode = found.st_dev, found.st_ino
        except FileNotFoundError:
            inode = 0, 0
        if self._fd < 0 or inode != self._inode:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            found = os.fstat(self._fd)
            self._inode = found.st_dev, found.st_ino

    def _all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                if not select.select([], [self._fd], [], _PATIENCE)[1]:
                    raise


@dataclass(slots=True)
class _Line:
    """What a slot has written since its last line break."""

    start: str = ""
    text: str = ""
    more: int = 0  # characters beyond MAX_LINE
    back: bool = False  # the next text is written over it


class Output:
    """Makes lines of what the threads of a child write.

    Attributes:
        stdout, stderr: what to put in their place.
        log: for lines that are complete, and say themselves whose they are.
    """

    def __init__(self, sink: Sink, whose: Whose) -> None:
        self._sink = sink
        self._whose = whose
        self._lock = threading.RLock()  # a finaliser may print while something is printed
        self._open: dict[tuple[int, str], _Line] = {}  # by slot and stream
        self._parts: dict[tuple[int, str, str], bytes] = {}  # of a character, by slot, stream and start of the line
        self.stdout = JobStream(self, "<stdout>")
        self.stderr = JobStream(self, "<stderr>")
        self.log = _Log(sink)
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._open, self._parts = {}, {}  # the parent ends these lines
        self._sink.after_fork()

    def write(self, stream: str, text: str) -> None:
        """Add to the line of the slot that the calling thread belongs to."""
        slot, start = self._whose()
        key = slot, stream
        *whole, rest = text.split("\n")
        out: list[str] = []
        with self._lock:
            line = self._open.get(key)
            if line is None:
                line = self._open[key] = _Line(start)
            elif line.start != start:
                out += _ended(line) if line.text else ()
                line = self._open[key] = _Line(start)
            for part in whole:
                _add(line, part)
                out += _ended(line)
                line.text, line.more, line.back = "", 0, False
            if rest:
                _add(line, rest)
            elif not line.text:
                del self._open[key]
            if out:
                self._put(out)

    def write_bytes(self, stream: str, data: bytes) -> None:
        """The same in UTF-8; a character may come in several parts."""
        with self._lock:
            slot, start = self._whose()
            raw = self._parts.pop((slot, stream, start), b"") + data
            text, used = codecs.utf_8_decode(raw, "backslashreplace", False)
            if used < len(raw):
                self._parts[slot, stream, start] = raw[used:]
            if text:
                self.write(stream, text)

    def finish(self, slot: int) -> None:
        """End the lines that a slot has begun, if it has. That costs next to nothing where nothing was printed."""
        if not self._open and not self._parts:
            return
        with self._lock:
            for part in [part for part in self._parts if part[0] == slot]:
                line = self._open.setdefault(part[:2], _Line(part[2]))
                _add(line, self._parts.pop(part).decode("utf-8", "backslashreplace"))
            for key in [key for key in self._open if key[0] == slot]:
                line = self._open.pop(key)
                if line.text:
                    self._put(_ended(line))

    def _put(self, lines: Iterable[str]) -> None:
        """Write them, as many at a time as a pipe takes whole."""
        batch = bytearray()
        for line in lines:
            data = line.encode("utf-8", "backslashreplace")
            if batch and len(batch) + len(data) > ATOMIC:
                self._sink.write(bytes(batch))
                batch.clear()
            batch += data
        if batch:
            self._sink.write(bytes(batch))


def _add(line: _Line, part: str) -> None:
    if part.strip("\r") and (line.back or "\r" in part):  # a progress bar: the last picture is the line
        kept = part.rstrip("\r")
        over = line.back or "\r" in kept
        line.back = kept != part
        part = kept.rpartition("\r")[2]
        if over:
            line.text, line.more = "", 0
    elif "\r" in part:
        line.back, part = True, ""
    room = MAX_LINE - len(line.text)
    if len(part) > room:
        line.more += len(part) - room
        part = part[:room]
    line.text += part


def _ended(line: _Line) -> list[str]:
    more = f" … {line.more} more characters" if line.more else ""
    return [f"{line.start}{line.text}{more}\n"]


class JobStream(io.TextIOBase):
    """A `sys.stdout` or `sys.stderr` of jobs. It cannot be closed, and writing to it does not fail."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    mode = "w"

    def __init__(self, output: Output, name: str) -> None:
        super().__init__()
        self._output = output
        self.name = name
        self.buffer = cast("BinaryIO", _Bytes(output, name))

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            message = f"write() argument must be str, not {type(text).__name__}"  # type: ignore[unreachable]
            raise TypeError(message)
        if text:
            self._output.write(self.name, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """For what is started with it: its output goes past the lines."""
        return _STDERR

    def close(self) -> None:
        """Nothing: the next job prints, too."""

    def reconfigure(self, **_settings: Any) -> None:
        """Nothing: lines it is, in UTF-8."""


class _Log(io.TextIOBase):
    """For a logging handler, which writes whole lines."""

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def write(self, text: str) -> int:
        self._sink.write(text.encode("utf-8", "backslashreplace"))
        return len(text)


class _Bytes(io.RawIOBase):
    """The `buffer` of a JobStream."""

    def __init__(self, output: Output, name: str) -> None:
        super().__init__()
        self._output = output
        self._name = name

    def write(self, data: Any) -> int:
        raw = bytes(data)
        self._output.write_bytes(self._name, raw)
        return len(raw)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """As above."""
        return _STDERR

    def close(self) -> None:
        """Nothing, as above."""
