"""Who this submitter is, for its hello."""

import getpass
import os
import socket
from importlib import metadata

from zmqtasks import payload
from zmqtasks.submitter.effects import Identity


def identity(prefix: bytes) -> Identity:
    """This process, with this session's prefix."""
    try:
        release = metadata.version("zmqtasks")
    except metadata.PackageNotFoundError:
        release = "unknown"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    return Identity(prefix, release, payload.python_version(), socket.gethostname(), os.getpid(), user)
