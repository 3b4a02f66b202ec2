"""Hosts that go away without a word, and those that take their place."""

import time

import pytest

from tests.hosts.cluster import PORT, Cluster, Program, until, workers
from tests.hosts.network import Host, Network
from tests.hosts.test_cables import CLOSED, LOST


def connections(scheduler: Program, host: Host) -> int:
    """TCP connections to a host that the scheduler's kernel holds to be alive."""
    words = ["ss", "-Htn", "state", "established", f"( sport = :{PORT} )", "and", "dst", host.address]
    return len(scheduler.host.run(words).splitlines())


def test_a_killed_worker_is_noticed_by_its_connection(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    batch = cluster.batch(desk, url, 4, 0.5)
    batch.begun(2)
    one.kill()
    killed = time.monotonic()
    watch.when(
        lambda seen: workers(seen) == {"worker@one": "suspect"}, killed, "a killed worker is suspect", 2 * CLOSED
    )
    cluster.worker(one, url)
    batch.finish()


def test_a_workers_host_vanishes_and_another_takes_its_place(network: Network, cluster: Cluster) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    for host in (one, two):
        cluster.worker(host, url)
    batch = cluster.batch(desk, url, 60, 0.2)
    batch.begun(8)
    one.vanish()
    vanished = time.monotonic()
    again = network.host("one", number=5)  # the same name, as a machine that was replaced; the old end stays half open
    cluster.worker(again, url)
    watch.when(lambda seen: seen["status"]["counters"].get("workers_lost") == 1, vanished, "it is lost", 2 * LOST)
    assert sorted(worker["name"] for worker in watch.seen()[-1]["status"]["workers"]) == ["worker@one", "worker@two"]
    batch.finish()
    assert max(batch.ran().values()) <= 2
    told = cluster.batch(desk, url, 40, 0.02).finish()
    assert told["hosts"] == ["one", "two"], "the new one works under the old one's name"


@pytest.mark.nightly
def test_half_open_connections_are_given_up(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    cluster.batch(desk, url, 4, 10.0).begun(2)
    assert min(connections(scheduler, one), connections(scheduler, desk)) >= 1
    one.vanish()
    desk.vanish()
    vanished = time.monotonic()
    watch.when(lambda seen: not workers(seen), vanished, "the worker is lost", 2 * LOST)
    watch.when(lambda seen: seen["status"]["submitters"] == 0, vanished, "the submitter is gone")
    until(lambda: connections(scheduler, one) + connections(scheduler, desk) == 0, "no connection to them is left")


def test_a_workers_host_restarts_at_once_under_its_old_address(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    batch = cluster.batch(desk, url, 12, 0.3)
    batch.begun(2)
    one.vanish()
    vanished = time.monotonic()
    again = network.host("one", number=2)
    cluster.worker(again, url)
    watch.when(lambda seen: seen["status"]["counters"].get("workers_lost") == 1, vanished, "it is lost", 2 * LOST)
    batch.finish()
    assert max(batch.ran().values()) <= 2


@pytest.mark.parametrize("options", [["--in-memory"], []], ids=["in memory", "journaled"])
def test_the_schedulers_host_vanishes_and_comes_back(network: Network, cluster: Cluster, options: list[str]) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, _ = cluster.scheduler(head, *options)
    worker = cluster.worker(one, url)
    batch = cluster.batch(desk, url, 4, 4.0)
    batch.begun(2)
    head.vanish()
    cluster.scheduler(network.host("head", number=1), *options)
    worker.line("lost the scheduler")
    worker.line("connected to the scheduler at .* again")
    batch.line("lost the connection")
    batch.line("again")
    batch.finish()
    assert max(batch.ran().values()) == 1, f"what ran goes on, and its results are taken: {worker.told()}"
