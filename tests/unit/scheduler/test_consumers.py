"""Queues that workers take from, changed while they run."""

from zmqtasks import wire
from zmqtasks.ids import expand
from zmqtasks.states import READY


def queues(o):
    return {worker.name: worker.queues for worker in o.status().workers}


def test_a_worker_takes_from_one_more_queue_and_leaves_it_again(h):
    w, s, o = h.worker(slots=2, queues=["a"]), h.submitter(), h.operator()
    s.submit(3, queue="b")
    assert w.inbox == []
    assert o.control(wire.SetConsumer("b", take=True)) == wire.Controlled("", 1)
    assert w.inbox.pop(0) == wire.Consume(["b"], [])
    assert w.assigned() == [0, 1]
    w.send(wire.Consuming(["a", "b"]))
    assert queues(o) == {"w": ["a", "b"]}
    assert o.control(wire.SetConsumer("b", take=False, worker="w")) == wire.Controlled("", 1)
    assert w.inbox.pop(0) == wire.Consume([], ["b"])
    assert sorted(expand(w.expect(wire.Retract).numbers)) == [1, 2]  # what has not started goes back
    w.retracted(2, started=[1])
    w.send(wire.Consuming(["a"]))
    w.done(1)
    s.results()
    assert w.inbox == []
    assert [h.job(i).state for i in (1, 2)] == [READY, READY]
    assert any("no worker takes from queue 'b'" in reason for reason in o.job(1).reasons)
    s.submit(1, queue="a")
    assert w.assigned() == [3]
    s.results()


def test_only_workers_of_that_name_are_asked(h):
    first, second, o = h.worker("first", queues=["a"]), h.worker("second", queues=["a"]), h.operator()
    assert o.control(wire.SetConsumer("b", take=True, worker="second")) == wire.Controlled("", 1)
    assert (first.inbox, second.take(wire.Consume)) == ([], [wire.Consume(["b"], [])])
    assert queues(o) == {"first": ["a"], "second": ["a", "b"]}
    told = o.control(wire.SetConsumer("b", take=True, worker="secnd"))
    assert told == wire.Controlled("no worker is called 'secnd'; there is second", 0)
    assert o.control(wire.SetConsumer("", take=True)).error == "the name of a queue has 1 to 1,000 characters"
    first.disconnect()
    second.disconnect()
    assert o.control(wire.SetConsumer("b", take=True)) == wire.Controlled("there is no worker", 0)


def test_what_a_worker_was_asked_is_asked_again_after_its_hello_until_it_is_done(h):
    w, o = h.worker(queues=["a"]), h.operator()
    o.control(wire.SetConsumer("b", take=True))
    o.control(wire.SetConsumer("a", take=False))
    w.take(wire.Consume)  # and they were lost with the connection
    w.disconnect()
    w.connect()
    w.join(connection=2, queues=["a"])
    assert queues(o) == {"w": ["b"]}
    assert w.take(wire.Consume) == [wire.Consume(["b"], ["a"])]
    w.send(wire.Consuming(["b"]))
    w.disconnect()
    w.connect()
    w.join(connection=3, queues=["b"])
    assert (queues(o), w.inbox) == ({"w": ["b"]}, [])


def test_a_worker_may_be_left_without_a_queue(h):
    w, s, o = h.worker(queues=["a"]), h.submitter(), h.operator()
    o.control(wire.SetConsumer("a", take=False))
    w.take(wire.Consume)
    w.send(wire.Consuming([]))
    w.disconnect()
    w.connect()
    w.join(connection=2, queues=[])
    s.submit(1, queue="a")
    assert (queues(o), w.inbox) == ({"w": []}, [])
    o.control(wire.SetConsumer("a", take=True))
    w.take(wire.Consume)
    assert w.assigned() == [0]


def test_an_answer_to_what_was_asked_before_does_not_undo_what_was_asked_since(h):
    w, o = h.worker(queues=["a"]), h.operator()
    o.control(wire.SetConsumer("b", take=True))
    o.control(wire.SetConsumer("b", take=False))
    w.take(wire.Consume)
    w.send(wire.Consuming(["a", "b"]))
    assert queues(o) == {"w": ["a"]}
    w.send(wire.Consuming(["a"]))
    assert queues(o) == {"w": ["a"]}


def test_a_job_that_must_run_alone_goes_to_another_worker_when_its_own_leaves_the_queue(h):
    lost, s, o = h.worker("lost", queues=["a"]), h.submitter(), h.operator()
    s.submit(1, queue="a")
    s.submit(1, queue="b")
    assert lost.assigned() == [0]
    lost.send(lost.heartbeat(1))
    lost.silent = True
    lost.disconnect()
    h.pass_time(6.0)
    s.take(wire.Notice)
    first = h.worker("first", queues=["a", "b"], slots=1)
    assert first.assigned() == [0]
    first.retracted(1)
    assert first.assigned() == [0]  # it is its own again
    o.control(wire.SetConsumer("a", take=False, worker="first"))
    first.take(wire.Consume)
    first.take(wire.Retract)
    first.retracted(2)
    assert first.assigned() == [1]  # it is free for others
    second = h.worker("second", queues=["a"])
    assert second.assigned() == [0]
