"""Numbers as people say them, wherever a sentence for people is made."""

from typing import Final

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def plural(count: int, noun: str) -> str:
    """A number with its noun: 1 job, 2 jobs."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def amount(size: int) -> str:
    """So many bytes: 12 bytes, 1.2 kB, 12 MB, 1.2 GB."""
    if size < 1_000:
        return plural(size, "byte")
    number = size / 1_000
    for unit in ("kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.1f} {unit}" if number < 9.95 else f"{number:.0f} {unit}"
        number /= 1_000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """A length of time: 1.2 s, 12 s, 3 min 5 s, 2 h 5 min, 4 d 1 h."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    rest = int(seconds)
    words = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            words.append(f"{count} {unit}")
    return " ".join(words[:2])
