"""The processes of a LocalCluster: they are listened to, replaced when they die, and never left behind.

Each holds the reading end of a pipe whose only writing end is in this process, its lifeline. It ends when that closes,
and the kernel wakes it for that if somebody has stopped it.
"""

import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from zmqtasks.config import BROKER_VARIABLE
from zmqtasks.worker import hostinfo

LINE: Final = 64 * 1024  # bytes of a line, beyond which it is passed on in pieces
TAIL: Final = 20  # lines of a process's output that an error shows
READ: Final = 64 * 1024  # bytes of output at once
SOON: Final = 10.0  # seconds: a process that lived for less is not replaced at once
SLOWLY: Final = 5.0  # seconds until the next one at most


def say(text: str) -> None:
    """One line for the person who runs the script."""
    try:
        print(f"zmqtasks: {text}", file=sys.stderr, flush=True)  # noqa: T201  (logging may be gone already)
    except (OSError, ValueError):
        pass  # nobody can read it any more


class Lifeline:
    """The writing end of a pipe, for as long as this process wants the other one to live."""

    def __init__(self) -> None:
        self.theirs, self._ours = os.pipe()

    def handed_over(self, pid: int) -> None:
        """The process, which leads a group of its own, has the reading end."""
        hostinfo.tether(self.theirs, pid, signal.SIGCONT)
        os.close(self.theirs)

    def cut(self) -> None:
        """Have the other process end."""
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1


class Process:
    """One daemon of the cluster, and its successors.

    Args:
        role: what it is called in messages.
        command: of the command line of zmqtasks.
        env: its environment.

    Attributes:
        popen: the process that has this role now.
        watch: a descriptor that is readable when it has ended; -1 where the system has none.
        said: the last lines of its output.
        ready: whether it said so.
        kept: a successor is started when it dies.
    """

    def __init__(self, role: str, command: Sequence[str], env: dict[str, str]) -> None:
        self.role = role
        self.said: deque[str] = deque(maxlen=TAIL)
        self.ready = threading.Event()
        self.kept = False
        self._command = command
        self._env = env
        self._lock = threading.Lock()  # held while it is decided whether there is a successor
        self._ending = False
        self._short_lives = 0
        self._start()

    def _start(self) -> None:
        self._began = time.monotonic()
        self._lifeline = Lifeline()
        theirs = self._lifeline.theirs
        try:
            # A session of its own: Ctrl-C is for the script, which then ends the cluster in good order.
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "zmqtasks", *self._command, "--lifeline-fd", str(theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
                env=self._env,
            )
        except BaseException:
            os.close(theirs)
            self._lifeline.cut()
            raise
        self._lifeline.handed_over(self.popen.pid)
        self.watch = _watch(self.popen.pid)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def ending(self) -> bool:
        """Whether its end is wanted, so that what it and others say of that is no news."""
        return self._ending

    # -------------------------------------------------------------------------------------------- a successor

    def pause(self) -> float | None:
        """It has ended: seconds until a successor is to be started, which the user is told; None for never.

        One that ended in good order was asked to, by whomever.
        """
        code = self.popen.wait()
        with self._lock:
            if not self.kept or self._ending or not code:
                return None
        short = time.monotonic() - self._began < SOON
        self._short_lives = self._short_lives + 1 if short else 0
        how = hostinfo.how_it_ended(-code if code < 0 else code << 8)
        say(f"the local {self.role} {how}; a new one takes its place")
        return min(SLOWLY, 0.1 * 2 ** min(self._short_lives, 10)) if short else 0.0

    def succeed(self) -> bool:
        """Start a successor, unless the end is wanted by now; whether there is one."""
        with self._lock:
            if self._ending:
                return False
            self._lifeline.cut()
            self.ready = threading.Event()
            self._start()
            return True

    # -------------------------------------------------------------------------------------------- the end

    def quiet(self) -> None:
        """Its end is wanted: there is no successor from now on."""
        with self._lock:
            self._ending = True

    def ask_to_end(self) -> None:
        """SIGTERM, even if somebody has stopped it."""
        for number in (signal.SIGTERM, signal.SIGCONT):
            self.popen.send_signal(number)

    def end(self, seconds: float) -> None:
        """Wait for its end, then SIGKILL to the whole group."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            try:
                os.killpg(self.popen.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it has ended just now, and the listener has waited for it
            self.popen.wait()

    def let_go(self) -> None:
        """If it still runs, it ends by itself now."""
        self._ending = True
        self._lifeline.cut()

    def forget(self) -> None:
        """In a forked child: nothing of the process may hang on this one, neither its life nor its output."""
        self.let_go()
        for pipe in (self.popen.stdout, self.popen.stderr):
            if pipe is not None:
                pipe.close()
        self.popen.returncode = 0  # it is the parent's to wait for


class Watcher:
    """A process that sleeps until its owner has ended, or lets it go, and then removes a directory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._lifeline = Lifeline()
        try:
            self._popen = subprocess.Popen(
                ["/bin/sh", "-c", 'read -r line; rm -rf "$0"', folder],
                stdin=self._lifeline.theirs,  # where sh is dash, it knows no descriptor above 9
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline.theirs)
            self._lifeline.cut()
            raise
        self._lifeline.handed_over(self._popen.pid)

    def end(self) -> None:
        """Remove the directory now."""
        self._lifeline.cut()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._popen.wait()

    def forget(self) -> None:
        """In a forked child."""
        self._lifeline.cut()
        self._popen.returncode = 0  # it is the parent's to wait for


