"""Queues whose dead are sifted out a few at a time."""

from random import Random

from zmqtasks.scheduler.core import fading
from zmqtasks.scheduler.core.fading import Fading


def test_the_living_come_out_in_order_whoever_dies_meanwhile():
    random = Random(1)
    dead: set[int] = set()
    queue: Fading[int] = Fading(lambda thing: thing not in dead)
    living, number = [], 0
    for _ in range(300):
        for _ in range(random.randrange(200)):
            queue.back.append(number)
            living.append(number)
            number += 1
        dying = set(random.sample(living, random.randrange(min(len(living), 190) + 1)))
        dead |= dying
        living = [thing for thing in living if thing not in dying]
        queue.tidy(2 * len(living) + 10)
        assert [thing for thing in reversed(queue) if thing not in dead] == living[::-1]
    out = [queue.popleft() for _ in range(len(queue))]
    assert [thing for thing in out if thing not in dead] == living


def test_a_sweep_takes_several_turns_and_ends():
    queue: Fading[int] = Fading(lambda thing: thing % 10 == 0)
    queue.back.extend(range(20 * fading._STEP))
    lengths = []
    while len(queue) > 2 * fading._STEP and len(lengths) < 100:
        queue.tidy(2 * fading._STEP)
        lengths.append(len(queue))
    assert len(lengths) > 15  # each turn looked at some only
    assert len(queue) == 2 * fading._STEP
    assert queue.head == 0
    assert queue.popleft() == 0
    assert queue.head == 10


def test_few_are_left_alone():
    queue: Fading[int] = Fading(lambda _: False)
    queue.back.extend(range(5))
    queue.tidy(5)
    assert len(queue) == 5
    queue.back.append(5)
    queue.tidy(5)
    assert len(queue) == 0
