"""From one version of the journal to the next."""

from collections.abc import Callable, Sequence
from typing import Final

import apsw

VERSION: Final = 1  # of the journal that this release writes

Step = Callable[[apsw.Connection], None]
STEPS: Final[Sequence[Step]] = ()  # the first leads from version 1 to 2, and so on


def migrate(connection: apsw.Connection, found: int, steps: Sequence[Step] = STEPS) -> None:
    """Take a journal from the version that was found to the present one; the caller holds a transaction."""
    for step in steps[found - 1 :]:
        step(connection)
