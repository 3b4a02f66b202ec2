"""Whoever is killed or stopped: a second later there is no process, memory or file that belonged to nobody."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

import zmqtasks
from tests.helpers.processes import Site, family, until, until_gone

PROLIFIC = 2  # processes that each job of `brood` starts


def brood(sign: str) -> None:
    """A job that starts a program, and a copy of itself, and goes on for ever."""
    import multiprocessing
    import subprocess
    import time
    from pathlib import Path

    subprocess.Popen(["sleep", "1000"])
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,)).start()
    Path(sign).touch()
    time.sleep(1000)


def with_broods(site: Site, *options: str, **how: Path) -> list[psutil.Process]:
    """A worker whose two children have started processes of their own: agent, fork server, the rest."""
    site.scheduler()
    worker = site.worker("-c", "2", *options, **how)
    with zmqtasks.Client(site.url) as client:
        signs = [site.folder / f"sign{n}" for n in range(2)]
        client.submit_many(brood, [((str(sign),), {}) for sign in signs])
        until(lambda: all(sign.exists() for sign in signs), "both jobs have started their processes")
    everybody = family(worker.pid)
    assert len(everybody) == 2 + 2 * (1 + PROLIFIC)
    return everybody


def ranks(everybody: list[psutil.Process]) -> dict[str, list[psutil.Process]]:
    agent = everybody[0]
    (forkserver,) = agent.children()
    children = forkserver.children()
    return {
        "agent": [agent],
        "fork server": [forkserver],
        "children": children,
        "broods": [p for p in everybody if p not in {agent, forkserver, *children}],
    }


def hit(everybody: list[psutil.Process], words: str, number: int) -> None:
    """Send a signal to these ranks, in this order, as fast as it goes."""
    of = ranks(everybody)
    victims = [process for word in words.split(", ") for process in of[word]] if words else []
    for process in victims:
        process.send_signal(number)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel kills for us")
@pytest.mark.parametrize(
    ("stopped", "killed"),
    [
        ("", "agent"),
        ("", "agent, fork server"),
        ("", "fork server, agent"),
        ("", "children, fork server, agent"),
        ("", "agent, fork server, children"),
        ("fork server", "agent"),
        ("broods, children, fork server", "agent"),
        ("broods, children, fork server, agent", "agent"),
        ("broods, children, agent", "fork server, agent"),
    ],
)
def test_nothing_of_a_killed_worker_is_left(site: Site, stopped: str, killed: str) -> None:
    everybody = with_broods(site)
    hit(everybody, stopped, signal.SIGSTOP)
    hit(everybody, killed, signal.SIGKILL)
    until_gone(everybody)


@pytest.mark.parametrize("killed", ["fork server", "children"])
def test_what_a_dead_child_had_started_dies_with_it_and_the_job_runs_again(site: Site, killed: str) -> None:
    everybody = with_broods(site)
    of = ranks(everybody)
    for sign in site.folder.glob("sign*"):
        sign.unlink()
    hit(everybody, killed, signal.SIGKILL)
    until_gone([*of["children"], *of["broods"]])
    assert of["agent"][0].is_running()
    until(lambda: len(list(site.folder.glob("sign*"))) == 2, "both jobs run again")


SCRIPT = """
import os, sys, time
import zmqtasks
from tests.e2e.test_orphans import brood

held = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # so that what comes next has numbers of two digits
cluster = zmqtasks.LocalCluster(workers=2, agents=2)
client = cluster.client()
client.submit_many(brood, [((sign,), {}) for sign in sys.argv[1:]])
print("ready", cluster.scheduler_pid, *cluster.worker_pids, cluster.url, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel wakes for us")
@pytest.mark.parametrize(
    ("stopped", "number"),
    [
        ("nobody", signal.SIGKILL),
        ("nobody", signal.SIGTERM),
        ("nobody", signal.SIGHUP),
        ("scheduler", signal.SIGKILL),
        ("agents", signal.SIGKILL),
        ("everybody", signal.SIGKILL),
    ],
)
def test_nothing_is_left_of_a_script_that_was_killed(site: Site, stopped: str, number: int) -> None:
    signs = [site.folder / f"sign{n}" for n in range(2)]
    script = site.start("script", ["-c", SCRIPT, *map(str, signs)], wait=False)
    assert script.stdout is not None
    _, scheduler, *workers, url = script.stdout.readline().split()
    until(lambda: all(sign.exists() for sign in signs), "both jobs have started their processes")
    everybody = [p for p in family(script.pid) if p.pid != script.pid]
    assert len(everybody) == 2 + 2 * (2 + 1 + PROLIFIC), "scheduler, watcher, and all of two workers"
    folder = Path(url.removeprefix("ipc://")).parent
    assert folder.parent == site.folder, "its temporary files are here"
    victims = {"nobody": [], "scheduler": [scheduler], "agents": workers, "everybody": [p.pid for p in everybody]}
    for pid in victims[stopped]:
        os.kill(int(pid), signal.SIGSTOP)
    script.send_signal(number)
    assert script.wait(10) == -number
    until_gone(everybody)
    until(lambda: not folder.exists(), "its folder is gone", 2)


def test_the_end_of_a_cluster_wakes_who_is_stopped() -> None:
    cluster = zmqtasks.LocalCluster(workers=1)
    everybody = family(cluster.scheduler_pid, *cluster.worker_pids)
    assert len(everybody) == 4
    for process in everybody:
        process.suspend()
    cluster.stop()
    until_gone(everybody)


def test_a_scheduler_removes_its_files_and_its_successor_those_of_a_killed_one(site: Site) -> None:
    pidfile = site.folder / "pid"
    arguments = ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--pidfile", str(pidfile)]
    path = site.folder / "s"
    first = site.start("scheduler", arguments)
    first.kill()
    first.wait()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        scheduler = site.start("scheduler", arguments)
        assert pidfile.read_text() == f"{scheduler.pid}\n"
        assert path.is_socket()
        scheduler.send_signal(number)
        assert scheduler.wait(10) == 0
        assert not path.exists()
        assert not pidfile.exists()


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN], ids=["plain", "nohup"])
def test_the_end_of_a_terminal_is_a_warm_end_unless_nohup_says_otherwise(
    site: Site, disposition: signal.Handlers
) -> None:
    site.scheduler()
    worker = site.worker("-c", "1", preexec_fn=lambda: signal.signal(signal.SIGHUP, disposition))
    worker.send_signal(signal.SIGHUP)
    if disposition == signal.SIG_IGN:
        with zmqtasks.Client(site.url) as client:
            assert client.submit(pow, 2, 3).result(10) == 8
        worker.terminate()
    assert worker.wait(10) == 0


def test_nothing_is_left_of_children_that_are_not_forked(site: Site) -> None:
    """They are started by exec where importing the app has started threads."""
    (site.folder / "threaded.py").write_text(
        "import threading, time, zmqtasks\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "app = zmqtasks.App('t')\n"
    )
    everybody = with_broods(site, "-A", "threaded", cwd=site.folder)
    (agent,), (forkserver,) = ranks(everybody)["agent"], ranks(everybody)["fork server"]
    assert "zmqtasks.worker.child" in " ".join(ranks(everybody)["children"][0].cmdline())
    agent.kill()
    forkserver.kill()
    until_gone(everybody)
