"""TCP ports that stay free until they are used, and between two uses."""

import random
import socket
from typing import Final

_FIRST: Final = 20_000
_EPHEMERAL: Final = 32_768  # from here on the kernel gives ports to whoever connects, or asks for any


def steady_port() -> int:
    """One of the loopback interface that nobody gets by chance meanwhile, as one that the kernel chose might be."""
    while True:
        port = random.randrange(_FIRST, _EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
