"""The progress bar of ``zmqtasks submit``, on stderr."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

    from zmqtasks.cli._feed import Feed


class Bar:
    """Done of total, rate, time left, failures. Without `shown` it does nothing.

    Args:
        total: how many jobs there will be; None: not known yet.
        shown: whether to draw anything.
        label: what is being counted.
    """

    def __init__(self, total: int | None, *, shown: bool, label: str) -> None:
        self._progress: Progress | None = None
        self._total = total
        if shown:
            self._progress = _progress()
            self._task = self._progress.add_task(label, total=total, failed="", rate="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, feed: "Feed", *, accepted_only: bool) -> None:
        """Show where the feed stands."""
        if self._progress is None:
            return
        done = feed.submitted if accepted_only else feed.tally.ended
        elapsed = self._progress.tasks[self._task].elapsed or 0.0
        total = self._total
        if total is None and feed.source_ended:
            total = self._total = feed.submitted
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            failed=f"[red]{feed.tally.bad:,} failed" if feed.tally.bad else "",
            rate=f"{done / elapsed:,.0f}/s" if elapsed > 0.5 else "",
        )


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[failed]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        refresh_per_second=10,
        expand=True,
    )
