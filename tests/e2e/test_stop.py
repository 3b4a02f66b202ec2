"""Daemons and scripts that are asked to end, or stand still for a while: real processes, the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

import zmqtasks
from tests.helpers.processes import BOUND, Site, executions, family, until, until_gone

LEASE = {"heartbeat": 0.2, "lease": 1.0}


@pytest.fixture
def client(site: Site) -> Iterator[zmqtasks.Client]:
    site.first = site.scheduler(**LEASE)  # type: ignore[attr-defined]
    with zmqtasks.Client(site.url) as made:
        yield made


def gated(ledger: str, number: int, door: str) -> tuple[int, int]:
    """One line in the ledger, then wait for the door to open; (number squared, pid)."""
    import os
    import time
    from pathlib import Path

    with Path(ledger).open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    while not Path(door).exists():
        time.sleep(0.005)
    return number * number, os.getpid()


def submit(client: zmqtasks.Client, site: Site, numbers: range, door: str = "door") -> list[zmqtasks.Job]:
    ledger = site.folder / "ledger"
    ledger.touch()
    return client.submit_many(gated, [((str(ledger), n, str(site.folder / door)), {}) for n in numbers])


def ran(site: Site) -> Counter[int]:
    return executions(site.folder / "ledger")


def pids(site: Site) -> list[int]:
    return [int(line.split()[1]) for line in (site.folder / "ledger").read_text().splitlines()]


def status(site: Site) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "zmqtasks", "status", "--json", "--broker", site.url],
        capture_output=True, text=True, check=True, timeout=BOUND,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def values(jobs: list[zmqtasks.Job]) -> list[int]:
    return [job.result(timeout=BOUND)[0] for job in jobs]


# ------------------------------------------------------------------------------------------------ warm and cold ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_worker_finishes_what_runs_and_hands_back_the_rest(
    site: Site, client: zmqtasks.Client, number: signal.Signals
) -> None:
    first = site.worker("-c", "2", "-n", "first")
    jobs = submit(client, site, range(6))
    until(lambda: len(ran(site)) == 2, "two jobs run")
    everybody = family(first.pid)
    first.send_signal(number)
    until(lambda: "draining: " in site.said(first), "it says what it does")
    assert f"{number.name}: no new jobs; waiting up to 60 s for those that run" in site.said(first)
    second = site.worker("-c", "4", "-n", "second")
    until(lambda: len(ran(site)) == 6, "the other four run elsewhere, while the first two still do")
    assert first.poll() is None
    (site.folder / "door").touch()
    assert values(jobs) == [n * n for n in range(6)]
    assert first.wait(10) == 0
    until_gone(everybody)
    assert ran(site) == Counter(range(6)), "nothing ran twice"
    second.terminate()
    assert second.wait(10) == 0


@pytest.mark.parametrize(
    ("options", "numbers", "code", "told"),
    [
        ([], [signal.SIGTERM, signal.SIGTERM], 128 + 15, "SIGTERM again: stopping now; what runs is handed back"),
        ([], [signal.SIGTERM, signal.SIGINT], 128 + 2, "SIGINT again: stopping now; what runs is handed back"),
        (["--shutdown-timeout", "0.2"], [signal.SIGINT], 1, "jobs still run after 0.2 s; they are stopped"),
    ],
)
def test_a_worker_that_stops_now_hands_back_what_runs_uncharged(
    site: Site, client: zmqtasks.Client, options: list[str], numbers: list[int], code: int, told: str
) -> None:
    first = site.worker("-c", "2", *options)
    jobs = [client.options(crash_budget=0).submit(gated, *args) for args in _calls(site, range(2))]
    until(lambda: len(ran(site)) == 2, "both jobs run")
    everybody = family(first.pid)
    for number in numbers:
        first.send_signal(number)
        until(lambda: "draining: " in site.said(first), "it has taken the first signal")
    assert first.wait(10) == code
    assert told in site.said(first)
    until_gone(everybody)
    (site.folder / "door").touch()
    site.worker("-c", "2")
    assert values(jobs) == [0, 1]
    assert ran(site) == Counter([0, 1, 0, 1]), "each a second time, and a crash budget of 0 forbade nothing"


def _calls(site: Site, numbers: range) -> list[tuple[str, int, str]]:
    (site.folder / "ledger").touch()
    return [(str(site.folder / "ledger"), n, str(site.folder / "door")) for n in numbers]


def test_a_stopped_child_does_not_keep_its_worker_from_ending(site: Site, client: zmqtasks.Client) -> None:
    worker = site.worker("-c", "2", "--shutdown-timeout", "0.2")
    submit(client, site, range(2))
    until(lambda: len(ran(site)) == 2, "both jobs run")
    everybody = family(worker.pid)
    for pid in pids(site):
        os.kill(pid, signal.SIGSTOP)
    worker.terminate()
    assert worker.wait(10) == 1
    until_gone(everybody)


# ------------------------------------------------------------------------------------------------ standing still


def test_a_stopped_child_keeps_its_slot_and_the_others_go_on(site: Site, client: zmqtasks.Client) -> None:
    site.worker("-c", "2")
    held = submit(client, site, range(1), "later")
    until(lambda: len(ran(site)) == 1, "the job runs")
    os.kill(pids(site)[0], signal.SIGSTOP)
    (site.folder / "door").touch()
    others = submit(client, site, range(1, 200))
    assert values(others) == [n * n for n in range(1, 200)]
    (site.folder / "later").touch()
    until(lambda: status(site)["workers"][0]["running"] == 1, "status shows that one slot is busy")
    assert not held[0].done()
    os.kill(pids(site)[0], signal.SIGCONT)
    assert values(held) == [0]
    assert ran(site) == Counter(range(200))


def test_a_stopped_child_can_be_cancelled_by_force(site: Site, client: zmqtasks.Client) -> None:
    site.worker("-c", "1")
    (held,) = submit(client, site, range(1))
    until(lambda: len(ran(site)) == 1, "the job runs")
    os.kill(pids(site)[0], signal.SIGSTOP)
    assert client.cancel([held], force=True) == [True]
    assert client.submit(pow, 2, 3).result(BOUND) == 8


def test_a_stopped_fork_server_holds_up_no_job_that_runs(site: Site, client: zmqtasks.Client) -> None:
    worker = site.worker("-c", "2")
    jobs = submit(client, site, range(50))
    until(lambda: len(ran(site)) == 2, "two jobs run")
    (forkserver,) = psutil.Process(worker.pid).children()
    forkserver.suspend()
    os.kill(pids(site)[0], signal.SIGKILL)  # nobody can tell how it died, or make another one
    (site.folder / "door").touch()
    assert values(jobs[2:]) == [n * n for n in range(2, 50)]
    assert sum(job.done() for job in jobs) == 49
    forkserver.resume()
    assert values(jobs) == [n * n for n in range(50)]
    assert sum(ran(site).values()) == 51


def test_an_agent_that_stands_still_for_longer_than_its_lease_comes_back(site: Site, client: zmqtasks.Client) -> None:
    """Each job has one result; what ran twice is what the stopped worker's children were running."""
    first = site.worker("-c", "2", "-n", "first")
    jobs = submit(client, site, range(20))
    until(lambda: len(ran(site)) == 2, "two jobs run")
    on_first = set(ran(site))
    os.kill(first.pid, signal.SIGSTOP)
    site.worker("-c", "2", "-n", "second")
    until(lambda: [w["name"] for w in status(site)["workers"]] == ["second"], "the first is lost")
    (site.folder / "door").touch()
    told = [job.result(timeout=BOUND) for job in jobs]
    assert [value for value, _ in told] == [n * n for n in range(20)]
    again = {n: count - 1 for n, count in ran(site).items() if count > 1}
    assert set(again) <= on_first
    assert max(again.values(), default=0) <= 1
    before = ran(site)
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: len(status(site)["workers"]) == 2, "it is back")
    more = submit(client, site, range(100, 140))
    assert values(more) == [n * n for n in range(100, 140)]
    assert [job.result() for job in jobs] == told, "nothing that it still reported changed a result"
    assert ran(site) == before + Counter(range(100, 140))


