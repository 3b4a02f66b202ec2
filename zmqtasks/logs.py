"""Logging of the processes: level, file, and one line per message with a stable key for machines.

A line is ``TIME LEVEL LOGGER[PID] KEY: MESSAGE``, for example::

    2026-07-04 12:03:04.567 INFO scheduler.daemon[4711] worker-joined: worker w1 joined with 8 slots; it gets work now

What a job logs names it: ``… INFO photos[4712] [0123…cdef photos.resize]: MESSAGE``.

The key comes from ``log.info("…", extra={"action": "worker-joined"})``. It never changes where the wording does, so
alerts and tests look for it. Tracebacks follow a line only at level debug.
"""

import logging
import logging.handlers
import sys
from collections.abc import Callable
from typing import Final, TextIO

from zmqtasks.errors import ZmqTasksError

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
ROOT: Final = "zmqtasks"

_BREAKS: Final = str.maketrans({"\n": "⏎", "\r": None})


class LogFileError(ZmqTasksError):
    """The file given with --logfile cannot be written."""


class LineFormatter(logging.Formatter):
    """One message, one line.

    Args:
        tracebacks: append the traceback of an exception that was logged; else only its one-line summary.
    """

    default_msec_format = "%s.%03d"

    def __init__(self, *, tracebacks: bool = False) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix(f"{ROOT}.")
        action = getattr(record, "action", "")
        start = f"{self.formatTime(record)} {record.levelname} {name}[{record.process}]"
        if job := getattr(record, "job_id", ""):
            start += f" [{job} {getattr(record, 'task', '')}]"
        text = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not self._tracebacks:
            text += f" ({type(error).__name__}: {error})"
        line = (f"{start} {action}: {text}" if action else f"{start}: {text}").translate(_BREAKS)
        if self._tracebacks and record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def setup(level: str = "info", logfile: str | None = None, stream: TextIO | None = None) -> None:
    """Send what zmqtasks and the user's modules log to one place. A second call replaces what the first one set up.

    Args:
        level: one of LEVELS, in any case; for every logger of the process, the user's modules included.
        logfile: path to append to; it is opened anew after a rotation. None: `stream`.
        stream: where to write without a logfile; None: stderr.

    Raises:
        LogFileError: the file cannot be opened.
        ValueError: there is no such level.
    """
    word = level.lower()
    if word not in LEVELS:
        message = f"no log level is called {level!r} (there are: {', '.join(LEVELS)})"
        raise ValueError(message)
    handler = _handler(logfile, stream)
    handler.setFormatter(LineFormatter(tracebacks=word == "debug"))
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "_zmqtasks", False)]:
        root.removeHandler(old)
        old.close()
    handler._zmqtasks = True  # type: ignore[attr-defined]  # noqa: SLF001  (our own mark, to find it again)
    root.addHandler(handler)
    root.setLevel(word.upper())


def in_child(stream: TextIO, current: Callable[[], tuple[str, str]]) -> None:
    """For a process that runs jobs: send what `setup` arranged to this stream, and have records know their job.

    Every record that a handler of the root logger gets has the attributes ``job_id`` and ``task``, empty outside of a
    job, unless it was logged with its own. A filter sets them, no record factory: with that, a user's
    ``extra={"task": …}`` would be an error.

    Args:
        stream: where the lines go.
        current: the id and the task of the job that the calling thread runs; empty ones for none.
    """

    def name_job(record: logging.LogRecord) -> bool:
        if not hasattr(record, "job_id"):
            record.job_id, task = current()
            if not hasattr(record, "task"):
                record.task = task
        return True

    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "_zmqtasks", False)]:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(old.formatter)
        handler._zmqtasks = True  # type: ignore[attr-defined]  # noqa: SLF001  (as above)
        root.removeHandler(old)
        root.addHandler(handler)
    for each in root.handlers:
        each.addFilter(name_job)


def _handler(logfile: str | None, stream: TextIO | None) -> logging.Handler:
    if logfile is None:
        return logging.StreamHandler(stream or sys.stderr)
    try:
        return logging.handlers.WatchedFileHandler(logfile, encoding="utf-8")
    except OSError as error:
        message = f"cannot write the log file {logfile}: {error.strerror or error}"
        raise LogFileError(message) from None
