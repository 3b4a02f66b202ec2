"""``zmqtasks completion``: the script by which a shell completes commands and options."""

from typing import Final

import click

from zmqtasks.cli._shared import Example, loglevel_option

VARIABLE: Final = "_ZMQTASKS_COMPLETE"
INSTALL: Final = {
    "bash": 'add this line to ~/.bashrc: eval "$(zmqtasks completion bash)"',
    "zsh": 'add this line to ~/.zshrc, after compinit: eval "$(zmqtasks completion zsh)"',
    "fish": "run once: zmqtasks completion fish > ~/.config/fish/completions/zmqtasks.fish",
}


@click.command(epilog=Example('eval "$(zmqtasks completion bash)"', *(f"# {how}" for how in INSTALL.values())))
@click.argument("shell", type=click.Choice(tuple(INSTALL)))
@loglevel_option
def command(*, shell: str) -> None:
    """Print the script that makes a shell complete commands and options."""
    from click.shell_completion import get_completion_class

    from zmqtasks.cli._main import cli

    kind = get_completion_class(shell)
    if kind is None:  # click knows these three
        raise click.UsageError(f"there is no completion for {shell}")
    script = kind(cli, {}, "zmqtasks", VARIABLE).source().strip("\n")
    click.echo(f"# To install: {INSTALL[shell]}\n{script}")
