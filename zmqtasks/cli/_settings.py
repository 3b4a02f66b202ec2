"""What an app's settings say to ``zmqtasks worker``, which itself runs no code of users.

The app is imported in a process of its own, which tells what holds and ends. That costs an import, so it is left out
where the command line says everything. An app that cannot be imported is no matter of this module: the worker tries
it again, and tells.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from zmqtasks.config import CONFIG_FILE
from zmqtasks.errors import ZmqTasksError


@dataclass(slots=True, frozen=True)
class WorkerSettings:
    """The settings that stand for options of the worker.

    Attributes:
        concurrency: of -c; None: one slot per core.
        pool: of -P.
    """

    concurrency: int | None = None
    pool: str = "processes"


def worker_settings(app: str | None) -> WorkerSettings:
    """What the app says, with ``zmqtasks.toml``; without an app what that file says.

    Args:
        app: MODULE or MODULE:ATTRIBUTE.

    Raises:
        BadOption: without an app: ``zmqtasks.toml`` is wrong.
    """
    if app:
        return _ask(app)
    if not Path(CONFIG_FILE).exists():
        return WorkerSettings()
    from zmqtasks.conf.settings import Conf

    conf = Conf()
    return WorkerSettings(conf.worker_concurrency, conf.worker_pool)


def _ask(app: str) -> WorkerSettings:
    """What the app says, asked in another process; the defaults if it says nothing that can be understood."""
    from zmqtasks.worker import hostinfo

    reading, writing = os.pipe()
    try:
        asked = subprocess.Popen(
            [sys.executable, "-m", __name__, app, str(writing), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # whatever the app says at its import it says again in the worker
            stderr=subprocess.DEVNULL,
            pass_fds=(writing,),
            env=hostinfo.child_environment(),
        )
    finally:
        os.close(writing)
    import zmqtasks.worker.agent  # noqa: F401  (is needed next, and takes as long as what is waited for)

    try:
        with os.fdopen(reading, "rb") as pipe:
            told = pipe.read().split()
    finally:
        asked.kill()  # it has told everything; threads that the app started may keep it alive
        asked.wait()
    if len(told) != 2:
        return WorkerSettings()
    return WorkerSettings(int(told[0]) or None, told[1].decode())


def tell(app: str, fd: int) -> None:
    """Write concurrency (0: one per core) and pool of the app to a descriptor, and close it; nothing if it fails."""
    from zmqtasks.worker.loading import load_app

    with os.fdopen(fd, "w") as pipe:
        try:
            conf = getattr(load_app(app, os.getcwd()), "conf", None)  # noqa: PTH109  (as in the worker)
            concurrency = getattr(conf, "worker_concurrency", None) or 0
            pipe.write(f"{concurrency} {getattr(conf, 'worker_pool', 'processes')}")
        except ZmqTasksError:
            pass  # the worker will tell


def main() -> None:
    """The other process; its arguments: APP, the descriptor, the process that asks."""
    from zmqtasks.worker import hostinfo

    hostinfo.die_with_parent(int(sys.argv[3]))
    tell(sys.argv[1], int(sys.argv[2]))


if __name__ == "__main__":
    main()
