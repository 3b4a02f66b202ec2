"""Where a journal should not be."""

import logging
from pathlib import Path
from typing import Final

import psutil

logger = logging.getLogger("zmqtasks.scheduler.journal")

_NETWORKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})


def warn_of_networks(path: Path) -> None:
    """Say so if a directory is on a file system of another machine, whose syncs and locks cannot be relied upon."""
    whole = path.resolve()
    kinds = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    for folder in (whole, *whole.parents):
        if str(folder) in kinds:
            if kinds[str(folder)] in _NETWORKS:
                logger.warning(
                    "the journal's directory %s is on a network file system (%s): keep it on a disk of this machine",
                    path,
                    kinds[str(folder)],
                    extra={"action": "journal-network"},
                )
            return
