"""A worker that is stopped while no scheduler is there does not wait for it for ever."""

from tests.unit.worker.harness import Worker, run
from zmqtasks.wire import Draining, Goodbye
from zmqtasks.worker.core import ALONE


def test_a_draining_worker_keeps_outcomes_only_so_long_for_nobody():
    worker = Worker().up()
    worker.assign(1)
    (claim,) = worker.numbers()
    assert claim == [1]
    worker.disconnect()
    worker.report(1, [run(1, 1)])
    worker.drain()
    assert not worker.core.drained
    worker.turn(ALONE - 0.1)
    assert not worker.core.drained
    worker.turn(0.2)
    assert worker.core.drained


def test_nothing_follows_the_goodbye():
    worker = Worker().up()
    worker.now += 1.0  # a heartbeat is due
    worker.drain()
    assert [type(message) for message in worker.all_sent()] == [Draining, Goodbye]
    assert worker.look
    worker.running((0, 0))
    assert worker.all_sent() == []
