"""Where a journal should not be."""

import logging
from pathlib import Path
from typing import Final

import psutil

logger = logging.getLogger("zmqtasks.scheduler.journal")

_NETWORKS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs"})


def kind(path: Path) -> str:
    """Of the file system that a path is on: "ext4", "btrfs" …; "": it is not known."""
    whole = path.resolve()
    kinds = {part.mountpoint: part.fstype for part in psutil.disk_partitions(all=True)}
    return next((kinds[str(folder)] for folder in (whole, *whole.parents) if str(folder) in kinds), "")


def warn_of_networks(path: Path) -> None:
    """Say so if a directory is on a file system of another machine, whose syncs and locks cannot be relied upon."""
    found = kind(path)
    if found in _NETWORKS:
        logger.warning(
            "the journal's directory %s is on a network file system (%s): keep it on a disk of this machine",
            path,
            found,
            extra={"action": "journal-network"},
        )
