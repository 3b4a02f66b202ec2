"""The one thread that runs the callbacks of jobs, so that none of them can hold up the I/O thread."""

import logging
import os
import queue
import threading
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

_Item = tuple[Callable[[Any], object], Any]


class _Callbacks:
    """The queue and, once somebody has added a callback, the thread."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="zmqtasks callbacks", daemon=True)
                self.thread.start()

    def run(self) -> None:
        while True:
            callback, job = self.items.get()
            try:
                callback(job)
            except Exception:  # noqa: BLE001  (callbacks raise anything)
                _log.exception("a callback of %s failed; nothing else is affected", job)
            del callback, job  # or the last job would live until the next one


_callbacks = _Callbacks()


def _renew() -> None:
    global _callbacks  # noqa: PLW0603  (threads do not survive a fork)
    _callbacks = _Callbacks()


os.register_at_fork(after_in_child=_renew)


def call_later(item: _Item | None) -> None:
    """Have (callback, job) called in the callback thread; None only starts the thread."""
    if item is not None:
        _callbacks.items.put(item)
    elif _callbacks.thread is None:
        _callbacks.start()
