"""``zmqtasks result``: what a job returned, or what it failed with."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from zmqtasks.cli._asking import id_argument, part_hint
from zmqtasks.cli._shared import Example, broker_url, connection_options, json_option, loglevel_option, say, show_json
from zmqtasks.errors import ClientClosed, JobCancelled, JobTimeout, ResultExpired, UnknownJob

if TYPE_CHECKING:
    from zmqtasks.submitter.results import Job

FIRST_ANSWER = 1.0  # seconds that the scheduler has in any case to say that a job is over
NOT_OVER = 5  # the exit code where the job is not over in time
NO_ANSWER = (UnknownJob, ResultExpired, ClientClosed)
HOW = {"failed": "failed", "cancelled": "was cancelled", "aborted": "was ended by the system"}


@click.command(
    epilog=Example(
        "zmqtasks result 6f1f2a7c0d4b5e6f708192a300000000",
        "zmqtasks result my-own-id --timeout 10 --json",
    )
)
@id_argument
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long to wait for a job that is not over.  [default: as long as it takes]",
)
@connection_options
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, job_id: str, timeout: float | None, broker: str | None, as_json: bool) -> int:
    """Print what a job returned, as JSON if it can be, else as Python shows it.

    A job that is not over is waited for. If it failed, its error and the traceback of the worker go to stderr, and the
    exit code is 1; it is 5 if the job is not over within --timeout. ID is the job's id, or the id that was given to it
    as job_id.
    """
    from zmqtasks.cli._client import open_client

    if os.getcwd() not in sys.path:  # noqa: PTH109  (sys.path holds strings)
        sys.path.insert(0, os.getcwd())  # noqa: PTH109  (results of the user's own classes are found as Python does)
    with open_client(broker_url(ctx, broker)) as client:
        job = client.job(job_id)
        try:
            error = job.exception(None if timeout is None else max(timeout, FIRST_ANSWER))
        except JobCancelled as cancelled:
            error = cancelled
        except JobTimeout as late:  # raised, not returned: the job has not failed with it
            say(str(late))
            return NOT_OVER
        if job.state == "aborted" and isinstance(error, NO_ANSWER):  # a task that raises these has failed
            raise type(error)(f"{error}{part_hint(job_id)}")
        return _show_json(job_id, job) if as_json else _show(job, error)


def _show_json(job_id: str, job: "Job[Any]") -> int:
    """One object: the id as it was asked for, the state, the result or the error."""
    import json

    from zmqtasks.cli._outcomes import encode, outcome

    told = outcome(1, job)
    del told["line"]
    show_json({**json.loads(encode(told)), "id": job_id})
    return 0 if told["state"] == "succeeded" else 1


def _show(job: "Job[Any]", error: BaseException | None) -> int:
    from zmqtasks.cli._outcomes import describe, value_text
    from zmqtasks.cli._tables import clean

    if error is None:
        click.echo(value_text(job.result(0)))
        return 0
    told = describe(error)
    if told["traceback"]:
        click.echo(clean(told["traceback"].rstrip("\n"), keep="\n\t"), err=True)
    say(f"job {job.id} {HOW[job.state]}: {told['type']}: {told['message']}")
    return 1
