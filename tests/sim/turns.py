"""Histories of one scheduler's core that tell who has the next turn: `run(seed)` raises an AssertionError of a law.

The histories of `history.py` have faults and few jobs that compete; here all work, and more waits than can run.

Laws: *urgent*: no job is given out while a more urgent one waits that could be. *idle*: no slot is free while a job
waits. *share*: queues get slots by their weights, also after one was empty. *turn*: a submitter with few jobs does not
wait for one with many. *way*: as many as are less urgent and have not started make way, no others, each asked once.
"""

from collections import Counter
from random import Random
from typing import Final

from tests.helpers.scheduler_harness import Harness, SubmitterPeer, WorkerPeer
from zmqtasks import wire
from zmqtasks.ids import expand

_SLACK: Final = 3  # turns by which a share may be off
_FEW: Final = 10  # jobs of the submitter that has few


def run(seed: int) -> None:
    """One history."""
    random = Random(seed)
    (_urgent, _shares, _makes_way)[seed % 3](random, Harness())


def _taken(worker: WorkerPeer) -> list[tuple[bytes, int]]:
    """The jobs that it was given since somebody looked."""
    messages = worker.take(wire.Assign)
    return [(work.prefix, counter) for message in messages for work in message.works for counter in work.counters]


def _measured(h: Harness, took: float) -> None:
    """The run time of the task is known."""
    worker, submitter = h.worker("measuring"), h.submitter("measuring")
    submitter.submit()
    worker.done(took=took)
    worker.send(wire.Goodbye())


def _urgent(random: Random, h: Harness) -> None:
    queues = ["a", "b"]
    workers = [h.worker(f"w{i}", slots=random.randint(1, 2), queues=queues) for i in range(random.randint(1, 3))]
    submitters = [h.submitter(f"s{i}") for i in range(2)]
    waiting: dict[tuple[bytes, int], int] = {}
    for _ in range(80):
        busy = [worker for worker in workers if worker.held]
        if busy and random.random() < 0.6:
            h.pass_time(0.5)
            worker = random.choice(busy)
            worker.done(random.choice(worker.numbers()), took=0.5)
        else:
            submitter, priority, count = random.choice(submitters), random.choice((0, 0, 1, 5, 9)), random.randint(1, 4)
            first = submitter.next
            waiting |= dict.fromkeys(((submitter.prefix, first + i) for i in range(count)), priority)
            submitter.send(submitter.message(count, priority=priority, queue=random.choice(queues)))
        given = [waiting.pop(job) for worker in workers for job in _taken(worker)]
        most = max(waiting.values(), default=0)
        assert not given or min(given) >= most, f"urgent: priority {min(given)} was given out, and {most} waits"
        free = any(len(worker.held) < worker.options["slots"] for worker in workers)
        assert not (waiting and free), f"idle: {len(waiting)} jobs wait, and a slot is free"


def _shares(random: Random, h: Harness) -> None:
    _measured(h, 1.0)
    weights = {"a": float(random.choice((1, 2, 3))), "b": float(random.choice((1, 2, 5)))}
    for queue, weight in weights.items():
        h.operator().control(wire.SetQueue(queue, weight=weight))
    worker = h.worker("w", slots=random.randint(1, 2), queues=list(weights))
    many, few = h.submitter("many"), h.submitter("few")
    many.send(many.message(400, queue="a"))
    few.send(few.message(_FEW, queue="a"))
    order = _run(h, worker, 60)
    places = [place for place, (prefix, _) in enumerate(order) if prefix == few.prefix]
    assert len(places) == _FEW, f"turn: {len(places)} of {_FEW} jobs ran, while 60 of two submitters did"
    last = places[-1]
    assert last <= 2 * _FEW + _SLACK, f"turn: the last of {_FEW} jobs of one submitter was number {last} of two"
    late = many.next
    many.send(many.message(400, queue="b"))  # that was empty: what it did not use is nobody's
    counts = Counter("b" if counter >= late else "a" for _, counter in _run(h, worker, 60))
    wanted = 60 * weights["b"] / sum(weights.values())
    assert abs(counts["b"] - wanted) <= _SLACK, f"share: {counts['b']} of 60 jobs, by weight {wanted:.1f}: {weights}"


def _run(h: Harness, worker: WorkerPeer, jobs: int) -> list[tuple[bytes, int]]:
    """Let so many jobs end, one after the other; returns those that were given out instead."""
    _taken(worker)
    order = []
    for _ in range(jobs):
        h.mono += 1.0
        worker.done(min(worker.held), took=1.0)
        order += _taken(worker)
    return order


def _makes_way(random: Random, h: Harness) -> None:
    _measured(h, 0.001)
    slots = random.randint(1, 2)
    worker, submitter = h.worker(slots=slots, credit=1_000), h.submitter()
    submitter.send(submitter.message(200, priority=3))
    _taken(worker)
    submitter.send(submitter.message(5, priority=3))
    assert not worker.take(wire.Retract), "way: what is as urgent was asked back"
    urgent = random.randint(1, 5)
    first = submitter.next
    _send(submitter, urgent, random.choice((4, 9)))
    h.turn()
    asked = [number for message in worker.take(wire.Retract) for number in expand(message.numbers)]
    assert len(asked) == len(set(asked)), f"way: {asked} were asked back twice"
    assert len(asked) == min(urgent, len(worker.held) - slots), f"way: {len(asked)} make way for {urgent}"
    worker.retracted(*asked)
    given = _taken(worker)
    assert {counter for _, counter in given} >= set(range(first, first + urgent)), f"way: {given} came instead"


def _send(submitter: SubmitterPeer, count: int, priority: int) -> None:
    submitter.send(submitter.message(count, priority=priority))
