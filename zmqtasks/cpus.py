"""How many cores there are for this process."""

import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # of a container; cgroup v2


def cores() -> int:
    """That this process may use: by its affinity, and by the quota of its container."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        found = os.cpu_count() or 1
    try:
        quota, period = map(int, _QUOTA.read_text().split())  # "max 100000" is none
    except (OSError, ValueError):
        return found
    return max(1, min(found, -(-quota // max(1, period))))
