"""Proxy: something that is found anew each time it is used."""

from collections.abc import Callable
from typing import Any


class Proxy:
    """Stands for an object that may be another one tomorrow: the current app, or a task of it.

    Args:
        find: finds it; has to be picklable where the proxy is pickled.
    """

    __slots__ = ("__weakref__", "_find")

    _find: Callable[[], Any]

    def __init__(self, find: Callable[[], Any]) -> None:
        object.__setattr__(self, "_find", find)

    def _get_current_object(self) -> Any:  # Celery's name
        return self._find()

    @property  # type: ignore[misc]  # the language lets it be one
    def __class__(self) -> type:
        """That of the object, so that isinstance() says of the proxy what it says of that."""
        try:
            return type(self._find())
        except Exception:  # noqa: BLE001  (there is no object now)
            return Proxy

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # of the object
        return getattr(self._find(), "__doc__", None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._find(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._find(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._find()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._find())

    def __eq__(self, other: object) -> bool:
        return bool(self._find() == other)

    def __hash__(self) -> int:
        return hash(self._find())

    def __dir__(self) -> list[str]:
        return dir(self._find())

    def __repr__(self) -> str:
        try:
            return repr(self._find())
        except Exception as error:  # noqa: BLE001  (there is no object now)
            return f"<proxy of nothing: {error}>"

    def __str__(self) -> str:
        return str(self._find())

    def __reduce__(self) -> Any:
        return Proxy, (self._find,)
