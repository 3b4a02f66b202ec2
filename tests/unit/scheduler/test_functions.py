"""Shipped functions: once per connection, and forgotten when there are too many."""

from zmqtasks import wire
from zmqtasks.payload import function_digest


def function(name: str) -> wire.Function:
    blob = f"code of {name}".encode()
    return wire.Function(function_digest(blob), f"mod.{name}", blob)


def shipped(s, fn, count=1, *, bring=True, **more):
    bringing = [fn] if bring else []
    return s.message(count, task=fn.name, function=fn.digest, functions=bringing, python="3.11", **more)


def test_a_function_travels_once_per_connection(h):
    w, s, fn = h.worker(), h.submitter(), function("f")
    h.turn((s, shipped(s, fn, 2)), (s, shipped(s, fn, bring=False)))
    s.expect(wire.Accepted)
    assert w.expect(wire.Assign).functions == [fn]
    w.done(took=0.5)
    assert w.expect(wire.Assign).functions == []
    s.results()
    w.connect()
    w.join()
    w.done(took=0.5)
    again = w.expect(wire.Assign)
    assert (again.functions, again.works[0].function, again.works[0].task) == ([fn], fn.digest, "mod.f")
    s.results()


def test_each_worker_gets_it(h):
    a, b, s, fn = h.worker("a"), h.worker("b"), h.submitter(), function("f")
    s.send(shipped(s, fn, 2))
    s.expect(wire.Accepted)
    assert [w.expect(wire.Assign).functions for w in (a, b)] == [[fn], [fn]]


def test_a_submit_that_names_a_function_nobody_brought_asks_for_a_new_hello(h):
    s, fn = h.submitter(), function("f")
    s.send(shipped(s, fn, bring=False))
    s.expect(wire.HelloAgain())
    assert h.core.state.sources == {}
    s.send(shipped(s, fn, bring=False, first=0))  # sent before the first answer came
    s.expect(wire.HelloAgain())
    s.send(s.hello())
    s.send(shipped(s, fn, first=0))
    s.expect(wire.SubmitterWelcome, wire.Accepted)


def test_the_session_goes_on_after_such_a_hello(h):
    w, s, fn = h.worker(), h.submitter(), function("f")
    s.submit()
    w.assigned()
    w.done()
    s.send(shipped(s, fn, bring=False))
    s.expect(wire.Results, wire.HelloAgain())
    s.send(s.hello())
    s.expect(wire.SubmitterWelcome)
    s.send(wire.Ask(s.prefix, [(0, 1)]))
    s.expect(wire.Results)


def test_functions_without_jobs_are_forgotten_the_oldest_first(make):
    h = make(max_functions=1, tombstone_ttl=0.0)
    w, s = h.worker(), h.submitter()
    one, two, three = function("one"), function("two"), function("three")
    for fn in (one, two, three):
        s.send(shipped(s, fn, result_ttl=0.0))
        s.expect(wire.Accepted)
        w.expect(wire.Assign)
        w.done()
        s.results()
    h.pass_time(1)
    h.turn()
    w.expect(wire.Forget([one.digest, two.digest]))
    assert set(h.core.state.targets) == {three.digest}
    s.send(shipped(s, one, bring=False))
    s.expect(wire.HelloAgain())


def test_names_of_tasks_are_forgotten_too(make):
    h = make(max_functions=3, tombstone_ttl=0.0)
    s = h.submitter()
    for i in range(50):
        s.submit(task=f"task {i}", result_ttl=0.0)
        s.send(wire.Cancel(i, s.prefix, [(i, 1)], force=False))
        s.take(wire.CancelAck)
        s.results()
    h.pass_time(1)
    h.turn()
    assert len(h.core.state.targets) == 3


def test_a_function_in_use_is_never_forgotten(make):
    h = make(max_functions=0)
    s, fn = h.submitter(), function("f")
    s.send(shipped(s, fn))
    s.expect(wire.Accepted)
    h.pass_time(10)
    assert h.worker().expect(wire.Assign).functions == [fn]
    s.take(wire.Notice)
