"""Somebody at the command line, who asks at random moments."""

from collections import deque
from typing import Any

from tests.sim.laws import Broken
from tests.sim.nodes import Network, Node
from tests.sim.world import World
from zmqtasks import wire

STATES = ("ready", "running", "assigned", "delayed", "waiting", "succeeded")


class _Core:
    """An operator has no core: it says hello and asks."""

    def __init__(self) -> None:
        self.up = False

    def on_connected(self, now: Any, fx: Any) -> None:
        self.up = False
        fx.sends.append(wire.OperatorHello(wire.MAGIC, wire.PROTOCOL, "sim", "host", 3))

    def on_disconnected(self, now: Any, fx: Any) -> None:
        self.up = False

    def handle(self, message: Any, now: Any, fx: Any) -> None:
        if isinstance(message, wire.OperatorWelcome):
            self.up = True
        elif isinstance(message, wire.HelloAgain):
            self.on_connected(now, fx)
        elif isinstance(message, wire.Refused):
            raise Broken("operator", f"refused: {message.reason}")

    def ask(self, question: Any, fx: Any) -> None:
        if self.up:
            fx.sends.append(question)

    def tick(self, now: Any, fx: Any) -> None:
        pass

    def next_deadline(self) -> None:
        return None

    def check(self) -> None:
        pass


class _Effects:
    def __init__(self) -> None:
        self.sends: deque[Any] = deque()
        self.bulk: tuple[Any, ...] = ()
        self.open_bulk = self.close_bulk = False


class OperatorNode(Node):
    """One connection of the command line."""

    def __init__(self, world: World, network: Network, name: str) -> None:
        self.law = "operator"
        self.core = _Core()
        self.effects = _Effects
        self.decode = wire.decode_to_operator
        super().__init__(world, network, name)

    def ask(self, key: tuple[bytes, int]) -> None:
        """One of the questions, about a job where it needs one."""
        random = self.world.random
        states = random.sample(STATES, random.randint(0, 3))
        question = random.choice(
            (wire.AskStatus(), wire.AskJobs(states, "", random.choice((1, 100))), wire.AskJob(*key))
        )
        self.event(lambda fx: self.core.ask(question, fx))

    def change(self, message: Any) -> None:
        """Have something done."""
        self.event(lambda fx: self.core.ask(message, fx))

    def carry_out(self, fx: Any) -> None:
        self.send(fx)
