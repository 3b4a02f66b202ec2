"""``zmqtasks status --watch``: the status anew every second, until Ctrl-C or SIGTERM."""

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from zmqtasks.cli import _tables
from zmqtasks.cli._shared import say
from zmqtasks.cli._status import as_dict, tables
from zmqtasks.errors import SchedulerUnreachable
from zmqtasks.operators import Operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from zmqtasks import wire

EVERY = 1.0  # seconds


def watch_status(url: str, timeout: float, *, everything: bool, as_json: bool) -> None:
    """Show the status until somebody ends it. In a terminal it fills the screen, which then comes back.

    Raises:
        SchedulerUnreachable: it did not answer even once. Later that is shown, and asked again.
        ProtocolMismatch, NotAuthorized: the scheduler refused.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # the screen must come back
    try:
        with Operator(url, timeout) as operator:
            if as_json:
                _as_lines(operator, url)
            elif sys.stdout.isatty():
                _on_screen(operator, url, everything=everything)
            else:
                _one_after_another(operator, url, everything=everything)
    except KeyboardInterrupt:
        pass  # that is how it is meant to end
    finally:
        signal.signal(signal.SIGTERM, before)


def _answers(operator: Operator) -> "Iterator[wire.Status]":
    """The status every second. While nobody answers, stderr has one line that says so.

    Raises:
        SchedulerUnreachable: it did not answer even once.
    """
    yield operator.status()
    away = False
    while True:
        time.sleep(EVERY)
        try:
            status = operator.status()
        except SchedulerUnreachable as error:
            if not away:
                say(f"{error}; it is asked again until it answers")
            away = True
        else:
            away = False
            yield status


def _as_lines(operator: Operator, url: str) -> None:
    for status in _answers(operator):
        click.echo(json.dumps(as_dict(url, status), ensure_ascii=False))


def _one_after_another(operator: Operator, url: str, *, everything: bool) -> None:
    console = _tables.console()
    for status in _answers(operator):
        for part in tables(url, status, everything=everything):
            console.print(part)
        console.print()
        sys.stdout.flush()


def _on_screen(operator: Operator, url: str, *, everything: bool) -> None:
    from rich.console import Group
    from rich.live import Live

    parts: list[Any] = tables(url, operator.status(), everything=everything)
    with Live(Group(*parts), console=_tables.console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(Group(*parts), refresh=True)
            time.sleep(EVERY)
            parts = _next(operator, url, parts, everything=everything)


def _next(operator: Operator, url: str, before: "list[RenderableType]", *, everything: bool) -> "list[RenderableType]":
    """The next screen; where nobody answers, the last one under a line that says so."""
    from rich.text import Text

    try:
        return tables(url, operator.status(), everything=everything)
    except SchedulerUnreachable as error:
        told = Text(f"{error}; what follows is old", "red")
        old = before[1:] if isinstance(before[0], Text) and before[0].style == "red" else before
        return [told, *old]
