"""The task that the workers run: one tile in, its smoothed pixels and its edges out."""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress

import filters
from filters import Pixels
from smoother_conf import app
from tiles import TileResult

import zmqtasks


def _worker_name() -> str:
    # Only shown to people: no reason whatever may cost a tile.
    with suppress(Exception):
        return str(getattr(zmqtasks.current_job(), "worker", None) or "")
    return ""


# Pickle carries numpy arrays as they are; the default codec, msgpack, knows no arrays.
@app.task(serializer="pickle")
def smooth_edges(window: Pixels, sigma: float) -> TileResult:
    """Blur one tile and find its edges.

    ``window`` is the tile with ``filters.halo(sigma)`` more pixels on every side, uint8, gray
    or RGB; ``sigma`` is in pixels.
    """
    smoothed, edges = filters.smooth_edges(window, sigma)
    return TileResult(smoothed, edges, socket.gethostname(), os.getpid(), _worker_name())


def submit(calls: Iterable[tuple[Pixels, float]]) -> list[zmqtasks.Job[TileResult]]:
    """One job per tile, as one batch."""
    return smooth_edges.starmap(calls)
