"""The command ``zmqtasks``: its groups of commands, found late, and one line on stderr for every error."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from zmqtasks import errors
from zmqtasks.cli._shared import Common, Example, release, say

DONE: Final = 0
JOBS_FAILED: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3
NOT_AUTHORISED: Final = 4
INTERRUPTED: Final = 130

# Group → commands, as `zmqtasks --help` shows them. Each is `zmqtasks.cli.<name>.command`, imported when needed.
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Processes": ("scheduler", "worker", "repair"),
    "Jobs": ("submit", "result", "revoke"),
    "Steering": ("control", "purge"),
    "Watching": ("status", "inspect", "explain", "story"),
    "Trying out": ("demo", "check", "completion", "version"),
}
COMMANDS: Final = frozenset(name for names in GROUPS.values() for name in names)


class Commands(click.Group):
    """A group whose commands are imported when they are asked for, and listed by what they are for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in GROUPS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"zmqtasks.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            from zmqtasks.cli._celery_options import COMMANDS as CELERY

            if args[0] in CELERY:
                raise click.UsageError(f"command {args[0]!r} of Celery is not available: {CELERY[args[0]]}", ctx)
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f" (there are: {', '.join(self.list_commands(ctx))})"
            raise click.UsageError(f"no command is called {args[0]!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            rows = []
            for name in names:
                command = self.get_command(ctx, name)
                if command is not None:
                    rows.append((name, command.get_short_help_str(limit=100)))
            with formatter.section(title):
                formatter.write_dl(rows, col_spacing=4)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=Example("zmqtasks submit math:sqrt --args '[2]' --wait"),
)
@click.option("-A", "--app", metavar="MODULE[:ATTR]", help="The app of the command that follows, in Celery's order.")
@click.option("-b", "--broker", metavar="URL", help="The scheduler of the command that follows, in Celery's order.")
@click.version_option(release(), prog_name="zmqtasks", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, app: str | None, broker: str | None) -> None:
    """Tasks, queues and workers on ZeroMQ, without a broker service."""
    common = ctx.ensure_object(Common)
    common.app, common.broker = app, broker
    if app and not _takes_app(ctx):
        raise click.UsageError(f"{ctx.invoked_subcommand} needs no app: leave -A out", ctx)


def _takes_app(ctx: click.Context) -> bool:
    """Whether the command that follows is one for which an app means something."""
    command = cli.get_command(ctx, ctx.invoked_subcommand or "")
    return command is None or any("-A" in parameter.opts for parameter in command.params)


def main(args: Sequence[str] | None = None) -> int:  # noqa: PLR0911  (one return per kind of ending)
    """Run one command.

    Args:
        args: without the program's name; None: those of this process.

    Returns:
        The exit code: 0 done, 1 job(s) failed, 2 wrong use, 3 scheduler unreachable, 4 not authorised,
        5 a job was not over in time (only `result`), 130 interrupted.
    """
    common = Common()
    try:
        outcome = cli.main(args=args, prog_name="zmqtasks", standalone_mode=False, obj=common)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return end.exit_code
    except SystemExit as end:  # click's answer to a closed pipe
        return end.code if isinstance(end.code, int) else JOBS_FAILED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USE
    except click.ClickException as error:
        return _say(_usage(error), WRONG_USE, error, debug=common.debug)
    except (click.Abort, KeyboardInterrupt) as error:
        return _say("interrupted", INTERRUPTED, error, debug=common.debug)
    except errors.ZmqTasksError as error:
        return _say(str(error) or type(error).__name__, code_of(error), error, debug=common.debug)
    except BrokenPipeError:
        # Whoever read our output has ended, as in `| head`: nothing to tell, and no second error while leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return JOBS_FAILED
    except Exception as error:  # noqa: BLE001  (the last line of defence: people get a sentence, not a traceback)
        told = f"this should not have happened: {type(error).__name__}: {error} (-l debug shows where)"
        return _say(told, JOBS_FAILED, error, debug=common.debug)
    return outcome if isinstance(outcome, int) else DONE


def code_of(error: errors.ZmqTasksError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, errors.SchedulerUnreachable):
        return UNREACHABLE
    if isinstance(error, errors.NotAuthorized):
        return NOT_AUTHORISED
    if isinstance(error, (errors.JobError, errors.JobTimeout, errors.QueueFull)):
        return JOBS_FAILED
    return WRONG_USE


def _usage(error: click.ClickException) -> str:
    text = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{text} (see: {context.command_path} --help)" if context is not None else text


def _say(text: str, code: int, error: BaseException, *, debug: bool) -> int:
    """Print one line on stderr, above it the traceback if the user asked for level debug; returns the code."""
    if debug and not isinstance(error, click.ClickException):
        import traceback

        traceback.print_exception(error)
    say(text)
    return code
