"""Priorities, shares, rates, caps and expiry over real processes: decided for the whole cluster."""

import json
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.processes import BOUND, Site, executions, until
from zmqtasks import Client
from zmqtasks.ids import given_id
from zmqtasks.operators import Operator
from zmqtasks.scheduler.core.quotas import LATE_SHARE

RATE = 20.0  # starts per second
CLOCKS = 0.002  # seconds by which two clocks of one process may differ


def note(ledger: str, number: int, seconds: float = 0.0, mine: str = "", other: str = "") -> int:
    """One line in the ledger: number, time of the start, of the end; with `mine`, that is when `other` is there."""
    import os
    import time

    begin = time.monotonic()
    if mine:
        os.close(os.open(mine, os.O_CREAT))
        while not os.path.exists(other):  # noqa: PTH110  (it is shipped: few imports)
            assert time.monotonic() < begin + 30, "the other one has not begun"
            time.sleep(0.002)
    time.sleep(seconds)
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"%d %.6f %.6f\n" % (number, begin, time.monotonic()))
    os.close(file)
    return number


def wait_for(sign: str) -> None:
    import os
    import time

    while not os.path.exists(sign):  # noqa: PTH110  (it is shipped: few imports)
        time.sleep(0.002)


def lines(ledger: Path) -> list[tuple[int, float, float]]:
    """What the ledger says, in order of the starts."""
    rows = [line.split() for line in ledger.read_text().splitlines()]
    return sorted(((int(n), float(begin), float(end)) for n, begin, end in rows), key=lambda row: row[1])


def given_out(site: Site, ids: list[str]) -> list[float]:
    """When the scheduler gave these jobs to workers, in order (Unix time): loads do not matter to that."""
    with Operator(site.url, BOUND) as operator:
        stories = [operator.job(given_id(one)).story for one in ids]
    return sorted(next(line.wall for line in story if line.state == "assigned") for story in stories)


def command(site: Site, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "zmqtasks", *arguments, "--broker", site.url],
        capture_output=True, text=True, timeout=BOUND, check=True,
    )  # fmt: skip
    return done.stdout


def test_the_more_urgent_overtakes_what_waits(site: Site, ledger: Path, tmp_path: Path) -> None:
    site.scheduler()
    site.worker("-c", "1")
    sign = tmp_path / "go"
    with Client(site.url) as client:
        client.submit(wait_for, str(sign))
        first = client.options(priority=0).submit_many(note, [((str(ledger), n), {}) for n in range(20)])
        second = client.options(priority=5).submit_many(note, [((str(ledger), n), {}) for n in range(20, 25)])
        third = client.options(priority=9).submit(note, str(ledger), 25)
        client.flush(BOUND)
        sign.touch()
        client.gather([*first, *second, third], timeout=BOUND)
    order = [number for number, _, _ in lines(ledger)]
    assert order == [25, *range(20, 25), *range(20)]


def test_an_urgent_job_does_not_wait_behind_a_backlog_of_short_ones(site: Site, ledger: Path) -> None:
    site.scheduler()
    site.worker("-c", "1")
    with Client(site.url) as client:
        assert client.gather(client.submit_many(note, [((str(ledger), 0, 0.002), {})] * 20), timeout=BOUND)
        jobs = client.submit_many(note, [((str(ledger), 1, 0.002), {})] * 500)
        until(lambda: executions(ledger)[1] > 20, "the backlog is being worked on")
        client.options(priority=1).submit(note, str(ledger), 2).result(timeout=BOUND)
        before = executions(ledger)[1]
        assert before < 500 - 50  # far from the end: it did not stand behind them
        client.cancel(jobs)


@pytest.mark.parametrize("limited", [{"rate_limit": f"{RATE:g}/s"}, {"rate_limit": f"{RATE * 60:g}/m"}])
def test_a_rate_holds_over_all_workers(site: Site, ledger: Path, limited: dict[str, str]) -> None:
    site.scheduler()
    for _ in range(2):
        site.worker("-c", "2")
    with Client(site.url) as client:
        client.submit(note, str(ledger), 1_000).result(timeout=BOUND)
        jobs = client.options(**limited).submit_many(note, [((str(ledger), n), {}) for n in range(40)])
        _, stuck = client.options(rate_limit="1/h", rate_key="slow").submit_many(note, [((str(ledger), 2_000), {})] * 2)
        others = client.submit_many(note, [((str(ledger), n), {}) for n in range(100, 400)])
        client.gather([*others, *jobs], timeout=BOUND)
        assert not stuck.done()  # nobody waited for it
        stuck.cancel()
        begins = given_out(site, [job.id for job in jobs])
    assert all(later - earlier > (1 - LATE_SHARE) / RATE - CLOCKS for earlier, later in pairwise(begins))
    assert len({line.split()[0] for line in ledger.read_text().splitlines()}) == 342


