"""What an App does with its settings: take them from places, and take them along."""

import weakref
from collections.abc import Callable
from typing import Any

from zmqtasks.conf.origin import Layer
from zmqtasks.conf.settings import Conf
from zmqtasks.conf.sources import BadSource
from zmqtasks.errors import BadOption


class Configured:
    """Something with settings.

    Args:
        changed: a method of this object, called after each change.

    Attributes:
        conf: the settings.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.conf = Conf(_weakly(changed))

    def config_from_object(
        self, obj: Any, *, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> bool:
        """Take over settings that stand together in one place, in any of Celery's spellings.

        Args:
            obj: a module, a class, any object, a dict; or the name of one, MODULE, MODULE:ATTRIBUTE or
                MODULE.ATTRIBUTE.
            silent: a name that cannot be imported is no error.
            force: as in Celery, where it means at once; here that is always so.
            namespace: only what begins with it and ``_`` counts: "CELERY" for CELERY_TASK_ROUTES.

        Returns:
            Whether it was taken over.

        Raises:
            BadOption: it cannot be imported, or something in it is wrong; names all that is wrong, with the lines.
        """
        try:
            self.conf.from_object(obj, namespace)
        except BadSource:
            if not silent:
                raise
            return False
        return True

    def config_from_envvar(self, variable: str, *, silent: bool = False, force: bool = False) -> bool:
        """Take over settings from the module that an environment variable names. They go before `config_from_object`.

        Args:
            variable: its name.
            silent: a variable that is not set, or a module that cannot be imported, is no error.
            force: as in Celery, where it means at once; here that is always so.

        Returns:
            Whether it was taken over.

        Raises:
            BadOption: as `config_from_object`, or the variable is not set.
        """
        try:
            if self.conf.from_envvar(variable):
                return True
        except BadSource:
            if not silent:
                raise
            return False
        if not silent:
            raise BadOption(f"the environment variable {variable} is not set; it is to name a module with settings")
        return False

    def carried(self) -> tuple[str | None, dict[str, Any]]:
        """What goes along when this object is sent elsewhere.

        Returns:
            The scheduler, unless the environment or ``zmqtasks.toml`` names it, which do so there, too; and all other
            settings that were given and have an effect.
        """
        given = self.conf.given("broker_url")
        named = given is not None and given.origin.layer < Layer.ENVIRONMENT
        settings = {
            setting.name: self.conf.value_of(setting.name)
            for setting in self.conf.settings()
            if not setting.later and setting is not Conf.broker_url and self.conf.given(setting.name) is not None
        }
        return self.conf.broker_url if named else None, settings


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """Call a method of an object that may be gone: an App that nobody needs is closed at once, not by the collector."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        found = weak()
        if found is not None:
            found()

    return call
