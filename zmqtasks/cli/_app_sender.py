"""The client of ``zmqtasks -A app submit``: jobs go out as the app itself sends them, by its routes and options."""

import os
from collections.abc import Sequence
from typing import Any

from zmqtasks.app import App
from zmqtasks.cli._sender import ClientSender
from zmqtasks.cli._targets import ByName, Target
from zmqtasks.cli._urls import check
from zmqtasks.config import DEFAULT_BROKER
from zmqtasks.errors import AppNotLoaded
from zmqtasks.submitter.client import Client
from zmqtasks.submitter.results import Job
from zmqtasks.submitter.submitting import Item


def load(name: str, broker: str | None) -> App:
    """The app of -A, with all that it includes, and with the scheduler that its jobs go to.

    Args:
        name: MODULE or MODULE:ATTRIBUTE.
        broker: --broker; None: the one that the app names, the environment or zmqtasks.toml.

    Raises:
        AppNotLoaded: it cannot be imported, or is no App.
        BadUrl: the broker's URL is none.
    """
    from zmqtasks.worker.loading import load_app

    app: object = load_app(name, os.getcwd())  # noqa: PTH109  (as in the worker)
    if not isinstance(app, App):
        raise AppNotLoaded(f"{name} is a {type(app).__name__}, not an App")
    url = broker or app.conf.broker_url or DEFAULT_BROKER
    app.conf.broker_url = url if url.startswith("local://") else check(url, local=True)
    return app


class AppSender(ClientSender):
    """Sends tasks as an app does, whether they are its own or known to the workers only; functions as without it."""

    def __init__(self, app: App) -> None:
        self._app = app
        super().__init__(app.conf.broker_url or DEFAULT_BROKER)

    def _open(self) -> Client:
        return self._app.client

    def submit(self, target: Target, calls: list[Item], **options: Any) -> Sequence[Job[Any]]:
        """Submit calls of one target. Raises as `App.submit_many` and `Client.submit_many` do."""
        if not isinstance(target, ByName):
            return super().submit(target, calls, **options)
        if "job_id" not in options:
            return self._app.submit_many(target.name, calls, **options)
        ((args, kwargs),) = calls
        task = self._app.tasks.get(target.name)
        if task is not None:
            return [task.options(**options).submit(*args, **kwargs)]
        return [App.send_task(self._app, target.name, args, kwargs, **options).job]
