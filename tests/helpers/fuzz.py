"""Messages as no honest peer sends them: valid ones with nonsense in their fields, or with broken bytes."""

import copy
import random
from typing import Any

import msgspec

from tests.helpers.wire_examples import EXAMPLES
from zmqtasks import wire

NASTY_INTEGERS = [-(2**63), -(2**31), -1, 0, 1, 2, 3, 78, 255, 2**31, 2**32 - 1, 2**32, 2**53, 2**63, 2**64 - 1]
NASTY_FLOATS = [float("nan"), float("inf"), float("-inf"), 1e308, -1e308, 0.0, -0.0, -1.0, 5e-324]
NASTY_BYTES = [b"", b"\0", b"x" * 12, b"x" * 16, bytes(300), b"\x93\x01"]
NASTY_TEXTS = ["", "\0", "x" * 2_000, "\N{SNOWMAN}\n[bold]", "default", "PayloadTooLarge"]
NASTY_OTHERS = [None, True, {}, {"a": 1}, [], [[]], [[0, 2**63]], [[0, -1]], [[-5, 10]], [[2**64 - 1, 2**64 - 1]]]


def mangle(rng: random.Random, message: Any) -> bytes:
    """A message as bytes, after none to three changes to its fields and sometimes some to its bytes."""
    tree = msgspec.msgpack.decode(wire.encode(message) if not isinstance(message, bytes) else message)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        _change(rng, tree)
    data = msgspec.msgpack.encode(tree)
    return break_bytes(rng, data) if rng.random() < 0.1 else data


def _change(rng: random.Random, tree: list[Any]) -> None:
    """Replace something, anywhere but for the tag (mostly)."""
    node, top = tree, True
    while True:
        places = range(1 if top and rng.random() < 0.98 else 0, len(node))
        if not places:
            return
        place = rng.choice(places)
        if isinstance(node[place], list) and node[place] and rng.random() < 0.7:
            node, top = node[place], False
            continue
        node[place] = copy.deepcopy(_instead_of(rng, node[place]))  # the same list twice could come to hold itself
        return


def _instead_of(rng: random.Random, value: Any) -> Any:
    if rng.random() < 0.05:
        return rng.choice(NASTY_OTHERS)
    pools: dict[type, list[Any]] = {
        bool: [value is False],
        int: NASTY_INTEGERS,
        float: [*NASTY_FLOATS, *NASTY_INTEGERS],
        bytes: NASTY_BYTES,
        str: NASTY_TEXTS,
        list: [[], *NASTY_OTHERS],
    }
    pool = list(pools.get(type(value), NASTY_OTHERS))
    if type(value) is int:
        pool += [min(value + 1, NASTY_INTEGERS[-1]), max(value - 1, NASTY_INTEGERS[0])]
    elif isinstance(value, list):
        pool += [value * 2, value * 50, value[:-1], value[::-1]]
    elif isinstance(value, bytes | str):
        pool += [value[:-1], value + value[:1]]
    return rng.choice(pool)


def break_bytes(rng: random.Random, data: bytes) -> bytes:
    """Cut, flip, insert, repeat."""
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(broken) + 1)
        match rng.randrange(4):
            case 0:
                del broken[at:]
            case 1 if at < len(broken):
                broken[at] ^= 1 << rng.randrange(8)
            case 2:
                broken[at:at] = rng.randbytes(rng.randint(1, 8))
            case _:
                broken[at:at] = broken[:at]
    return bytes(broken)


def any_message(rng: random.Random, *others: Any) -> bytes:
    """An example, or one of some others, mangled."""
    return mangle(rng, rng.choice([*EXAMPLES.values(), *others]))
