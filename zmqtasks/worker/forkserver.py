"""The process whose forks the children are. It loads the app once, never touches zmq, and has one thread.

It is started by exec before the agent opens any socket of zmq. It is the children's parent: it alone can tell how one
died, and kill one without the danger of hitting a stranger that got its pid. When the agent is gone, which the end of
the control stream tells, it kills every child with its process group and ends.

Nobody can be relied on to be left for that, so the kernel does the same: it kills this process when the agent dies,
and when this process dies, every child's whole group, with all that jobs have started in it. For this it holds both
ends of a tether for each child, a socket pair through which nothing goes: when it ends, one end closes before the
other, and the kernel sends the group what the other end asks for. Nobody else may hold these ends.
"""

import errno
import gc
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from zmqtasks import logs
from zmqtasks.config import BROKER_VARIABLE, DEFAULT_BROKER
from zmqtasks.errors import ZmqTasksError
from zmqtasks.worker import child, hostinfo
from zmqtasks.worker.claims import Boot, Exited, Fork, Forked, FromForkServer, Ready, Slay, decode_to_forkserver, encode
from zmqtasks.worker.loading import (
    AppLike,
    Tasks,
    accepted_by,
    broker_of,
    caps_of,
    closed_queues,
    is_direct,
    load_app,
    queues_of,
    rates_of,
)
from zmqtasks.worker.packets import files_in

log = logging.getLogger(__name__)

_MESSAGE: Final = 64 * 1024  # bytes
_ROOM_FOR_FILE: Final = socket.CMSG_SPACE(4)

Tether = tuple[socket.socket, socket.socket]


@dataclass(slots=True)
class Offspring:
    """One living child."""

    index: int
    pid: int
    tether: Tether

    def let_go(self) -> None:
        """Close this process's copies of the tether."""
        _close(self.tether)


