"""``zmqtasks story``: the moves of a job with their times and causes."""

from typing import TYPE_CHECKING

import click

from zmqtasks.cli import _sentences
from zmqtasks.cli._asking import ask_job, id_argument, unknown
from zmqtasks.cli._shared import (
    Example,
    answer_option,
    broker_url,
    connection_options,
    json_option,
    loglevel_option,
    show_json,
)

if TYPE_CHECKING:
    from zmqtasks import wire


@click.command(epilog=Example("zmqtasks story 6f1f2a7c0d4b5e6f708192a300000000"))
@id_argument
@connection_options
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, job_id: str, broker: str | None, timeout: float, as_json: bool) -> int:
    """Tell the moves of a job, with their times and causes.

    The scheduler remembers its last 10,000 moves of runs of jobs; what is older is not told. ID is the job's id, or the
    id that was given to it as job_id.
    """
    report = ask_job(broker_url(ctx, broker), job_id, timeout)
    if as_json:
        show_json(as_dict(job_id, report))
        return 0 if report.job or report.story else 2
    if report.job is None and not report.story:
        raise unknown(job_id, report.reasons)
    _sentences.show(lines(job_id, report))
    return 0


def as_dict(job_id: str, report: "wire.JobReport") -> dict[str, object]:
    """What --json prints. Keys are only ever added; `time` is Unix time."""
    from msgspec.structs import asdict

    return {
        "id": job_id,
        "job": None if report.job is None else asdict(report.job),
        "story": [{"time": line.wall, "state": line.state, "cause": line.cause} for line in report.story],
    }


def lines(job_id: str, report: "wire.JobReport") -> list[tuple[str, str]]:
    """What people read, one line a move: its time, from the second on the seconds since the one before; its cause."""
    from zmqtasks.cli._tables import clean, exact

    job = report.job
    told = [("", f"Job {job_id}: forgotten" if job is None else f"Job {job.id} ({job.task}): {job.state}")]
    if not report.story:
        told.append(("  ", "the moves of this job were too long ago to be remembered"))
    before = None
    for line in report.story:
        step = "" if before is None else f"+{max(0.0, line.wall - before):.3f} s"
        told.append((f"  {exact(line.wall)}  {step:>12}  {line.state:<9}  ", line.cause))
        before = line.wall
    return [(clean(head), clean(cause)) for head, cause in told]
