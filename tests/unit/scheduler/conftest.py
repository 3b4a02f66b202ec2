"""A harness around the core; a test that leaves messages unread fails."""

from collections.abc import Callable, Iterator

import pytest

from tests.helpers.scheduler_harness import Harness


@pytest.fixture
def make() -> Iterator[Callable[..., Harness]]:
    """Make a harness with settings of one's own."""
    made = []

    def _make(**options: object) -> Harness:
        made.append(Harness(**options))
        return made[-1]

    yield _make
    for harness in made:
        harness.finish()


@pytest.fixture
def h(make: Callable[..., Harness]) -> Harness:
    return make()
