"""The demo: a real scheduler, two real workers and the script that gives them a batch.

    python demo.py [--short] [--keep DIR]

``make demo`` runs it. Four processes and their children take part; all of them are gone when
the demo ends, however it ends. The pictures and the logs stay.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from demo_processes import Daemon, DemoFailed, Interrupted, Interrupts
from rich.console import Console
from rich.markup import escape

HERE = Path(__file__).resolve().parent
DEFAULT_OUT = HERE.parents[1] / "build" / "demo"
READY_SECONDS = 30.0
RUN_SECONDS = 500.0
STOP_SCRIPT_SECONDS = 5.0
DONE, FAILED, INTERRUPTED = 0, 1, 130  # exit codes


class Demo:
    """Everything that was started, so that everything can be stopped."""

    def __init__(self, out: Path, console: Console, interrupts: Interrupts) -> None:
        self._out = out
        self._logs = out / "logs"
        self._console = console
        self._interrupts = interrupts
        self._daemons: list[Daemon] = []
        self._script: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start a scheduler on a free port and two workers; returns the scheduler's address."""
        self._headline("A scheduler and two workers")
        bind = ("--in-memory", "--bind", "tcp://127.0.0.1:0")
        scheduler = self._daemon("scheduler", "scheduler", *bind)
        broker = self._await(scheduler, r"^zmqtasks scheduler ready on (\S+)")
        app = ("-A", "smoother_conf", "--broker", broker, "-c", "1")
        workers = [self._daemon(name, "worker", *app, "-n", f"{name}@%h") for name in ("worker.a", "worker.b")]
        for worker in workers:
            self._await(worker, r"^zmqtasks worker (\S+?),? ready")
        return broker

    def submit(self, broker: str, *, short: bool) -> None:
        """Run the script that submits the batch, as a user would, and wait for its end."""
        self._headline("One batch from a script")
        options = ["--broker", broker, "--out", str(self._out), *(["--short"] if short else [])]
        self._script = subprocess.Popen([sys.executable, str(HERE / "smoother.py"), *options])
        deadline = time.monotonic() + RUN_SECONDS
        while self._script.poll() is None:
            self._interrupts.check()
            # Without its daemons the script would wait for results that never come.
            for daemon in self._daemons:
                daemon.check_alive()
            if time.monotonic() > deadline:
                raise DemoFailed(f"not done within {RUN_SECONDS:.0f} s.\n{self._tails()}")
            time.sleep(0.05)
        self._interrupts.check()
        if code := self._script.returncode:
            raise DemoFailed(f"smoother.py ended with exit code {code}.\n{self._tails()}")

    def stop(self) -> bool:
        """Stop everything; returns whether all that was started ended in order."""
        self._headline("Stopping")
        if self._script and self._script.poll() is None:
            self._script.terminate()
            try:
                self._script.wait(STOP_SCRIPT_SECONDS)
            except subprocess.TimeoutExpired:
                self._script.kill()
                self._script.wait()
        in_order = True
        # Workers first: they hand in what they have while there is a scheduler to take it.
        for together in (self._daemons[1:], self._daemons[:1]):
            for daemon in together:
                daemon.ask_to_stop()
            for daemon in together:
                how = daemon.stop()
                in_order = in_order and how == "stopped"
                self._say(daemon, how)
        return in_order

    def _daemon(self, name: str, *arguments: str) -> Daemon:
        command = [sys.executable, "-m", "zmqtasks", *arguments]
        daemon = Daemon(name, command, HERE, self._logs / f"{name}.log")
        self._daemons.append(daemon)
        return daemon

    def _await(self, daemon: Daemon, pattern: str) -> str:
        ready = daemon.wait_for_line(pattern, READY_SECONDS, self._interrupts)
        self._say(daemon, f"ready: {ready[1]}")
        return ready[1]

    def _tails(self) -> str:
        return "\n".join(daemon.tail() for daemon in self._daemons)

    def _headline(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left", style="dim")

    def _say(self, daemon: Daemon, text: str) -> None:
        self._console.print(f"  [bold]{daemon.name:<10}[/] [dim]pid {daemon.pid:<8}[/]{text}", highlight=False)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--short", action="store_true", help="only three small photographs")
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        default=DEFAULT_OUT,
        help="where pictures and logs go (default: build/demo)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    args = _arguments(argv)
    console = Console()
    try:
        (args.keep / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        console.print(f"--keep: {error}", style="red", markup=False, highlight=False)
        return FAILED
    demo = Demo(args.keep.resolve(), console, Interrupts())
    code, in_order = FAILED, False
    try:
        demo.submit(demo.start(), short=args.short)
        code = DONE
    except DemoFailed as error:
        message = f"\nthe demo failed: {error}"
        console.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    except Interrupted:
        console.print("\ninterrupted", style="yellow")
        code = INTERRUPTED
    finally:
        in_order = demo.stop()
    if code == DONE and not in_order:
        console.print("not every process ended in order", style="red")
        code = FAILED
    if code == DONE:
        sheet = args.keep.resolve() / "contact-sheet.png"
        console.print(f"\nOpen [bold]{escape(str(sheet))}[/] to see all of it.", soft_wrap=True, highlight=False)
    return code


if __name__ == "__main__":
    sys.exit(main())
