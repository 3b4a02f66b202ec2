"""The agent's side of its children: the fork server's client, their report streams, the shared queue, the cells.

Everything here is non-blocking but `close`, which is bounded.
"""

import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zmqtasks.errors import AppNotLoaded, ZmqTasksError
from zmqtasks.worker import hostinfo
from zmqtasks.worker.cells import Cells
from zmqtasks.worker.claims import (
    Boot,
    Fork,
    Forked,
    Ready,
    Report,
    Slay,
    ToForkServer,
    decode_from_forkserver,
    decode_report,
    encode,
)
from zmqtasks.worker.gpus import VARIABLE
from zmqtasks.worker.packets import PACKET, Queue

log = logging.getLogger(__name__)

_READ: Final = 256 * 1024  # bytes of reports read at once
_TURN: Final = 4 * 1024 * 1024  # of one child in one turn
_REPORT_BUFFER: Final = 1024 * 1024
_LENGTH: Final = 8  # bytes before a report
FORKS_AT_ONCE: Final = 16
EARLY_DEATHS: Final = 5  # in a row, without a single report: then new children come slowly
SLOWLY: Final = 5.0  # seconds between them, and after one that could not be made
CLOSE_WITHIN: Final = 2.0  # seconds for the fork server to end by itself
DEAD_WITHIN: Final = 2.0  # seconds for children whose fork server died


@dataclass(slots=True)
class Death:
    """A slot died with its child; its reports were read to the end, its cell is cleared for the next one."""

    child: int  # the slot
    claim: int
    number: int
    evidence: str
    ours: bool = False  # it was killed on request
    company: bool = False  # other slots died with it while they ran jobs: any of these may be to blame


@dataclass(slots=True)
class Loaded:
    """The fork server has loaded the app."""

    tasks: list[str]
    queues: list[str]
    broker: str
    closed: list[str]
    direct: bool
    rates: list[tuple[str, float, int]]
    caps: list[tuple[str, int]]


@dataclass(slots=True)
class Slot:
    """One child, or the place for one; it may have several slots, its threads. `pid` 0: it has not been told yet."""

    index: int
    stream: socket.socket
    pid: int = 0
    killed: bool = False
    reported: bool = False
    buffer: bytearray = field(default_factory=bytearray)


Event = tuple[int, Report] | Death | Loaded


