"""Resources as people write them: ``{"gpu": 0.25, "mem": "2GiB"}``, and as they are counted: in whole 1/10,000.

Integers, because sums of fractions must be exact: four quarters of a GPU are one, ten tenths are, too.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import Final

from zmqtasks.errors import BadOption

UNIT: Final = 10_000  # what 1 is counted as
MOST: Final = 2**62  # of one resource, so counted: 410 TiB in bytes
MAX_RESOURCES: Final = 32  # different ones of a job, or of a worker
MAX_LENGTH: Final = 100  # characters of a name
GPU: Final = "gpu"  # of these each is a device: a job gets whole ones, or a share of one

Amounts = tuple[tuple[str, int], ...]  # (name, in 1/10,000), by name; none is 0

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_AMOUNT: Final = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)\s*", re.ASCII)
_LETTERS: Final = "KMGTP"
_UNITS: Final = {
    "": 1, "b": 1, **{f"{c.lower()}b": 1000**i for i, c in enumerate(_LETTERS, 1)},
    **{f"{c.lower()}ib": 1024**i for i, c in enumerate(_LETTERS, 1)},
}  # fmt: skip
_SAID: Final = "a number, or one with a unit of bytes (KiB, MiB, GiB, TiB, PiB, kB, MB, GB, TB, PB)"


def parse(given: object) -> Amounts:
    """Resources of a job or a worker, as they are counted.

    Args:
        given: amounts by name: numbers, or texts like ``"64GiB"``. 0 is as if it was not there. What is finer than
            1/10,000 is rounded down, so that three thirds fit into one.

    Raises:
        BadOption: it is no such thing, an amount is negative, too small, or no number, or its unit is not known.
    """
    if not isinstance(given, Mapping):
        raise BadOption(f'resources are amounts by name, like {{"gpu": 1}}, not {given!r}')
    amounts = tuple(sorted((name, n) for name, value in given.items() if (n := amount(name, value))))
    wrong = flaw(amounts)
    if wrong:
        raise BadOption(wrong)
    return amounts


def amount(name: object, value: object) -> int:
    """One amount in 1/10,000. Raises BadOption; see `parse`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadOption(f"a resource has a name of letters, digits, _, - and ., like gpu or mem; not {name!r}")
    factor = 1
    if isinstance(value, str):
        found = _AMOUNT.fullmatch(value)
        if found is None:
            raise BadOption(f"resource {name} is {_SAID}, not {value!r}")
        text, unit = found.groups()
        if unit.lower() not in _UNITS:
            raise BadOption(f"resource {name}: there is no unit {unit!r} (in {value!r}); it is {_SAID}")
        number, factor = Decimal(text), _UNITS[unit.lower()]
    elif isinstance(value, bool):
        raise BadOption(f"resource {name} is {_SAID}, not {value!r}")
    else:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise BadOption(f"resource {name} is {_SAID}, not {value!r}") from None
    if not number.is_finite() or number < 0:
        raise BadOption(f"resource {name} is {_SAID}, 0 or more, not {value!r}")
    if number.adjusted() > 30:
        raise BadOption(f"resource {name}: {value!r} is more than there can be")
    counted = int((number * factor * UNIT).to_integral_value(ROUND_FLOOR))
    if number and not counted:
        raise BadOption(f"resource {name}: {value!r} is less than 1/{UNIT:,}, the least that is counted")
    return counted


def flaw(amounts: Amounts) -> str:
    """What is wrong with amounts that came from elsewhere; empty: nothing."""
    names = [name for name, _ in amounts]
    if names != sorted(set(names)) or len(names) > MAX_RESOURCES:
        return f"resources stand in the order of their names, each once, {MAX_RESOURCES} at most"
    for name, counted in amounts:
        if len(name) > MAX_LENGTH or not _NAME.fullmatch(name):
            return f"a resource has a name of letters, digits, _, - and ., {MAX_LENGTH} at most; not {name[:200]!r}"
        if not 0 < counted <= MOST:
            return f"resource {name} is more than 0 and at most {show_amount(MOST)}"
        if name == GPU and counted > UNIT and counted % UNIT:
            return f"resource {GPU} is a share of one device, or a number of whole ones; not {show_amount(counted)}"
    return ""


def show_amount(counted: int) -> str:
    """One amount for people; what is large is taken for bytes."""
    for power in range(len(_LETTERS), 1, -1):
        if counted >= UNIT * 1024**power:
            return f"{counted / UNIT / 1024**power:,.6g} {_LETTERS[power - 1]}iB"
    return f"{Decimal(counted) / UNIT:,f}".rstrip("0").rstrip(".") if counted % UNIT else f"{counted // UNIT:,}"


def show(amounts: Amounts) -> str:
    """Resources for people: ``gpu 0.25 and mem 2 GiB``."""
    told = [f"{name} {show_amount(counted)}" for name, counted in amounts]
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def exact(counted: int) -> str:
    """One amount as a text that is read as the same."""
    return f"{Decimal(counted) / UNIT:f}"


def number(counted: int) -> float:
    """One amount as a number."""
    return counted // UNIT if counted % UNIT == 0 else counted / UNIT
