"""``zmqtasks status``: how the scheduler is, for people and for machines."""

import click

from zmqtasks.cli._shared import (
    Example,
    answer_option,
    broker_url,
    connection_options,
    json_option,
    loglevel_option,
    show_json,
)


@click.command(epilog=Example("zmqtasks status --broker tcp://head:5555", "zmqtasks status --watch"))
@connection_options
@answer_option
@click.option("--all", "everything", is_flag=True, help="Show every worker, queue and warning, however many.")
@click.option("-w", "--watch", is_flag=True, help="Show it anew every second, until Ctrl-C; with --json a line each.")
@json_option
@loglevel_option
@click.pass_context
def command(
    ctx: click.Context, *, broker: str | None, timeout: float, everything: bool, watch: bool, as_json: bool
) -> None:
    """Show the scheduler, its workers, its queues and how many jobs are in which state."""
    from zmqtasks import operators
    from zmqtasks.cli import _status, _tables

    url = broker_url(ctx, broker)
    if watch:
        from zmqtasks.cli._watch import watch_status

        watch_status(url, timeout, everything=everything, as_json=as_json)
        return
    status = operators.ask_status(url, timeout)
    if as_json:
        show_json(_status.as_dict(url, status))
    else:
        console = _tables.console()
        for part in _status.tables(url, status, everything=everything):
            console.print(part)
