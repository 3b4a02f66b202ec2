"""What tests of real processes begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.processes import Site


@pytest.fixture
def site() -> Iterator[Site]:
    """A place for daemons; all are gone afterwards."""
    made = Site()
    yield made
    made.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A file in which jobs note that they ran; see `tests.helpers.processes.executions`."""
    path = tmp_path / "ledger"
    path.touch()
    return path
