"""Job ids as ranges, and spans of integers.

A job id is 16 bytes: the 12-byte prefix of the submitter's session and a 32-bit counter, shown as 32 hex digits.
A batch is a range of counters under one prefix, so wire, records and tombstones hold spans, never lists of ids.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from string import hexdigits

PREFIX_BYTES = 12
MAX_COUNTER = 2**32 - 1
_HEX = frozenset(hexdigits)

Span = tuple[int, int]  # (first, count)


def job_id(prefix: bytes, counter: int) -> str:
    """The id of a job as 32 hex digits."""
    return prefix.hex() + format(counter, "08x")


def parse_job_id(text: str) -> tuple[bytes, int]:
    """The (prefix, counter) of a job id.

    Raises:
        ValueError: `text` is not 32 hex digits (dashes as in a UUID are allowed).
    """
    digits = text.replace("-", "")
    if len(digits) != 2 * PREFIX_BYTES + 8 or not set(digits) <= _HEX:  # int() would take "+1" and "1_0", too
        message = f"a job id has 32 hex digits, not {text!r}"
        raise ValueError(message)
    return bytes.fromhex(digits[: 2 * PREFIX_BYTES]), int(digits[2 * PREFIX_BYTES :], 16)


def given_id(text: str) -> tuple[bytes, int]:
    """The (prefix, counter) that stand for an id chosen by the user.

    32 hex digits (a UUID, with or without dashes) are taken as they are; any other text by its BLAKE2b digest.
    """
    try:
        return parse_job_id(text)
    except ValueError:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return digest[:PREFIX_BYTES], int.from_bytes(digest[PREFIX_BYTES:], "big")


def spans(numbers: Iterable[int]) -> list[Span]:
    """Ascending integers as spans: ``[1, 2, 3, 7] -> [(1, 3), (7, 1)]``."""
    out: list[Span] = []
    first = count = 0
    for number in numbers:
        if count and number == first + count:
            count += 1
            continue
        if count:
            out.append((first, count))
        first, count = number, 1
    if count:
        out.append((first, count))
    return out


def expand(ranges: Sequence[Span]) -> Iterator[int]:
    """The integers of some spans, in the order of the spans."""
    for first, count in ranges:
        yield from range(first, first + count)


def parts(ranges: Iterable[Span], most_spans: int, most_numbers: int) -> Iterator[list[Span]]:
    """The same integers in lists of at most so many spans and so many integers; long spans are cut."""
    part: list[Span] = []
    room = most_numbers
    for first, count in ranges:
        at, left = first, count
        while left:
            n = min(left, room)
            part.append((at, n))
            at, left, room = at + n, left - n, room - n
            if not room or len(part) == most_spans:
                yield part
                part, room = [], most_numbers
    if part:
        yield part


def inside(numbers: Iterable[int], ranges: Sequence[Span]) -> list[int]:
    """Those of some integers that lie in some disjoint spans, whatever the spans' size: they may be a stranger's."""
    ordered = sorted(ranges)
    firsts = [first for first, _ in ordered]
    out: list[int] = []
    for number in numbers:
        at = bisect_right(firsts, number) - 1
        if at >= 0 and number < firsts[at] + ordered[at][1]:
            out.append(number)
    return out


def total(ranges: Sequence[Span]) -> int:
    """How many integers some spans hold."""
    return sum(count for _, count in ranges)
