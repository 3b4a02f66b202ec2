"""Keys of a task's limits: computed here, from the arguments of each call."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zmqtasks.errors import BadOption

Key = str | Callable[..., Any] | None


class KeyOf:
    """What tells the jobs of a task apart that have a limit of their own.

    Args:
        fn: the task's function.
        key: name of an argument, or a function of all arguments.
        what: the option, for errors.
        bind: the function's first parameter is the task itself.

    Raises:
        BadOption: the function has no such argument.
    """

    def __init__(self, fn: Callable[..., Any], key: str | Callable[..., Any], what: str, *, bind: bool) -> None:
        self._key, self._what, self._bind = key, what, bind
        self._name = getattr(fn, "__name__", "the task")
        self._signature = inspect.signature(fn)
        if isinstance(key, str) and key not in self._signature.parameters:
            known = ", ".join(list(self._signature.parameters)[bind:]) or "none"
            raise BadOption(f"{what}={key!r}: {self._name} has no argument of that name (it has: {known})")

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of one call.

        Raises:
            BadOption: it cannot be computed.
        """
        try:
            if callable(self._key):
                return str(self._key(*args, **kwargs))
            bound = self._signature.bind(*((None,) if self._bind else ()), *args, **kwargs)
            bound.apply_defaults()
            return str(bound.arguments[self._key])
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            raise BadOption(f"{self._what}= of {self._name} cannot be computed from these arguments: {told}") from error
