"""`map` in chunks over a real scheduler and workers: each item succeeds, fails, dies and is tried again by itself."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.processes import executions
from zmqtasks import Client


@pytest.fixture(scope="module")
def cluster() -> Iterator[zmqtasks.LocalCluster]:
    with zmqtasks.LocalCluster(workers=2) as made:
        yield made


@pytest.fixture
def client(cluster: zmqtasks.LocalCluster) -> Iterator[Client]:
    with cluster.client() as made:
        yield made


def tried(path: Path, number: int) -> int:
    """Note that a number is tried; returns how often it was so far."""
    file = os.open(path, os.O_RDWR | os.O_APPEND)
    os.write(file, b"%d %d\n" % (number, os.getpid()))
    told = os.pread(file, 1_000_000, 0)
    os.close(file)
    return sum(line.split()[0] == b"%d" % number for line in told.splitlines())


def shaky(path: str, number: int) -> int:
    """Every hundredth raises twice."""
    if tried(Path(path), number) < 3 and number % 100 == 99:
        raise ConnectionError(f"{number} is not there yet")
    return number


def deadly(path: str, number: int) -> int:
    """Number 77 kills its process."""
    tried(Path(path), number)
    if number == 77:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_a_long_input_comes_back_in_order_with_few_jobs(cluster: zmqtasks.LocalCluster, client: Client) -> None:
    before = client.submit(int).pair[1]
    assert list(client.map(abs, range(200_000))) == list(range(200_000))
    assert sorted(client.map(abs, range(50_000), ordered=False)) == list(range(50_000))
    assert client.submit(int).pair[1] - before < 25_000  # ids that were used

    async def values() -> list[int]:
        async with zmqtasks.AsyncClient(cluster.url) as other:
            return [value async for value in other.map(abs, range(50_000))]

    assert asyncio.run(values()) == list(range(50_000))


@pytest.mark.parametrize("chunksize", ["auto", 50])
@pytest.mark.parametrize("ordered", [True, False])
def test_items_are_tried_again_by_themselves(
    client: Client,
    ledger: Path,
    chunksize: int | str,
    ordered: bool,  # noqa: FBT001
) -> None:
    options = client.options(retries=2, backoff=0.01)
    values = options.starmap(shaky, [(str(ledger), n) for n in range(400)], chunksize=chunksize, ordered=ordered)
    assert (list(values) if ordered else sorted(values)) == list(range(400))
    assert executions(ledger) == {n: 3 if n % 100 == 99 else 1 for n in range(400)}


def test_an_item_whose_retries_are_spent_fails_at_its_place(client: Client, ledger: Path) -> None:
    values = client.options(retries=1).starmap(shaky, [(str(ledger), n) for n in range(200)], chunksize=50)
    assert [next(values) for _ in range(99)] == list(range(99))
    with pytest.raises(ConnectionError, match="99 is not there yet"):
        next(values)


@pytest.mark.parametrize("budget", [0, 2])
def test_the_item_that_kills_its_process_is_found_and_the_others_come(
    client: Client, ledger: Path, budget: int
) -> None:
    values = client.options(crash_budget=budget).starmap(deadly, [(str(ledger), n) for n in range(120)], chunksize=30)
    assert [next(values) for _ in range(77)] == list(range(77))
    with pytest.raises(zmqtasks.WorkerLost):
        next(values)
    ran = executions(ledger)
    assert ran[77] == 1 + budget + 1  # in its chunk, and by itself
    assert max(ran[n] for n in range(77)) <= 3 + budget  # results of the last millisecond die with a child


def test_what_must_run_at_most_once_is_not_done_again(client: Client, ledger: Path) -> None:
    values = client.options(acks_late=False).starmap(deadly, [(str(ledger), n) for n in range(90)], chunksize=30)
    assert [next(values) for _ in range(60)] == list(range(60))
    with pytest.raises(zmqtasks.WorkerLost):
        next(values)
    assert set(executions(ledger).values()) == {1}
