"""What must not grow with the number of workers, jobs, queues and tasks; and the parts that see to it."""

import random
import sys

import pytest

from tests.helpers.scheduler_harness import Harness
from tests.unit.scheduler.test_dispatch import measured
from zmqtasks import wire
from zmqtasks.scheduler.core import firsts as firsts_module
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.firsts import Firsts
from zmqtasks.scheduler.core.flow import Flow


def steps(call):
    """Lines of Python that a call runs: what it costs, without a clock."""
    count = 0

    def trace(frame, event, arg):
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def turn_cost(h, *incoming):
    """Lines that a turn with these messages runs in the core."""
    fx, now = Effects(), h.now
    encoded = [(peer.route, wire.encode(message)) for peer, message in incoming]

    def run():
        for route, data in encoded:
            h.core.receive(route, data, now, fx)
        h.core.tick(now, fx)
        h.core.next_deadline(now)

    cost = steps(run)
    h._carry_out(fx)
    h.core.check()
    return cost


def crowd(h, count, **hello):
    """So many workers, of whom each takes from a queue of its own besides if `own` is given."""
    own = hello.pop("own", False)
    return [h.worker(f"w{i}", **hello, **({"queues": ["default", f"own{i}"]} if own else {})) for i in range(count)]


def costs_of(sizes, build):
    return [turn_cost(*build(Harness(), size)) for size in sizes]


# ------------------------------------------------------------------------------------------------------ turns


