"""``zmqtasks worker``: run jobs on this machine."""

import os
import socket
from pathlib import Path

import click

from zmqtasks.cli._celery_options import celery_options
from zmqtasks.cli._shared import Common, Example, broker_option, broker_url, daemon_options, resource_option
from zmqtasks.conf.pools import MAX_CONCURRENCY, POOL_ALIASES, POOLS, POOLS_LATER
from zmqtasks.config import BROKER_VARIABLE, CONFIG_FILE
from zmqtasks.cpus import cores
from zmqtasks.queues import flaw


def _pool(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    pool = POOL_ALIASES.get(value or "", value)
    if pool in POOLS_LATER:
        raise click.BadParameter(f"pool {value} comes later; use {' or '.join(POOLS[:2])}", ctx, param)
    if pool is not None and pool not in POOLS:
        raise click.BadParameter(f"there is no pool {value!r}; there are {', '.join(POOLS)}", ctx, param)
    return pool


def _complete_pool(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [pool for pool in POOLS if pool.startswith(incomplete)]


def _queues(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in (value or "").split(",") if name.strip()))
    if value is not None and not names:
        raise click.BadParameter(f"it names no queue; write them like {param.opts[0]} high,normal", ctx, param)
    for name in names:
        if wrong := flaw(name):
            raise click.BadParameter(
                f"queue {name!r:.100} {wrong}; write them like {param.opts[0]} high,normal", ctx, param
            )
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
    if wrong := flaw(out):  # a worker may have a queue of its own, by its name
        raise click.BadParameter(f"worker {out!r:.100} {wrong}")
    return out


def _take_configured_broker() -> None:
    """Where neither the command line nor the environment names a broker, zmqtasks.toml does; an app's own goes first.

    Raises:
        BadUrl: zmqtasks.toml cannot be read.
    """
    if os.environ.get(BROKER_VARIABLE) or not Path(CONFIG_FILE).exists():
        return
    from zmqtasks.submitter.client import named_broker

    found = named_broker()
    if found and not found.startswith("local://"):
        os.environ[BROKER_VARIABLE] = found  # where the agent looks when it has seen the app


@click.command(
    epilog=Example(
        "zmqtasks worker -A photos --broker tcp://head:5555 -c 8 -Q high,normal",
        "zmqtasks -A photos worker -c 8",
    )
)
@click.option("-A", "--app", metavar="MODULE[:ATTR]", help="The module that holds the App; its tasks are loaded.")
@broker_option
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, MAX_CONCURRENCY),
    metavar="N",
    help="Jobs at a time.  [default: the setting worker_concurrency, or one per core]",
)
@click.option(
    "-P",
    "--pool",
    callback=_pool,
    shell_complete=_complete_pool,  # a click.Choice would not say which pools come later
    metavar="POOL",
    help="What a slot is: processes (a child each), threads (of one child; for jobs that wait), solo (one slot).  "
    "[default: the setting worker_pool, or processes]",
)
@click.option(
    "-Q",
    "--queues",
    callback=_queues,
    metavar="A,B",
    help="Take jobs of these queues.  [default: those of the setting task_queues, or default and the app's]",
)
@click.option(
    "-X",
    "--exclude-queues",
    callback=_queues,
    metavar="A,B",
    help="But not of these.",
)
@click.option(
    "-n",
    "--name",
    "--hostname",
    "name",
    metavar="NAME",
    help="Name of this worker; %h stands for the host.  [default: worker@%h]",
)
@resource_option(
    "What it has for jobs that need it, like gpu=2 or mem=64GiB; may be repeated. Each job gets GPUs of its own, or a "
    "share of one, in CUDA_VISIBLE_DEVICES."
)
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the running jobs may go on after Ctrl-C or SIGTERM.",
)
@daemon_options
@celery_options
@click.pass_context
def command(
    ctx: click.Context,
    *,
    app: str | None,
    broker: str | None,
    concurrency: int | None,
    pool: str | None,
    queues: tuple[str, ...],
    exclude_queues: tuple[str, ...],
    name: str | None,
    resource: dict[str, str],
    shutdown_timeout: float,
    loglevel: str,
    logfile: str | None,
    lifeline_fd: int | None,
) -> int:
    """Run jobs on this machine, in child processes.

    Ctrl-C once: finish what runs, hand back the rest. Twice: stop now; the running jobs run again elsewhere.
    """
    from zmqtasks import logs, resources

    named = broker or ctx.ensure_object(Common).broker
    url = broker_url(ctx, named) if named else ""  # else the app's, then the environment's: as in scripts
    if not named:
        _take_configured_broker()
    full_name = worker_name(name or "worker@%h")
    if pool == "solo" and concurrency not in (None, 1):
        raise click.BadParameter(f"pool solo is one slot, not {concurrency}; use processes or threads")
    logs.setup(loglevel, logfile)
    module = app or ctx.ensure_object(Common).app
    if concurrency is None or pool is None:
        from zmqtasks.cli._settings import worker_settings

        theirs = worker_settings(module)
        pool = pool or theirs.pool
        concurrency = concurrency or theirs.concurrency

    from zmqtasks.worker.agent import WorkerOptions, run_worker

    return run_worker(
        WorkerOptions(
            broker=url,
            name=full_name,
            concurrency=1 if pool == "solo" else concurrency or cores(),
            pool="threads" if pool == "threads" else "processes",
            logfile=logfile,
            queues=queues,
            exclude=exclude_queues,
            app=module,
            shutdown_timeout=shutdown_timeout,
            loglevel=loglevel,
            lifeline_fd=lifeline_fd,
            resources=resources.parse(resource),
        )
    )
