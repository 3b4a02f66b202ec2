"""A block is what one commit writes: the records of some turns, bound to the block before by a hash."""

import hashlib
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple
from zlib import crc32

LINK_BYTES: Final = 16
ORIGIN: Final = bytes(LINK_BYTES)  # the link before the first block
_LENGTH: Final = struct.Struct("<I")
_NUMBERS: Final = struct.Struct("<QQ")


class Block(NamedTuple):
    """Records `first … last`. `data`: each turn's records, encoded, with their length in front."""

    first: int
    last: int
    prev: bytes
    data: bytes

    @property
    def link(self) -> bytes:
        """What the next block is bound to: a hash of this one and, by that, of all before it."""
        state = hashlib.blake2b(self.prev, digest_size=LINK_BYTES)
        state.update(_NUMBERS.pack(self.first, self.last))
        state.update(self.data)
        return state.digest()

    @property
    def crc(self) -> int:
        """Tells damage in this block itself."""
        return crc32(self.data, crc32(self.prev, crc32(_NUMBERS.pack(self.first, self.last))))


def join(turns: list[bytes]) -> bytes:
    """The data of a block, of turns that are encoded."""
    parts: list[bytes] = []
    for turn in turns:
        parts += (_LENGTH.pack(len(turn)), turn)
    return b"".join(parts)


def split(data: bytes) -> Iterator[bytes]:
    """The turns of a block's data.

    Raises:
        ValueError: it does not end where a turn does.
    """
    at = 0
    while at < len(data):
        if at + _LENGTH.size > len(data):
            break
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            break
        yield data[at : at + length]
        at += length
    if at != len(data):
        message = "a block ends in the middle of a turn"
        raise ValueError(message)
