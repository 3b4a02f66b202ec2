"""What is large goes over the bulk connection and holds up nothing else."""

from tests.helpers.scheduler_harness import WorkerPeer
from zmqtasks import wire
from zmqtasks.config import MAX_BYTES_PER_MESSAGE
from zmqtasks.payload import function_digest

LARGE = b"x" * (MAX_BYTES_PER_MESSAGE + 1)


def test_a_large_argument_is_announced_and_follows(h):
    w, s = h.worker(slots=3), h.submitter()
    s.submit(3, args=[b"a", LARGE, b"c"])
    works = [work for assign in w.take(wire.Assign) for work in assign.works]
    assert [work.args[place] for work in works for place in work.late] == [b""]
    assert w.by_bulk == [wire.Argument(2, LARGE)]


def test_a_large_function_follows_its_announcement_once(h):
    w, s = h.worker(slots=2), h.submitter()
    function = wire.Function(function_digest(LARGE), "f", LARGE)
    s.submit(1, task="f", function=function.digest, functions=[function], python="3.11")
    s.submit(1, task="f", function=function.digest, python="3.11")
    first, second = w.take(wire.Assign)
    assert first.functions == [wire.Function(function.digest, "f", b"")]
    assert second.functions == []
    assert w.by_bulk == [wire.Code(function.digest, LARGE)]


def test_small_results_pass_large_ones_and_each_lane_has_its_own_numbers(make):
    h = make(large_window_bytes=1)
    w, s = h.worker(slots=9), h.submitter()
    s.submit(4)
    w.assigned()
    w.done(1, 2, 3, 4, results=[LARGE, b"1", LARGE, b"3"])
    small, large = s.take(wire.Results)
    assert (small.delivery, small.bulk, small.counters) == (1, False, [1, 3])
    assert (large.delivery, large.bulk, large.counters) == (1, True, [0])
    assert s.by_bulk == [large]
    s.send(wire.ResultAck(1))
    s.expect()
    s.send(wire.ResultAck(1, bulk=True))
    (last,) = s.take(wire.Results)
    assert (last.delivery, last.bulk, last.counters) == (2, True, [2])
    s.send(wire.ResultAck(2, bulk=True))


def test_a_bulk_connection_is_bound_to_its_session_and_breaks_with_it(h):
    w = h.worker()
    bulk = WorkerPeer(h, "bulk")
    bulk.send(wire.BulkHello(wire.MAGIC, 1, "0.1.0", w.nonce, 1))
    assert h.fx.bulks == [(w.route, bulk.route)]
    h.turn(gone=[bulk.route])
    assert set(h.fx.forget) == {w.route, bulk.route}
    assert h.core.state.workers[w.nonce].route is None


def test_a_bulk_connection_of_nobody_or_of_an_older_connection_is_not_bound(h):
    w = h.worker(connection=2)
    bulk = WorkerPeer(h, "bulk")
    for key, connection in ((b"nobody", 2), (w.nonce, 1)):
        bulk.send(wire.BulkHello(wire.MAGIC, 1, "0.1.0", key, connection))
        assert h.fx.bulks == []
        bulk.expect(wire.HelloAgain)
    assert h.counters["late_hellos"] == 2


def test_a_second_bulk_connection_does_not_displace_the_first(h):
    """What is under way on the first would be lost unnoticed."""
    w = h.worker()
    first, second = WorkerPeer(h, "first"), WorkerPeer(h, "second")
    hello = wire.BulkHello(wire.MAGIC, 1, "0.1.0", w.nonce, 1)
    first.send(hello)
    second.send(hello)
    second.expect(wire.HelloAgain)
    assert h.core.state.workers[w.nonce].bulk == first.route


def test_a_new_hello_ends_the_bulk_connection(h):
    s = h.submitter()
    bulk = WorkerPeer(h, "bulk")
    bulk.send(wire.BulkHello(wire.MAGIC, 1, "0.1.0", s.prefix, 1))
    old = s.route
    s.connect()
    s.join(connection=2)
    assert set(h.fx.forget) == {old, bulk.route}


def test_what_waits_for_a_session_that_must_begin_anew_is_void(h):
    s = h.submitter()
    s.send(s.message(1, task="f", function=b"nobody brought it"))
    s.expect(wire.HelloAgain)
    assert h.fx.reset == [s.route]


def test_a_late_argument_is_wanted_as_long_as_its_job_is_held(h):
    w, s = h.worker(), h.submitter()
    s.submit(1, args=[LARGE])
    w.take(wire.Assign)
    (argument,) = w.by_bulk
    assert h.core.wants(w.route, argument)
    s.send(wire.Cancel(1, s.prefix, [(0, 1)], force=False))
    w.take(wire.Retract)
    w.retracted(1)
    s.take(wire.CancelAck)
    s.results()
    assert not h.core.wants(w.route, argument)
    assert h.core.wants(w.route, wire.Code(b"d", b"code"))


def test_progress_reaches_the_owner_and_watchers_and_ends_with_the_job(h):
    w, s, other = h.worker(slots=2), h.submitter(), h.submitter("o")
    s.submit(2)
    w.assigned()
    other.send(wire.Ask(s.prefix, [(0, 1)]))
    w.send(wire.Progress([1, 2, 9], [b"one", b"two", b"nine"]))
    assert s.expect(wire.Progressed) == wire.Progressed(s.prefix, [0, 1], [b"one", b"two"])
    assert other.expect(wire.Progressed) == wire.Progressed(s.prefix, [0], [b"one"])
    w.send(wire.Progress([1], [b"x" * 5000]))
    assert h.counters["stale_progress"] == 2
    w.done(1)
    assert s.results().keys() == other.results().keys() == {0}
    assert [job.counter for job in h.core.state.progress] == [1]
    w.retracted(2)
    assert not h.core.state.progress
    w.take(wire.Assign)