@pytest.mark.parametrize("seconds", [0.7, 2.0])
def test_a_scheduler_that_stands_still_charges_nobody(site: Site, client: zmqtasks.Client, seconds: float) -> None:
    """Longer than the gap that it forgives, and longer than the lease."""
    site.worker("-c", "2")
    jobs = [client.options(crash_budget=0).submit(gated, *args) for args in _calls(site, range(30))]
    until(lambda: len(ran(site)) == 2, "two jobs run")
    scheduler = site.first  # type: ignore[attr-defined]
    scheduler.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    (site.folder / "door").touch()
    scheduler.send_signal(signal.SIGCONT)
    assert values(jobs) == [n * n for n in range(30)]
    assert ran(site) == Counter(range(30))


def test_a_submitter_that_stands_still_loses_nothing(site: Site) -> None:
    site.scheduler(**LEASE)
    site.worker("-c", "2")
    code = (
        "import sys, time, zmqtasks\n"
        "with zmqtasks.Client(sys.argv[1]) as client:\n"
        "    jobs = client.submit_many(pow, [((n, 2), {}) for n in range(2000)])\n"
        "    slow = client.submit_many(time.sleep, [((0.002,), {}) for n in range(300)])\n"
        "    client.flush(30)\n"
        "    print('going', flush=True)\n"
        "    assert client.gather(jobs, 60) == [n * n for n in range(2000)]\n"
        "    client.gather(slow, 60)\n"
    )
    script = site.start("script", ["-c", code, site.url], wait=False)
    assert script.stdout is not None
    assert script.stdout.readline() == "going\n"
    script.send_signal(signal.SIGSTOP)
    until(lambda: status(site)["jobs"].get("succeeded", 0) >= 1, "jobs end without it")
    time.sleep(2 * LEASE["lease"])
    script.send_signal(signal.SIGCONT)
    assert script.wait(BOUND) == 0, site.said(script)


