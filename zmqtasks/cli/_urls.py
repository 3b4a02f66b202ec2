"""URLs as people type them: what a wrong one was meant to be, and what to do where nobody answers at a right one."""

import re
from pathlib import Path
from urllib.parse import urlsplit

from zmqtasks.config import DEFAULT_PORT
from zmqtasks.errors import BadUrl
from zmqtasks.transport import parse_url


def default_data(url: str) -> Path:
    """Where a scheduler that listens on this URL keeps its journal, unless it is told: each port has its own."""
    import platformdirs

    parts = urlsplit(url)
    name = parts.path.strip("/").replace("/", "-") if parts.scheme == "ipc" else url.rpartition(":")[2].strip("*")
    return platformdirs.user_state_path("zmqtasks") / (f"scheduler-{name}" if name.strip("0") else "scheduler")


def check(url: str, *, local: bool = False, listen: bool = False) -> str:
    """The URL, if zmqtasks can use it.

    Args:
        url: as it was typed.
        local: whether local:// would be right too, which the message then names.
        listen: whether it is to be listened on, see `parse_url`.

    Raises:
        BadUrl: says what is wrong, and what was probably meant.
    """
    try:
        return parse_url(url, listen=listen)
    except BadUrl as error:
        meant = _meant(url, listen=listen)
        if meant is not None:
            raise BadUrl(f"bad URL {url!r}; did you mean {meant}?") from None
        if url.startswith(("tcp://", "ipc://")):
            raise BadUrl(str(error)) from None
        forms = "tcp://HOST:PORT, ipc://PATH or local://" if local else "tcp://HOST:PORT or ipc://PATH"
        raise BadUrl(f"bad URL {url!r}: it must be {forms}") from None


def _meant(url: str, *, listen: bool) -> str | None:
    """The URL that a port, a host, HOST:PORT or a path stands for."""
    if "://" in url:
        return None
    if url.startswith(("/", "./")):
        guess = f"ipc://{url}"
    elif re.fullmatch(r":?\d+", url):
        guess = f"tcp://127.0.0.1:{url.removeprefix(':')}"
    elif re.fullmatch(r"[\w.-]+", url):
        guess = f"tcp://{url}:{DEFAULT_PORT}"
    else:
        guess = f"tcp://{url}"
    try:
        return parse_url(guess, listen=listen)
    except BadUrl:
        return None
