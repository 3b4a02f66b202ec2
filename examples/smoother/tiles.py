"""What the workers give back: one finished tile."""

from dataclasses import dataclass

from filters import Pixels


@dataclass(frozen=True, slots=True)
class TileResult:
    """One finished tile, and where it was made.

    ``smoothed`` is (height, width) or (height, width, 3), ``edges`` is (height, width), both
    uint8. ``worker`` is the worker's name, "" when the function was simply called.
    """

    smoothed: Pixels
    edges: Pixels
    host: str
    pid: int
    worker: str
