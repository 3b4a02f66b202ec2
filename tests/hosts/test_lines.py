"""Bad lines: loss, in both directions or in one, delay that varies, and little room for much."""

import time

import pytest

from tests.hosts.cluster import Batch, Cluster, until, workers
from tests.hosts.network import Network
from tests.hosts.switch import Way
from tests.hosts.test_cables import LOST

MIB = 1024 * 1024
MEGABYTE = 1_000_000.0  # bytes per second
LARGE = 64 * MIB - 1000  # bytes; with what is around it as much as a job may have


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_workers_line_that_works_in_one_direction_only(network: Network, cluster: Cluster, direction: str) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    url, _ = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    for host in (one, two):
        cluster.worker(host, url)
    batch = cluster.batch(desk, url, 60, 0.2)
    batch.begun(8)
    way = getattr(one.cable, direction)
    way.loss = 1.0
    broken = time.monotonic()
    watch.when(
        lambda seen: workers(seen).get("worker@one") != "up", broken, f"{direction} is broken: noticed", 4 * LOST
    )
    way.loss = 0.0
    watch.when(lambda seen: workers(seen).get("worker@one") == "up", time.monotonic(), "it is back")
    batch.finish()
    assert max(batch.ran().values()) <= 2
    cluster.batch(desk, url, 20, 0.05).finish()


@pytest.mark.parametrize("fault", [{"loss": 0.05}, {"delay": 0.2, "jitter": 0.1}], ids=["5 % loss", "200 ms ± 100 ms"])
def test_nobody_is_lost_on_a_bad_line(network: Network, cluster: Cluster, fault: dict[str, float]) -> None:
    head, one, two, desk = (network.host(name) for name in ("head", "one", "two", "desk"))
    for way in head.cable.ways:
        for name, value in fault.items():
            setattr(way, name, value)
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    for host in (one, two):
        cluster.worker(host, url)
    for count, seconds in (40, 0.0), (16, 0.5):  # together longer than a lease
        batch = cluster.batch(desk, url, count, seconds)
        assert batch.finish()["hosts"] == ["one", "two"]
        assert max(batch.ran().values()) == 1
    assert watch.lost() == 0, scheduler.told()
    assert scheduler.logged("worker-suspect") == []


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])])
def test_a_large_result_on_a_slow_line_holds_up_nobody(network: Network, cluster: Cluster, *, whole: bool) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    line = one.cable.up
    line.rate = MEGABYTE
    large = cluster.batch(desk, url, 1, 0.0, LARGE)
    until(lambda: line.carried > MIB, "the result is on its way")
    cluster.batch(desk, url, 20, 0.0).finish()
    assert not large.over(), "the small results came first"
    finish_on(line, large, whole=whole)
    assert large.ran().total() == 1
    assert watch.lost() == 0, scheduler.told()
    assert scheduler.logged("worker-suspect") == []


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])])
def test_a_large_argument_on_a_slow_line_holds_up_nobody(network: Network, cluster: Cluster, *, whole: bool) -> None:
    head, one, desk = (network.host(name) for name in ("head", "one", "desk"))
    url, scheduler = cluster.scheduler(head)
    watch = cluster.watch(head, url)
    cluster.worker(one, url)
    line = one.cable.down
    line.rate = MEGABYTE
    large = cluster.batch(desk, url, 1, 0.0, 0, LARGE)
    until(lambda: line.carried > MIB, "the argument is on its way")
    cluster.batch(desk, url, 20, 0.0).finish()
    assert large.ran().total() == 0, "the small jobs came first"
    finish_on(line, large, whole=whole)
    assert large.ran().total() == 1
    assert watch.lost() == 0, scheduler.told()
    assert scheduler.logged("worker-suspect") == []


def finish_on(line: Way, large: Batch, *, whole: bool) -> None:
    """See the large one through: all on the slow line, or only until that took longer than a lease."""
    if not whole:
        until(lambda: line.carried > 6 * MIB, "six seconds' worth of it is through")
        line.rate = None
    large.finish(3 * LARGE / MEGABYTE)
