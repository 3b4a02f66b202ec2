"""The task of smoother_tasks.py as a user of Celery writes it."""

import os
import socket
from collections.abc import Iterable
from typing import Any

import filters
from celery_conf import app
from filters import Pixels
from tiles import TileResult

from zmqtasks import Job
from zmqtasks.celery import Task
from zmqtasks.celery.utils.log import get_task_logger

log = get_task_logger(__name__)


@app.task(bind=True, default_retry_delay=1)
def smooth_edges(self: Task[..., Any], window: Pixels, sigma: float) -> TileResult:
    """Blur one tile and find its edges; see `smoother_tasks.smooth_edges`."""
    try:
        smoothed, edges = filters.smooth_edges(window, sigma)
    except MemoryError as error:  # another worker may have more, or this one in a second
        raise self.retry(exc=error) from error
    log.debug("a tile of %d x %d pixels", *edges.shape)
    return TileResult(smoothed, edges, socket.gethostname(), os.getpid(), self.request.hostname or "")


def submit(calls: Iterable[tuple[Pixels, float]]) -> list[Job[TileResult]]:
    """One job per tile, one call at a time."""
    return [smooth_edges.delay(window, sigma).job for window, sigma in calls]
