"""``zmqtasks scheduler``: run the daemon."""

from pathlib import Path
from typing import Final

import click

from zmqtasks.cli._shared import Example, daemon_options
from zmqtasks.config import DEFAULT_BROKER

LEVELS: Final = ("disk", "os", "memory")


def _levels(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for value in values:
        queue, _, level = value.rpartition("=")
        if level not in LEVELS:
            raise click.BadParameter(f"{level!r} is none of {', '.join(LEVELS)}", ctx, param)
        if queue in found:
            raise click.BadParameter(f"{queue or 'the default'} is given twice", ctx, param)
        found[queue] = level
    return tuple(found.items())


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
        "zmqtasks scheduler --data /var/lib/zmqtasks --durability metrics=memory",
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
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the journal in DIR.  [default: one per port in the user's state directory]",
)
@click.option(
    "--in-memory",
    is_flag=True,
    help="Keep no journal: what was accepted ends with the scheduler.",
)
@click.option(
    "--durability",
    "durabilities",
    multiple=True,
    metavar="[QUEUE=]LEVEL",
    callback=_levels,
    help="What accepted jobs outlive, where they do not say so themselves: disk (the loss of power; the default), os "
    "(the scheduler's process), memory (nothing). With a queue's name it is for that queue only.",
)
@click.option(
    "--ageing",
    type=click.FloatRange(0, min_open=True),
    default=None,
    metavar="SECONDS",
    help="A job that has waited so long counts as one priority higher, after twice as long as two, up to 9: none waits "
    "for ever behind more urgent ones.  [default: priorities are strict]",
)
@click.option(
    "--plaintext",
    multiple=True,
    metavar="CIDR",
    callback=_networks,
    help="Let peers of this network in without keys; needed to listen on anything but loopback and ipc.",
)
@click.option(
    "--busy-poll",
    type=click.FloatRange(0.0, 0.002),
    metavar="SECONDS",
    help="While jobs come one at a time, and quickly, look for the next step so long before sleeping: a quarter less "
    "time there and back, for up to a whole core meanwhile. 0: never.  [default: 0.0005]",
)
@click.option("--pidfile", type=click.Path(dir_okay=False), metavar="FILE", help="Write the process id to FILE.")
@daemon_options
def command(
    *,
    bind: tuple[str, ...],
    data: Path | None,
    in_memory: bool,
    durabilities: tuple[tuple[str, str], ...],
    ageing: float | None,
    plaintext: tuple[str, ...],
    busy_poll: float | None,
    pidfile: str | None,
    loglevel: str,
    logfile: str | None,
    lifeline_fd: int | None,
) -> int:
    """Run the scheduler, the one daemon that workers and scripts connect to.

    It says "zmqtasks scheduler ready on URL" on stdout as soon as it takes connections. Ctrl-C or SIGTERM ends it.

    What it accepts it writes to its journal first: started again on the same directory, it goes on where it ended,
    however that was. Without --data the directory is named after the port that it listens on.
    """
    from zmqtasks import logs
    from zmqtasks.cli._urls import check, default_data
    from zmqtasks.config import BUSY_POLL, SchedulerSettings
    from zmqtasks.errors import BadUrl

    if in_memory and data is not None:
        raise click.UsageError("--data DIR keeps a journal and --in-memory keeps none: give one of them")
    if in_memory and durabilities:
        raise click.UsageError("--durability says what the journal keeps, and --in-memory keeps none")
    for url in bind:
        if url.startswith("local://"):
            raise BadUrl("a scheduler cannot listen on local://, which is a cluster inside one script; use ipc://PATH")
        check(url, listen=True)
    logs.setup(loglevel, logfile)

    from zmqtasks.scheduler.daemon import SchedulerOptions, run_scheduler

    return run_scheduler(
        SchedulerOptions(
            bind=bind or (DEFAULT_BROKER,),
            data=None if in_memory else data or default_data(bind[0] if bind else DEFAULT_BROKER),
            plaintext=plaintext,
            lifeline_fd=lifeline_fd,
            pidfile=pidfile,
            busy_poll=BUSY_POLL if busy_poll is None else busy_poll,
            settings=SchedulerSettings(durability=durabilities, ageing=ageing or 0.0),
        )
    )