# ------------------------------------------------------------------------------------------------ the scheduler ends


def test_peers_say_that_the_scheduler_left_and_find_the_next_one(site: Site) -> None:
    first = site.scheduler(**LEASE)
    worker = site.worker("-c", "2")
    code = (
        "import sys, time, pathlib, zmqtasks\n"
        "sys.path.insert(0, '.')\n"
        "from tests.e2e.test_stop import gated\n"
        "with zmqtasks.Client(sys.argv[1]) as client:\n"
        "    jobs = client.submit_many(gated, [((sys.argv[2], n, sys.argv[3]), {}) for n in range(10)])\n"
        "    client.flush(30)\n"
        "    print('accepted', flush=True)\n"
        "    print([job.result(60)[0] for job in jobs], flush=True)\n"
    )
    ledger, door = site.folder / "ledger", site.folder / "door"
    ledger.touch()
    script = site.start("script", ["-c", code, site.url, str(ledger), str(door)], wait=False)
    assert script.stdout is not None
    assert script.stdout.readline() == "accepted\n"
    until(lambda: len(ran(site)) == 2, "two jobs run")
    first.terminate()
    assert first.wait(10) == 0
    until(lambda: "lost the scheduler at" in site.said(worker), "the worker says so")
    until(lambda: "reconnecting, they go on" in site.said(script), "the submitter says so")
    door.touch()
    site.scheduler(**LEASE)
    until(lambda: "connected to the scheduler at" in site.said(worker), "the worker says that it is back")
    assert script.stdout.readline() == f"{[n * n for n in range(10)]}\n"
    assert script.wait(BOUND) == 0
    assert "connected to the scheduler at" in site.said(script)
    worker.terminate()
    assert worker.wait(10) == 0


# ------------------------------------------------------------------------------------------------ Ctrl-C in a script


def test_ctrl_c_in_a_script_leaves_its_accepted_jobs_to_the_scheduler(site: Site) -> None:
    site.scheduler(**LEASE)
    worker = site.worker("-c", "1")
    code = (
        "import sys, zmqtasks\n"
        "from tests.e2e.test_stop import gated\n"
        "client = zmqtasks.Client(sys.argv[1])\n"
        "jobs = client.submit_many(gated, [((sys.argv[2], n, sys.argv[3]), {}) for n in range(5)])\n"
        "print(*[job.id for job in jobs], flush=True)\n"
        "jobs[0].result()\n"
    )
    (site.folder / "ledger").touch()
    script = site.start(
        "script", ["-c", code, site.url, str(site.folder / "ledger"), str(site.folder / "door")], wait=False
    )
    assert script.stdout is not None
    ids = script.stdout.readline().split()
    until(lambda: len(ran(site)) == 1, "the first one runs")
    script.send_signal(signal.SIGINT)
    assert script.wait(10) == -signal.SIGINT
    assert "KeyboardInterrupt" in site.said(script)
    until(lambda: status(site)["submitters"] == 0, "its connection is gone")
    (site.folder / "door").touch()
    with zmqtasks.Client(site.url) as client:
        assert values([client.job(job_id) for job_id in ids]) == [n * n for n in range(5)]
    assert ran(site) == Counter(range(5))
    assert worker.poll() is None


def test_ctrl_c_while_a_cluster_is_being_stopped_leaves_nothing(site: Site) -> None:
    """The job that runs keeps the stop going for a second, in which the signal comes to the waiting thread."""
    code = (
        "import os, pathlib, signal, sys, threading, time, zmqtasks\n"
        "def begin(sign):\n"
        "    pathlib.Path(sign).touch()\n"
        "    time.sleep(1000)\n"
        "def interrupt():\n"
        "    while 'stopped' not in repr(cluster):\n"
        "        time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "cluster = zmqtasks.LocalCluster(workers=1)\n"
        "client = cluster.client()\n"
        "client.submit(begin, sys.argv[1])\n"
        "while not os.path.exists(sys.argv[1]):\n"
        "    time.sleep(0.01)\n"
        "print(cluster.scheduler_pid, *cluster.worker_pids, flush=True)\n"
        "threading.Thread(target=interrupt).start()\n"
        "try:\n"
        "    cluster.stop()\n"
        "    print('stopped', flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n"
        "time.sleep(1000)\n"
    )
    script = site.start("script", ["-c", code, str(site.folder / "begun")], wait=False)
    assert script.stdout is not None
    everybody = family(*map(int, script.stdout.readline().split()))
    assert script.stdout.readline() == "interrupted\n"
    until_gone(everybody)
    until(lambda: not list(site.folder.glob("zmqtasks-*")), "its folder is gone", 2)
