"""What a claim calls: a registered task, or a shipped function that is kept loaded for the next claim."""

import difflib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

from zmqtasks import payload
from zmqtasks.task import TaskBase
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.loading import Tasks, innermost
from zmqtasks.worker.packets import read_all

MAX_FUNCTIONS: Final = 256  # shipped ones kept loaded, the ones used last

Call = Callable[..., Any]
Exceptions = tuple[type[BaseException], ...]


class Unrunnable(Exception):
    """There is nothing to call. `failure`: what the claim's jobs end with."""

    def __init__(self, failure: bytes) -> None:
        super().__init__()
        self.failure = failure


class Functions:
    """Of one child; its slots share it.

    Args:
        tasks: registered ones by name.
        worker: name of the worker, for messages.
        accept: codecs that are decoded.
    """

    def __init__(self, tasks: Tasks, worker: str, accept: Collection[str] = payload.ALL_CODECS) -> None:
        self._tasks = tasks
        self._worker = worker
        self.accept = accept
        self._loaded: OrderedDict[bytes, Call] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._loaded)

    def find(self, claim: Claim, fd: int = -1) -> tuple[Call, Exceptions, Exceptions, TaskBase[..., Any] | None]:
        """What to call, which exceptions may be tried again, which never, and the task that says so, if one does.

        Raises Unrunnable.

        Args:
            claim: says what.
            fd: of the file that the shipped function came in, which is read only if it is not loaded; -1: none.
        """
        task: TaskBase[..., Any] | Call | None
        if claim.digest:
            task = self._shipped(claim, fd)
            if not isinstance(task, TaskBase):
                return task, (Exception,), (), None
        else:
            task = self._tasks.get(claim.name)
            if task is None:
                raise Unrunnable(payload.failure("TaskNotRegistered", self._not_registered(claim.name)))
        call: Call = partial(task.fn, task) if task.bind else task.fn
        if type(task).__call__ is not TaskBase.__call__:
            call = task.run_as_job
        return call, task.autoretry_for or (Exception,), task.dont_autoretry_for, task

    def _not_registered(self, name: str) -> str:
        near = difflib.get_close_matches(name, self._tasks, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        if not self._tasks:
            hint = "; it was started without an app (-A)"
        return f"worker {self._worker} knows no task {name!r}{hint}"

    def _shipped(self, claim: Claim, fd: int) -> Call:
        call = self._loaded.get(claim.digest)
        if call is not None:
            try:
                self._loaded.move_to_end(claim.digest)
            except KeyError:
                pass  # another slot has pushed it out meanwhile
            return call
        call = self._load(claim, fd)
        with self._lock:
            self._loaded[claim.digest] = call
            if len(self._loaded) > MAX_FUNCTIONS:
                self._loaded.popitem(last=False)
        return call

    def _load(self, claim: Claim, fd: int) -> Call:
        try:
            return payload.unship(claim.blob if fd < 0 else read_all(fd), self.accept)
        except BaseException as error:  # noqa: BLE001  (unpickling imports user modules, which raise anything)
            text = f"function {claim.name} cannot be loaded on worker {self._worker}: {innermost(error)}"
            if isinstance(error, ImportError | AttributeError):
                text += (
                    "; make its module importable there (install it, or start the worker in its directory), "
                    "or ship the module along: Client(url, ship=[module])"
                )
            raise Unrunnable(payload.failure("PayloadError", text)) from None
