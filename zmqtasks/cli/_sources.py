"""Where the jobs of ``zmqtasks submit`` come from: the command line, a file, or a stream."""

import os
import select
import stat
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from zmqtasks.cli._jobs import MAX_LINE, BadLine, JobLines, JobRequest

CHUNK: Final = 64 * 1024  # bytes of one read of a stream


class Source(Protocol):
    """Jobs, some at a time.

    Attributes:
        total: how many jobs there are; None: nobody knows before the end.
        ended: whether `take` has given them all.
        broken: the line that ended it, if it was no job; the jobs before it are as good as any.
        fd: file descriptor to wait for before `take` can give more; None: it always can.
    """

    broken: BadLine | None

    @property
    def total(self) -> int | None: ...

    @property
    def ended(self) -> bool: ...

    @property
    def fd(self) -> int | None: ...

    def take(self, limit: int) -> list[JobRequest]:
        """Up to `limit` jobs, without waiting for any."""


class OneJob:
    """The job that the command line itself describes."""

    broken: BadLine | None = None
    total: int | None = 1
    fd: int | None = None

    def __init__(self, request: JobRequest) -> None:
        self._request = request
        self.ended = False

    def take(self, limit: int) -> list[JobRequest]:
        if self.ended:
            return []
        self.ended = True
        return [self._request]


class FileSource:
    """A regular file, read twice: every line is checked before the first one is submitted.

    Raises:
        BadLine: the first line that is no job.
    """

    broken: BadLine | None = None
    fd: int | None = None

    def __init__(self, file: BinaryIO, lines: JobLines) -> None:
        self._lines = lines
        start = file.tell()  # as stdin it may have been read from before
        self.total: int | None = sum(1 for _ in self._read(file))
        file.seek(start)
        self._requests = self._read(file)
        self.ended = self.total == 0

    def _read(self, file: BinaryIO) -> Iterator[JobRequest]:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if not raw.isspace():
                yield self._lines.parse(number, raw)

    def take(self, limit: int) -> list[JobRequest]:
        out = [request for _, request in zip(range(limit), self._requests, strict=False)]
        self.ended = len(out) < limit
        return out


class StreamSource:
    """A pipe or a terminal, checked line by line as it comes in; never waits for a line while others could be sent."""

    total: int | None = None

    def __init__(self, file: BinaryIO, lines: JobLines) -> None:
        self.broken: BadLine | None = None
        self._lines = lines
        self._number = 0
        self._ready: deque[bytes] = deque()
        self._rest = bytearray()
        self._fd = file.fileno()
        self._closed = False

    @property
    def fd(self) -> int | None:
        return None if self._ready or self._closed else self._fd

    @property
    def ended(self) -> bool:
        return self._closed and not self._ready

    def take(self, limit: int) -> list[JobRequest]:
        while len(self._ready) < limit and not self._closed and select.select([self._fd], [], [], 0)[0]:
            self._read()
        out: list[JobRequest] = []
        while self._ready and len(out) < limit:
            raw = self._ready.popleft()
            self._number += 1
            if raw and not raw.isspace():
                try:
                    out.append(self._lines.parse(self._number, raw))
                except BadLine as error:
                    self.broken = error
                    self._closed = True
                    self._ready.clear()
        return out

    def _read(self) -> None:
        chunk = os.read(self._fd, CHUNK)
        if not chunk:
            self._closed = True
            if self._rest:
                self._ready.append(bytes(self._rest))
                self._rest.clear()
            return
        head, line_end, tail = chunk.rpartition(b"\n")
        if line_end:
            self._rest += head
            self._ready.extend(bytes(self._rest).split(b"\n"))
            self._rest = bytearray(tail)
        else:
            self._rest += tail
            if len(self._rest) > MAX_LINE:
                self._ready.append(bytes(self._rest))  # refused as too long


def open_source(file: BinaryIO, lines: JobLines) -> Source:
    """The jobs of an open file, whatever kind of file it is. Raises BadLine (regular files only)."""
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return FileSource(file, lines)
    return StreamSource(file, lines)
