"""``zmqtasks purge``: cancel all that waits in a queue."""

import sys

import click

from zmqtasks.cli._shared import (
    Example,
    answer_option,
    broker_url,
    connection_options,
    json_option,
    loglevel_option,
    say,
    show_json,
)
from zmqtasks.words import plural


@click.command(epilog=Example("zmqtasks purge nightly --yes"))
@click.argument("queue", metavar="QUEUE")
@click.option("-y", "--yes", is_flag=True, help="Do not ask whether you mean it.")
@connection_options
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, queue: str, yes: bool, broker: str | None, timeout: float, as_json: bool) -> int:
    """Cancel all jobs of a queue that have not started; those that workers hold go on."""
    from zmqtasks import operators, wire

    url = broker_url(ctx, broker)
    if not yes and not _meant(ctx, queue, url):
        say("nothing was cancelled")
        return 1
    done = operators.change(url, wire.Purge(queue), timeout)
    if done.warning:
        say(f"warning: {done.warning}")
    if as_json:
        show_json({"queue": queue, "cancelled": done.count, "warning": done.warning})
    else:
        click.echo(f"{plural(done.count, 'job')} of queue {queue} cancelled")
    return 0


def _meant(ctx: click.Context, queue: str, url: str) -> bool:
    """Ask whether it is meant. Raises UsageError if nobody is there to answer."""
    try:
        return click.confirm(f"Cancel all jobs that wait in queue {queue} at {url}?", err=True)
    except click.Abort:
        if sys.stdin is not None and sys.stdin.isatty():
            raise
        told = "nobody answers here, and nothing was cancelled; --yes says that you mean it"
        raise click.UsageError(told, ctx) from None
