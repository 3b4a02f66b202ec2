"""The one thread that runs the callbacks of jobs, so that none of them can hold up the I/O thread."""

import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

_log = logging.getLogger(__name__)

_Callback = Callable[[Any], object]
_Item = tuple[_Callback, Any]


class _Callbacks:
    """The queue and, once somebody has added a callback, the thread.

    Attributes:
        items: (callback, job) of jobs that are over; None for each entry that was added to `news`.
        news: running jobs that told something → their listeners. One entry a job however often it tells: listeners
            read the newest anyway, and slow ones must not pile up what waits.
    """

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self.news: dict[Any, Sequence[_Callback]] = {}
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        with self.lock:
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="zmqtasks callbacks", daemon=True)
                self.thread.start()

    def add_news(self, job: Any, listeners: Sequence[_Callback]) -> None:
        with self.lock:
            if job in self.news:
                return
            self.news[job] = listeners
        self.items.put(None)

    def run(self) -> None:
        """The ends of jobs first, then news; the news of a job before its end."""
        owed = 0  # entries of `news`, at most
        while True:
            try:
                item = self.items.get(block=not owed)
            except queue.Empty:
                owed -= 1
                self._tell_oldest()
                continue
            if item is None:
                owed += 1
                continue
            self._tell(item[1])
            _call(*item)
            del item  # or the last job would live until the next one

    def _tell_oldest(self) -> None:
        with self.lock:
            job = next(iter(self.news), None)
        if job is not None:
            self._tell(job)

    def _tell(self, job: Any) -> None:
        """Call the listeners of a job that has news, if it has."""
        if self.news:
            with self.lock:
                listeners = self.news.pop(job, ())
            for listener in tuple(listeners):
                _call(listener, job)


def _call(callback: _Callback, job: Any) -> None:
    try:
        callback(job)
    except Exception:  # noqa: BLE001  (callbacks raise anything)
        _log.exception("a callback of %s failed; nothing else is affected", job)


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


def tell_later(job: Any, listeners: Sequence[_Callback]) -> None:
    """Have the listeners of a running job called in the callback thread, once for all that it tells until then."""
    _callbacks.add_news(job, listeners)
