"""Processes of the demo: started with a log, awaited by a line of it, always stopped."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

STOP_SECONDS = 15.0  # for an orderly end; then the process is killed
TAIL_LINES = 20


class DemoFailed(Exception):
    """A part of the demo did not do what it should; the message shows the end of its log."""


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or a closed terminal."""


class Interrupts:
    """Remembers that the demo was asked to end.

    Nothing is raised out of the signal handler: between the start of a process and the line
    that notes it down, an exception would leave the process behind.
    """

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self._asked = True

    def check(self) -> None:
        """Raise Interrupted if the demo was asked to end."""
        if self._asked:
            raise Interrupted


class Daemon:
    """A process in the background whose output goes to a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, log: Path) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                # Ctrl-C is for the demo, which then stops the others in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def tail(self) -> str:
        """The last lines of the output."""
        lines = self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        text = "\n".join(f"    {line}" for line in lines) or "    (no output)"
        return f"The end of {self._log}:\n{text}"

    def check_alive(self) -> None:
        """Raise DemoFailed if the process has ended by itself."""
        code = self._process.poll()
        if code is not None:
            raise DemoFailed(f"{self.name} ended early with exit code {code}. {self.tail()}")

    def wait_for_line(self, pattern: str, seconds: float, interrupts: Interrupts) -> re.Match[str]:
        """Wait until a line of the output matches; raise DemoFailed after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            # Only whole lines: half a line would give half a port number.
            whole, _, _ = self._log.read_text(errors="replace").rpartition("\n")
            if found := re.search(pattern, whole, re.MULTILINE):
                return found
            interrupts.check()
            self.check_alive()
            if time.monotonic() > deadline:
                raise DemoFailed(
                    f"{self.name} was not ready within {seconds:.0f} s (no line like {pattern!r}). {self.tail()}"
                )
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        """Send SIGTERM, if the process still runs."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> str:
        """Wait for the end, kill what does not end, and say how it went."""
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return f"killed, for it did not end within {STOP_SECONDS:.0f} s"
        return "stopped" if code == 0 else f"ended with exit code {code}"
