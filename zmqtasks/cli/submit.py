"""``zmqtasks submit``: one job, or the jobs of a file or a stream."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from zmqtasks.cli._shared import Common, Example, broker_url, connection_options, loglevel_option, resource_option, say
from zmqtasks.config import MAX_PRIORITY

if TYPE_CHECKING:
    from zmqtasks.app import App
    from zmqtasks.cli._outcomes import Output
    from zmqtasks.cli._progress import Bar
    from zmqtasks.cli._sender import ClientSender
    from zmqtasks.cli._sources import Source
    from zmqtasks.cli._targets import Targets

FILE = click.Path(readable=False, allow_dash=True)  # for completion; opening it says better what is wrong
SIGNALLED = 128  # and the signal's number: what shells say


@dataclass(slots=True, frozen=True)
class _Plan:
    """What the command line asks for."""

    url: str
    target: str | None
    args: list[Any]
    kwargs: dict[str, Any]
    jobs: str | None
    options: dict[str, Any]
    output: str | None
    wait: bool
    progress: bool
    as_json: bool
    app: "App | None"

    @property
    def one(self) -> bool:
        """Whether the command line itself describes the only job."""
        return self.jobs is None


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | float | None:
    """Seconds, or a time with its zone."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time; write it like 2026-07-04T12:00:00Z", ctx, param) from None
    if found.tzinfo is None:
        told = f"{value!r} names no time zone; write it like {found.isoformat()}Z or {found.isoformat()}+02:00"
        raise click.BadParameter(told, ctx, param)
    return found


