"""Jobs that ask to be tried again, with a real scheduler and real workers."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.processes import BOUND, Site
from zmqtasks import App, Client

TASKS = """
import time
import zmqtasks

app = zmqtasks.App("t")

class Noting(zmqtasks.Task):
    autoretry_for = (LookupError,)
    max_retries = 2
    default_retry_delay = 0.2

@app.task(bind=True, base=Noting)
def work(self, ledger, how):
    with open(ledger, "a") as file:
        file.write(f"{time.time()}\\n")
    if how == "raises" or self.request.retries < 2:
        if how == "asks" or (how == "both" and not self.request.retries):
            self.retry(countdown=0.4, exc=KeyError("asked"))
        raise LookupError("again")
    return [self.request.id, self.request.retries]
"""


@pytest.fixture
def app(site: Site) -> Iterator[App]:
    """An app by whose name workers know the tasks."""
    site.scheduler()
    (site.folder / "t.py").write_text(TASKS)
    site.worker("-A", "t", "-c", "2", cwd=site.folder)
    made = App("t", broker=site.url)
    yield made
    made.close()


def times(ledger: Path) -> list[float]:
    return [float(line) for line in ledger.read_text().splitlines()]


def gaps(ledger: Path) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times(ledger))]


def test_a_job_asks_twice_and_waits_each_time(app: App, ledger: Path) -> None:
    result = app.send_task("t.work", [str(ledger), "asks"])
    assert result.get(timeout=BOUND) == [result.id, 2]
    assert all(0.4 <= gap < BOUND for gap in gaps(ledger)), gaps(ledger)
    assert len(times(ledger)) == 3


def test_exceptions_and_what_was_asked_for_count_together(app: App, ledger: Path) -> None:
    sending = {"retries": 2, "backoff": 0.2}  # what the task declares, which this app does not know
    assert app.send_task("t.work", [str(ledger), "both"], **sending).get(timeout=BOUND)[1] == 2
    assert all(0.2 <= gap < BOUND for gap in gaps(ledger))
    ledger.write_text("")
    with pytest.raises(LookupError, match="again"):
        app.send_task("t.work", [str(ledger), "raises"], **sending).get(timeout=BOUND)
    assert len(times(ledger)) == 3


def test_a_shipped_function_has_the_retries_of_its_options(site: Site, ledger: Path) -> None:
    site.scheduler()
    site.worker("-c", "1")

    def ask(ledger: str) -> None:
        with open(ledger, "a") as file:  # noqa: PTH123  (it is shipped: few imports)
            file.write(f"{time.time()}\n")
        raise zmqtasks.Retry(countdown=0.1)

    with Client(site.url) as client:
        with pytest.raises(zmqtasks.MaxRetriesExceeded, match="a function has as many as the option retries= gives it"):
            client.submit(ask, str(ledger)).result(BOUND)
        assert len(times(ledger)) == 1
        with pytest.raises(zmqtasks.MaxRetriesExceeded):
            client.options(retries=2).submit(ask, str(ledger)).result(BOUND)
        assert len(times(ledger)) == 4


SCRIPT = """
import zmqtasks

app = zmqtasks.App("script")

class Told(zmqtasks.Task):
    def on_retry(self, exc, task_id, args, kwargs, einfo):
        print("told", exc)

@app.task
def by_hand():
    if zmqtasks.current_job().retries < 2:
        raise zmqtasks.Retry(countdown=0.05)
    return zmqtasks.current_job().retries

@app.task(base=Told, max_retries=1)
def of_a_class():
    raise zmqtasks.Retry(exc=ValueError("no"), countdown=0.05)

if __name__ == "__main__":
    print(by_hand.submit().result(20), repr(of_a_class.submit().exception(20)))
"""


def test_tasks_of_a_script_are_tried_again_as_those_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.stdout == "2 ValueError('no')\n", done.stderr
    assert sum(line.endswith("] told no") for line in done.stderr.splitlines()) == 1
