"""How a claim travels through the shared queue: one packet, with large parts as files without a name."""

import errno
import logging
import os
import select
import socket
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable
from mmap import mmap
from typing import Final

from zmqtasks.worker.cells import anonymous_file
from zmqtasks.worker.claims import INLINE_BLOB, INLINE_BYTES, Claim, encode

log = logging.getLogger(__name__)

HEADER: Final = struct.Struct("<BQ")  # flags, claim id
BODY_FILE: Final = 1  # the claim itself is in the first file that comes along
BLOB_FILE: Final = 2  # the function is in the last one
MAX_BLOB_FILES: Final = 64  # functions kept as files
_BUFFER: Final = 1024 * 1024
_FULL: Final = frozenset(
    {
        errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
        errno.ENOSPC, errno.EFBIG, errno.EDQUOT,
    }
)  # fmt: skip

# Where there is no SOCK_SEQPACKET (macOS), datagrams do: what they lack, the end of file, children need not.
PACKET: Final = getattr(socket, "SOCK_SEQPACKET", socket.SOCK_DGRAM)


class Queue:
    """The agent's ends of the queue that all children read.

    Attributes:
        take_end: what the children inherit; reading it here takes claims back.
    """

    def __init__(self) -> None:
        self._push_end, self.take_end = socket.socketpair(socket.AF_UNIX, PACKET)
        self._push_end.setblocking(False)
        self._push_end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._blobs: OrderedDict[bytes, int] = OrderedDict()

    def push(self, claim: Claim) -> bool:
        """Put a claim in; whether there was room."""
        try:
            return self._push(claim)
        except OSError as error:  # of a file without a name: memory, or where there is none of that kind, the disk
            if error.errno not in _FULL:
                raise
            log.warning("no room for claim %d (%s); it is tried again", claim.id, error.strerror)
            return False

    def _push(self, claim: Claim) -> bool:
        files: list[int] = []
        flags = 0
        if len(claim.blob) > INLINE_BLOB:
            flags |= BLOB_FILE
            files.append(self._blob_file(claim.digest, claim.blob))
            claim.blob = b""
        body = encode(claim)
        if len(body) <= INLINE_BYTES + INLINE_BLOB:
            code = self._send(flags, claim.id, body, files)
            if code != errno.EMSGSIZE:
                return code == 0
        fd = anonymous_file("zmqtasks-claim")
        try:
            _write_all(fd, body)
            return self._send(flags | BODY_FILE, claim.id, b"", [fd, *files]) == 0
        finally:
            os.close(fd)

    def _send(self, flags: int, claim: int, body: bytes, files: list[int]) -> int:
        """0, or the errno that says why there was no room."""
        try:
            if files:
                socket.send_fds(self._push_end, [HEADER.pack(flags, claim), body], files)
            else:
                self._push_end.send(HEADER.pack(flags, claim) + body)
        except OSError as error:
            if error.errno in _FULL or error.errno == errno.EMSGSIZE:
                return error.errno or errno.EAGAIN
            raise
        return 0

    def _blob_file(self, digest: bytes, blob: bytes) -> int:
        fd = self._blobs.get(digest)
        if fd is None:
            fd = anonymous_file("zmqtasks-function")
            try:
                _write_all(fd, blob)
            except OSError:
                os.close(fd)
                raise
            self._blobs[digest] = fd
            if len(self._blobs) > MAX_BLOB_FILES:
                os.close(self._blobs.popitem(last=False)[1])
        else:
            self._blobs.move_to_end(digest)
        return fd

    def take_all(self) -> list[int]:
        """The ids of all claims that no child has taken; they are out of the queue now."""
        claims: list[int] = []
        while True:
            try:  # files that came along are closed by the kernel, for there is no room for them here
                data = self.take_end.recv(HEADER.size, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return claims
            claims.append(HEADER.unpack(data)[1])

    def close(self) -> None:
        """Close both ends and the functions' files."""
        self._push_end.close()
        self.take_end.close()
        while self._blobs:
            os.close(self._blobs.popitem()[1])


class Taker:
    """A child's end of the queue.

    Several that wait are not woken in turn, but always the first one that began: what it ran last is still in the
    caches of its processor, and a lone job is over 30 µs earlier. (A blocking read would take turns.)

    Args:
        claims: shared by all children.
        alone: no other thread of this process takes claims. Where slots are threads they do take turns: whoever waits
            twice for a packet waits twice for the GIL.
    """

    def __init__(self, claims: socket.socket, *, alone: bool) -> None:
        self._receive = claims.recvmsg_into
        self._wait: Callable[[], object] | None = None
        if alone and _wakes_one():
            try:
                epoll = select.epoll()
                epoll.register(claims, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            except OSError:  # no descriptor left, or a kernel that will not have it
                return
            self._wait = epoll.poll

    def take(self, buffer: mmap, room: int) -> tuple[int, list[tuple[int, int, bytes]]]:
        """Wait for a packet: its size, 0 once the agent is gone, and what came along with it.

        Args:
            buffer: where it is put.
            room: bytes for what comes along.
        """
        wait = self._wait
        if wait is None:
            return self._receive((buffer,), room)[:2]
        while True:
            wait()
            try:
                return self._receive((buffer,), room, socket.MSG_DONTWAIT)[:2]
            except BlockingIOError:
                pass  # another child was faster, or the agent took it back


def _wakes_one() -> bool:
    """Whether two packets, one right after the other, wake two who wait with EPOLLEXCLUSIVE.

    Linux 5.7 takes whoever is woken off the list at once (412895f03cbf); before, it could be woken twice, and the
    other one not at all.
    """
    if not hasattr(select, "EPOLLEXCLUSIVE"):
        return False
    release = os.uname().release.split(".")
    return tuple(int(part) if part.isdecimal() else 0 for part in release[:2]) >= (5, 7)


def files_in(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that came along with a message."""
    files = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    return list(files)


def read_all(fd: int) -> bytes:
    """A whole file, wherever another process has left the position that they share."""
    size = os.fstat(fd).st_size
    parts = []
    at = 0
    while at < size:
        parts.append(os.pread(fd, size - at, at))
        at += len(parts[-1])
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
