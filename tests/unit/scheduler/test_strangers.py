"""What peers may not do: long names, endless wishes, more functions than there is room for."""

import pytest

from zmqtasks import wire
from zmqtasks.config import MAX_ASKED, MAX_NAME, MAX_NAMES
from zmqtasks.payload import function_digest
from zmqtasks.scheduler.core.submitters import MAX_CANCELS


def function(number, size):
    blob = number.to_bytes(4, "big") + bytes(size - 4)
    return wire.Function(function_digest(blob), f"module.f{number}", blob)


@pytest.mark.parametrize(
    "changes",
    [{"name": "x" * (MAX_NAME + 1)}, {"host": "x" * (MAX_NAME + 1)}, {"queues": ["q"] * (MAX_NAMES + 1)},
     {"tasks": ["x" * (MAX_NAME + 1)]}, {"nonce": b"short"}, {"nonce": bytes(1_000)}],
)  # fmt: skip
def test_a_worker_that_cannot_be_is_refused(h, changes):
    w = h.worker()
    other = type(w)(h, "other")
    other.send(w.hello(**{"nonce": b"o" * 16, **changes}))
    assert other.expect(wire.Refused).code == "hello"
    assert len(h.core.state.workers) == 1
    assert h.counters["refused_hellos"] == 1


def test_the_answer_to_a_hello_of_another_version_is_short_whatever_that_calls_itself(h):
    s = h.submitter()
    other = type(s)(h, "other")
    other.send(s.hello(protocol=2, release="9" * 1_000_000))
    assert len(other.expect(wire.Refused).reason) < 500


@pytest.mark.parametrize(
    "changes", [{"task": "t" * (MAX_NAME + 1)}, {"codec": "c" * (MAX_NAME + 1)}, {"queue": "q" * (MAX_NAME + 1)}]
)
def test_a_submit_with_long_names_is_rejected_as_malformed(h, changes):
    s = h.submitter()
    s.send(s.message(**changes))
    assert s.expect(wire.Rejected).code == "PeerError"
    assert not h.core.state.targets


def test_who_asks_again_and_again_and_never_reads_makes_nothing_grow(make):
    h = make(results_window=1)
    w, s = h.worker(credit=600), h.submitter()
    for _ in range(2):
        s.submit(500)
    while w.held:
        w.done()
        w.assigned()
    assert s.results(ack=False)
    counters = [(0, 1_000)]
    for _ in range(MAX_ASKED // 1_000 + 20):
        s.send(wire.Ask(s.prefix, counters))
    outbox = len(s.h.core.state.submitters[s.prefix].small.outbox)
    assert outbox <= MAX_ASKED + 2 * 1_000 + 1_000
    assert h.counters["malformed_messages"] > 0
    s.connect()
    s.join()
    assert len(h.core.state.submitters[s.prefix].small.outbox) == 0


def test_cancels_that_wait_for_one_job_are_bounded(h):
    w, s, t = h.worker(), h.submitter("s"), h.submitter("t")
    s.submit()
    w.assigned()
    t.send(wire.Cancel(1, s.prefix, [(0, 1)], force=False))
    for request in range(1, MAX_CANCELS + 3):
        s.send(wire.Cancel(request, s.prefix, [(0, 1)], force=False))
    refused = [wire.CancelAck(request, [], [(0, 1)], []) for request in (1, 2)]
    assert s.take(wire.CancelAck) == refused
    assert sum(map(len, h.core.state.cancels.values())) == MAX_CANCELS + 1
    w.take(wire.Retract)
    w.retracted(1)
    assert [ack.cancelled for ack in s.take(wire.CancelAck)] == [[(0, 1)]] * MAX_CANCELS
    assert [ack.request for ack in t.take(wire.CancelAck)] == [1]
    s.results()


def test_functions_that_no_job_needs_go_when_their_bytes_are_too_many(make):
    h = make(max_function_bytes=10_000, result_ttl=1.0, tombstone_ttl=1.0)
    w, s = h.worker(), h.submitter()
    forgotten = []
    for number in range(30):
        shipped = function(number, 1_000)
        s.submit(python="3.11", function=shipped.digest, functions=[shipped])
        forgotten += w.take(wire.Forget)
        w.assigned()
        w.done()
        s.results()
        h.jump(1.1)
        w.send(w.heartbeat())
    assert len(forgotten) >= 20
    assert h.core.state.function_bytes <= 10_000
    assert len(h.core.state.targets) <= 10


def test_functions_of_unfinished_jobs_count_as_held_and_end_in_queue_full(make):
    h = make(max_bytes=10_000)
    s = h.submitter()
    for number in range(30):
        shipped = function(number, 1_000)
        s.send(s.message(python="3.11", function=shipped.digest, functions=[shipped]))
    assert {message.code for message in s.take(wire.Rejected)} == {"QueueFull"}
    s.take(wire.Accepted)
    assert h.core.state.function_bytes <= 11_000


def test_a_function_over_the_limit_is_refused_by_name_and_size(make):
    h = make(max_payload=5_000)
    s = h.submitter()
    shipped = function(1, 5_001)
    s.send(s.message(function=shipped.digest, functions=[shipped]))
    rejected = s.expect(wire.Rejected)
    assert (rejected.code, rejected.reason) == (
        "PayloadTooLarge", "function module.f1 has 5,001 bytes; the limit is 5,000",
    )  # fmt: skip
    assert not h.core.state.targets
