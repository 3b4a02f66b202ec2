"""Sentences as ``explain`` and ``story`` print them: whole in a pipe, wrapped with an indent in a terminal."""

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Final

import click

NARROWEST: Final = 24  # columns in which a text is still read easily; with fewer it stands below its head
LEFT: Final = 4  # columns, there

_DEATH: Final = re.compile(r"(?:^|(?<=[;.] ))[Dd](?=eath \d+: )")


def show(lines: Iterable[tuple[str, str]]) -> None:
    """Print each line: its head stands as it is, what follows is wrapped to the terminal beside it."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for head, text in lines:
        click.echo(wrapped(head, text, width) if width else (head + text).rstrip())


def wrapped(head: str, text: str, width: int) -> str:
    """A head and a text in lines of so many columns. A word is broken only if no line is long enough for it."""
    room = width - len(head)
    longest = max(map(len, text.split()), default=0)
    if head.strip() and text and room < max(NARROWEST, longest):
        return f"{head.rstrip()}\n{wrapped(' ' * LEFT, text, width)}"
    lines = textwrap.wrap(
        text,
        max(width, NARROWEST),
        initial_indent=head,
        subsequent_indent=" " * len(head) if head else " " * LEFT,
        break_on_hyphens=False,
    )
    return "\n".join(lines) or head.rstrip()


def split(reason: str) -> tuple[str, list[str]]:
    """A reason without the deaths that it tells, and these, one each: "death 1: ..."."""
    starts = [found.start() for found in _DEATH.finditer(reason)]
    if not starts:
        return end(reason), []
    first = reason[: starts[0]].rstrip(" ;")
    deaths = [reason[a:b].rstrip(" ;") for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return first and end(first), [f"d{end(death)[1:]}" for death in deaths]


def end(sentence: str) -> str:
    """A sentence with one mark at its end."""
    return re.sub(r"([?!])\.$", r"\1", sentence) if sentence.endswith((".", "?", "!")) else f"{sentence}."