def one_done_among(h, count, **hello):
    """All workers hold a long job, more wait; one reports."""
    workers, s = crowd(h, count, **hello), h.submitter()
    for _ in range(0, 2 * count, 100):
        h.turn((s, s.message(100)))
    return h, (workers[count // 2], wire.Done([wire.Run(1, [b""], 0.5, 0.5)], []))


def one_submit_among(h, count, **hello):
    """All workers hold short jobs and have room for more; few come."""
    measured(h, took=0.001)
    workers, s = crowd(h, count, **hello), h.submitter()
    for _ in range(0, 4 * count, 20):
        h.turn((s, s.message(20)))
    assert all(1 < len(w.held) < 10 for w in workers)
    return h, (s, s.message(5))


def one_done_without_room_for_a_short_job(h, count, **hello):
    """All workers have some room, but less than one of the jobs that wait takes."""
    measured(h, took=0.0007)
    workers, s = crowd(h, count, **hello), h.submitter()
    for _ in range(0, 20 * count, 200):
        h.turn((s, s.message(200)))
    assert h.core.state.moves.counts[0:3]
    return h, (workers[0], wire.Done([wire.Run(1, [b""] * 5, 0.0035, 0.0007)], []))


@pytest.mark.parametrize("build", [one_done_among, one_submit_among, one_done_without_room_for_a_short_job])
@pytest.mark.parametrize("own", [False, True])
def test_a_turn_costs_the_same_among_few_and_many_workers(build, own):
    few, many = costs_of((10, 100), lambda h, count: build(h, count, own=own))
    assert many <= 1.1 * few + 20


def test_a_turn_without_anything_due_costs_the_same_among_few_and_many_workers():
    few, many = costs_of((10, 100), lambda h, count: (one_done_among(h, count)[0],))
    assert many <= few


def test_acknowledgements_that_wait_are_not_looked_at_one_by_one():
    def build(h, count):
        workers, s = crowd(h, count), h.submitter()
        h.turn(*((s, s.message(count)) for _ in range(2)))
        h.turn(*((w, wire.Done([wire.Run(1, [b""], 0.5, 0.5)], [])) for w in workers[1:]))
        return h, (workers[0], wire.Done([wire.Run(1, [b""], 0.5, 0.5)], []))

    few, many = (turn_cost(*build(Harness(ack_delay=0.02), count)) for count in (10, 100))
    assert many <= 1.1 * few + 20


def test_the_task_whose_turn_it_is_is_found_without_looking_at_all():
    def build(h, count):
        tasks = [f"task{i}" for i in range(count)]
        w, s = h.worker(tasks=tasks), h.submitter()
        h.turn(*((s, s.message(2, task=task)) for task in tasks))
        return h, (w, wire.Done([wire.Run(1, [b""], 0.5, 0.5)], []))

    few, many = costs_of((10, 300), build)
    assert many <= 1.1 * few + 30


def test_solo_jobs_do_not_look_at_every_worker():
    def build(h, count):
        s, dead = h.submitter(), h.worker("dead", queues=["x"])
        s.submit(1, queue="x")
        assert len(dead.assigned()) == 1
        h.mono += 3.0
        others = crowd(h, count, queues=["x", "y"])
        for _ in range(0, count, 10):
            h.turn((s, s.message(10, queue="y")))
        h.mono += 1.5  # the lease of `dead` is over, and only that
        return h, (others[0], others[0].heartbeat())

    few, many = costs_of((10, 100), build)
    assert many <= few + 10


# ------------------------------------------------------------------------------------------------------ decisions


def test_workers_with_queues_of_their_own_share_what_is_in_the_common_one(h):
    """Each is a team of its own, yet nobody is given in advance what another has a free slot for."""
    measured(h, took=0.0001)
    workers, s = crowd(h, 4, own=True), h.submitter()
    h.turn((s, s.message(40)))
    s.expect(wire.Accepted)
    counts = [len(w.assigned()) for w in workers]
    assert sum(counts) == 40
    assert max(counts) - min(counts) <= 2


def test_balance_between_workers_with_different_queues(h):
    measured(h, took=0.0001)
    a, s = h.worker("a", queues=["default", "a"]), h.submitter()
    s.submit(15)
    s.submit(5, queue="a")
    assert len(a.assigned()) == 20
    h.worker("b", queues=["default", "b"])
    h.jump(0.006)
    (asked,) = a.take(wire.Retract)
    counters = {a.held[number].counter for first, count in asked.numbers for number in range(first, first + count)}
    assert counters
    assert counters <= set(range(15))  # those of its own queue are of no use to the other


def test_a_worker_that_has_any_room_gets_a_short_job(h):
    measured(h, took=0.006)
    w, s = h.worker(), h.submitter()
    s.submit(5)
    assert len(w.assigned()) == 2  # one runs; the other begins at once when that ends


def test_what_is_given_in_advance_goes_out_in_few_messages(h):
    measured(h, took=0.001)
    workers, s = crowd(h, 40), h.submitter()
    for _ in range(4):
        s.submit(40)
    for w in workers:
        w.take(wire.Assign)
    done = workers[7].numbers()
    h.turn(
        (workers[7], wire.Done([wire.Run(n, [b""], 0.001, 0.001) for n in done], [])),
        (s, s.message(30)),
    )
    s.results()
    s.take(wire.Accepted)
    workers[7].take(wire.DoneAck)
    told = [w for w in workers if w.take(wire.Assign)]
    assert workers[7] in told  # it has the least to do
    assert len(told) <= 10


def test_a_new_worker_of_the_same_kind_serves_the_lines_of_each_of_its_queues(h):
    s = h.submitter()
    h.turn((s, s.message(1, queue="x")), (s, s.message(1, queue="y")))
    s.expect(wire.Accepted)
    assert sorted(h.worker("a", slots=2, queues=["x", "y"]).assigned()) == [0, 1]


# ------------------------------------------------------------------------------------------------------ parts


class FakeLine:
    def __init__(self, *orders):
        self.orders = list(orders)

    @property
    def order(self):
        return self.orders[0]


def test_the_line_with_the_oldest_job_comes_first():
    flow, one, two = Flow(), FakeLine(3, 9), FakeLine(5)
    flow.put(two)
    flow.put(one)
    assert flow.first() is one
    one.orders.pop(0)  # now its first job is the one of 9
    assert flow.first() is two
    one.orders.insert(0, 1)
    flow.put(one)  # a job came back in front
    assert flow.first() is one
    flow.remove(one)
    assert one not in flow
    assert flow.first() is two
    assert len(flow) == 1


def test_a_flow_that_nobody_takes_from_does_not_grow():
    flow, line, other = Flow(), FakeLine(1), FakeLine(2)
    flow.put(other)
    for order in range(3, 10_000):
        line.orders = [order]
        flow.put(line)
        flow.remove(line)
    assert len(flow._heap) < 100
    assert flow.first() is other


def test_any_history_of_a_flow():
    chance = random.Random(1)
    flow, lines = Flow(), [FakeLine(0) for _ in range(8)]
    present = set()
    for order in range(1, 3_000):
        line = chance.choice(lines)
        if line not in present:
            line.orders = [order]
            flow.put(line)
            present.add(line)
        elif chance.random() < 0.5:
            flow.remove(line)
            present.remove(line)
        elif chance.random() < 0.5:
            line.orders = [order]  # its first jobs were taken
        else:
            line.orders = [line.order - 1]
            flow.put(line)
        if present:
            assert flow.first().order == min(other.order for other in present)
        assert len(flow) == len(present)


@pytest.mark.parametrize("most", [2, 5, 1_000])
def test_any_history_of_firsts(monkeypatch, most):
    monkeypatch.setattr(firsts_module, "_MOST", most)
    chance = random.Random(most)
    firsts, model = Firsts(), set()
    for _ in range(2_000):
        number = chance.randrange(200)
        if number not in model:
            firsts.add(number)
            model.add(number)
        elif chance.random() < 0.6:
            firsts.remove(number)
            model.remove(number)
        probe = chance.randrange(-5, 210)
        assert firsts.upto(probe) == max((n for n in model if n <= probe), default=None)
        assert list(firsts) == sorted(model)
        assert all(0 < len(block) <= most for block in firsts._blocks)
