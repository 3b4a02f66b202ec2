"""EagerResult: the outcome of a task that ran where it was called."""

from collections.abc import Generator
from typing import Any, Generic, Literal, NoReturn, TypeVar, overload

from zmqtasks.errors import NotAvailable
from zmqtasks.submitter.asyncresult import AsyncResult

R = TypeVar("R")


class EagerResult(AsyncResult[R], Generic[R]):
    """The outcome of a task that ran where it was called; always over. No scheduler knows of it.

    Args:
        id: of the call.
        ret_value: what the task returned, or raised.
        state: SUCCESS or FAILURE.
        traceback: of what it raised, as text.
        name: of the task.
    """

    __slots__ = ("_id", "_result", "_state", "_traceback", "name")

    def __init__(
        self,
        id: str,  # noqa: A002  (Celery's name)
        ret_value: R | BaseException,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        self._id = id
        self._result = ret_value
        self._state = state
        self._traceback = traceback
        self.name = name

    @property
    def id(self) -> str:
        """32 hex digits, or the task_id that was given."""
        return self._id

    @property
    def job(self) -> NoReturn:
        """There is none.

        Raises:
            NotAvailable: always.
        """
        raise NotAvailable(f"{self!r} is of no job: the task ran where it was called")

    @overload
    def get(self, timeout: float | None = None, propagate: Literal[True] = True, **celery: Any) -> R: ...  # noqa: FBT002  (Celery's signature)
    @overload
    def get(self, timeout: float | None = None, propagate: bool = True, **celery: Any) -> R | BaseException: ...  # noqa: FBT001, FBT002  (as above)

    def get(self, timeout: float | None = None, propagate: bool = True, **celery: Any) -> R | BaseException:  # noqa: FBT001, FBT002  (as above)
        """What the task returned.

        Args:
            timeout: not needed: it is over.
            propagate: raise what the task raised; else return it.
            celery: not needed.

        Raises:
            Exception: what the task raised.
        """
        if propagate and isinstance(self._result, BaseException) and self.failed():
            raise self._result
        return self._result

    wait = get  # type: ignore[assignment]  # it returns the value, as in Celery

    def __await__(self) -> Generator[Any, None, R]:
        """The value, or the exception, at once."""
        yield from ()
        return self.get()

    @property
    def state(self) -> str:
        """SUCCESS or FAILURE."""
        return self._state

    status = state

    @property
    def result(self) -> R | BaseException:
        """The value, or the exception."""
        return self._result

    info = result

    @property
    def traceback(self) -> str | None:
        """That of a failed task, as text."""
        return self._traceback

    def ready(self) -> bool:
        """It is over."""
        return True

    def successful(self) -> bool:
        """Whether it ended with a value."""
        return self._state == "SUCCESS"

    def failed(self) -> bool:
        """Whether the task raised."""
        return not self.successful()

    def revoke(self, *args: Any, **celery: Any) -> bool:
        """Too late: it is over."""
        return False

    def forget(self) -> None:
        """Not needed: nobody keeps it."""

    def __repr__(self) -> str:
        return f"<EagerResult: {self._id}>"