@click.command(
    epilog=Example(
        "zmqtasks submit math:sqrt --args '[2]' --wait",
        "zmqtasks submit shop.tasks.resize --jobs jobs.jsonl --output results.jsonl",
        "generate | zmqtasks submit shop.tasks.resize --jobs - --wait",
        "zmqtasks -A shop submit shop.tasks.pay --args '[17]'",
    )
)
@click.argument("target", metavar="[MODULE:FUNCTION|TASK]", required=False)
@click.option("--args", "args_json", metavar="JSON", help="Positional arguments of one job, a JSON list.")
@click.option("--kwargs", "kwargs_json", metavar="JSON", help="Keyword arguments of one job, a JSON object.")
@click.option("--jobs", type=FILE, metavar="FILE", help="Read jobs from FILE, one JSON object a line; - is stdin.")
@click.option("--wait", is_flag=True, help="Wait for the results and print them; without it, print the job ids.")
@click.option(
    "--output", type=FILE, metavar="FILE", help="Write results to FILE, in order of completion (and wait for them)."
)
@click.option(
    "--progress/--no-progress", default=None, help="Show a bar on stderr.  [default: if stderr is a terminal]"
)
@click.option("--queue", metavar="NAME", help="The queue of jobs that name none.")
@click.option("--retries", type=click.IntRange(0), metavar="N", help="Tries after the first one that fails.")
@click.option(
    "--priority",
    type=click.IntRange(0, MAX_PRIORITY),
    metavar="N",
    help="0 to 9; the higher, the sooner.",
)
@click.option("--countdown", type=click.FloatRange(0), metavar="SECONDS", help="Start no sooner than in so long.")
@click.option("--eta", callback=_time, metavar="TIME", help="Or than at this time, like 2026-07-04T12:00:00Z.")
@click.option(
    "--expires", callback=_time, metavar="TIME", help="Do not start after this time, or so many seconds from now."
)
@click.option("--serializer", metavar="NAME", help="The codec of arguments and result.  [default: the task's]")
@resource_option("What each job needs of its worker, like gpu=1, gpu=0.25, mem=2GiB; may be repeated.")
@click.option(
    "--on-unknown",
    type=click.Choice(["fail", "wait"]),
    default="fail",
    show_default=True,
    help="What becomes of a TASK that no worker knows now.",
)
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Without --wait: print the job ids as JSON, one object a line.")
@loglevel_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    target: str | None,
    args_json: str | None,
    kwargs_json: str | None,
    jobs: str | None,
    wait: bool,
    output: str | None,
    progress: bool | None,
    queue: str | None,
    retries: int | None,
    priority: int | None,
    countdown: float | None,
    eta: datetime | float | None,
    expires: datetime | float | None,
    serializer: str | None,
    resource: dict[str, str],
    on_unknown: str,
    broker: str | None,
    as_json: bool,
) -> int:
    """Submit one job, or one per line of a file or of stdin.

    MODULE:FUNCTION is imported here and shipped to the workers; any other name is a task that they know. With -A it
    goes where the app sends it, with the options and the serializer of the task, and the keys of its limits. A line of
    --jobs is {"args": [...], "kwargs": {...}}, and may have "task", "id", "queue", "retries", "backoff", "backoff_max",
    "jitter", "countdown", "eta", "crash_budget", "result_ttl", "on_unknown", "durability", "acks_late", "priority",
    "expires", "rate_limit", "burst", "rate_key", "concurrency_limit", "concurrency_key", "serializer", "compression",
    "result_compression", "resources". A file is checked whole before anything is submitted; a stream ends at a broken
    line, after the jobs before it.

    A result is printed as {"line": ..., "id": ..., "state": "succeeded", "result": ...}; what JSON cannot hold comes as
    "result": {"repr": "..."}. A job that failed has "error" instead: {"type", "message", "traceback"}.

    The exit code is 1 if any job failed. Ctrl-C and SIGTERM cancel what has not started.
    """
    if target is not None and jobs is None and target.endswith(".jsonl") and Path(target).is_file():
        target, jobs = None, target  # zmqtasks submit jobs.jsonl
    if target is None and jobs is None:
        raise click.UsageError("give MODULE:FUNCTION, the name of a task, or --jobs FILE", ctx)
    if jobs is not None and (args_json is not None or kwargs_json is not None):
        raise click.UsageError("--args and --kwargs are for one job; with --jobs each line has its own", ctx)

    from zmqtasks.submitter.options import check

    options: dict[str, Any] = {"queue": queue, "retries": retries, "resources": resource or None, "priority": priority}
    options |= {"countdown": countdown, "eta": eta, "expires": expires, "serializer": serializer}
    options["on_unknown"] = "wait" if on_unknown == "wait" else None
    check(options)
    loaded = _load(ctx, broker)
    plan = _Plan(
        url=broker_url(ctx, broker, local=True) if loaded is None else loaded.conf.broker_url or "",
        target=target,
        args=_json_list(ctx, "--args", args_json),
        kwargs=_json_object(ctx, "--kwargs", kwargs_json),
        jobs=jobs,
        options={name: value for name, value in options.items() if value is not None},
        output=output or ("-" if wait else None),
        wait=wait or output is not None,
        progress=sys.stderr.isatty() if progress is None else progress,
        as_json=as_json,
        app=loaded,
    )
    return _run(plan)


def _load(ctx: click.Context, broker: str | None) -> "App | None":
    """The app, if one is named here or before the command."""
    common = ctx.ensure_object(Common)
    if not common.app:
        return None
    from zmqtasks.cli._app_sender import load

    return load(common.app, broker or common.broker)


def _json_list(ctx: click.Context, option: str, text: str | None) -> list[Any]:
    value = _json(ctx, option, text or "[]")
    if not isinstance(value, list):
        raise click.BadParameter("must be a JSON list, like '[1, 2]'", ctx, param_hint=option)
    return value


def _json_object(ctx: click.Context, option: str, text: str | None) -> dict[str, Any]:
    value = _json(ctx, option, text or "{}")
    if not isinstance(value, dict):
        raise click.BadParameter("must be a JSON object, like '{\"x\": 1}'", ctx, param_hint=option)
    return value


def _json(ctx: click.Context, option: str, text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"is no JSON: {error}", ctx, param_hint=option) from None


