"""Processor time by thread, from Linux's own account (/proc/PID/task/TID/schedstat): what a job costs, and whom."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

Usage = dict[str, float]  # stage → seconds


def _seconds(pid: int, tid: str) -> float:
    """Return how long a thread has run on a processor so far."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return 0.0


def _threads(pid: int) -> Iterator[tuple[str, str]]:
    """Yield (thread id, name) of a process."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            yield thread.name, (thread / "comm").read_text(encoding="ascii").strip()


def of_daemon(name: str, pid: int) -> Usage:
    """A daemon's loop, and zmq's threads in it. With a journal two threads take turns at the loop and the disk."""
    found = {f"{name}: loop": 0.0, f"{name}: zmq": 0.0}
    for tid, thread in _threads(pid):
        stage = "zmq" if thread.startswith("ZMQ") else "loop"
        found[f"{name}: {stage}"] += _seconds(pid, tid)
    return found


def of_children(pid: int) -> Usage:
    """All processes that an agent has started."""
    total = 0.0
    for process in psutil.Process(pid).children(recursive=True):
        total += sum(_seconds(process.pid, tid) for tid, _ in _threads(process.pid))
    return {"children": total}


def descendants(but: Iterable[int]) -> list[int]:
    """The processes that this script has started, without some of them and what those have started."""
    left = {process.pid for process in psutil.Process().children(recursive=True)}
    for pid in but:
        left -= {pid, *(process.pid for process in psutil.Process(pid).children(recursive=True))}
    return sorted(left)


def of_this() -> Usage:
    """This script's main thread, the client's I/O thread, and zmq's."""
    pid, main = os.getpid(), str(threading.main_thread().native_id)
    loops = {str(thread.native_id) for thread in threading.enumerate()} - {main}
    found = {"submitter: caller": 0.0, "submitter: I/O thread": 0.0, "submitter: zmq": 0.0}
    for tid, _ in _threads(pid):
        stage = "caller" if tid == main else "I/O thread" if tid in loops else "zmq"
        found[f"submitter: {stage}"] += _seconds(pid, tid)
    return found


def spent(call: Callable[[], object], look: Callable[[], Usage]) -> Usage:
    """Return what a call costs each stage, in seconds."""
    before = look()
    call()
    after = look()
    return {stage: after[stage] - before.get(stage, 0.0) for stage in after}
