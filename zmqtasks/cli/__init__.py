"""The command line: one file per group of commands.

`_main` finds the commands and turns every error into one line and an exit code, `_shared` holds the options that
commands have in common, `_tables` shows its answers, `_client` is for commands
that work with jobs; `_jobs`, `_outcomes` and `_feed` serve ``submit``.
"""

from zmqtasks.cli._main import main

__all__ = ["main"]
