"""The GPUs that a process shows to its jobs: CUDA_VISIBLE_DEVICES, and when it takes another process to change them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from zmqtasks.errors import BadOption
from zmqtasks.resources import GPU, UNIT, Amounts, show_amount
from zmqtasks.words import plural
from zmqtasks.worker.claims import Claim

VARIABLE: Final = "CUDA_VISIBLE_DEVICES"
_MAPS: Final = Path("/proc/self/maps")
_LIBRARY: Final = b"libcuda.so"


def devices_of(resources: Amounts, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the GPUs that a worker has: those of its own CUDA_VISIBLE_DEVICES, else 0, 1, 2 and so on.

    Raises:
        BadOption: it is said to have a fraction of one, or more than that variable names.
    """
    amount = dict(resources).get(GPU, 0)
    if not amount:
        return ()
    if amount % UNIT:
        raise BadOption(f"a worker has a number of whole GPUs, not {show_amount(amount)}")
    count = amount // UNIT
    named = environment.get(VARIABLE)
    if named is None:
        return tuple(map(str, range(count)))
    names = tuple(name for part in named.split(",") if (name := part.strip()))
    if len(names) < count:
        has = plural(len(names), "device")
        raise BadOption(f"--resource {GPU}={count} needs as many devices, and {VARIABLE}={named!r} shows {has}")
    return names[:count]


class Visible:
    """What one process shows.

    CUDA reads the variable once in the life of a process. So one that has used CUDA can serve no job that is to see
    other devices. Whether it has, the libraries in its memory tell.

    Args:
        alone: its jobs run one at a time; where they are threads, they share the environment, which is left alone.

    Attributes:
        plain: what jobs without a GPU are to see is shown now, and known to have been seen: nothing is to be done.
    """

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self._default = os.environ.get(VARIABLE)  # what jobs see that have no GPU
        self._now: str | None = self._default
        self._seen: set[str | None] = set()  # what jobs have seen up to now
        self.plain = False

    def choose(self, claim: Claim) -> bool:
        """Show what the jobs of a claim are to see; False: another process must do that."""
        if not self._alone:
            self.plain = not claim.devices
            return True
        wanted = ",".join(claim.devices) if claim.devices else self._default
        if claim.devices and self._seen - {wanted} and _used_cuda():
            return False
        if wanted != self._now:
            self._now = wanted
            if wanted is None:
                os.environ.pop(VARIABLE, None)
            else:
                os.environ[VARIABLE] = wanted
        self._seen.add(wanted)
        self.plain = not claim.devices
        return True


def _used_cuda() -> bool:
    """Whether the driver's library is in the memory of this process. Where it cannot be told: no."""
    try:
        return _LIBRARY in _MAPS.read_bytes()
    except OSError:
        return False