class ForkServer:
    """Args: control: stream of messages from and to the agent. claims_fd, cells_fd: what the children inherit."""

    def __init__(self, control: socket.socket, claims_fd: int, cells_fd: int) -> None:
        self._control = control
        self._claims_fd = claims_fd
        self._cells_fd = cells_fd
        self._children: dict[int, Offspring] = {}  # by slot
        self._tasks: Tasks = {}
        self._accept: Collection[str] = ()
        self._boot = Boot("", "", 0, "", "info", "")
        self._by_exec = False

    def run(self) -> None:
        """Load the app, then serve until the agent is gone."""
        hostinfo.die_with_parent(os.getppid())  # an import may take long, and looks at no stream
        if not self._load():
            return
        wake, notify = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(notify, False)
        signal.signal(signal.SIGCHLD, child.let_pass)
        signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll():
                    if fd == wake:
                        _drain(wake)
                self._reap()
                if not self._serve():
                    return
        finally:
            self._kill_all()

    # -------------------------------------------------------------------------------------------- the app

    def _load(self) -> bool:
        """Take the first message, load the app, tell how that went; whether to go on."""
        data = self._control.recv(_MESSAGE)
        if not data:
            return False
        boot = decode_to_forkserver.decode(data)
        assert isinstance(boot, Boot)  # noqa: S101  (the agent sends it first)
        self._boot = boot
        logs.setup(boot.loglevel, boot.logfile or None)
        app: AppLike | None = None
        gc.disable()  # what is loaded now stays, and is frozen: a collection in a child would copy its pages
        try:
            import cloudpickle  # noqa: F401  (40 ms once, instead of in each child)

            if boot.app:
                app = load_app(boot.app, boot.directory)
            elif boot.directory not in sys.path:
                sys.path.insert(0, boot.directory)
            queues, closed, self._accept = queues_of(app), closed_queues(app), accepted_by(app)
        except ZmqTasksError as error:
            self._tell(Ready([], [], str(error)))
            return False
        self._tasks = app.tasks if app else {}
        own = boot.broker or broker_of(app) or os.environ.get(BROKER_VARIABLE) or DEFAULT_BROKER
        os.environ[BROKER_VARIABLE] = own  # jobs submit to the scheduler that they came from
        self._by_exec = hostinfo.threads() > 1
        gc.collect()
        gc.freeze()
        limited = rates_of(self._tasks), caps_of(self._tasks)
        return self._tell(Ready(sorted(self._tasks), queues, "", broker_of(app), closed, is_direct(app), *limited))

    # -------------------------------------------------------------------------------------------- the agent

    def _serve(self) -> bool:
        """Do what the agent asks; whether it still lives."""
        while True:
            try:
                # not socket.recv_fds, which drops its flags (Python 3.11)
                data, ancillary, _, _ = self._control.recvmsg(_MESSAGE, _ROOM_FOR_FILE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            message = decode_to_forkserver.decode(data)
            if isinstance(message, Fork):
                self._fork(message.index, files_in(ancillary))
            elif isinstance(message, Slay):
                offspring = self._children.get(message.index)
                if offspring is not None and offspring.pid == message.pid:
                    _kill_group(offspring.pid)

    def _tell(self, message: FromForkServer) -> bool:
        try:
            self._control.send(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    # -------------------------------------------------------------------------------------------- children

    def _fork(self, index: int, files: list[int]) -> None:
        """Make a child, or tell that there is no room for one: the others must not suffer from that.

        Args:
            index: of its slot.
            files: its end of the report stream; empty: this process may not open another file.
        """
        try:
            pid, tether = self._make(index, files)
        except OSError as error:
            self._tell(Exited(index, 0, error.errno or errno.EAGAIN))
            return
        finally:
            for fd in files:
                os.close(fd)
        self._children[index] = Offspring(index, pid, tether)
        self._tell(Forked(index, pid))

    def _make(self, index: int, files: list[int]) -> tuple[int, Tether]:
        if not files:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        tether = socket.socketpair()  # before the child: once that lives, nothing may fail
        try:
            pid = self._spawn(index, files[0]) if self._by_exec else self._clone(index, files[0], tether)
        except OSError:
            _close(tether)
            raise
        for end in tether:
            hostinfo.tether(end.fileno(), pid, signal.SIGKILL)
        return pid, tether

    def _clone(self, index: int, report_fd: int, tether: Tether) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            _make_group(pid)
            return pid
        try:
            _make_group(0)
            hostinfo.die_with_parent(parent)
            _close(tether)
            for sibling in self._children.values():
                sibling.let_go()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
        except BaseException:  # noqa: BLE001  (nothing may return into the fork server's loop)
            os._exit(1)
        boot = self._boot
        child.run(boot, index, self._claims_fd, self._cells_fd, report_fd, self._tasks, self._accept)
        return 0

    def _spawn(self, index: int, report_fd: int) -> int:
        boot = self._boot
        numbers = (index, self._claims_fd, self._cells_fd, report_fd, os.getpid())
        process = subprocess.Popen(
            [sys.executable, "-m", child.__name__, *map(str, numbers), encode(boot).hex()],
            pass_fds=(self._claims_fd, self._cells_fd, report_fd),
            process_group=0,
        )
        process.returncode = 0  # it is reaped here, by its pid: Popen must not try
        return process.pid

    def _reap(self) -> None:
        """Children that died: kill what is left of their groups while their pid still is theirs, then tell."""
        for offspring in list(self._children.values()):
            pid = offspring.pid
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill_group(pid)
            _, status = os.waitpid(pid, 0)
            offspring.let_go()
            del self._children[offspring.index]
            self._tell(Exited(offspring.index, pid, status))

    def _kill_all(self) -> None:
        for offspring in self._children.values():
            _kill_group(offspring.pid)
        for offspring in self._children.values():
            os.waitpid(offspring.pid, 0)


def _close(tether: Tether) -> None:
    for end in tether:
        end.close()


def _make_group(pid: int) -> None:
    """Give a new child a process group of its own. Both sides do it, so that either may rely on it at once."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        pass  # it is dead already


def _kill_group(pid: int) -> None:
    """Kill a child that has not been reaped, and its group. It may not have made its group yet, so both are tried."""
    for kill in (os.killpg, os.kill):
        try:
            kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def _drain(fd: int) -> None:
    try:
        while os.read(fd, 4096):
            pass
    except BlockingIOError:
        pass


def main() -> None:
    """CONTROL_FD CLAIMS_FD CELLS_FD, all of them inherited."""
    control_fd, claims_fd, cells_fd = map(int, sys.argv[1:4])
    os.dup2(2, 1)  # what jobs print goes to the worker's stderr: its stdout is for the line that says it is ready
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is a TextIOWrapper here
    for fd in (control_fd, claims_fd, cells_fd):
        os.set_inheritable(fd, False)
    child.quiet_signals()
    try:
        ForkServer(socket.socket(fileno=control_fd), claims_fd, cells_fd).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
