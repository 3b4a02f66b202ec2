"""``zmqtasks demo``: what zmqtasks does, in a few seconds, on this machine."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zmqtasks.cli._shared import Example, loglevel_option

if TYPE_CHECKING:
    from rich.console import Console

FIRST = 1_000_000_000  # from here on are the numbers that the demo looks at
JOBS = 400
WORKERS = 2
TIMEOUT = 10.0  # seconds for each step


@click.command(epilog=Example("zmqtasks demo"))
@loglevel_option
def command() -> None:
    """Run a few hundred jobs on a scheduler and a worker of its own, and show what happens to them."""
    from rich.console import Console

    from zmqtasks import LocalCluster

    console = Console(highlight=False)
    console.rule("[bold]zmqtasks demo")
    begin = time.monotonic()
    with LocalCluster(workers=WORKERS) as cluster, cluster.client() as client:
        took = time.monotonic() - begin
        console.print(
            f"A scheduler (pid {cluster.scheduler_pid}) and a worker with {WORKERS} slots started in {took:.1f} s.\n"
        )
        _batch(console, client)
        _failure(console, client)
        _retry(console, client)
    console.print("Scheduler and worker are stopped; nothing of them is left.")
    console.rule("[bold green]done")


def _batch(console: "Console", client: Any) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    import zmqtasks
    from zmqtasks.cli._demo_jobs import is_prime

    console.print(f"[bold]1. A batch.[/] Which of {JOBS} numbers from {FIRST:,} on are prime?")
    console.print("   [dim]jobs = client.submit_many(is_prime, [((n,), {}) for n in numbers])")
    columns = (TextColumn("  "), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begin = time.monotonic()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=JOBS)
        jobs = client.submit_many(is_prime, [((FIRST + i,), {}) for i in range(JOBS)])
        for _ in zmqtasks.as_completed(jobs, timeout=TIMEOUT):
            progress.advance(bar)
    took = time.monotonic() - begin
    primes = [FIRST + i for i, job in enumerate(jobs) if job.result(TIMEOUT)]
    shown = ", ".join(f"{prime:,}" for prime in primes[:3])
    console.print(f"   {len(primes)} are: {shown}, … ({JOBS / took:,.0f} jobs/s)\n")


def _failure(console: "Console", client: Any) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from zmqtasks.cli._demo_jobs import divide

    console.print("[bold]2. A job that fails[/] raises its own exception here, the worker's traceback as its cause.")
    console.print("   [dim]client.submit(divide, 1, 0).result()")
    error = client.submit(divide, 1, 0).exception(TIMEOUT)
    remote = getattr(error.__cause__, "text", "") or f"{type(error).__name__}: {error}"
    console.print(Padding(Text(remote.strip(), "red"), (0, 0, 1, 3)))


def _retry(console: "Console", client: Any) -> None:
    from zmqtasks.cli._demo_jobs import flaky

    console.print("[bold]3. A job that is tried again.[/] Its first attempt raises ConnectionError.")
    console.print("   [dim]client.options(retries=2).submit(flaky, …).result()")
    with tempfile.TemporaryDirectory(prefix="zmqtasks-demo-") as folder:
        told = client.options(retries=2).submit(flaky, str(Path(folder, "tried"))).result(TIMEOUT)
    console.print(f"   [green]{told}[/]\n")
