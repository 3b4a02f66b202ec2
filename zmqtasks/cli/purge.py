"""``zmqtasks purge``: cancel all that waits in a queue."""

import click

from zmqtasks.cli._shared import (
    Example,
    answer_option,
    broker_option,
    broker_url,
    json_option,
    loglevel_option,
    show_json,
)
from zmqtasks.words import plural


@click.command(epilog=Example("zmqtasks purge nightly --yes"))
@click.argument("queue", metavar="QUEUE")
@click.option("-y", "--yes", is_flag=True, help="Do not ask whether you mean it.")
@broker_option
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(ctx: click.Context, *, queue: str, yes: bool, broker: str | None, timeout: float, as_json: bool) -> None:
    """Cancel all jobs of a queue that have not started; those that workers hold go on."""
    from zmqtasks import wire
    from zmqtasks.operators import Operator

    url = broker_url(ctx, broker)
    if not yes:
        click.confirm(f"Cancel all jobs that wait in queue {queue} at {url}?", abort=True, err=True)
    with Operator(url, timeout) as operator:
        done = operator.control(wire.Purge(queue))
    if as_json:
        show_json({"queue": queue, "cancelled": done.count})
    else:
        click.echo(f"{plural(done.count, 'job')} of queue {queue} cancelled")
