"""A network for each test that asks for one."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.cluster import Cluster
from tests.hosts.network import Network, missing

VARIABLE = "ZMQTASKS_TEST_HOSTS"  # "required": where no hosts can be made the tests fail instead of being skipped


@pytest.fixture(scope="session")
def hosts_can_be_made() -> None:
    why = missing()
    if why and os.environ.get(VARIABLE) == "required":
        pytest.fail(f"{why}; {VARIABLE}=required says that these tests must run")
    if why:
        pytest.skip(why)


@pytest.fixture
def network(hosts_can_be_made: None) -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def cluster(network: Network, tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)
