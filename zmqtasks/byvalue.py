"""cloudpickle for what lives in ``__main__`` or cannot be named, with the names of source files kept.

cloudpickle 3.1.3 calls every file ``<dynamic-code>``, so that equal functions of different notebook cells give equal
bytes. Here a remote traceback that shows file and line is worth more.
"""

import io
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar, Final

import cloudpickle

_NAMELESS: Final = "<dynamic-code>"
_reduce_code: Final[Callable[[CodeType], tuple[Any, ...]]] = cloudpickle.Pickler.dispatch_table[CodeType]


def _with_file(code: CodeType) -> tuple[Any, ...]:
    make, parts, *rest = _reduce_code(code)
    return make, tuple(code.co_filename if type(part) is str and part == _NAMELESS else part for part in parts), *rest


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    dispatch_table: ClassVar = ChainMap({CodeType: _with_file}, cloudpickle.Pickler.dispatch_table)


def dumps(value: object) -> bytes:
    """Pickle anything that cloudpickle can.

    Raises:
        Exception: whatever the value's own reducers raise; pickle.PicklingError and TypeError where it has none.
    """
    with io.BytesIO() as file:
        _Pickler(file, protocol=5).dump(value)
        return file.getvalue()
