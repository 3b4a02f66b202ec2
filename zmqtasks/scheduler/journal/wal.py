"""SQLite's WAL, sealed anew: a flipped bit hides all that follows, for its check sums go on from frame to frame.

Source: the SQLite file format, section "The Write-Ahead Log" (https://www.sqlite.org/fileformat2.html#walformat).
"""

import struct
from typing import Final

_HEADER: Final = struct.Struct(">IIIIIIII")  # magic, version, page size, checkpoint, salt (2), check sum (2)
_FRAME: Final = struct.Struct(">IIIIII")  # page, pages after a commit, salt (2), check sum (2)
_MAGIC: Final = 0x377F0682  # | 1: check sums of big-endian words
_MASK: Final = 0xFFFFFFFF


def resealed(wal: bytes) -> bytes:
    """The frames of a WAL's present generation with check sums that fit what they hold; b"": it is no WAL.

    What a flipped bit has changed is still changed: whoever reads it must verify it by himself.
    """
    if len(wal) < _HEADER.size:
        return b""
    magic, version, page, checkpoint, salt1, salt2, _, _ = _HEADER.unpack_from(wal)
    if magic & ~1 != _MAGIC or not 512 <= page <= 65536:
        return b""
    words = ">" if magic & 1 else "<"
    head = _HEADER.pack(magic, version, page, checkpoint, salt1, salt2, 0, 0)[:24]
    sums = _sums(head, (0, 0), words)
    parts = [head, struct.pack(">II", *sums)]
    for at in range(_HEADER.size, len(wal) - _FRAME.size - page + 1, _FRAME.size + page):
        number, size, one, two, _, _ = _FRAME.unpack_from(wal, at)
        if (one, two) != (salt1, salt2):
            break  # of an earlier generation
        data = wal[at + _FRAME.size : at + _FRAME.size + page]
        sums = _sums(data, _sums(wal[at : at + 8], sums, words), words)
        parts += (_FRAME.pack(number, size, one, two, *sums), data)
    return b"".join(parts)


def _sums(data: bytes, sums: tuple[int, int], words: str) -> tuple[int, int]:
    one, two = sums
    for x, y in struct.iter_unpack(f"{words}II", data):
        one = (one + x + two) & _MASK
        two = (two + y + one) & _MASK
    return one, two
