"""Large payloads: a file each, whole and on the disk before the record that names it."""

import struct
from pathlib import Path
from typing import Final
from zlib import crc32

from zmqtasks.scheduler.journal.files import Files

_HEADER: Final = struct.Struct("<8sQI")  # magic, bytes, check sum
HEADER_BYTES: Final = _HEADER.size
_MAGIC: Final = b"zmqpaylo"


class Large:
    """The directory of payloads.

    Args:
        path: of the directory; made if it is not there.
        files: does what is done.
    """

    def __init__(self, path: Path, files: Files) -> None:
        self.path, self._files = path, files
        files.make_folder(path)

    def _at(self, number: int) -> Path:
        return self.path / str(number)

    def write(self, number: int, data: bytes) -> None:
        """Write one; its name is there after `sync`."""
        self._files.write(self._at(number), b"".join((_HEADER.pack(_MAGIC, len(data), crc32(data)), data)))

    def sync(self) -> None:
        """Have the names of what was written on the disk."""
        self._files.sync_folder(self.path)

    def read(self, number: int) -> bytes | None:
        """One payload; None: it is damaged or gone. Raises OSError: nobody knows."""
        try:
            whole = self._files.read(self._at(number))
        except FileNotFoundError:
            return None
        if len(whole) < _HEADER.size:
            return None
        magic, length, crc = _HEADER.unpack_from(whole)
        data = whole[_HEADER.size :]
        return data if magic == _MAGIC and len(data) == length and crc32(data) == crc else None

    def remove(self, number: int) -> None:
        """One is needed no more."""
        self._files.remove(self._at(number))

    def sizes(self) -> dict[int, int]:
        """What is there: number → bytes of the payload, as far as the file's size tells."""
        return sizes_in(self.path, self._files)


def sizes_in(path: Path, files: Files) -> dict[int, int]:
    """What is in a directory of payloads, if there is one: number → bytes, as far as the file's size tells."""
    try:
        names = files.names(path)
    except FileNotFoundError:
        return {}
    return {int(name): files.size(path / name) - _HEADER.size for name in names if name.isdigit()}
