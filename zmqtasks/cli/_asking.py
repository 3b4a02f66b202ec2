"""What `explain` and `story` have in common: one job, asked for by its id."""

import re
from typing import TYPE_CHECKING, Any

import click

from zmqtasks.errors import UnknownJob

if TYPE_CHECKING:
    from zmqtasks import wire

_PART = re.compile(r"[0-9a-f]{8,31}")


def id_argument(function: Any) -> Any:
    """ID."""
    return click.argument("job_id", metavar="ID")(function)


def ask_job(url: str, job_id: str, timeout: float) -> "wire.JobReport":
    """All about one job. Raises as `Operator` does."""
    from zmqtasks.ids import given_id
    from zmqtasks.operators import Operator

    with Operator(url, timeout) as operator:
        return operator.job(given_id(job_id))


def unknown(job_id: str, reasons: list[str]) -> UnknownJob:
    """The error for an id that the scheduler does not know."""
    told = " ".join(reasons).rstrip(".")
    return UnknownJob(f"{job_id}: {told[:1].lower()}{told[1:]}{part_hint(job_id)}")


def part_hint(job_id: str) -> str:
    """What to add where an id is not known; empty, unless it looks like the beginning of one."""
    part = _PART.fullmatch(job_id.replace("-", "").lower())
    return f"; a whole id has 32 hex digits, this one has {len(part[0])}" if part else ""
