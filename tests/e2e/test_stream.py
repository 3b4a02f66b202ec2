"""What a script asks of a whole cluster again and again: endless maps, ids that come twice."""

from collections.abc import Iterator
from itertools import count, islice

import pytest

from zmqtasks import Client, LocalCluster

WINDOW = 500


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(workers=2) as cluster, cluster.client() as client:
        yield client


@pytest.mark.parametrize("ordered", [True, False])
def test_a_map_over_endless_items_takes_them_only_as_results_are_taken(client: Client, ordered: object) -> None:
    """A hundred million items differ from endless ones only in that they end: what is held does not grow."""
    fed = 0

    def items() -> Iterator[int]:
        nonlocal fed
        for number in count():
            fed = number + 1
            yield number

    taken = 0
    most = 0
    values = client.map(abs, items(), window=WINDOW, ordered=bool(ordered))
    for value in islice(values, 20 * WINDOW):
        taken += 1
        most = max(most, fed - taken, client.connection.open_count)
        assert not ordered or value == taken - 1
    values.close()  # type: ignore[attr-defined]  # an iterator that is a generator
    assert taken == 20 * WINDOW
    assert most <= 2 * WINDOW
    assert client.submit(abs, -1).result(timeout=10) == 1


def test_an_id_of_the_users_own_again_gives_the_same_outcome_again(client: Client) -> None:
    named = client.options(job_id="the answer")
    first = named.submit(pow, 2, 3)
    assert first.result(timeout=10) == 8
    for _ in range(3):
        again = named.submit(pow, 2, 3)
        assert again.id == first.id
        assert again.result(timeout=10) == 8
