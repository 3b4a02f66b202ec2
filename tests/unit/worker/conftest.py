"""A worker for each test; what it did and nobody looked at fails the test."""

from collections.abc import Iterator

import pytest

from tests.unit.worker.harness import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.nothing_more()
