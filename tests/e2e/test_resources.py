"""Resources over real processes: what jobs see, how many run at once, and what is said of it."""

import json
from pathlib import Path

import pytest

from tests.helpers.processes import BOUND, Site, until
from zmqtasks import Client, LocalCluster
from zmqtasks.cli._status import taken_of
from zmqtasks.errors import BadOption
from zmqtasks.ids import given_id
from zmqtasks.operators import Operator


def look(ledger: str, seconds: float, sign: str = "") -> tuple[str | None, tuple[str, ...], dict[str, float]]:
    """What a job sees of its devices; it writes down when it ran and what it saw."""
    import os
    import time

    from zmqtasks import current_job

    job = current_job()
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    begin = time.monotonic()
    while sign and not os.path.exists(sign):  # noqa: PTH110  (it is shipped: few imports)
        time.sleep(0.002)
    time.sleep(seconds)
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, f"{begin:.6f} {time.monotonic():.6f} {shown}\n".encode())
    os.close(file)
    return shown, job.devices, dict(job.resources)


def most_at_once(ledger: Path) -> dict[str, int]:
    """How many jobs saw a device at the same time, at most, by device."""
    rows = [line.split() for line in ledger.read_text().splitlines() if len(line.split()) == 3]
    most: dict[str, int] = {}
    for begin, _, shown in rows:
        for device in shown.split(","):
            alike = [(float(b), float(e)) for b, e, other in rows if device in other.split(",")]
            now = sum(1 for b, e in alike if b <= float(begin) < e)
            most[device] = max(most.get(device, 0), now)
    return most


def test_jobs_have_gpus_of_their_own_and_no_more_run_than_fit(
    site: Site, ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7b")
    site.scheduler()
    site.worker("-c", "6", "--resource", "gpu=2", "--resource", "mem=1GiB")
    with Client(site.url) as client, Operator(site.url, BOUND) as operator:
        whole, half = client.options(resources={"gpu": 1}), client.options(resources={"gpu": 0.5, "mem": "100 MiB"})
        calls = [((str(ledger), 0.02), {})] * 12
        jobs = whole.submit_many(look, calls)
        both = client.options(resources={"gpu": 2}).submit(look, str(ledger), 0.02)
        assert client.submit(look, str(ledger), 0.0).result(BOUND) == ("", (), {})
        assert both.result(BOUND) == ("4,GPU-7b", ("4", "GPU-7b"), {"gpu": 2})
        for shown, devices, resources in client.gather(jobs, timeout=BOUND):
            assert ((shown,), resources) == (devices, {"gpu": 1})
        assert most_at_once(ledger) == {"4": 1, "GPU-7b": 1}

        halves = client.gather(half.submit_many(look, calls), timeout=BOUND)
        assert {shown for shown, _, _ in halves} == {"4", "GPU-7b"}
        assert halves[0][2] == {"gpu": 0.5, "mem": 100 * 1024**2}
        assert max(most_at_once(ledger).values()) == 2

        sign = tmp_path / "go"
        running = half.submit_many(look, [((str(ledger), 0.0, str(sign)), {})] * 4)
        until(lambda: operator.status().workers[0].running == 4, "they run")
        waiting, never = whole.submit(look, str(ledger), 0.0), client.options(resources={"gpu": 8}).submit(print)
        client.flush(BOUND)
        assert taken_of(operator.status().workers[0]) == "gpu 2 of 2, mem 400 MiB of 1 GiB"
        told = {job: json.dumps(operator.job(given_id(job.id)).reasons) for job in (running[0], waiting, never)}
        assert "It takes gpu 0.5 and mem 100 MiB" in told[running[0]]
        assert "of its gpu 2, 0 is free" in told[waiting]
        assert "start one with: zmqtasks worker -Q default --resource gpu=8" in told[never]
        assert not waiting.done()
        sign.touch()
        client.gather([*running, waiting], timeout=BOUND)
        never.cancel()


def test_a_local_cluster_has_resources_and_threads_are_told_theirs(ledger: Path) -> None:
    with pytest.raises(BadOption, match="no unit 'lots'"):
        LocalCluster(1, resources={"mem": "3 lots"})
    with LocalCluster(2, pool="threads", resources={"gpu": 2}) as cluster, cluster.client() as client:
        jobs = client.options(resources={"gpu": 1}).submit_many(look, [((str(ledger), 0.05), {})] * 4)
        assert {devices for _, devices, _ in client.gather(jobs, timeout=BOUND)} == {("0",), ("1",)}
