"""What every peer of the scheduler has in common, and the network between them."""

from collections import deque
from collections.abc import Callable
from typing import Any

from tests.sim.laws import Broken
from tests.sim.scheduler import Scheduler
from tests.sim.world import Link, World
from zmqtasks import wire

BACKOFF = 0.5


class Node:
    """A peer with one link at a time, remade after every break.

    Attributes:
        stopped: it stands still (SIGSTOP); what comes waits in its sockets.
        held_back: it does not connect before this time.
    """

    law: str  # that its core's own checks keep
    core: Any
    effects: Callable[[], Any]
    decode: Callable[[bytes], Any]

    def __init__(self, world: World, network: "Network", name: str) -> None:
        self.world, self.network, self.name = world, network, name
        self.alive = True
        self.stopped = False
        self.held_back = 0.0
        self.link: Link | None = None
        self.inbox: deque[Callable[[Any], None]] = deque()
        self._turn_due = False
        self._alarm = -1.0
        world.after(world.random.uniform(0, 0.1), self.connect)

    def connect(self) -> None:
        """Make a connection, if the network lets us."""
        if not self.alive or self.link is not None:
            return
        if not self.stopped and self.world.time >= self.held_back:
            self.link = self.network.connect(self)
        if self.link is None:
            self.world.after(self.world.random.uniform(0.05, BACKOFF), self.connect)
            return
        self.event(lambda fx: self.core.on_connected(self.world.now(), fx))

    def broken(self, link: Link) -> None:
        """The network says that our connection is dead."""
        if not self.alive or self.link is not link:
            return
        self.link = None
        self.event(lambda fx: self.core.on_disconnected(self.world.now(), fx))
        self.world.after(self.world.random.uniform(0.05, BACKOFF), self.connect)

    def arrive(self, link: Link, data: bytes) -> None:
        """A message comes out of a link; a fresh socket hears nothing of an old connection."""
        if self.alive and link is self.link:
            message = self.decode(data)
            self.event(lambda fx: self.core.handle(message, self.world.now(), fx))

    def event(self, action: Callable[[Any], None]) -> None:
        """Something for the next turn."""
        self.inbox.append(action)
        self.wake()

    def wake(self) -> None:
        """Have a turn soon."""
        if self.alive and not self.stopped and not self._turn_due:
            self._turn_due = True
            self.world.after(self.world.random.uniform(0, 0.0005), self._turn)

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT."""
        self.stopped = False
        self.wake()

    def _turn(self) -> None:
        self._turn_due = False
        if not self.alive or self.stopped:
            return
        try:
            self._take_turn()
        except Broken:
            raise
        except AssertionError as error:  # of the core itself
            raise Broken(self.law, str(error)) from error

    def _take_turn(self) -> None:
        fx = self.effects()
        while self.inbox:
            self.inbox.popleft()(fx)
        self.core.tick(self.world.now(), fx)
        self.carry_out(fx)
        if self.alive:
            self.core.check()
            deadline = self.core.next_deadline()
            if deadline is not None and deadline != self._alarm:
                self._alarm = deadline
                self.world.after(max(0.0, deadline - self.world.time) + 1e-6, self.wake)

    def send(self, fx: Any) -> None:
        """Put messages into the link: the small ones, and over the bulk connection the large ones."""
        link = self.link
        if link is None or not link.alive:
            return
        if fx.close_bulk:
            link.close_bulk()
        for message in fx.sends:
            link.up.send(wire.encode(message))
        if fx.bulk or fx.open_bulk:
            bulk = link.open_bulk(wire.encode(self.core.bulk_hello()))
            for message in fx.bulk:
                bulk.send(wire.encode(message))

    def die(self) -> None:
        """kill -9."""
        self.alive = False
        if self.link is not None:
            self.network.cut(self.link, self)
            self.link = None

    def carry_out(self, fx: Any) -> None:
        """Do what the core asks."""
        raise NotImplementedError


class Network:
    """Makes and breaks links."""

    def __init__(self, world: World, scheduler: Scheduler, duplicates: float) -> None:
        self.world, self.scheduler = world, scheduler
        self.duplicates = duplicates
        self.flaps = 0.0  # share of the connections that break at once
        self.delays = (0.0001, 0.001, 0.02, 0.3)  # seconds, the mean, each of some connections
        self.isolated: set[str] = set()  # nodes that cannot connect
        self.links: dict[Link, Any] = {}
        self._routes = 0

    def connect(self, node: Any) -> Link | None:
        """A fresh link, unless the node is cut off or nobody listens."""
        if node.name in self.isolated or not self.scheduler.up or self.scheduler.stopped is not None:
            return None
        self._routes += 1
        route = self._routes.to_bytes(5, "big")
        delay = self.world.random.choice(self.delays)
        link = Link(self.world, route, self.scheduler.arrive, node.arrive, delay, self.duplicates)
        self.scheduler.links[route] = link
        if self.flaps and self.world.chance(self.flaps):  # it breaks while the hello is on its way
            self.world.after(self.world.random.uniform(0, 0.02), self.cut, link, node)
        self.links[link] = node
        link.refused = lambda link: self.cut(link, node)
        return link

    def cut(self, link: Link, node: Any) -> None:
        """Break a link; each side learns of it later, the scheduler perhaps only by silence."""
        if not link.alive:
            return
        self.scheduler.laws.faultless = False
        link.cut()
        self.links.pop(link, None)
        self.world.after(self.world.random.uniform(0, 0.05), node.broken, link)
        silent = self.world.chance(0.2)
        delay = self.world.random.uniform(5, 9) if silent else self.world.random.uniform(0, 0.05)
        bulk = link.bulk
        route = bulk.route if bulk is not None and self.world.chance(0.5) else link.route
        self.world.after(delay, self._tell, self.scheduler.life, route, link.route)

    def _tell(self, life: int, *routes: bytes) -> None:
        """The scheduler learns it: of the bulk connection first, if there is one, or not at all."""
        if life == self.scheduler.life:
            for route in routes:
                self.scheduler.lost(route)

    def cut_all(self) -> None:
        """The scheduler has died: every peer learns that soon."""
        for link, node in list(self.links.items()):
            self.cut(link, node)
