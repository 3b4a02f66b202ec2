"""``zmqtasks revoke``: cancel jobs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from zmqtasks.cli._asking import part_hint
from zmqtasks.cli._shared import Example, broker_url, connection_options, json_option, loglevel_option, show_json

if TYPE_CHECKING:
    from zmqtasks import wire

OVER = ("succeeded", "failed", "aborted")
STILL_RUNS, UNKNOWN = 1, 2


@click.command(
    epilog=Example(
        "zmqtasks revoke 6f1f2a7c0d4b5e6f708192a300000000 my-own-id",
        "zmqtasks revoke --force 6f1f2a7c0d4b5e6f708192a300000000",
    )
)
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="End jobs that run, too; the process that runs one is killed.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@connection_options
@json_option
@loglevel_option
@click.pass_context
def command(
    ctx: click.Context, *, job_ids: tuple[str, ...], force: bool, timeout: float, broker: str | None, as_json: bool
) -> int:
    """Cancel jobs, and say what became of each.

    A job that runs goes on, unless --force is given. ID is the job's id, or the id that was given to it as job_id. The
    exit code is 1 if a job goes on, 2 if one is not known, and 0 otherwise.
    """
    from zmqtasks.cli._client import open_client
    from zmqtasks.ids import given_id
    from zmqtasks.operators import Operator

    url = broker_url(ctx, broker)
    wanted = list(dict.fromkeys(job_ids))
    with open_client(url) as client, Operator(url, timeout) as operator:
        jobs = [client.job(one) for one in wanted]
        client.cancel(jobs, force=force, timeout=timeout)
        told = [_told(one, operator.job(given_id(one))) for one in wanted]
    if as_json:
        show_json({"jobs": told})
    else:
        for one in told:
            click.echo(_line(one))
    return _code([one["state"] for one in told])


def _told(job_id: str, report: "wire.JobReport") -> dict[str, Any]:
    """What became of one job; a state of null: it is not known."""
    job = report.job
    if job is None:
        return {"id": job_id, "state": None, "worker": ""}
    return {"id": job_id, "state": job.state, "worker": job.worker}


def _line(told: dict[str, Any]) -> str:
    job_id, state = told["id"], told["state"]
    if state is None:
        return f"{job_id}: not known here{part_hint(job_id)}"
    if state == "cancelled":
        return f"{job_id}: cancelled"
    if state in OVER:
        return f"{job_id}: it was over already ({state})"
    return f"{job_id}: it goes on ({state} on worker {told['worker']}); --force ends it"


def _code(states: Sequence[str | None]) -> int:
    if None in states:
        return UNKNOWN
    return STILL_RUNS if any(state not in (*OVER, "cancelled") for state in states) else 0
