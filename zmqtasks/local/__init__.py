"""LocalCluster and local://: a real scheduler and real workers, as processes of this machine, for one script.

They listen on an ipc endpoint in a fresh private directory. When this process dies, even by ``kill -9``, they end,
and a small watcher removes the directory. When one of them dies, a new one takes its place.
"""

import atexit
import logging
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self

from zmqtasks.conf.pools import POOLS
from zmqtasks.conf.saying import SAID_VARIABLE
from zmqtasks.config import BROKER_VARIABLE, CONFIG_FILE
from zmqtasks.cpus import cores
from zmqtasks.errors import AppNotLoaded, BadOption, SchedulerUnreachable, ZmqTasksError
from zmqtasks.local.processes import Listener, Process, Watcher, environment, free_port, private_folder, say
from zmqtasks.queues import direct as queue_of
from zmqtasks.resources import Amounts, exact, parse
from zmqtasks.submitter import client as client_module
from zmqtasks.submitter.client import Client

__all__ = ["Client", "LocalCluster", "shared"]

_log = logging.getLogger(__name__)

_STOP_WORKERS: Final = 3.0  # seconds from SIGTERM to SIGKILL
_STOP_SCHEDULER: Final = 2.0
_WARM: Final = "1"  # seconds that jobs may still run when the cluster is stopped
_EXIT_WAIT: Final = 30.0  # seconds that leaving the script waits for unfinished jobs of local://
_QUIET: Final = 1.0  # seconds of this wait before a line is printed
_WRONG_USE: Final = 2  # exit code of a command line that was used wrongly: an app that cannot be imported