def test_a_cap_holds_over_all_workers_and_keys_are_apart(site: Site, ledger: Path, tmp_path: Path) -> None:
    """The first job of each key ends only when that of the other key has begun, so they must run at once."""
    site.scheduler()
    for _ in range(2):
        site.worker("-c", "4")
    signs = str(tmp_path / "first"), str(tmp_path / "second")
    with Client(site.url) as client:
        capped = client.options(concurrency_limit=1)
        jobs = []
        for key, mine, other in (("a", *signs), ("b", *reversed(signs))):
            keyed = capped.options(concurrency_key=key)
            jobs.append(keyed.submit(note, str(ledger), ord(key), 0.0, mine, other))
            jobs += keyed.submit_many(note, [((str(ledger), ord(key), 0.01), {})] * 9)
        client.gather(jobs, timeout=BOUND)
    ran = lines(ledger)
    for key in "ab":
        spans = [(begin, end) for number, begin, end in ran if number == ord(key)]
        assert len(spans) == 10
        assert all(later[0] >= earlier[1] for earlier, later in pairwise(spans))


def test_a_job_that_is_too_late_does_not_run(site: Site, ledger: Path, tmp_path: Path) -> None:
    site.scheduler()
    site.worker("-c", "1")
    sign = tmp_path / "go"
    with Client(site.url) as client:
        client.submit(wait_for, str(sign))
        late = client.options(expires=0.3).submit(note, str(ledger), 1)
        with pytest.raises(zmqtasks.JobExpired, match="had not started when its time was over"):
            late.result(timeout=BOUND)
        sign.touch()
        assert client.options(expires=BOUND).submit(note, str(ledger), 2).result(timeout=BOUND) == 2
    assert executions(ledger) == {2: 1}


def test_operators_pause_weigh_limit_and_purge(site: Site, ledger: Path) -> None:
    site.scheduler()
    site.worker("-c", "1")
    with Client(site.url) as client:
        assert "paused" in command(site, "control", "pause", "default")
        jobs = client.submit_many(note, [((str(ledger), n), {}) for n in range(10)])
        client.flush(BOUND)
        status = json.loads(command(site, "status", "--json"))
        (queue,) = status["queues"]
        assert (queue["paused"], queue["ready"]) == (True, 10)
        assert "paused" in command(site, "explain", jobs[0].id)
        assert "10 jobs of queue default cancelled" in command(site, "purge", "default", "--yes")
        with pytest.raises(zmqtasks.JobCancelled):
            jobs[0].result(timeout=BOUND)
        assert "weight 3" in command(site, "control", "weight", "default", "3")
        command(site, "control", "resume", "default")
        assert client.submit(note, str(ledger), 50).result(timeout=BOUND) == 50
    assert executions(ledger) == {50: 1}
    done = subprocess.run(
        [sys.executable, "-m", "zmqtasks", "control", "rate_limit", "add", "often", "--broker", site.url],
        capture_output=True, text=True, timeout=BOUND, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is no rate" in done.stderr


def test_a_rate_that_was_set_by_hand_outlives_a_kill(site: Site, ledger: Path) -> None:
    data = site.folder / "data"
    scheduler = site.start("scheduler", ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--data", str(data)])
    command(site, "control", "rate_limit", "tests.e2e.test_policy.note", "1/h")
    scheduler.kill()
    scheduler.wait()
    site.start("scheduler", ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--data", str(data)])
    with Client(site.url) as client:
        jobs = [client.send_task("tests.e2e.test_policy.note", (str(ledger), n)) for n in range(2)]
        client.flush(BOUND)
        told = command(site, "explain", jobs[1].id)
        assert "may start once in" in told
        client.cancel(jobs)


def test_ten_jobs_do_not_wait_for_a_hundred_thousand_of_another_submitter(site: Site, ledger: Path) -> None:
    site.scheduler()
    site.worker("-c", "2")
    with Client(site.url) as greedy, Client(site.url) as modest:
        many = greedy.submit_many(pow, [((n, 2), {}) for n in range(100_000)])
        begin = time.monotonic()
        modest.gather(modest.submit_many(note, [((str(ledger), n), {}) for n in range(10)]), timeout=BOUND)
        waited = time.monotonic() - begin
        assert sum(job.done() for job in many) < len(many), f"all was over after {waited:.1f} s"
        greedy.cancel(many)
