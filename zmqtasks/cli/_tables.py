"""Tables and times as commands that watch show them."""

import re
import sys
import time
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def console() -> "Console":
    """Where people look: as wide as the terminal, 80 columns and no colours in a pipe."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, soft_wrap=False)
    return Console(highlight=False, soft_wrap=False, file=cast("IO[str]", _Trimmed()))


class _Trimmed:
    """stdout, to which lines go without the blanks at their ends, with which tables are filled up."""

    def write(self, text: str) -> int:
        sys.stdout.write(re.sub(r" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


def table(title: str) -> "Table":
    """An empty table without lines but the one under its head."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
    )


def plain(text: str, style: str = "", *, keep: str = "") -> "Text":
    """Text of other people, in which square brackets are no markup and control characters (but `keep`) do nothing."""
    from rich.text import Text

    return Text(clean(text, keep=keep), style)


def clean(text: str, *, keep: str = "") -> str:
    """Text of other people, in which control characters (but `keep`) do nothing to a terminal."""
    return "".join(char if char.isprintable() or char in keep else "\N{REPLACEMENT CHARACTER}" for char in text)


def ago(wall: float) -> float:
    """Seconds since a Unix time; another machine's clock may be ahead of ours."""
    return max(0.0, time.time() - wall)


def until(wall: float) -> float:
    """Seconds to a Unix time."""
    return max(0.0, wall - time.time())


def clock(wall: float) -> str:
    """A Unix time as people here read it, to the second; with the date, unless that is today's."""
    when = datetime.fromtimestamp(wall).astimezone()
    today = datetime.now().astimezone().date()
    return when.strftime("%H:%M:%S" if when.date() == today else "%Y-%m-%d %H:%M:%S")


def exact(wall: float) -> str:
    """A Unix time as people here read it, to the millisecond."""
    return datetime.fromtimestamp(wall).astimezone().isoformat(" ", "milliseconds")[:23]


def unpacked(data: bytes) -> Any:
    """What a running job told of itself; None: nothing, or nothing that can be read."""
    import msgspec

    try:
        return msgspec.msgpack.decode(data) if data else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
