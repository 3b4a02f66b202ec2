"""Who this submitter is, for its hello."""

import getpass
import os
import socket
from importlib import metadata

from zmqtasks import payload
from zmqtasks.submitter.effects import Identity


def release() -> str:
    """The installed version of zmqtasks."""
    try:
        return metadata.version("zmqtasks")
    except metadata.PackageNotFoundError:
        return "unknown"


def identity(prefix: bytes) -> Identity:
    """This process, with this session's prefix."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        user = str(os.getuid())
    return Identity(prefix, release(), payload.python_version(), socket.gethostname(), os.getpid(), user)
