"""``zmqtasks worker``: run jobs on this machine."""

import os
import socket

import click

from zmqtasks.cli._shared import Common, Example, broker_option, broker_url, daemon_options

POOLS_LATER = ("threads", "asyncio", "gevent", "eventlet", "solo")
POOL_ALIASES = {"prefork": "processes"}  # Celery's word


def _pool(ctx: click.Context, param: click.Parameter, value: str) -> str:
    pool = POOL_ALIASES.get(value, value)
    if pool in POOLS_LATER:
        raise click.BadParameter(f"pool {value} comes later; use processes", ctx, param)
    if pool != "processes":
        raise click.BadParameter(f"there is no pool {value!r}; use processes", ctx, param)
    return pool


def _queues(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))
    if value is not None and not names:
        raise click.BadParameter("it names no queue; write them like -Q high,normal", ctx, param)
    return names


def worker_name(pattern: str) -> str:
    """A worker's name with Celery's abbreviations filled in: %h host, %n host without its domain, %d domain, %% a %."""
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    meanings = {"h": host, "n": short, "d": domain, "%": "%"}
    out, rest = "", pattern
    while rest:
        head, mark, rest = rest.partition("%")
        out += head
        if mark:
            if rest[:1] not in meanings:
                raise click.BadParameter(f"%{rest[:1]} means nothing in a name; there are %h, %n, %d, %%")
            out += meanings[rest[0]]
            rest = rest[1:]
    return out


def _cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


@click.command(
    epilog=Example(
        "zmqtasks worker -A photos --broker tcp://head:5555 -c 8 -Q high,normal",
        "zmqtasks -A photos worker -c 8",
    )
)
@click.option("-A", "--app", metavar="MODULE[:ATTR]", help="The module that holds the App; its tasks are loaded.")
@broker_option
@click.option(
    "-c", "--concurrency", type=click.IntRange(1, 4096), metavar="N", help="Jobs at a time.  [default: one per core]"
)
@click.option(
    "-P",
    "--pool",
    default="processes",
    callback=_pool,
    expose_value=False,  # checked, and there is only one
    metavar="POOL",
    help="How jobs run: processes (more come later).",
)
@click.option(
    "-Q",
    "--queues",
    callback=_queues,
    metavar="A,B",
    help="Take jobs of these queues.  [default: default and the app's]",
)
@click.option("-n", "--name", metavar="NAME", help="Name of this worker; %h stands for the host.  [default: worker@%h]")
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the running jobs may go on after Ctrl-C or SIGTERM.",
)
@daemon_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    app: str | None,
    broker: str | None,
    concurrency: int | None,
    queues: tuple[str, ...],
    name: str | None,
    shutdown_timeout: float,
    loglevel: str,
    logfile: str | None,
    lifeline_fd: int | None,
) -> int:
    """Run jobs on this machine, in as many child processes as it has slots.

    Ctrl-C once: finish what runs, hand back the rest. Twice: stop now; the running jobs run again elsewhere.
    """
    from zmqtasks import logs

    named = broker or ctx.ensure_object(Common).broker
    url = broker_url(ctx, named) if named else ""  # else the app's, then the environment's: as in scripts
    full_name = worker_name(name or "worker@%h")
    logs.setup(loglevel, logfile)

    from zmqtasks.worker.agent import WorkerOptions, run_worker

    return run_worker(
        WorkerOptions(
            broker=url,
            name=full_name,
            concurrency=concurrency or _cores(),
            queues=queues,
            app=app or ctx.ensure_object(Common).app,
            shutdown_timeout=shutdown_timeout,
            loglevel=loglevel,
            lifeline_fd=lifeline_fd,
        )
    )
