"""What commands have in common: options, the broker's address, how they speak to people."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, TypeVar

import click

from zmqtasks import logs
from zmqtasks.config import BROKER_VARIABLE, DEFAULT_BROKER
from zmqtasks.logs import LEVELS

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Common:
    """What stands before the command's name, and what `main` must know when a command fails."""

    app: str | None = None
    broker: str | None = None
    debug: bool = False


def Example(*lines: str) -> str:  # noqa: N802  (it reads as a heading where it is used)
    """The end of a command's help: examples that click does not wrap."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def release() -> str:
    """The installed version of zmqtasks."""
    try:
        return metadata.version("zmqtasks")
    except metadata.PackageNotFoundError:
        return "unknown"


def say(text: str) -> None:
    """One line for the person at the terminal, on stderr, whatever line breaks and controls the text holds."""
    from zmqtasks.cli._tables import clean

    print(f"zmqtasks: {clean(' '.join(text.split()))}", file=sys.stderr, flush=True)  # noqa: T201  (this is what people read)


def show_json(value: object) -> None:
    """What --json prints: one object, indented, keys in a fixed order."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def loglevel_option(function: F) -> F:
    """-l of commands that come to an end: warnings and worse are shown."""
    return _loglevel("warning", _set_up_logging, expose=False)(function)


def daemon_options(function: F) -> F:
    """The options of processes that stay: -l, --logfile, and the hidden lifeline."""
    function = click.option(
        "--lifeline-fd", type=int, hidden=True, help="End when this file descriptor gives end of file."
    )(function)
    function = click.option(
        "--logfile", type=click.Path(dir_okay=False), metavar="FILE", help="Append the log to FILE, not to stderr."
    )(function)
    return _loglevel("info", _note_debug, expose=True)(function)


def _loglevel(default: str, callback: Callable[..., str], *, expose: bool) -> Callable[[F], F]:
    return click.option(
        "-l",
        "--loglevel",
        type=click.Choice(LEVELS, case_sensitive=False),
        default=default,
        show_default=True,
        callback=callback,
        expose_value=expose,
        metavar="LEVEL",
        help=f"How much to log: {', '.join(LEVELS)}.",
    )


def _note_debug(ctx: click.Context, _param: click.Parameter, value: str) -> str:
    ctx.ensure_object(Common).debug = value == "debug"
    return value


def _set_up_logging(ctx: click.Context, param: click.Parameter, value: str) -> str:
    logs.setup(value)
    return _note_debug(ctx, param, value)


def json_option(function: F) -> F:
    """--json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(function)


def answer_option(function: F) -> F:
    """--timeout of commands that ask the scheduler."""
    return click.option(
        "--timeout",
        type=click.FloatRange(0, min_open=True),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for the scheduler.",
    )(function)


def limit_option(default: int) -> Callable[[F], F]:
    """--limit of commands that print rows."""
    return click.option(
        "--limit",
        type=click.IntRange(1, 500),
        default=default,
        show_default=True,
        metavar="N",
        help="Rows to show, at most.",
    )


def broker_option(function: F) -> F:
    """--broker; read it with `broker_url`."""
    return click.option(
        "-b",
        "--broker",
        metavar="URL",
        help="The scheduler, tcp://HOST:PORT or ipc://PATH.  "
        f"[default: ${BROKER_VARIABLE}, zmqtasks.toml or {DEFAULT_BROKER}]",
    )(function)


def connection_options(function: F) -> F:
    """--broker, and -A for the app's own one, which every command that asks a scheduler has; read by `broker_url`."""
    function = click.option(
        "-A",
        "--app",
        metavar="MODULE[:ATTR]",
        expose_value=False,
        callback=_note_app,
        help="The module that holds the App, whose scheduler it is unless --broker names one.",
    )(function)
    return broker_option(function)


def _note_app(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value:
        ctx.ensure_object(Common).app = value


def given_broker(ctx: click.Context, broker: str | None) -> str | None:
    """The broker that the user named.

    --broker goes first, after the command's name or before it; then the app of -A, whose settings hold the rest, too;
    then the environment, then zmqtasks.toml.

    Raises:
        BadUrl: zmqtasks.toml cannot be read.
        AppNotLoaded: the app cannot be imported.
        BadOption: a setting of the app cannot be.
    """
    from zmqtasks.submitter.client import named_broker

    common = ctx.ensure_object(Common)
    named = broker or common.broker
    if common.app and not named:
        from zmqtasks.cli._apps import broker_of

        return broker_of(common.app)
    return named_broker(named)


def broker_url(ctx: click.Context, broker: str | None, *, local: bool = False) -> str:
    """The URL to connect to.

    Args:
        ctx: of the command.
        broker: the command's --broker.
        local: whether the command can work on local://, a cluster of its own.

    Raises:
        BadUrl: it is no URL that this command can use.
        AppNotLoaded, BadOption: see `given_broker`.
    """
    from zmqtasks.cli._urls import check
    from zmqtasks.errors import BadUrl

    url = given_broker(ctx, broker) or DEFAULT_BROKER
    if url.startswith("local://"):
        if local:
            return url
        raise BadUrl("local:// is a cluster inside one script, nobody else can reach it; give tcp://HOST:PORT")
    return check(url, local=local)


def _resources(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    from zmqtasks import resources
    from zmqtasks.errors import BadOption

    found: dict[str, str] = {}
    for value in values:
        name, mark, amount = value.partition("=")
        if not mark:
            raise click.BadParameter(f"{value!r} names no amount; write it like gpu=2 or mem=64GiB", ctx, param)
        if name in found:
            raise click.BadParameter(f"{name} is given twice", ctx, param)
        found[name] = amount
    try:
        resources.parse(found)
    except BadOption as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return found


def resource_option(meaning: str) -> Callable[[F], F]:
    """--resource NAME=AMOUNT, as amounts by name that `zmqtasks.resources` has found good."""
    return click.option("--resource", callback=_resources, multiple=True, metavar="NAME=AMOUNT", help=meaning)
