"""Payloads made smaller: gzip from the standard library, zstd where there is one.

A compressed payload begins with a byte that says whether it was worth it: short ones, and those that do not get
shorter, stay as they are behind it. What comes out is bounded, whatever a few bytes claim to hold.
"""

import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final

from zmqtasks.config import MIB
from zmqtasks.errors import BadOption, PayloadError, PayloadTooLarge

NONE: Final = "none"
METHODS: Final = ("gzip", "zstd")
MAX_SIZE: Final = 256 * MIB  # bytes of a payload before it is compressed, and after it was decompressed
WORTH_IT: Final = 1_024  # bytes from which on a payload is compressed

_ALIASES: Final = {
    "zlib": "gzip",
    "application/x-gzip": "gzip",
    "application/zstd": "zstd",
}  # of kombu
_PLAIN: Final = b"\0"
_PACKED: Final = b"\1"
_GZIP: Final = 31  # zlib's number for it
_ZSTD_HOMES: Final = ("compression.zstd", "backports.zstd")  # Python 3.14 has its own

Convert = Callable[[bytes], bytes]


def named(method: Any) -> str:
    """A method by one of its names.

    Raises:
        BadOption: there is none of that name, or this Python has none.
    """
    name = _ALIASES.get(method, method) if isinstance(method, str) else method
    if name == NONE:
        return NONE
    if name not in METHODS:
        raise BadOption(f"there is no compression {method!r} (there are: {', '.join(METHODS)}, {NONE})")
    if name == "zstd" and _zstd() is None:
        raise BadOption(
            "compression 'zstd' needs Python 3.14, or the package backports.zstd: pip install 'zmqtasks[zstd]'"
        )
    return str(name)


@cache
def _zstd() -> Any:
    """The module that has it; None: there is none. Looked for on first use: most processes never need it."""
    for home in _ZSTD_HOMES:
        try:
            return import_module(home)
        except ImportError:
            continue
    return None


def packer(method: str) -> Convert:
    """The function that makes a payload smaller.

    It raises PayloadTooLarge beyond MAX_SIZE bytes.

    Raises:
        BadOption: see `named`.
    """
    pack = _packed_by_gzip if named(method) == "gzip" else _zstd().compress

    def packed(data: bytes) -> bytes:
        if len(data) > MAX_SIZE:
            raise PayloadTooLarge(f"{len(data):,} bytes are to be compressed, of at most {MAX_SIZE:,}")
        if len(data) < WORTH_IT:
            return _PLAIN + data
        made: bytes = pack(data)
        return _PACKED + made if len(made) < len(data) else _PLAIN + data

    return packed


def unpacker(method: str) -> Convert:
    """The function that makes it what it was.

    It raises PayloadError for what was not made by `packer`, or has more than MAX_SIZE bytes.

    Raises:
        BadOption: see `named`.
    """
    unpack = _unpacked_by_gzip if named(method) == "gzip" else _unpacked_by_zstd

    def unpacked(data: bytes) -> bytes:
        mark, rest = data[:1], data[1:]
        if mark == _PLAIN:
            return rest
        if mark != _PACKED:
            raise PayloadError(f"this is not compressed by {method}")
        try:
            made, whole = unpack(rest)
        except Exception as error:
            raise PayloadError(f"this cannot be decompressed by {method}: {error}") from error
        if len(made) > MAX_SIZE:
            raise PayloadError(f"decompressed by {method} this has more than {MAX_SIZE:,} bytes, and is left alone")
        if not whole:
            raise PayloadError(f"this is compressed by {method}, and its end is missing")
        return made

    return unpacked


def _packed_by_gzip(data: bytes) -> bytes:
    packing = zlib.compressobj(wbits=_GZIP)
    return packing.compress(data) + packing.flush()


def _unpacked_by_gzip(data: bytes) -> tuple[bytes, bool]:
    """What comes out, of which no more than one byte too many is made; and whether that is all."""
    unpacking = zlib.decompressobj(wbits=_GZIP)
    return unpacking.decompress(data, MAX_SIZE + 1), unpacking.eof


def _unpacked_by_zstd(data: bytes) -> tuple[bytes, bool]:
    unpacking = _zstd().ZstdDecompressor()
    return unpacking.decompress(data, max_length=MAX_SIZE + 1), unpacking.eof
