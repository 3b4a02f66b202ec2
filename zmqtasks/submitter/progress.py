"""What running jobs tell of themselves, as it comes from the worker: `progress(done, total)`, `update_state(...)`."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

Number = int | float


class _Value(msgspec.Struct):
    """What travels: any of these."""

    done: Number | None = None
    total: Number | None = None
    state: str | None = None
    meta: Any = None


_decoder: Final = msgspec.msgpack.Decoder(_Value)


@dataclass(slots=True, frozen=True)
class Told:
    """What a job told of itself last.

    Attributes:
        progress: (done, total), in whatever unit the job counts; total is None if it does not know. None: not told.
        state: the word of its last `update_state`; empty if there was none.
        meta: what that came with.
    """

    progress: tuple[Number, Number | None] | None = None
    state: str = ""
    meta: Any = None


def read(value: bytes, before: Told | None) -> Told | None:
    """What is known after this message; what it does not speak of stays. None if it cannot be read."""
    try:
        new = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    known = before or Told()
    progress = known.progress if new.done is None else (new.done, new.total)
    if new.state is None:
        return Told(progress, known.state, known.meta if new.meta is None else new.meta)
    return Told(progress, new.state, new.meta)