class LocalCluster:
    """A scheduler and workers of this machine, for this process. Ready when it is made; use it in a `with` block.

    Args:
        workers: how many jobs run at once; None: one per core. They are slots of one worker (see `agents`).
        agents: how many workers share these slots, for tests of more than one host.
        app: MODULE or MODULE:ATTRIBUTE whose tasks the workers know.
        queues: that the workers take; none: `default` and those of the app's tasks.
        direct: with `queues`: each worker takes from a queue of its own, too.
        pool: what a worker's slots are: "processes", "threads" or "solo", see `zmqtasks worker -P`.
        transport: "ipc", or "tcp" for a port of the loopback interface.
        resources: what each agent has for jobs that need it, like {"gpu": 2, "mem": "64GiB"}.
        start_timeout: seconds until everything must be ready.
        loglevel: of the scheduler's and workers' logs, which go to stderr, as the output of jobs does.

    Attributes:
        url: of the scheduler.
        scheduler_pid: its process.
        worker_pids: the workers' agents; the jobs run in children of these.

    Raises:
        AppNotLoaded: the app cannot be imported.
        BadOption: there can be no such cluster.
        SchedulerUnreachable: the processes did not come up; shows what they said.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        agents: int = 1,
        app: str | None = None,
        queues: Iterable[str] = (),
        direct: bool = False,
        pool: str = "processes",
        transport: str = "ipc",
        resources: Mapping[str, float | str] | None = None,
        start_timeout: float = 10.0,
        loglevel: str = "warning",
    ) -> None:
        slots = cores() if workers is None else workers
        if slots < 1 or agents < 1 or slots < agents:
            raise BadOption(f"{slots} workers in {agents} agents: each agent needs at least one")
        if pool not in POOLS or (pool == "solo" and slots != agents):
            raise BadOption(f"pool= is one of {', '.join(POOLS)}, and solo has one slot per agent; not {pool!r}")
        if transport not in {"ipc", "tcp"}:
            raise BadOption(f'transport= is "ipc" or "tcp", not {transport!r}')
        has = parse(resources or {})
        self._app = app
        self._stopped = False
        self._pid = os.getpid()
        self._clients: weakref.WeakSet[Client] = weakref.WeakSet()
        self._processes: list[Process] = []
        self._listener: Listener | None = None
        folder = private_folder()
        self.url = f"ipc://{folder}/s" if transport == "ipc" else f"tcp://127.0.0.1:{free_port()}"
        self._watcher = Watcher(folder)
        _clusters.add(self)
        try:
            self._start(slots, agents, pool, list(queues), has, loglevel, direct=direct)
            self._wait_ready(start_timeout)
        except BaseException:
            self.stop()
            raise
        for process in self._processes:
            process.kept = True

    def _start(
        self, slots: int, agents: int, pool: str, queues: list[str], resources: Amounts, loglevel: str, *, direct: bool
    ) -> None:
        """Everything at once: workers try until the scheduler is there."""
        env = environment(self.url)
        if self._app and self._app.partition(":")[0] in sys.modules:
            env[SAID_VARIABLE] = "1"  # this script has heard what the app's settings do not do
        command = ["scheduler", "--bind", self.url, "--in-memory", "-l", loglevel]
        self._processes.append(Process("scheduler", command, env))
        for number in range(agents):
            share = slots // agents + (number < slots % agents)
            name = f"local-{number + 1}@{socket.gethostname()}"
            command = ["worker", "--broker", self.url, "-c", str(share), "-P", pool, "-n", name.replace("%", "%%")]
            command += ["--shutdown-timeout", _WARM, "-l", loglevel]
            command += ["-A", self._app] if self._app else []
            taken = [*queues, queue_of(name)] if queues and direct else queues
            command += ["-Q", ",".join(taken)] if taken else []
            for name, amount in resources:
                command += ["--resource", f"{name}={exact(amount)}"]
            self._processes.append(Process(f"worker {number + 1}", command, env))
        self._listener = Listener(self._processes)

    def _wait_ready(self, seconds: float) -> None:
        end_time = time.monotonic() + seconds
        for process in self._processes:
            while not process.ready.wait(0.02):
                dead = [one for one in self._processes if one.popen.poll() is not None]
                if dead or time.monotonic() > end_time:
                    self._raise_failed(dead[0] if dead else process, seconds, ended=bool(dead))

    def _raise_failed(self, process: Process, seconds: float, *, ended: bool) -> None:
        assert self._listener is not None  # noqa: S101  (made with the processes)
        self._listener.join(0.5)  # its last words
        said = "\n".join(process.said)
        if ended and process.popen.returncode == _WRONG_USE and self._app and process.role != "scheduler":
            raise AppNotLoaded(said.removeprefix("zmqtasks: ") or f"the app {self._app} cannot be imported")
        what = f"ended with exit code {process.popen.returncode}" if ended else f"was not ready within {seconds:g} s"
        raise SchedulerUnreachable(f"the local {process.role} {what}" + (f"; it said:\n{said}" if said else ""))

    @property
    def scheduler_pid(self) -> int:
        """Process id of the scheduler."""
        return self._processes[0].pid

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers' agents."""
        return [process.pid for process in self._processes[1:]]

    def client(self, **settings: Any) -> Client:
        """A client of this cluster; closed with it at the latest. `settings`: see Client."""
        made = Client(self.url, **settings)
        self._clients.add(made)
        return made

    def stop(self) -> None:
        """End all processes and leave nothing behind. Jobs that run have a second; jobs that wait are dropped."""
        if self._stopped or os.getpid() != self._pid:
            return
        try:
            self._stopped = True
            _clusters.discard(self)
            for client in list(self._clients):
                try:
                    client.close(0)
                except ZmqTasksError:
                    pass  # it ends with the cluster anyhow
            self._stop_processes()
        finally:  # a Ctrl-C while we wait must not leave anything either
            for process in self._processes:
                process.let_go()
            self._watcher.end()
        if self._listener is not None:
            self._listener.join(1.0)

    def _stop_processes(self) -> None:
        """The workers all at once, and then, unless the start failed before there was one, the scheduler."""
        for process in self._processes:
            process.quiet()
        for process in self._processes[1:]:
            process.ask_to_end()
        for process in self._processes[1:]:
            process.end(_STOP_WORKERS)
        for process in self._processes[:1]:
            process.ask_to_end()
            process.end(_STOP_SCHEDULER)

    def forget(self) -> None:
        """In a forked child: the cluster is the parent's, and its life must not hang on this process."""
        self._stopped = True
        for process in self._processes:
            process.forget()
        self._watcher.forget()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<LocalCluster {self.url}{' stopped' if self._stopped else ''}>"


