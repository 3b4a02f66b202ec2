"""Smooth photographs and find their edges on whatever workers there are.

    python smoother.py                               on this machine, with a cluster of its own
    python smoother.py --broker tcp://head:5555      on the workers of a scheduler
    python smoother.py --pictures ~/photos           with your own pictures
    python smoother.py --celery                      on the workers of celery_conf.py

All tiles of all pictures go out as one batch. What comes back is put together, written as PNG
files and compared with plain numpy, which must agree to the last bit.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import contact_sheet
import filters
import numpy as np
import pictures
from filters import Pixels
from pictures import Cut, Picture
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import zmqtasks

DEFAULT_OUT = Path("build/smoother")
DONE, FAILED, WRONG_USE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130  # exit codes


@dataclass(frozen=True, slots=True)
class Made:
    """What the workers made: pictures in the order of the input, and where and how fast.

    ``seconds`` is wall time from the submit to the last result; ``ran_on`` counts tiles by
    (host:pid, worker's name).
    """

    smoothed: list[Pixels]
    edges: list[Pixels]
    ran_on: Counter[tuple[str, str]]
    tiles: int
    seconds: float


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--broker", metavar="URL", help="a scheduler (default: local://)")
    parser.add_argument("--celery", action="store_true", help="the task as a user of Celery writes it")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="your own pictures")
    parser.add_argument("--short", action="store_true", help="only three small photographs")
    parser.add_argument("--out", metavar="DIR", type=Path, default=DEFAULT_OUT, help="default: %(default)s")
    parser.add_argument("--tile", metavar="PIXELS", type=int, default=256, help="default: 256")
    parser.add_argument("--sigma", metavar="PIXELS", type=float, default=2.0, help="default: 2.0")
    args = parser.parse_args(argv)
    if args.tile < 1:
        parser.error("--tile must be at least 1 pixel")
    if not 0 < args.sigma <= 50:
        parser.error("--sigma must be above 0 and at most 50 pixels")
    if args.pictures and args.pictures.resolve() == args.out.resolve():
        parser.error("--out must not be the folder of the pictures: they would be mixed up")
    return args


def _load(args: argparse.Namespace, console: Console) -> list[Picture]:
    if args.pictures is None:
        return pictures.bundled(short=args.short)
    return pictures.from_folder(
        args.pictures, lambda why: console.print(f"[yellow]skipped[/] {escape(why)}", highlight=False)
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeElapsedColumn(),
        console=console,
    )


def run(work: Sequence[Picture], tile: int, sigma: float, console: Console, tasks: str = "smoother_tasks") -> Made:
    """Send every tile of every picture and put the results together; `tasks`: the module of the task."""
    # Imported late: the app looks for its broker in the environment, which main() has set.
    submit = import_module(tasks).submit

    places: list[tuple[int, Cut]] = []
    arguments: list[tuple[Pixels, float]] = []
    for number, picture in enumerate(work):
        for place, window in pictures.cut(picture.pixels, tile, filters.halo(sigma)):
            places.append((number, place))
            arguments.append((window, sigma))
    smoothed = [np.zeros_like(picture.pixels) for picture in work]
    edges = [np.zeros(picture.pixels.shape[:2], dtype=np.uint8) for picture in work]
    ran_on: Counter[tuple[str, str]] = Counter()

    with _progress(console) as progress:
        bar = progress.add_task("smoothing", total=len(places))
        started = time.perf_counter()
        jobs = submit(arguments)
        where = dict(zip(jobs, places, strict=True))
        for job in zmqtasks.as_completed(jobs):
            number, place = where[job]
            try:
                done = job.result()
            except Exception as error:
                error.add_note(f"in {place} of the picture {work[number].name}")
                raise
            pictures.paste(smoothed[number], place, done.smoothed)
            pictures.paste(edges[number], place, done.edges)
            ran_on[f"{done.host}:{done.pid}", done.worker] += 1
            progress.advance(bar)
        seconds = time.perf_counter() - started
    return Made(smoothed, edges, ran_on, len(places), seconds)


def compare(work: Sequence[Picture], made: Made, sigma: float) -> tuple[int, float]:
    """Compute every picture whole with plain numpy, in this process.

    Returns the greatest difference of any pixel, in gray levels, and numpy's seconds.
    """
    worst, seconds = 0, 0.0
    for picture, smoothed, edges in zip(work, made.smoothed, made.edges, strict=True):
        started = time.perf_counter()
        whole = filters.smooth_edges(pictures.padded(picture.pixels, filters.halo(sigma)), sigma)
        seconds += time.perf_counter() - started
        for ours, theirs in zip((smoothed, edges), whole, strict=True):
            difference = np.abs(ours.astype(np.int16) - theirs.astype(np.int16))
            worst = max(worst, int(difference.max()))
    return worst, seconds


def write(work: Sequence[Picture], made: Made, title: str, out: Path) -> Path:
    """Write two PNG files a picture, and the contact sheet, whose path is returned."""
    strips = []
    for picture, smoothed, edges in zip(work, made.smoothed, made.edges, strict=True):
        pictures.save(smoothed, out / f"{picture.name}-smoothed.png")
        pictures.save(edges, out / f"{picture.name}-edges.png")
        strips.append(contact_sheet.Strip(picture.name, picture.pixels, smoothed, edges))
    sheet = out / "contact-sheet.png"
    contact_sheet.contact_sheet(strips, title, sheet)
    return sheet


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _ran_where(made: Made) -> Table:
    table = Table(title="What ran where", title_justify="left", title_style="bold")
    table.add_column("process")
    table.add_column("worker")
    table.add_column("tiles", justify="right")
    table.add_column("share", justify="right")
    for (process, worker), tiles in sorted(made.ran_on.items()):
        table.add_row(process, worker or "-", f"{tiles:,}", f"{tiles / made.tiles:.0%}")
    return table


def _figures(megapixels: float, made: Made, numpy_seconds: float) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("wall time", f"{made.seconds:.2f} s", "first submit to last result")
    table.add_row("speed", f"{made.tiles / made.seconds:,.0f} tiles/s", "")
    table.add_row("", f"{megapixels / made.seconds:,.1f} megapixels/s", "")
    table.add_row("plain numpy", f"{numpy_seconds:.2f} s", "the same in one process, uncut")
    return table


def work_on(args: argparse.Namespace, console: Console) -> int:
    """Load, run, write, compare and report; returns the exit code."""
    work = _load(args, console)
    megapixels = sum(p.pixels.shape[0] * p.pixels.shape[1] for p in work) / 1e6
    console.print(
        f"{_count(len(work), 'picture')}, {megapixels:.1f} megapixels, "
        f"in tiles of {args.tile} with sigma {args.sigma:g}",
        highlight=False,
    )
    made = run(work, args.tile, args.sigma, console, "celery_smoother" if args.celery else "smoother_tasks")
    difference, numpy_seconds = compare(work, made, args.sigma)
    processes = _count(len(made.ran_on), "process", "processes")
    title = f"{_count(len(work), 'picture')} in {_count(made.tiles, 'tile')} on {processes}"
    sheet = write(work, made, title, args.out)
    console.print(_ran_where(made), _figures(megapixels, made, numpy_seconds), sep="\n")
    # soft_wrap: a path that is broken over two lines cannot be copied.
    found_at = f"pictures in {args.out}, all on one page: {sheet}"
    console.print(found_at, soft_wrap=True, highlight=False, markup=False)
    if difference:
        console.print(f"[bold red]DIFFERENT[/] from plain numpy, by up to {difference} gray levels")
        return FAILED
    console.print("[bold green]equal[/] to plain numpy in every pixel (max difference 0)")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _arguments(argv)
    console = Console()
    complaints = Console(stderr=True, soft_wrap=True, highlight=False)
    if args.broker:
        os.environ["ZMQTASKS_BROKER"] = args.broker
    try:
        args.out.mkdir(parents=True, exist_ok=True)  # before the work, not after it
    except OSError as error:
        complaints.print(f"smoother: --out: {error}", markup=False)
        return WRONG_USE
    try:
        return work_on(args, console)
    except pictures.NoPictures as error:
        complaints.print(f"smoother: {error}", markup=False)
        return WRONG_USE
    except zmqtasks.ZmqTasksError as error:
        notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
        complaints.print(f"smoother: {error}{notes}", markup=False)
        return UNREACHABLE if isinstance(error, zmqtasks.SchedulerUnreachable) else FAILED
    except KeyboardInterrupt:
        complaints.print("smoother: interrupted")
        return INTERRUPTED


if __name__ == "__main__":  # the workers of local:// may import this file again
    sys.exit(main())
