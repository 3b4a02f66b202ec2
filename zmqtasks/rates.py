"""Rates as people write them: ``"10/m"``, ``"100/s"``, ``"2000/h"``, ``"3/5s"``, a number of starts per second."""

import re
from math import isfinite
from typing import Final

from zmqtasks.errors import BadOption

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:/\s*(\d+(?:\.\d+)?)?\s*([smhd]))?\s*", re.ASCII)


def parse(rate: str | float | None) -> float:
    """A rate as starts per second; 0.0: no limit.

    Args:
        rate: ``"10/m"`` (s, m, h or d; ``"3/5s"`` is three in five seconds), a number per second, None or 0 for none.

    Raises:
        BadOption: it is no rate.
    """
    if rate is None:
        return 0.0
    if isinstance(rate, int | float) and not isinstance(rate, bool):
        if isfinite(rate) and rate >= 0:
            return float(rate)
    elif isinstance(rate, str):
        found = _FORM.fullmatch(rate)
        if found is not None:
            starts, many, unit = found.groups()
            seconds = float(many or 1) * _SECONDS[unit or "s"]
            if seconds > 0:
                return float(starts) / seconds
    raise BadOption(
        f'{rate!r} is no rate: write "10/m" for ten starts a minute (s, m, h or d), or a number of starts per second'
    )


def show(rate: float) -> str:
    """A rate for people."""
    if rate <= 0:
        return "no limit"
    unit = next((unit for unit, seconds in _SECONDS.items() if rate * seconds >= 1), "d")
    return f"{rate * _SECONDS[unit]:,.6g}/{unit}"
