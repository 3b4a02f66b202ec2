"""The scheduler's core behind its gate, over a journal that takes its time, driven as its daemon drives it."""

from collections import deque
from typing import Any

from tests.sim.disk import Disk
from tests.sim.laws import Broken, Laws
from tests.sim.policy import PolicyLaws
from tests.sim.world import WELCOME, Link, World
from zmqtasks import wire
from zmqtasks.config import SchedulerSettings
from zmqtasks.scheduler.core.core import Core
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.identity import Identity
from zmqtasks.scheduler.core.model import Worker
from zmqtasks.scheduler.core.payloads import Payloads
from zmqtasks.scheduler.core.restore import RestoreError
from zmqtasks.scheduler.core.transitions import IllegalMoveError
from zmqtasks.scheduler.gate import Gate
from zmqtasks.worker.ledger import PUSHED, WAITING

FSYNC = 0.002  # seconds, the mean
LOAD = 0.005
EPOCH = 1_750_000_000_000


class Scheduler:
    """One scheduler, in as many lives as it is restarted.

    Args:
        disk: holds its journal; None: it keeps everything in memory.

    Attributes:
        life: which one; what was begun in an earlier one does not come to an end in this one.
        up: whether it can be connected to.
        stopped: since when it stands still (SIGSTOP).
    """

    def __init__(self, world: World, laws: Laws, settings: SchedulerSettings, disk: Disk | None) -> None:
        self.world, self.laws, self.settings, self.disk = world, laws, settings, disk
        self._policy = PolicyLaws()
        self.workers: dict[bytes, Any] = {}  # the nodes, by nonce
        self.life = 0
        self.up = False
        self.begin()

    def begin(self) -> None:
        """A new life, which knows what is on the disk, if it has one."""
        self.life += 1
        self.up = True
        self.stopped: float | None = None
        epoch = EPOCH + int(self.world.time * 1000) + self.life
        identity = Identity(epoch, "sim", durable=self.disk is not None, started=self.world.time)
        self.core = Core(self.settings, identity)
        self.core.state.payloads = Payloads(self.settings.spill, cache=0)
        self.gate = Gate()
        self.durable = 0
        self.inbox: deque[tuple[bytes, bytes]] = deque()
        self.gone: deque[bytes] = deque()
        self.loaded: deque[tuple[int, bytes]] = deque()
        self.links: dict[bytes, Link] = {}  # by control route
        self.bulks: dict[bytes, bytes] = {}  # bulk route → control route
        self._for_bulk: dict[bytes, list[bytes]] = {}  # control route → what waits for its bulk connection
        self._stored: dict[int, bytes] = {}
        self._commit_at = 0.0
        self._turn_due = False
        self._alarm = -1.0
        if self.disk is not None:
            self._restore(self.disk)

    def _restore(self, disk: Disk) -> None:
        fx = Effects()
        self.durable, self._stored = disk.durable, disk.stored
        try:
            self.core.restore(disk.first, disk.records())
            disk.needs(self.core.begin(self.world.now(), fx))
        except RestoreError as error:
            raise Broken("restore", str(error)) from error
        self._stored = disk.stored
        self.core.check()
        self.laws.restored(self.core.state)
        self._carry_out(fx)
        self._set_alarm()
        self._later(1.0, self._sync_anyway)

    def _sync_anyway(self) -> None:
        """What need not be synced is, once a second."""
        if self.disk is not None and not self.disk.trouble:
            self.disk.commit(self.durable, anyway=True)
        self._later(1.0, self._sync_anyway)

    def fill_disk(self, seconds: float) -> None:
        """Nothing can be written for some time."""
        if self.disk is not None and self.up and not self.disk.trouble:
            self.disk.trouble = "the disk is full"
            self._commit_at = max(self._commit_at, self.world.time + seconds)
            self._later(seconds, self._mended)

    def _mended(self) -> None:
        if self.disk is not None:
            self.disk.trouble = ""
        self.wake()

    def end(self, *, power: bool = False) -> None:
        """kill -9, or the loss of power: all that it had in memory is gone; its sockets close."""
        self.up = False
        self.life += 1
        left = self.disk.crash(self.world.random, power=power) if self.disk is not None else None
        for link in list(self.links.values()):
            link.up.silence()
        self.links.clear()
        self.laws.restarted(left, power=power)
        if self.disk is None:
            self._policy.forget()

    def stop(self) -> None:
        """SIGSTOP."""
        if self.stopped is None:
            self.stopped = self.world.time

    def go_on(self) -> None:
        """SIGCONT. The daemon sees how long it stood still."""
        if self.stopped is not None and self.up:
            gap, self.stopped = self.world.time - self.stopped, None
            if gap > self.settings.gap:
                self.core.on_gap(gap)
            self._turn_due = False
            self.wake()

    # ------------------------------------------------------------------------------------------ what comes in

    def arrive(self, link: Link, route: bytes, data: bytes) -> None:
        """A message comes out of a link."""
        if self.up and link.route in self.links:
            self.inbox.append((route, data))
            self.wake()

    def lost(self, route: bytes) -> None:
        """The network says that this connection is dead."""
        if self.up:
            self.gone.append(route)
            self.wake()

    def wake(self) -> None:
        """Have a turn soon."""
        if not self._turn_due and self.up:
            self._turn_due = True
            self._later(self.world.random.uniform(0, 0.0005), self._turn)

    def _later(self, delay: float, action: Any, *args: Any) -> None:
        """Have something happen later in this life; what a stopped process was to do waits for it."""
        self.world.after(delay, self._if_same, self.life, action, args)

    def _if_same(self, life: int, action: Any, args: tuple[Any, ...]) -> None:
        if life != self.life:
            return
        if self.stopped is not None:
            self.world.after(0.1, self._if_same, life, action, args)
            return
        action(*args)

    # ------------------------------------------------------------------------------------------ the turn

    def _turn(self) -> None:
        try:
            self._take_turn()
        except IllegalMoveError as error:
            raise Broken("moves", str(error)) from error

    def _take_turn(self) -> None:
        self._turn_due = False
        now, fx = self.world.now(), Effects()
        workers = dict(self.core.state.workers)
        budget = self.world.random.choice((1, 3, 100))
        while self.inbox and budget:
            route, data = self.inbox.popleft()
            self.core.receive(self.bulks.get(route, route), data, now, fx)
            budget -= 1
        while self.gone:
            route = self.gone.popleft()
            self.gate.forget(route)
            self.core.on_gone(route, now, fx)
        while self.loaded:
            self.core.on_loaded(*self.loaded.popleft(), now, fx)
        if self.disk is not None:
            self.core.on_journal(self.disk.size, 0, self.disk.trouble, trimming=self.disk.trimming)
        self.core.tick(now, fx, caught_up=not self.inbox)
        for nonce, worker in workers.items():
            if self.core.state.workers.get(nonce) is not worker:
                self.laws.given_up(nonce)
        self._carry_out(fx)
        self.laws.check_taken(self._holds)
        self._policy.check(self.core.state)
        self.core.check()
        if self.inbox:
            self.wake()
        self._set_alarm()

    def _holds(self, nonce: bytes, number: int) -> bool:
        """Whether a worker that is not given up has this job before it, or in a child's hands."""
        node = self.workers.get(nonce)
        if nonce not in self.core.state.workers or node is None or not node.alive:
            return False
        return node.core.work.ledger.state(number) in (WAITING, PUSHED)

    def _carry_out(self, fx: Effects) -> None:
        self._write(fx)
        for number in fx.loads:
            self._later(self.world.random.expovariate(1 / LOAD), self._fetched, number)
        for route in fx.forget:
            self.gate.forget(route)
            self._for_bulk.pop(self.bulks.pop(route, route), None)
        for route in fx.reset:
            self.gate.forget(route)
            self._for_bulk.pop(route, None)
        for control, bulk in fx.bulks:
            self.bulks[bulk] = control
            link = self.links[control]
            self._over_bulk(link, WELCOME)
            for data in self._for_bulk.pop(control, ()):
                self._over_bulk(link, data)
        self._emit(self.gate.pass_(fx.sends, self.durable))

    def _write(self, fx: Effects) -> None:
        disk = self.disk
        self._stored.update(fx.stores)
        for record in (*fx.records, *fx.unwritten):
            self._policy.take(record, self.world.now())
        for record in fx.records:
            self.laws.record(record)
        for record in fx.unwritten:
            self.laws.unwritten(record)
        if fx.records:
            if disk is not None:
                disk.append(fx.records, sync=fx.sync)
            delay = self.world.random.expovariate(1 / FSYNC)
            self._commit_at = max(self._commit_at, self.world.time + delay)
            self._later(self._commit_at - self.world.time, self._committed, self.laws.seq)
        for number in fx.drops:
            if disk is not None:
                disk.drop(number)
            else:
                del self._stored[number]
        if fx.trim and disk is not None:
            disk.trim(fx.trim)

    def _emit(self, sends: list[Any]) -> None:
        for send in sends:
            peer = self.core.state.peers.get(send.route)
            synced = self.disk.synced if self.disk is not None else self.durable
            self.laws.sent(send, self.durable, synced, peer.nonce if isinstance(peer, Worker) else None)
            if isinstance(send.message, wire.HelloAgain) and self.laws.faultless and self.settings.max_functions > 100:
                raise Broken("hello", "a session had to begin anew, and nothing has gone wrong")
            if isinstance(send.message, wire.Assign) and isinstance(peer, Worker) and peer.draining and not send.after:
                raise Broken("drain", f"{peer} said that it takes no new work, and is given some")
            link, data = self.links.get(send.route), wire.encode(send.message)
            if link is None:
                self._to_unbound(send.route, data)
                continue
            if not link.alive:
                continue
            if not send.bulk:
                link.down.send(data)
            elif send.route in self.bulks.values():
                self._over_bulk(link, data)
            else:
                if send.route not in self._for_bulk:
                    link.down.send(wire.encode(wire.OpenBulk()))
                self._for_bulk.setdefault(send.route, []).append(data)

    def _to_unbound(self, route: bytes, data: bytes) -> None:
        """An answer to a bulk connection that belongs to nobody."""
        for link in self.links.values():
            if link.alive and link.bulk is not None and link.bulk.route == route:
                link.bulk.down.send(data)

    @staticmethod
    def _over_bulk(link: Link, data: bytes) -> None:
        if link.bulk is not None:
            link.bulk.down.send(data)

    def _committed(self, seq: int) -> None:
        self.durable = max(self.durable, seq)
        if self.disk is not None:
            self.disk.commit(seq, anyway=False)
        self._emit(self.gate.pass_((), self.durable))

    def _fetched(self, number: int) -> None:
        if number in self._stored:  # it may have been dropped meanwhile
            self.loaded.append((number, self._stored[number]))
            self.wake()

    def _set_alarm(self) -> None:
        deadline = self.core.next_deadline(self.world.now())
        if deadline is not None and deadline != self._alarm:
            self._alarm = deadline
            self._later(max(0.0, deadline - self.world.time) + 1e-6, self.wake)
