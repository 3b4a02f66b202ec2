"""Virtual time and links."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count
from random import Random
from typing import Any

from zmqtasks.clock import Now

WALL = 1_750_000_000.0  # Unix time at the beginning of every history


class World:
    """Virtual time: events run in order of time, then of creation, so a seed always gives the same history."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.time = 0.0
        self.steps = 0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = count()

    def now(self) -> Now:
        """The present, on both clocks."""
        return Now(self.time, WALL + self.time)

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
        self.world = world
        self.deliver = deliver
        self.delay = delay
        self.duplicates = duplicates
        self.flight: deque[tuple[float, bytes]] = deque()
        self.stalled = False
        self._last = 0.0

    def send(self, data: bytes) -> None:
        """Put a message into the pipe."""
        copies = 2 if self.world.chance(self.duplicates) else 1
        for _ in range(copies):
            arrival = max(self._last, self.world.time + self.world.random.expovariate(1.0 / self.delay))
            self._last = arrival
            self.flight.append((arrival, data))
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


class Link:
    """A connection of a node to the scheduler: it is made, may break, and is then replaced by a fresh one."""

    def __init__(
        self,
        world: World,
        route: bytes,
        to_scheduler: Callable[[bytes, bytes], None],
        to_node: Callable[["Link", bytes], None],
        delay: float,
        duplicates: float,
    ) -> None:
        self.route = route
        self.alive = True  # as the network knows it
        self.up = Pipe(world, lambda data: to_scheduler(route, data), delay, duplicates)
        self.down = Pipe(world, lambda data: to_node(self, data), delay, duplicates)

    def stall(self, *, up: bool, down: bool) -> None:
        """A partition, in one or both directions: nothing is lost yet."""
        self.up.stalled |= up
        self.down.stalled |= down

    def resume(self) -> None:
        """The partition is over."""
        self.up.resume()
        self.down.resume()

    def cut(self) -> None:
        """The connection breaks."""
        self.alive = False
        self.up.stalled = self.down.stalled = False
        self.up.cut()
        self.down.cut()
