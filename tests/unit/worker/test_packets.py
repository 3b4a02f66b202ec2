"""Claims through the shared queue, large parts as files."""

import errno
import os
import socket
from pathlib import Path

import pytest

from zmqtasks.worker import packets
from zmqtasks.worker.claims import INLINE_BLOB, INLINE_BYTES, Claim, Piece
from zmqtasks.worker.packets import Queue


@pytest.fixture
def queue():
    made = Queue()
    yield made
    made.close()


def claim(number=1, args=b"x", blob=b""):
    return Claim(number, "t", b"d" if blob else b"", blob, "pickle", 1, [Piece(1, 1, b"p" * 12, [0], [args])])


def test_what_was_pushed_can_be_taken_back(queue):
    assert all(queue.push(claim(n)) for n in (1, 2, 3))
    assert queue.push(claim(4, args=bytes(INLINE_BYTES + INLINE_BLOB)))
    assert queue.take_all() == [1, 2, 3, 4]
    assert queue.take_all() == []


@pytest.mark.parametrize("large", [{"args": bytes(300_000)}, {"blob": bytes(300_000)}])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG, errno.ENOMEM])
def test_no_room_for_a_file_is_no_room_for_the_claim(queue, monkeypatch, caplog, large, code):
    before = len(list(Path("/dev/fd").iterdir()))
    write = packets._write_all

    def full(_fd, _data):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(packets, "_write_all", full)
    assert not queue.push(claim(**large))
    assert "no room for claim 1" in caplog.text
    assert len(list(Path("/dev/fd").iterdir())) == before
    monkeypatch.setattr(packets, "_write_all", write)
    assert queue.push(claim(**large))
    assert queue.take_all() == [1]


def test_other_errors_are_not_swallowed(queue):
    queue._push_end.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        queue.push(claim())
    queue._push_end = socket.socket()
