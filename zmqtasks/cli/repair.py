"""``zmqtasks repair``: look at a journal that does not open, and go on with what is left of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zmqtasks.cli._shared import Example, json_option, loglevel_option, show_json
from zmqtasks.config import DEFAULT_BROKER

if TYPE_CHECKING:
    from zmqtasks.scheduler.journal.repair import Examination, Left

DAMAGED = 1


@click.command(
    epilog=Example(
        "zmqtasks repair --data /var/lib/zmqtasks",
        "zmqtasks repair --data /var/lib/zmqtasks --cut",
    )
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The journal's directory.  [default: that of a scheduler without --bind and --data]",
)
@click.option("--cut", is_flag=True, help="Keep what stands before the first damage.")
@click.option("--skip", is_flag=True, help="Keep all that is whole, and leave out only what is damaged.")
@json_option
@loglevel_option
def command(*, data: Path | None, cut: bool, skip: bool, as_json: bool) -> int:
    """Show what is damaged in a scheduler's journal, and mend it.

    Without --cut or --skip nothing is changed. Both keep a copy of what was there. Jobs that were accepted in records
    that are lost are gone; jobs that ended there run again, even those with acks_late=False.
    """
    from zmqtasks.cli._urls import default_data
    from zmqtasks.scheduler.journal import repair

    if cut and skip:
        raise click.UsageError("--cut and --skip keep different records: give one of them")
    found = repair.examine(data or default_data(DEFAULT_BROKER))
    before = None
    if (cut or skip) and (found.damages or found.left(repair.CUT).lost):
        before = repair.mend(found, repair.SKIP if skip else repair.CUT)
    if as_json:
        show_json({**repair.as_dict(found), "copy": str(before) if before else None})
    elif before is not None:
        _show(found)
        click.echo(f"mended; what was there is in {before}; start the scheduler again")
    else:
        _show(found)
    return DAMAGED if before is None and (found.damages or found.left(repair.CUT).lost) else 0


def _show(found: "Examination") -> None:
    from zmqtasks.scheduler.journal.repair import CUT, SKIP

    head = "nobody knows" if found.head is None else f"{found.head.number:,}"
    records = f"records {found.anchor.number + 1:,} to {found.last:,}"
    click.echo(f"journal {found.path}: {records}; the last that was written: {head}")
    for damage in found.damages:
        click.echo(f"  damaged: {damage}")
    cut, skip = found.left(CUT), found.left(SKIP)
    for number, size in cut.lost:
        click.echo(f"  damaged: payload {number} of {size:,} bytes is missing or short: its job ends with PayloadLost")
    if not found.damages and not cut.lost:
        click.echo(f"it is whole, and holds {_amount(cut)}: there is nothing to mend")
        return
    click.echo(f"--cut keeps {_amount(cut)}")
    if cut != skip:
        click.echo(f"--skip keeps {_amount(skip)}")


def _amount(left: "Left") -> str:
    if left.error:
        return f"{left.records:,} records that contradict one another ({left.error}): it cannot be used"
    return f"{left.records:,} records with {left.unfinished:,} unfinished jobs and {left.results:,} results"
