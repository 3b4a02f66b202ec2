"""``zmqtasks control``: change how a running scheduler gives out jobs."""

from typing import TYPE_CHECKING, Final

import click

from zmqtasks.cli._celery_options import CONTROL as CELERY
from zmqtasks.cli._celery_options import Words
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
from zmqtasks.errors import BadOption
from zmqtasks.words import plural

if TYPE_CHECKING:
    from zmqtasks import wire

HELP: Final = """Change how the scheduler gives out jobs, while it runs.

\b
rate_limit TASK RATE   how often jobs of a task start, in the whole cluster: 10/m, 100/s, 0 (no limit), or default
pause QUEUE            no job of this queue starts any more; what runs goes on
resume QUEUE           its jobs start again
weight QUEUE NUMBER    its share of the slots' time beside other queues of the same priority (1 by default)
add_consumer QUEUE     workers take jobs of this queue, too: all of them, or those that -d names
cancel_consumer QUEUE  they take no more of it; what they hold and has not started goes back

A name that nobody knows is warned of, with the one that was perhaps meant; it is done all the same, for a queue may be
paused before it has jobs. What is set stays so when the scheduler is started again; what is said to workers, until
they end.
"""


_VERBS: Final = ("rate_limit", "pause", "resume", "weight", "add_consumer", "cancel_consumer")


@click.command(
    help=HELP,
    epilog=Example("zmqtasks control rate_limit photos.resize 100/s", "zmqtasks control pause nightly"),
)
@click.argument("what", type=Words(_VERBS, CELERY))
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="[VALUE]", required=False)
@click.option(
    "--burst",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="With rate_limit: starts at once after a pause.",
)
@click.option(
    "-d",
    "--destination",
    metavar="WORKER",
    default="",
    help="With add_consumer and cancel_consumer: only the workers of this name.",
)
@connection_options
@answer_option
@json_option
@loglevel_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    what: str,
    name: str,
    value: str | None,
    burst: int,
    destination: str,
    broker: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """See HELP, in which click wraps no line of the list."""
    from zmqtasks import operators

    if (value is None) == (what in ("rate_limit", "weight")):
        needs = "a value" if value is None else "no value"
        raise click.UsageError(f"control {what} takes {needs} besides {name!r}", ctx)
    consumers = what in ("add_consumer", "cancel_consumer")
    if destination and not consumers:
        raise click.UsageError(f"control {what} concerns the scheduler, not single workers: leave -d out", ctx)
    message: wire.SetRate | wire.SetQueue | wire.SetConsumer
    if consumers:
        message, said = _consumer(what, name, destination)
    else:
        message, said = _rate(name, value, burst) if what == "rate_limit" else _queue(what, name, value)
    done = operators.change(broker_url(ctx, broker), message, timeout)
    if done.warning:
        say(f"warning: {done.warning}")
    if as_json:
        workers = {"workers": done.count} if consumers else {}
        show_json({"done": what, "name": name, "value": value, **workers, "warning": done.warning})
    else:
        click.echo(f"{plural(done.count, 'worker')} {said}" if consumers else said)


def _rate(task: str, value: str | None, burst: int) -> "tuple[wire.SetRate, str]":
    from zmqtasks import rates, wire

    if value == "default":
        return wire.SetRate(task, None), f"jobs of {task} start as often as they say themselves"
    rate = rates.parse(value)
    said = f"at most {rates.show(rate)}" if rate else "without a limit"
    return wire.SetRate(task, rate, burst), f"jobs of {task} start {said}, in the whole cluster"


def _consumer(what: str, queue: str, worker: str) -> "tuple[wire.SetConsumer, str]":
    from zmqtasks import wire

    take = what == "add_consumer"
    return wire.SetConsumer(queue, take, worker), f"asked to take {'' if take else 'no more '}from queue {queue}"


def _queue(what: str, queue: str, value: str | None) -> "tuple[wire.SetQueue, str]":
    from zmqtasks import wire

    if what == "weight":
        try:
            weight = float(value or "")
        except ValueError:
            raise BadOption(f"a weight is a number above 0, not {value!r}") from None
        return wire.SetQueue(queue, weight=weight), f"queue {queue} has weight {weight:g}"
    said = "is paused: no job of it starts" if what == "pause" else "is resumed"
    return wire.SetQueue(queue, paused=what == "pause"), f"queue {queue} {said}"