# ------------------------------------------------------------------------------------------------ local://

_clusters: set[LocalCluster] = set()
_shared: dict[str | None, LocalCluster] = {}
_lock = threading.Lock()


_told = False  # that the user named no broker


def shared(
    app: str | None = None,
    *,
    by_default: bool = False,
    workers: int | None = None,
    pool: str = "processes",
    queues: Iterable[str] = (),
    direct: bool = False,
) -> LocalCluster:
    """The cluster behind local://, started on first use; it ends with this process.

    Args:
        app: MODULE:ATTRIBUTE that its workers know; one cluster per app.
        by_default: nobody named local:// or any other broker: the first cluster that is started says so on stderr.
        workers, pool, queues, direct: of a cluster that is started now, see LocalCluster.
    """
    global _told  # noqa: PLW0603  (once per process)
    with _lock:
        cluster = _shared.get(app)
        if cluster is None or cluster._stopped:  # noqa: SLF001
            begin = time.monotonic()
            slots = 1 if pool == "solo" else workers or cores()
            cluster = _shared[app] = LocalCluster(slots, app=app, pool=pool, queues=queues, direct=direct)
            _log.info(
                "local:// started a scheduler and %s on this machine in %.2f s; they end with this process",
                _slots(slots),
                time.monotonic() - begin,
                extra={"action": "local"},
            )
            if by_default and not _told:
                _told = True
                say(
                    f"no broker is named, so a scheduler and {_slots(slots)} were started on this machine for this "
                    f"script (local://); name one with broker=, {BROKER_VARIABLE} or {CONFIG_FILE}"
                )
        return cluster


def _open(by_default: bool) -> str:  # noqa: FBT001  (a hook)
    return shared(by_default=by_default).url


client_module.open_local = _open


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _wait_for_jobs(clients: list[Client], seconds: float) -> None:
    """Wait until the jobs of these clients are over; name those that are not."""
    end_time = time.monotonic() + seconds
    said = False
    for client in clients:
        quiet = min(_QUIET, max(0.0, end_time - time.monotonic()))
        if client.connection.wait_idle(quiet):
            continue
        if not said:
            said = True
            say(f"local:// waits up to {seconds:g} s for {client.connection.open_count} unfinished jobs")
        client.connection.wait_idle(max(0.0, end_time - time.monotonic()))


@atexit.register
def _at_exit() -> None:
    """Leaving the script: unfinished jobs of local:// get some time, unless it ends by an exception."""
    urls = {cluster.url for cluster in _shared.values() if not cluster._stopped}  # noqa: SLF001
    clients = [c for c in client_module.open_clients() if c.url in urls and c.connection.usable]
    try:
        if getattr(sys, "last_value", None) is None:
            _wait_for_jobs(clients, _EXIT_WAIT)
    except (KeyboardInterrupt, ZmqTasksError):
        pass
    for client in clients:
        count = client.connection.open_count
        if count:
            named = [f"{job} ({task})" for job, task in client.connection.open_jobs(5)]
            more = f" and {count - len(named)} more" if count > len(named) else ""
            say(f"local:// drops {count} unfinished jobs with its cluster: {', '.join(named)}{more}")
        try:
            client.close(0)
        except ZmqTasksError:
            pass  # it ends with the cluster anyhow
    for cluster in list(_clusters):
        cluster.stop()


def _after_fork() -> None:
    global _lock, _told  # noqa: PLW0603  (another thread may have held it at the fork)
    _lock = threading.Lock()
    _told = False
    for cluster in list(_clusters):
        cluster.forget()
    _clusters.clear()
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork)