class Pool:
    """Children of one agent.

    Args:
        slots: how many.
        app: what -A says; empty: no app.
        worker: the worker's name.
        loglevel: for the fork server and the children.
        broker: that jobs submit to, if they do; empty: the one that the app names.
        threads: the slots are threads of one child, instead of a child each.
        logfile: where children log and jobs print, absolute; empty: stderr.
        hide_gpus: jobs see none that they did not ask for.

    Attributes:
        queue: where claims go.
        to_fork: slots whose child is to be made; while there are any, `service` is to be called in every turn.
    """

    def __init__(
        self,
        slots: int,
        app: str,
        worker: str,
        loglevel: str,
        broker: str = "",
        *,
        threads: bool = False,
        logfile: str = "",
        hide_gpus: bool = False,
    ) -> None:
        self._environment = hostinfo.child_environment() | ({VARIABLE: ""} if hide_gpus and not threads else {})
        self._per_child = slots if threads else 1
        directory = str(Path.cwd())
        self._boot = Boot(app, directory, slots, worker, loglevel, broker, self._per_child, logfile)
        self.queue = Queue()
        self._cells = Cells(slots)
        self._selector = selectors.DefaultSelector()
        self._slots: dict[int, Slot] = {}
        self.to_fork: deque[int] = deque()
        self._forking = 0
        self._early_deaths = 0
        self._fork_at = 0.0  # monotonic time before which no child is made
        self._no_room = False  # the last child could not be made, which was said
        self._server_deaths = 0  # in a row, without a report of any child
        self._ready = False
        self._start()

    # -------------------------------------------------------------------------------------------- for the loop

    def fileno(self) -> int:
        """One descriptor to wait for, however many children there are."""
        return self._selector.fileno()

    def next_deadline(self) -> float | None:
        """Monotonic time at which `service` has something to do even if nothing happens."""
        return self._fork_at if self.to_fork and self._fork_at and self._ready else None

    def service(self, mono: float, *, heard: bool = True) -> Iterator[Event]:
        """What happened: reports as (slot, Report), deaths.

        Args:
            mono: the time.
            heard: `fileno` was ready, or that is not known.

        Raises:
            AppNotLoaded: the fork server cannot load the app.
            ZmqTasksError: the fork server dies again and again.
        """
        for key, _ in self._selector.select(0) if heard else ():
            if key.data is None:
                yield from self._control_ready(mono)
            elif key.data in self._slots:  # else it died in this very turn
                yield from self._read(self._slots[key.data])
        if self.to_fork:
            self._fork_some(mono)

    def kill(self, index: int) -> None:
        """Kill the child of this slot with its process group; its Death follows, and that of its other slots."""
        slot = self._slots.get(index // self._per_child)
        if slot is not None:
            slot.killed = True
            if slot.pid:  # else as soon as it is known
                self._tell(Slay(slot.index, slot.pid))

    def cells(self) -> list[tuple[int, int]]:
        """(claim, number) of every slot."""
        return self._cells.read_all()

    # -------------------------------------------------------------------------------------------- the fork server

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, PACKET)
        fds = (theirs.fileno(), self.queue.take_end.fileno(), self._cells.fd)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "zmqtasks.worker.forkserver", *map(str, fds)],
                stdin=subprocess.DEVNULL,
                pass_fds=fds,
                env=self._environment,
                start_new_session=True,  # Ctrl-C in a terminal goes to the agent alone
            )
        self._control.setblocking(False)
        self._selector.register(self._control, selectors.EVENT_READ, None)
        self._ready = False
        self._forking = 0
        self._tell(self._boot)

    def _tell(self, message: ToForkServer, fd: int | None = None) -> bool:
        try:
            if fd is None:
                self._control.send(encode(message))
            else:
                socket.send_fds(self._control, [encode(message)], [fd])
        except BlockingIOError:
            log.warning("the fork server does not read what it is told; it is asked again later")
            return False
        except (BrokenPipeError, ConnectionResetError):
            return False  # it is dead: the end of its stream tells
        return True

    def _control_ready(self, mono: float) -> Iterator[Event]:
        while True:
            try:
                data = self._control.recv(_READ)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                yield from self._server_died(mono)
                return
            message = decode_from_forkserver.decode(data)
            if isinstance(message, Ready):
                if message.error:
                    raise AppNotLoaded(message.error)
                self._ready = True
                self.to_fork = deque(i for i in range(self._boot.slots // self._per_child) if i not in self._slots)
                yield Loaded(
                    message.tasks,
                    message.queues,
                    message.broker,
                    message.closed,
                    message.direct,
                    message.rates,
                    message.caps,
                )
            elif isinstance(message, Forked):
                self._forking -= 1
                self._no_room = False
                slot = self._slots.get(message.index)
                if slot is not None:
                    slot.pid = message.pid
                    if slot.killed:
                        self._tell(Slay(slot.index, slot.pid))
            elif not message.pid:
                self._forking -= 1
                self._drop(message.index)
                self.to_fork.append(message.index)
                self._try_later(os.strerror(message.status), mono)
            else:
                how = hostinfo.how_it_ended(message.status)
                yield from self._died(message.index, f"child {message.pid} {how}", mono)

    def _server_died(self, mono: float) -> Iterator[Event]:
        """Its children die with it, by the kernel or by us; then a new one begins where it ended."""
        self._selector.unregister(self._control)
        self._control.close()
        code = self._server.wait(CLOSE_WITHIN)
        how = hostinfo.how_it_ended(-code if code < 0 else code << 8)
        if not self._ready:
            raise ZmqTasksError(
                f"the fork server {how} while it loaded {self._boot.app or 'Python'}; see above for why"
            )
        self._server_deaths += 1
        if self._server_deaths > EARLY_DEATHS:
            raise ZmqTasksError(f"the fork server died {self._server_deaths} times ({how} the last time); giving up")
        log.error("the fork server %s; its children are replaced", how, extra={"action": "fork-server-died"})
        for slot in self._slots.values():
            _kill_group(slot.pid)
        until = time.monotonic() + DEAD_WITHIN
        for index in list(self._slots):
            yield from self._read_until_gone(self._slots[index], until)
            yield from self._died(index, f"its fork server {how}", mono)
        self._start()

    def _read_until_gone(self, slot: Slot, until: float) -> Iterator[Event]:
        """Nobody can wait for these children; the end of their stream tells that they are dead."""
        slot.stream.settimeout(max(0.01, until - time.monotonic()))
        try:
            while data := slot.stream.recv(_READ):
                slot.buffer += data
                slot.stream.settimeout(max(0.01, until - time.monotonic()))
        except OSError:
            pass
        slot.stream.setblocking(False)
        yield from self._parse(slot)

    # -------------------------------------------------------------------------------------------- children

    def _fork_some(self, mono: float) -> None:
        if not self._ready or mono < self._fork_at:
            return
        self._fork_at = 0.0
        while self.to_fork and self._forking < FORKS_AT_ONCE:
            index = self.to_fork[0]
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            except OSError as error:  # jobs run in the other slots
                self._try_later(error.strerror or str(error), mono)
                return
            with theirs:
                theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REPORT_BUFFER)
                if not self._tell(Fork(index), theirs.fileno()):
                    ours.close()
                    self._fork_at = mono + 0.05
                    return
            self.to_fork.popleft()
            self._forking += 1
            ours.setblocking(False)
            self._slots[index] = Slot(index, ours)
            self._selector.register(ours, selectors.EVENT_READ, index)
            if self._early_deaths > EARLY_DEATHS:
                self._fork_at = mono + SLOWLY
                return

    def _try_later(self, why: str, mono: float) -> None:
        """There is no room for another child; the living ones go on. It is said once, until one can be made again."""
        self._fork_at = mono + SLOWLY
        if not self._no_room:
            self._no_room = True
            log.warning(
                "no child can be made (%s); it is tried again every %g s, %d of %d live",
                why, SLOWLY, len(self._slots), self._boot.slots // self._per_child, extra={"action": "no-room"},
            )  # fmt: skip

    def _drop(self, index: int) -> None:
        slot = self._slots.pop(index)
        self._unwatch(slot)
        slot.stream.close()

    def _died(self, index: int, evidence: str, mono: float) -> Iterator[Event]:
        slot = self._slots[index]
        yield from self._read(slot)
        self._drop(index)
        ran = [(at, *self._cells.read(at)) for at in self._slots_of(index)]
        running = sum(1 for _, _, number in ran if number)
        for at in self._slots_of(index):
            self._cells.clear(at)
        if running > 1:
            evidence += f" with {running} jobs in it"
        self.to_fork.append(index)
        if slot.reported or running:
            self._early_deaths = 0
        else:
            self._early_deaths += 1
            if self._early_deaths > EARLY_DEATHS:
                log.error(
                    "%s before it ran any job, as %d others before it; the next one is tried in %g s",
                    evidence, self._early_deaths - 1, SLOWLY, extra={"action": "children-die"},
                )  # fmt: skip
                self._fork_at = mono + SLOWLY
        if running:
            log.warning(
                "%s; what ran is reported, a new child takes its place", evidence, extra={"action": "child-died"}
            )
        for at, claim, number in ran:
            yield Death(at, claim, number, evidence, slot.killed, running > 1)

    def _slots_of(self, index: int) -> range:
        return range(index * self._per_child, (index + 1) * self._per_child)

    def _read(self, slot: Slot) -> Iterator[Event]:
        """What a child has written, up to a bound."""
        for _ in range(_TURN // _READ):
            try:
                data = slot.stream.recv(_READ)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            if not data:  # it is dead or as good as dead: the fork server tells
                self._unwatch(slot)
                break
            if not slot.buffer and int.from_bytes(data[:_LENGTH], "little") == len(data) - _LENGTH < _READ - _LENGTH:
                slot.reported = True
                self._server_deaths = 0
                yield slot.index, decode_report(memoryview(data)[_LENGTH:])
                return  # one report, as mostly, and all that was there
            slot.buffer += data
            if len(data) < _READ:
                break
        yield from self._parse(slot)

    def _unwatch(self, slot: Slot) -> None:
        if slot.stream in self._selector.get_map():
            self._selector.unregister(slot.stream)

    def _parse(self, slot: Slot) -> Iterator[Event]:
        buffer, at = slot.buffer, 0
        with memoryview(buffer) as view:
            while len(buffer) - at >= _LENGTH:
                end = at + _LENGTH + int.from_bytes(view[at : at + _LENGTH], "little")
                if end > len(buffer):
                    break
                slot.reported = True
                self._server_deaths = 0
                yield slot.index, decode_report(view[at + _LENGTH : end])
                at = end
        if at:
            del buffer[:at]

    # -------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Kill every child and the fork server; nothing of them is left. Takes at most a few seconds."""
        self._control.close()  # this tells the fork server
        if self._ready:
            self._server.send_signal(signal.SIGCONT)  # somebody may have stopped it
        else:
            self._server.kill()  # it is importing, and does not look
        try:
            self._server.wait(CLOSE_WITHIN)
        except subprocess.TimeoutExpired:
            log.warning("the fork server does not end; it is killed")
            for slot in self._slots.values():
                _kill_group(slot.pid)
            self._server.kill()
            self._server.wait()
        for slot in self._slots.values():
            slot.stream.close()
        self._slots.clear()
        self._selector.close()
        self.queue.close()
        self._cells.close()


def _kill_group(pid: int) -> None:
    if pid:
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
