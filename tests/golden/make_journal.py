"""`python -m tests.golden.make_journal` writes tests/golden/journal-1: version 1, with every kind of record.

It was written once, by the release that had this version, and is kept: later releases must read it. Only a new version
of the journal gets a new directory.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec

from zmqtasks.scheduler.core import records as r
from zmqtasks.scheduler.journal.disk import DiskJournal
from zmqtasks.wire import Function, Spec

HERE = Path(__file__).parent / "journal-1"
PREFIX, OTHER, OWNER = b"golden-jobs-", b"golden-other", b"golden-owner"
WORKER = b"a worker's nonce"
BLOB = b"not a real pickle"
LARGE = bytes(range(256)) * 2
PAGE = b"first result" + b"second"
LATER_PAGE = b"to be put away"


def all_records() -> list[list[r.Record]]:
    """Some turns of a scheduler's life; together they hold every kind of record."""
    import hashlib

    digest = hashlib.blake2b(BLOB, digest_size=16).digest()
    function = Function(digest, "module.shipped", BLOB)
    spec = Spec("high", "3.11", 2, 0.5, 60.0, 1, 7200.0, 0.0, True, True, "os", True)
    once = Spec(acks_late=False)
    return [
        [
            r.Began(1_800_000_000_000, 1_800_000_000.5, "0.1.0"),
            r.Totals(1_800_000_000_000, 3, 2**62, 4, {"submitted": 12, "succeeded": 3}, 10**8),
            r.Shipped(function),
        ],
        [
            r.Submitted(
                PREFIX, 0, "", digest, "cloudpickle", spec,
                [b"one", r.Stored(5, len(LARGE)), b"three", b"four", b"five", b"six"],
                [function], 7, OWNER, b"digest of 6 jobs", 4, 1_800_000_001.0,
            ),
            r.Submitted(
                OTHER, 0, "add", b"", "msgpack", once, [b"a", b"b"], [], 8, OTHER, b"d2", 5, 1_800_000_001.5
            ),
        ],
        [r.Assigned(WORKER, 1, 2**62 + 1, [(PREFIX, [0, 1, 2, 3]), (OTHER, [0])])],
        [
            r.Requeued(PREFIX, 3, 1, 1, 1_800_000_400.25, True, 2**62 + 4, "death 1: signal 9"),
            r.Adopted(WORKER, 4, 2**62 + 4, PREFIX, 3, 0),
            r.Requeued(PREFIX, 1, 0, 1, 1_900_000_000.0, False, 0, ""),
        ],
        [
            r.Succeeded(PREFIX, [0, 2], [r.Stored(6, 12, 0), r.Stored(6, 6, 12)], 1_800_000_002.0),
            r.Ended(PREFIX, 4, 6, b"failure", 1_800_000_002.5),
            r.Succeeded(OTHER, [1], [LATER_PAGE], 1_800_000_002.5),
            r.Paged(7, [(OTHER, [1])], [14]),
            r.Delivered(PREFIX, [(0, 1), (4, 1)]),
            r.Forgot(PREFIX, [(4, 1)], 1_800_000_003.0),
        ],
        [
            r.Kept(
                b"golden-kept-", 10, 6, "add", b"", "msgpack", Spec(), OWNER, b"digest", 2, 1_799_999_999.0,
                [0, 1, 4], [b"x", b"y", b"z"],
                [
                    r.Mark(0, 2, 1, 1_900_000_000.0, False, 2**61, 3, b"", ["death 1: …", "death 2: …"]),
                    r.Mark(1, 0, 0, 0.0, False, 2**61 + 1, 9, WORKER, []),
                ],
                [2], [b"value"], [(3, 8, b"aborted")], [2],
            ),
        ],
    ]  # fmt: skip


def told(turns: list[list[r.Record]]) -> list[list[Any]]:
    """Records as text that people can compare: [kind, {field: value}]."""
    return [[[type(record).__name__, _plain(record)] for record in records] for records in turns]


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {name: _plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def main() -> None:
    """Write it anew."""
    shutil.rmtree(HERE, ignore_errors=True)
    journal = DiskJournal.open(HERE, lambda: None)
    assert list(journal.records()) == []
    journal.start({})
    journal.store(5, LARGE)
    journal.store(6, PAGE)
    journal.store(7, LATER_PAGE)
    for records in all_records():
        journal.append(records, sync=True)
    journal.close()
    (HERE / "lock").unlink()
    (HERE / "expected.json").write_text(json.dumps(told(all_records()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
