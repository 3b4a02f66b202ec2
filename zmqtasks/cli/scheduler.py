"""``zmqtasks scheduler``: run the daemon."""

import click

from zmqtasks.cli._shared import Example, daemon_options
from zmqtasks.config import DEFAULT_BROKER


def _networks(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    import ipaddress

    for value in values:
        try:
            ipaddress.ip_network(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}; a network is written like 10.0.0.0/8", ctx, param) from None
    return values


@click.command(
    epilog=Example(
        "zmqtasks scheduler --bind tcp://127.0.0.1:5555",
        "zmqtasks scheduler --bind tcp://0.0.0.0:5555 --plaintext 10.1.0.0/16",
    )
)
@click.option(
    "--bind",
    multiple=True,
    metavar="URL",
    help=f"Listen on tcp://HOST:PORT or ipc://PATH; may be given several times.  [default: {DEFAULT_BROKER}]",
)
@click.option(
    "--in-memory",
    is_flag=True,
    expose_value=False,  # there is no other way yet; it is taken so that scripts can say what they mean
    help="Keep no journal: what is queued ends with the scheduler (so far there is no other way).",
)
@click.option(
    "--plaintext",
    multiple=True,
    metavar="CIDR",
    callback=_networks,
    help="Let peers of this network in without keys; needed to listen on anything but loopback and ipc.",
)
@click.option("--pidfile", type=click.Path(dir_okay=False), metavar="FILE", help="Write the process id to FILE.")
@daemon_options
def command(
    *,
    bind: tuple[str, ...],
    plaintext: tuple[str, ...],
    pidfile: str | None,
    loglevel: str,
    logfile: str | None,
    lifeline_fd: int | None,
) -> int:
    """Run the scheduler, the one daemon that workers and scripts connect to.

    It says "zmqtasks scheduler ready on URL" on stdout as soon as it takes connections. Ctrl-C or SIGTERM ends it.
    """
    from zmqtasks import logs
    from zmqtasks.cli._urls import check
    from zmqtasks.errors import BadUrl

    for url in bind:
        if url.startswith("local://"):
            raise BadUrl("a scheduler cannot listen on local://, which is a cluster inside one script; use ipc://PATH")
        check(url, listen=True)
    logs.setup(loglevel, logfile)

    from zmqtasks.scheduler.daemon import SchedulerOptions, run_scheduler

    return run_scheduler(
        SchedulerOptions(
            bind=bind or (DEFAULT_BROKER,),
            in_memory=True,
            plaintext=plaintext,
            lifeline_fd=lifeline_fd,
            pidfile=pidfile,
        )
    )
