"""Virtual time and links."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from operator import itemgetter
from random import Random
from typing import Any

from zmqtasks import wire
from zmqtasks.clock import Now

HELLO_AGAIN = wire.encode(wire.HelloAgain())
WELCOME = wire.encode(wire.BulkWelcome(0))
SLOWEST = 2.0  # seconds that a message takes, unless its way is clogged
WALL = 1_750_000_000.0  # Unix time at the beginning of every history


class World:
    """Virtual time: events run in order of time, then of creation, so a seed always gives the same history."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.time = 0.0
        self.wall_ahead = 0.0  # seconds that steps of the wall clock have made
        self.steps = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = count()

    def now(self) -> Now:
        """The present, on both clocks."""
        return Now(self.time, WALL + self.time + self.wall_ahead)

    def after(self, delay: float, action: Callable[..., None], *args: Any) -> None:
        """Have something happen later."""
        heapq.heappush(self._events, (self.time + delay, next(self._serial), action, args))

    def step(self) -> bool:
        """Run the next event; False when there is none."""
        if not self._events:
            return False
        self.time, _, action, args = heapq.heappop(self._events)
        self.steps += 1
        action(*args)
        return True

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.random.random() < probability


class Pipe:
    """One direction of a link: FIFO, with delay; what is in flight can be stalled, duplicated, or lost from the end."""

    def __init__(self, world: World, deliver: Callable[[bytes], None], delay: float, duplicates: float) -> None:
        self.ordered = True  # otherwise messages overtake one another, as streams do that take turns
        self.world = world
        self.deliver = deliver
        self.delay = delay
        self.duplicates = duplicates
        self.flight: deque[tuple[float, bytes]] = deque()
        self.stalled = False
        self._last = 0.0

    def send(self, data: bytes, copies: int = 0) -> None:
        """Put a message into the pipe; `copies`: 0 leaves it to chance whether it comes twice."""
        copies = copies or (2 if self.world.chance(self.duplicates) else 1)
        for _ in range(copies):
            delay = min(SLOWEST, self.world.random.expovariate(1.0 / self.delay))
            arrival = self.world.time + delay
            if self.ordered:
                arrival = self._last = max(self._last, arrival)
                self.flight.append((arrival, data))
            else:
                self.flight = deque(sorted([*self.flight, (arrival, data)], key=itemgetter(0)))
            self.world.after(arrival - self.world.time, self._arrive)

    def _arrive(self) -> None:
        while self.flight and not self.stalled and self.flight[0][0] <= self.world.time:
            self.deliver(self.flight.popleft()[1])

    def resume(self) -> None:
        """The stall is over."""
        self.stalled = False
        self._arrive()

    def cut(self) -> None:
        """The connection breaks: a random part of what is in flight, from the end, never arrives."""
        keep = self.world.random.randint(0, len(self.flight))
        while len(self.flight) > keep:
            self.flight.pop()

    def silence(self) -> None:
        """Nothing comes out any more."""
        self.flight.clear()


class Bulk:
    """The second connection of a link, for what is large. It has a route of its own, and breaks with the link.

    Attributes:
        waiting: what the node may send only when it is welcome; None: it is.
    """

    def __init__(self, route: bytes, up: Pipe, down: Pipe) -> None:
        self.route = route
        self.up = up
        self.down = down
        self.waiting: list[bytes] | None = []

    def send(self, data: bytes) -> None:
        """One message of the node."""
        if self.waiting is None:
            self.up.send(data)
        else:
            self.waiting.append(data)

    def welcome(self) -> None:
        """The scheduler has bound it."""
        for data in self.waiting or ():
            self.up.send(data)
        self.waiting = None


class Link:
    """A connection of a node to the scheduler: it is made, may break, and is then replaced by a fresh one.

    Attributes:
        alive: as the network knows it.
        bulk: its bulk connection, once somebody has needed it.
    """

    def __init__(
        self,
        world: World,
        route: bytes,
        to_scheduler: Callable[["Link", bytes, bytes], None],
        to_node: Callable[["Link", bytes], None],
        delay: float,
        duplicates: float,
    ) -> None:
        self.world = world
        self.route = route
        self.alive = True
        self.bulk: Bulk | None = None
        self.refused: Callable[[Link], None] = lambda link: None
        self._ends = (to_scheduler, to_node)
        self._habits = (delay, duplicates)
        self._bulks = 0
        self.up, self.down = self._pipes(route)

    def _pipes(self, route: bytes) -> tuple[Pipe, Pipe]:
        to_scheduler, to_node = self._ends

        def down(data: bytes) -> None:
            if data == HELLO_AGAIN and route != self.route:
                self.refused(self)  # both ends give both connections up
            elif data != WELCOME:
                to_node(self, data)
            elif self.bulk is not None and self.bulk.route == route:
                self.bulk.welcome()

        up = Pipe(self.world, lambda data: to_scheduler(self, route, data), *self._habits)
        return up, Pipe(self.world, down, *self._habits)

    def open_bulk(self, hello: bytes) -> Bulk:
        """The bulk connection, made now if there is none; it begins with this hello."""
        if self.bulk is None:
            self._bulks += 1
            route = self.route + b"bulk%d" % self._bulks
            self.bulk = Bulk(route, *self._pipes(route))
            self.bulk.up.ordered = self.bulk.down.ordered = False
            self.bulk.up.stalled, self.bulk.down.stalled = self.up.stalled, self.down.stalled
            self.bulk.up.send(hello, copies=1)
        return self.bulk

    def close_bulk(self) -> None:
        """A new hello on the same connection: what the bulk connection carried is void."""
        if self.bulk is not None:
            self.bulk.up.silence()
            self.bulk.down.silence()
            self.bulk = None

    def _all(self) -> list[tuple[Pipe, Pipe]]:
        pairs = [(self.up, self.down)]
        return pairs if self.bulk is None else [*pairs, (self.bulk.up, self.bulk.down)]

    def stall(self, *, up: bool, down: bool) -> None:
        """A partition, in one or both directions: nothing is lost yet."""
        for a, b in self._all():
            a.stalled |= up
            b.stalled |= down

    def resume(self) -> None:
        """The partition is over."""
        for pair in self._all():
            for pipe in pair:
                pipe.resume()

    def cut(self) -> None:
        """The connection breaks."""
        self.alive = False
        for pair in self._all():
            for pipe in pair:
                pipe.stalled = False
                pipe.cut()

    def silence(self) -> None:
        """One end has died: nothing that is still in flight matters to it."""
        self.alive = False
        for pair in self._all():
            for pipe in pair:
                pipe.silence()
