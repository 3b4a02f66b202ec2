"""``zmqtasks explain``: why a job is where it is."""

from typing import TYPE_CHECKING, Final

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
from zmqtasks.words import plural

if TYPE_CHECKING:
    from zmqtasks import wire

OVER: Final = ("succeeded", "failed", "cancelled", "aborted")


@click.command(epilog=Example("zmqtasks explain 6f1f2a7c0d4b5e6f708192a300000000", "zmqtasks explain my-own-id --json"))
@id_argument
@connection_options
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, job_id: str, broker: str | None, timeout: float, as_json: bool) -> int:
    """Say why a job is where it is: what it waits for, who could run it, or how it ended.

    ID is the job's id, or the id that was given to it as job_id.
    """
    report = ask_job(broker_url(ctx, broker), job_id, timeout)
    if as_json:
        show_json(as_dict(job_id, report))
        return 0 if report.job else 2
    if report.job is None:
        raise unknown(job_id, report.reasons)
    _sentences.show(lines(job_id, report.job, report))
    return 0


def as_dict(job_id: str, report: "wire.JobReport") -> dict[str, object]:
    """What --json prints. Keys are only ever added."""
    from msgspec.structs import asdict

    from zmqtasks.cli._tables import unpacked

    return {
        "id": job_id,
        "job": None if report.job is None else asdict(report.job),
        "reasons": report.reasons,
        "progress": unpacked(report.progress),
    }


def lines(job_id: str, job: "wire.JobStatus", report: "wire.JobReport") -> list[tuple[str, str]]:
    """What people read: indents and sentences."""
    from zmqtasks.cli._tables import clean, clock, unpacked

    own = "" if job_id == job.id else f"{job_id}, "
    told = [("", f"Job {job.id} ({own}{job.task}): {job.state}")]
    for reason in report.reasons:
        first, deaths = _sentences.split(reason)
        told += [("  ", first)] if first else []
        told += [("    ", death) for death in deaths]
    told += [("  ", sentence) for sentence in _survived(job, report.reasons)]
    if job.due:
        told.append(("  ", f"It may start at {clock(job.due)}."))
    if report.progress:
        told.append(("  ", f"It says of itself: {unpacked(report.progress)!r}."))
    if job.submitter:
        told.append(("  ", f"It was submitted by {job.submitter}."))
    return [(indent, clean(line)) for indent, line in told]


def _survived(job: "wire.JobStatus", reasons: list[str]) -> list[str]:
    """What a job that is over went through before; of others the scheduler's reasons tell it."""
    told = []
    if job.state in OVER and job.retries:
        told.append(f"It failed {plural(job.retries, 'time')} before and was tried again.")
    if job.state in OVER and job.crashes and not any(_sentences.split(reason)[1] for reason in reasons):
        where = "a process" if job.crashes == 1 else f"{job.crashes:,} processes"
        told.append(f"It was running in {where} that died.")
    return told
