"""The progress bar of ``zmqtasks submit``, on stderr, and what is written above it while it is drawn."""

import logging
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from rich.progress import Progress

    from zmqtasks.cli._feed import Feed


class Bar:
    """Done of total, rate, failures, time so far and left. Without `shown` it does nothing.

    While it is drawn, log lines come out above it, for they would go on where its line ends.

    Args:
        total: how many jobs there will be; None: not known yet.
        shown: whether to draw anything.
        label: what is being counted.
        keep: whether it still stands there in the end.
    """

    def __init__(self, total: int | None, *, shown: bool, label: str, keep: bool = True) -> None:
        self._progress: Progress | None = None
        self._total = total
        self._logs: list[tuple[logging.StreamHandler[Any], Any]] = []
        if shown:
            self._progress = _progress(keep=keep)
            self._task = self._progress.add_task(label, total=total, bad="", rate="")

    @property
    def in_the_way(self) -> bool:
        """Whether what goes to stdout meets the bar on one terminal."""
        return self._progress is not None and sys.stderr.isatty() and sys.stdout.isatty()

    def __enter__(self) -> Self:
        if self._progress is not None:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                    self._logs.append((handler, handler.setStream(self)))
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            while self._logs:
                handler, stream = self._logs.pop()
                handler.setStream(stream)

    def write(self, text: str) -> None:
        """Whole lines, above the bar; from any thread."""
        if self._progress is not None:
            self._progress.console.out(text.removesuffix("\n"), highlight=False)

    def flush(self) -> None:
        """There is nothing to flush; logging wants it."""

    def update(self, feed: "Feed", *, accepted_only: bool) -> None:
        """Show where the feed stands."""
        if self._progress is None:
            return
        tally = feed.tally
        done = feed.submitted if accepted_only else tally.ended - tally.cancelled
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        total = self._total
        if total is None and feed.source_ended:
            total = self._total = feed.submitted
        failed = f"[red]{tally.failed:,} failed[/]" if tally.failed else ""
        cancelled = f"[yellow]{tally.cancelled:,} cancelled[/]" if tally.cancelled else ""
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            bad=" ".join(filter(None, (failed, cancelled))),
            rate=f"{done / elapsed:,.0f}/s" if elapsed > 0.5 and total != 1 else "",
        )


class AboveBar:
    """Stands for stdout where the bar is in its way: lines of JSON come out above the bar, all of a `flush` at once."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._data = bytearray()

    def write(self, data: bytes) -> None:
        """Take in whole lines."""
        self._data += data

    def flush(self) -> None:
        """Write them."""
        if self._data:
            self._bar.write(self._data.decode())
            self._data.clear()


def _progress(*, keep: bool) -> "Progress":
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.constrain import Constrain
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(file=sys.stderr)

    class RoomForCtrlC(Progress):
        """Ends two columns early: at the end of a full line ^C would wrap, and the bar stand there twice."""

        def get_renderables(self) -> Iterable[RenderableType]:
            return [Constrain(one, max(1, console.width - len("^C"))) for one in super().get_renderables()]

    return RoomForCtrlC(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[bad]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        refresh_per_second=10,
        expand=True,
        transient=not keep,
        redirect_stdout=False,  # it would send the ids of `zmqtasks submit … > ids` to stderr
        redirect_stderr=False,
    )