class Listener:
    """A thread that hears what the processes say, passes it on, and replaces those that die.

    What they say is mostly the output of jobs.
    """

    def __init__(self, processes: list[Process]) -> None:
        self._selector = selectors.DefaultSelector()
        self._rest: dict[Any, bytes] = {}  # of each stream: the line that has no end yet
        self._due: list[tuple[float, Process]] = []  # monotonic times of successors
        for process in processes:
            self._listen(process)
        self._thread = threading.Thread(target=self._run, name="zmqtasks local output", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait until all of them have ended and all is heard."""
        self._thread.join(seconds)

    def _listen(self, process: Process) -> None:
        for first, pipe in ((True, process.popen.stdout), (False, process.popen.stderr)):
            if pipe is not None:
                self._selector.register(pipe, selectors.EVENT_READ, (process, first))
                self._rest[pipe] = b""
        if process.watch >= 0:
            self._selector.register(process.watch, selectors.EVENT_READ, process)

    def _run(self) -> None:
        with self._selector as selector:
            while selector.get_map() or self._due:
                timeout = max(0.0, min(at for at, _ in self._due) - time.monotonic()) if self._due else None
                for key, _ in selector.select(timeout):
                    if isinstance(key.fileobj, int):
                        self._on_end(key.fileobj, key.data)
                    else:
                        self._on_output(key.fileobj, *key.data)
                self._start_due()

    def _on_end(self, watch: int, process: Process) -> None:
        self._selector.unregister(watch)
        os.close(watch)
        pause = process.pause()
        if pause is not None:
            self._due.append((time.monotonic() + pause, process))

    def _start_due(self) -> None:
        now = time.monotonic()
        for entry in [entry for entry in self._due if entry[0] <= now or entry[1].ending]:
            self._due.remove(entry)
            process = entry[1]
            try:
                started = process.succeed()
            except OSError as error:  # too many open files, no memory: the others must be heard all the same
                say(f"no new local {process.role} can be started ({error}); that is tried again in {SLOWLY:g} s")
                self._due.append((now + SLOWLY, process))
                continue
            if started:
                self._listen(process)

    def _on_output(self, stream: Any, process: Process, first: bool) -> None:  # noqa: FBT001  (of its two streams)
        data = os.read(stream.fileno(), READ)
        *lines, rest = (self._rest[stream] + data).split(b"\n")
        if len(rest) > LINE:  # a progress bar, or no text at all
            lines.append(rest)
            rest = b""
        self._rest[stream] = rest
        if not data:
            lines.append(self._rest.pop(stream))
            self._selector.unregister(stream)
            stream.close()
        for line in lines:
            _hear(process, line.decode(errors="replace"), first=first)


def _hear(process: Process, line: str, *, first: bool) -> None:
    if first and not process.ready.is_set() and line.startswith("zmqtasks ") and " ready" in line:
        process.ready.set()
    elif line:
        process.said.append(line)
        if process.ready.is_set() and not process.ending:
            try:
                print(line, file=sys.stdout if first else sys.stderr)
            except (OSError, ValueError):
                pass  # nobody can read it any more


def _watch(pid: int) -> int:
    """A descriptor that is readable when this child of ours has ended; -1 where the system has none."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # macOS; a sandbox that does not know it
        return -1


def private_folder() -> str:
    """A new directory of mode 700; in /tmp if the usual place has too long a path for a socket."""
    usual = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="zmqtasks-", dir=usual if len(usual) < 70 else "/tmp")  # noqa: S108


def free_port() -> int:
    """Of the loopback interface."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(url: str) -> dict[str, str]:
    """Workers import what this process can import, and their jobs submit to the same scheduler."""
    paths = [path or str(Path.cwd()) for path in sys.path]
    standard = os.path.realpath(os.path.dirname(os.__file__))  # noqa: PTH120
    own = [p for p in dict.fromkeys(paths) if not os.path.realpath(p).startswith(standard) or "-packages" in p]
    own = [path for path in own if not path.endswith(".zip")]
    return {**os.environ, BROKER_VARIABLE: url, "PYTHONPATH": os.pathsep.join(own)}