def _run(plan: _Plan) -> int:
    from zmqtasks.cli import _summary
    from zmqtasks.cli._feed import Feed
    from zmqtasks.cli._outcomes import Tally
    from zmqtasks.cli._progress import Bar
    from zmqtasks.cli._sender import connect
    from zmqtasks.cli._targets import Targets
    from zmqtasks.words import plural

    with ExitStack() as stack:
        targets = Targets()
        source = _source(stack, plan, targets)
        sender = stack.enter_context(connect(plan.url, _maker(plan.app)))
        bar = Bar(source.total, shown=plan.progress, label="jobs" if plan.wait else "submitting", keep=not plan.one)
        tally = Tally(stack.enter_context(_output(plan, bar)), plan.output or "stdout", lines=not plan.one)
        begin = time.monotonic()
        feed = Feed(sender, targets, source, tally, lambda feed: bar.update(feed, accepted_only=not plan.wait))
        try:
            with bar:
                if plan.wait:
                    feed.run()
                else:
                    feed.run_accepted(partial(_tell_ids, _stdout(bar), as_json=plan.as_json))
        except Exception as error:
            if feed.submitted and not isinstance(error, BrokenPipeError):
                say(f"{plural(feed.submitted, 'job')} submitted before this error; they go on:")
            raise
    _summary.tell_failures(tally, plan.output, targets.meant(tally.unregistered))
    if feed.interrupted:
        _summary.tell_interrupted(feed, waited=plan.wait)
        return SIGNALLED + feed.interrupted_by
    _summary.tell_sum(feed, time.monotonic() - begin, waited=plan.wait)
    if source.broken is not None:
        raise type(source.broken)(f"{source.broken}; nothing from there on was submitted")
    return 1 if tally.bad else 0


def _maker(app: "App | None") -> "Callable[[], ClientSender] | None":
    """What makes the sender of an app."""
    if app is None:
        return None
    from zmqtasks.cli._app_sender import AppSender

    return partial(AppSender, app)


def _source(stack: ExitStack, plan: _Plan, targets: "Targets") -> "Source":
    """The jobs; those of a regular file are all checked when this returns."""
    from zmqtasks.cli._jobs import BadLine, JobLines, JobRequest
    from zmqtasks.cli._sources import OneJob, open_source

    if plan.jobs is None:
        target = plan.target or ""
        targets(target)
        return OneJob(JobRequest(1, target, plan.args, plan.kwargs, None, plan.options))
    if plan.target is not None:
        targets(plan.target)  # it is wrong for all lines, so no line is to blame
    if plan.jobs == "-":
        file: BinaryIO = sys.stdin.buffer
        name = "stdin"
    else:
        file, name = stack.enter_context(closing(_open_jobs(plan))), plan.jobs
    try:
        return open_source(file, JobLines(name, plan.target, plan.options, targets))
    except BadLine as error:
        raise BadLine(f"{error}; nothing was submitted") from None


def _open_jobs(plan: _Plan) -> BinaryIO:
    path = Path(plan.jobs or "")
    try:
        if plan.output not in (None, "-") and path.samefile(Path(plan.output or "")):
            raise click.UsageError(f"--output would overwrite {path}, which --jobs reads")
    except OSError:
        pass  # one of them is not there yet
    try:
        return path.open("rb")
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror or error}") from None


@contextmanager
def _output(plan: _Plan, bar: "Bar") -> Iterator["Output | None"]:
    if plan.output is None:
        yield None
    elif plan.output == "-":
        yield _stdout(bar)
    else:
        try:
            file = Path(plan.output).open("wb")  # noqa: SIM115  (closed below; only opening it may fail like this)
        except OSError as error:
            raise click.UsageError(f"cannot write {plan.output}: {error.strerror or error}") from None
        with file:
            yield file


def _stdout(bar: "Bar") -> "Output":
    from zmqtasks.cli._progress import AboveBar

    return AboveBar(bar) if bar.in_the_way else sys.stdout.buffer


def _tell_ids(output: "Output", accepted: list[tuple[int, str]], *, as_json: bool) -> None:
    if as_json:
        told = (json.dumps({"line": line, "id": one, "state": "accepted"}) for line, one in accepted)
    else:
        told = (one for _, one in accepted)
    output.write("".join(f"{one}\n" for one in told).encode())
    output.flush()
