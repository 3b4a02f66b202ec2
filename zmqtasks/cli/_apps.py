"""Apps that ``-A`` names, as commands read them that run nothing of them: they only want the settings."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from zmqtasks.conf import saying
from zmqtasks.conf.settings import Conf
from zmqtasks.errors import AppNotLoaded
from zmqtasks.worker.loading import find_app


def broker_of(app: str) -> str | None:
    """The scheduler of an app, by its settings, the environment or ``zmqtasks.toml``; None: nobody names one.

    Args:
        app: MODULE or MODULE:ATTRIBUTE.

    Raises:
        AppNotLoaded: it cannot be imported, or is none.
        BadOption: a setting cannot be.
    """
    with saying.quietly(), redirect_stdout(sys.stderr):  # what it prints is no answer of the command
        found: Any = find_app(app, str(Path.cwd()))
    return settings_of(app, found).broker_url


def settings_of(app: str, found: Any) -> Conf:
    """The settings of what was found under a name. Raises AppNotLoaded if it has none of ours."""
    conf = getattr(found, "conf", None)
    if not isinstance(conf, Conf):
        raise AppNotLoaded(f"{app} is a {type(found).__name__} without settings of zmqtasks")
    return conf
