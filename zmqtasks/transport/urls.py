"""Where a scheduler is: tcp://HOST:PORT or ipc://PATH."""

import os
from urllib.parse import urlsplit

from zmqtasks.errors import BadUrl


def parse_url(url: str, *, listen: bool = False) -> str:
    """A URL as zmq wants it.

    Args:
        url: tcp://HOST:PORT or ipc://PATH.
        listen: it is to be listened on, so the host may be * and the port 0.

    Raises:
        BadUrl: it is none of tcp://HOST:PORT, ipc://PATH; the message says what is wrong.
    """
    try:
        parts = urlsplit(str(url))
        port = parts.port
    except ValueError as error:
        message = f"bad URL {url!r}: {error}"
        raise BadUrl(message) from None
    if parts.scheme == "tcp":
        more = parts.path or parts.query or parts.fragment or parts.username is not None
        if not parts.hostname or port is None or more or any(map(str.isspace, url)):
            message = f"bad URL {url!r}: a TCP URL is tcp://HOST:PORT"
            raise BadUrl(message)
        if not listen and (parts.hostname == "*" or port == 0):
            message = f"bad URL {url!r}: that is an address to listen on; to connect, name the host and the port"
            raise BadUrl(message)
        return url
    if parts.scheme == "ipc":
        path = url.removeprefix("ipc://")
        limit = 107  # sun_path holds 108 bytes with the terminating zero
        if not path or len(os.fsencode(path)) > limit:
            message = f"bad URL {url!r}: an ipc URL is ipc://PATH, the path at most {limit} bytes long"
            raise BadUrl(message)
        return url
    message = f"bad URL {url!r}: it begins with none of tcp://, ipc://, local://"
    raise BadUrl(message)
