"""Defects of the journal that the crash points must catch: each a patch of one line, with the law that kills it.

`python -m tests.crash.mutants` looks for the first seed that kills each (`--record`: into the table below).
"""

# ruff: noqa: E501  (quoted production lines are as long as they are)

import sys

from tests.helpers.mutation import Mutant, Table

_JOURNAL = "scheduler.journal."

MUTANTS = (
    Mutant("acknowledged before it is written", _JOURNAL + "writer",
           "        self._try(self._insert, block, sync)\n",
           "        self.durable = block.last\n        self._try(self._insert, block, sync)\n", "acknowledged", 0),
    Mutant("a commit is not synced", _JOURNAL + "store",
           "        self._ask_for(sync=sync)\n", "        self._ask_for(sync=False)\n", "acknowledged", 0),
    Mutant("a block is synced only if all of its turns ask for it", _JOURNAL + "writer",
           "sync = any(turn.sync for turn in turns)", "sync = all(turn.sync for turn in turns)", "acknowledged", 0),
    Mutant("what need not be synced at once never is", _JOURNAL + "writer",
           "if self._unsynced_since is not None and (ending or", "if self._unsynced_since is not None and (False and", "acknowledged", 2),
    Mutant("a write that failed is taken for done", _JOURNAL + "writer",
           "                self._say(str(trouble))\n", "                return False\n", "acknowledged", 0),
    Mutant("a commit overtakes what was handed over", _JOURNAL + "writer",
           "        if self._left or self._took > QUICK or not", "        if self._took > QUICK or not", "acknowledged", 0),
    Mutant("a sync that failed is tried again", _JOURNAL + "troubles",
           "    if error.errno in _PASSING and not isinstance(error, SyncError):\n", "    if True:\n", "sync", 7),
    Mutant("a commit whose sync failed is tried again", _JOURNAL + "troubles",
           '    return Fatal(f"{text} ({error})")', "    return Passing(text)", "sync", 0),
    Mutant("the end goes on after a failed sync", _JOURNAL + "writer",
           "(self._head.abandon, self._store.abandon)", "(self._head.abandon, self._store.close)", "sync", 0),
    Mutant("the head is not read", _JOURNAL + "disk",
           "        self._compare(mark, anchor)\n", "        pass\n", "silent", 0),
    Mutant("the head is written before the block", _JOURNAL + "writer",
           "        self._try(self._insert, block, sync)\n",
           "        self._try(self._head.write, Mark(block.last, block.link))\n        self._try(self._insert, block, sync)\n", "refused", 0),
    Mutant("the head is never synced", _JOURNAL + "head",
           '        """Have it on the disk."""\n        self._slots.sync()\n', '        """Have it on the disk."""\n', "refused", 0),
    Mutant("the head names records that are trimmed", _JOURNAL + "writer",
           "            self._sync_head(at_once=True)", "            pass", "refused", 12),
    Mutant("both slots of a new head are written at once", _JOURNAL + "head",
           "            self.write(mark)\n            self._slots.sync()\n", "            self.write(mark)\n", "refused", 23),
    Mutant("the directory is not synced", _JOURNAL + "disk",
           "            self._files.sync_folder(self.path)\n", "", "refused", 0),
    Mutant("the anchor stays behind", _JOURNAL + "store",
           "            self._put(number=last, link=link)\n", "            pass\n", "refused", 0),
    Mutant("more is trimmed than was said", _JOURNAL + "writer",
           "blocks[0][1] <= self._trim_to", "blocks[0][0] <= self._trim_to", "acknowledged", 0),
    Mutant("what lets records go is not synced before they go", _JOURNAL + "writer",
           "self._drops[0][0] <= self._synced", "self._drops", "payload", 11),
    Mutant("payloads are written after the records that name them", _JOURNAL + "writer",
           "        if puts:\n            self._try(self._store_all, puts)\n        if turns:\n            self._write(turns)\n",
           "        if turns:\n            self._write(turns)\n        if puts:\n            self._try(self._store_all, puts)\n", "payload", 0),
    Mutant("the names of payloads are not synced", _JOURNAL + "writer",
           "        self._large.sync()\n", "", "payload", 0),
    Mutant("a payload's check sum is not looked at", _JOURNAL + "large",
           "and crc32(data) == crc else None", "else None", "silent", 0),
    Mutant("payloads that are still needed are cleared away", _JOURNAL + "disk",
           "        for number in sizes.keys() - live.keys():\n", "        for number in sizes:\n", "again", 0),
)  # fmt: skip

TABLE = Table("tests.crash.mutants", "tests.crash.points", MUTANTS)

if __name__ == "__main__":
    sys.exit(TABLE.main())
