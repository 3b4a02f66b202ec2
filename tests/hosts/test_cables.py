"""Workers join from other hosts; cables are pulled, for moments and for longer, at every end of the cluster.

No test compares times; the waits print how long they took (`pytest -s`), and give up after twice what design allows.
"""

import time

import pytest

from tests.hosts.cluster import Cluster, until, workers
from tests.hosts.network import Network

LOST = 5.0  # seconds in which a host that fell silent is lost: the lease of 4 s, and one
RETRIED = 5.0  # seconds in which a connection is tried again: 3 s for one that nobody answers, the pause, and one
CLOSED = 1.0  # seconds in which a connection that was closed is noticed


def test_workers_join_from_other_hosts_and_all_get_work(network: Network, cluster: Cluster) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    url, _ = cluster.scheduler(head)
    for host in (one, two):
        cluster.worker(host, url, wait=False)
    watch = cluster.watch(desk, url)
    watch.when(lambda seen: workers(seen) == {"worker@one": "up", "worker@two": "up"}, time.monotonic(), "both are up")
    told = cluster.batch(desk, url, 60, 0.02).finish()
    assert told["hosts"] == ["one", "two"]


def test_the_same_over_ipv6(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, _ = cluster.scheduler(head, ipv6=True)
    cluster.worker(one, url)
    assert cluster.batch(desk, url, 10, 0.0).finish()["hosts"] == ["one"]
    assert list(cluster.watch(desk, url).states().values()) == ["up"]


def test_a_workers_cable_pulled_for_a_moment_is_no_event(network: Network, cluster: Cluster) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    for host in (one, two):
        cluster.worker(host, url)
    batch = cluster.batch(desk, url, 60, 0.2)
    batch.begun(8)
    one.cable.pull()
    before = batch.ran_on(two)
    until(lambda: batch.ran_on(two) >= before + 4, "the other worker goes on")  # 0.4 s
    one.cable.plug()
    batch.finish()
    assert watch.lost() == 0
    assert max(batch.ran().values()) == 1


def test_a_workers_cable_pulled_for_longer_than_its_lease(network: Network, cluster: Cluster) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    for host in (one, two):
        cluster.worker(host, url)
    batch = cluster.batch(desk, url, 80, 0.2)
    batch.begun(8)
    one.cable.pull()
    pulled = time.monotonic()
    watch.when(lambda seen: "worker@one" not in workers(seen), pulled, "a worker without a cable is lost", 2 * LOST)
    one.cable.plug()
    plugged = time.monotonic()
    watch.when(lambda seen: workers(seen).get("worker@one") == "up", plugged, "it is back")
    batch.finish()
    assert watch.lost() == 1
    assert max(batch.ran().values()) <= 2, scheduler.told()
    cluster.batch(desk, url, 20, 0.05).finish()


def test_a_submitters_cable_pulled_until_its_connection_breaks(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    batch = cluster.batch(desk, url, 40, 0.1)
    batch.begun(4)
    desk.cable.pull()
    batch.line("lost the connection", 2 * LOST)
    batch.begun(40)
    desk.cable.plug()
    batch.finish()
    assert max(batch.ran().values()) == 1
    assert watch.lost() == 0


def test_the_schedulers_cable_pulled_until_the_lease_has_ended(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    batch = cluster.batch(desk, url, 6, 1.5)
    batch.begun(2)
    head.cable.pull()
    pulled = time.monotonic()
    watch.when(lambda seen: not workers(seen), pulled, "the worker is lost", 2 * LOST)
    head.cable.plug()
    watch.when(lambda seen: len(workers(seen)) == 1, time.monotonic(), "it is back")
    batch.finish()
    assert max(batch.ran().values()) == 1, f"nobody else could have begun these again: {scheduler.told()}"


@pytest.mark.nightly
def test_a_long_break_far_away_is_over_soon_after_its_end(network: Network, cluster: Cluster) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    one.route_to(head)  # so no neighbour tells the kernel that the other end is gone: its SYNs come ever more rarely
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    worker = cluster.worker(one, url)
    one.cable.sever()
    worker.line("no scheduler has answered at .* for")
    time.sleep(40)  # the fault itself: the kernel would try again only 67 s after the first SYN
    one.cable.plug()
    watch.when(lambda seen: len(workers(seen)) == 1, time.monotonic(), "it is back", 2 * RETRIED)
    cluster.batch(desk, url, 4, 0.0).finish()
