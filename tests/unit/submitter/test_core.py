from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.submitter_harness import CALL, FUNCTION, OTHER, PREFIX, Harness, arg
from zmqtasks import payload, wire
from zmqtasks.clock import Now
from zmqtasks.errors import PeerError
from zmqtasks.states import ABORTED, CANCELLED, FAILED
from zmqtasks.submitter.effects import Effects
from zmqtasks.submitter.ledger import Call


@pytest.fixture
def h() -> Iterator[Harness]:
    harness = Harness()
    harness.welcome()
    yield harness
    harness.finish()


def ack(delivery: int) -> wire.ResultAck:
    return wire.ResultAck(delivery)


# ------------------------------------------------------------------------------------------------ the hello


def test_nothing_but_the_hello_is_sent_before_the_welcome() -> None:
    h = Harness()
    h.submit(2)
    assert h.sent() == []
    h.connect()
    assert [type(m) for m in h.sent()] == [wire.SubmitterHello]
    h.submit(1)
    h.cancel((7, 1))
    assert h.sent() == []
    h.hear(wire.SubmitterWelcome(1, "0.1.0", False, 1000))
    assert h.sent() == [wire.Cancel(1, PREFIX, [(7, 1)], False), h.a_submit(0, 3)]


def test_hello_again_is_answered_once(h: Harness) -> None:
    h.submit()
    assert h.sent() == [h.a_submit(0, 1)]
    h.hear(wire.HelloAgain(), wire.HelloAgain())
    assert [type(m) for m in h.sent()] == [wire.SubmitterHello]
    h.hear(wire.HelloAgain())
    assert h.sent() == []
    h.hear(wire.SubmitterWelcome(2, "0.1.0", False, 1000))
    assert h.sent() == [h.a_submit(0, 1)]


def test_a_refusal_ends_every_job_and_those_that_come_later() -> None:
    h = Harness()
    h.submit(2)
    h.connect()
    h.sent()
    h.hear(wire.Refused("protocol", "the scheduler speaks 9, this side 1", 9, "2.0"))
    assert h.refused == ("protocol", "the scheduler speaks 9, this side 1")
    h.submit(1)
    for handle in range(3):
        assert h.ended[handle].cause == "refused"
        assert payload.read_failure(h.ended[handle].payload).type_name == "ProtocolMismatch"
    h.cancel((0, 3))
    assert h.answers[0].unknown or h.answers[0].refused
    assert h.core.open == 0
    h.connect()
    h.finish()


# ------------------------------------------------------------------------------------------------ submitting


def test_what_waits_together_travels_together_and_a_lone_job_at_once(h: Harness) -> None:
    h.submit()
    assert h.sent() == [h.a_submit(0, 1)]
    made = [h.submission(1), h.submission(2)]

    def both(now: Now, fx: Effects) -> None:
        for one in made:
            h.core.submit(one, now, fx)

    h.turn(both)
    assert h.sent() == [h.a_submit(1, 3)]


def test_other_calls_and_batches_travel_apart(h: Harness) -> None:
    other = Call("task", None, "json", wire.Spec())
    alike = Call("task", None, "msgpack", wire.Spec())
    made = [h.submission(1), h.submission(1, alike), h.submission(1, other), h.submission(2, batch=3)]

    def all_of_them(now: Now, fx: Effects) -> None:
        for one in made:
            h.core.submit(one, now, fx)

    h.turn(all_of_them)
    assert h.sent() == [h.a_submit(0, 2), h.a_submit(2, 1, codec="json"), h.a_submit(3, 2, batch=3)]


def test_messages_hold_500_jobs_and_64_kib_unless_one_payload_is_larger(h: Harness) -> None:
    h.submit(1201, batch=0)
    assert [(m.first, len(m.args), m.batch) for m in h.sent()] == [(0, 500, 0), (500, 500, 0), (1000, 201, 0)]
    sizes = [40_000, 30_000, 200_000, 10, 10]
    h.submit(5, args=[bytes(size) for size in sizes])
    assert [(m.first, len(m.args)) for m in h.sent()] == [(1201, 1), (1202, 1), (1204, 2), (1203, 1)]
    assert [m.first for m in h.by_bulk] == [1203]


def test_the_window_holds_back_what_is_too_much() -> None:
    h = Harness(unaccepted=1000)
    h.welcome()
    h.submit(2500, batch=0)
    assert [m.first for m in h.sent()] == [0, 500]
    assert h.core.unaccepted == 1000
    assert h.core.pending[0] == 2500
    assert h.core.next_deadline() is None
    h.accept((0, 500))
    assert [m.first for m in h.sent()] == [1000]
    h.accept((500, 1000))
    assert [m.first for m in h.sent()] == [1500, 2000]
    assert h.accepted == [(PREFIX, (0, 500)), (PREFIX, (500, 500)), (PREFIX, (1000, 500))]


def test_the_window_counts_bytes_and_lets_a_larger_payload_go_alone() -> None:
    h = Harness(unaccepted_bytes=100_000)
    h.welcome()
    h.submit(4, args=[bytes(300_000), bytes(60_000), bytes(60_000), bytes(60_000)])
    assert [m.first for m in h.sent()] == [0]
    h.accept((0, 1))
    assert [m.first for m in h.sent()] == [1, 2]


def test_a_function_travels_once_per_connection(h: Harness) -> None:
    shipped = Call("module.fn", FUNCTION, "cloudpickle", wire.Spec(python="3.11"))
    h.submit(1, shipped)
    h.submit(1, shipped)
    first, second = h.sent()
    assert first.functions == [FUNCTION]
    assert first.function == second.function == FUNCTION.digest
    assert second.functions == []
    h.lose()
    h.welcome()
    assert [m.functions for m in h.sent()] == [[FUNCTION], []]


# ------------------------------------------------------------------------------------------------ results


def test_results_in_any_order_end_their_jobs_once(h: Harness) -> None:
    h.submit(3)
    h.submit(2)
    h.sent()
    h.accept((0, 5))
    h.results(1, 4, 0, 2)
    assert h.sent() == [ack(1)]
    h.results(2, 2, 1, 99, 3)
    assert h.sent() == [ack(2)]
    assert h.values == {i: b"value %d" % i for i in range(5)}
    assert h.core.open == 0
    assert h.core.stale == 2


def test_deliveries_are_acknowledged_once_per_turn(h: Harness) -> None:
    h.submit(3)
    h.sent()
    h.accept((0, 3))
    h.hear(*(wire.Results(n, PREFIX, "msgpack", [n - 1], [b"v"], []) for n in (1, 2, 3)))
    assert h.sent() == [ack(3)]
    assert h.core.next_deadline() is None


def test_a_new_connection_counts_deliveries_anew(h: Harness) -> None:
    h.submit(2)
    h.sent()
    h.accept((0, 2))
    h.results(7, 0)
    assert h.sent() == [ack(7)]
    h.lose()
    h.welcome()
    assert h.sent() == [wire.Ask(PREFIX, [(1, 1)])]
    h.results(1, 0, 1)
    assert h.sent() == [ack(1)]
    assert h.core.stale == 1


def test_a_result_implies_acceptance(h: Harness) -> None:
    h.submit(2)
    h.sent()
    h.results(1, 0)
    assert h.accepted == [(PREFIX, (0, 2))]
    assert h.core.unaccepted == 0
    h.failure(2, 1)
    assert h.ended[1].state == FAILED
    assert h.ended[1].cause == "result"
    h.sent()


def test_a_message_that_contradicts_itself_changes_nothing(h: Harness) -> None:
    h.submit(2)
    h.sent()
    for broken in (
        wire.Results(1, PREFIX, "msgpack", [0, 1], [b"only one"], []),
        wire.Results(1, PREFIX, "msgpack", [], [], [wire.JobEnd(0, 2, b"")]),
    ):
        with pytest.raises(PeerError):
            h.hear(broken)
    assert h.core.open == 2
    assert h.values == {}


# ------------------------------------------------------------------------------------------------ reconnecting


def test_after_a_break_unaccepted_jobs_go_again_and_open_ones_are_asked_for(h: Harness) -> None:
    h.submit(3)
    h.submit(2)
    h.submit(4)
    sent = h.sent()
    h.accept((0, 5))
    h.results(1, 1, 3)
    h.sent()
    h.lose()
    h.submit(1)
    assert h.sent() == []
    h.welcome()
    assert h.sent() == [sent[2], wire.Ask(PREFIX, [(0, 1), (2, 1), (4, 1)]), h.a_submit(9, 1)]


def test_what_the_scheduler_forgot_is_submitted_again_without_what_is_over(h: Harness) -> None:
    h.submit(5, batch=0)
    h.sent()
    h.accept((0, 5))
    h.results(1, 2)
    h.sent()
    h.lose()
    h.welcome()
    assert h.sent() == [wire.Ask(PREFIX, [(0, 2), (3, 2)])]
    h.hear(wire.Unknown(PREFIX, [(0, 2), (3, 2)], False))
    again = [h.a_submit(0, 2, batch=0), h.a_submit(3, 2, batch=0)]
    assert h.sent() == again
    h.hear(wire.Unknown(PREFIX, [(0, 2), (3, 2)], False))  # late: they are on their way
    assert h.sent() == []
    h.lose()
    h.welcome()
    assert h.sent() == again  # the same boundaries from now on
    h.accept((0, 2), (3, 2))
    h.results(1, 0, 1, 3, 4)
    assert h.sent() == [ack(1)]
    assert h.core.open == 0


def test_only_a_part_may_be_forgotten(h: Harness) -> None:
    h.submit(4)
    h.sent()
    h.accept((0, 4))
    h.hear(wire.Unknown(PREFIX, [(1, 1)], False))
    assert h.sent() == [h.a_submit(1, 1)]
    h.results(1, 0, 1, 2, 3)
    assert h.sent() == [ack(1)]


def test_a_durable_scheduler_makes_payloads_superfluous() -> None:
    h = Harness()
    h.welcome(durable=True)
    h.submit(2)
    h.sent()
    h.accept((0, 2))
    h.hear(wire.Unknown(PREFIX, [(0, 1)], False))
    assert h.ended[0].cause == "unknown"
    assert h.ended[0].state == ABORTED
    assert payload.read_failure(h.ended[0].payload).type_name == "UnknownJob"
    h.finish()


def test_payloads_are_kept_within_a_bound() -> None:
    h = Harness(held_bytes=1000)
    h.welcome()
    for _ in range(3):
        h.submit(1, args=[bytes(900)])
    h.sent()
    h.accept((0, 3))
    h.hear(wire.Unknown(PREFIX, [(0, 3)], False))
    assert [m.first for m in h.sent()] == [0, 1]
    assert h.ended[2].cause == "unknown"


def test_an_expired_result_ends_the_job(h: Harness) -> None:
    h.submit(1)
    h.sent()
    h.accept((0, 1))
    h.hear(wire.Unknown(PREFIX, [(0, 1)], True))
    assert h.ended[0].cause == "expired"
    assert payload.read_failure(h.ended[0].payload).type_name == "ResultExpired"


def test_a_rejected_message_ends_its_jobs_and_no_others(h: Harness) -> None:
    h.submit(2)
    h.submit(1)
    h.sent()
    h.hear(wire.Rejected(PREFIX, 0, 2, "QueueFull", "10 jobs wait, no more are taken"))
    assert sorted(h.ended) == [0, 1]
    assert payload.read_failure(h.ended[0].payload).type_name == "QueueFull"
    assert h.core.unaccepted == 1
    h.hear(wire.Rejected(PREFIX, 1, 1, "QueueFull", "not the first of a message"))
    assert h.core.open == 1


# ------------------------------------------------------------------------------------------------ cancelling


def test_jobs_not_sent_are_cancelled_here_and_never_sent() -> None:
    h = Harness()
    h.submit(5)
    h.cancel((1, 1), (3, 1))
    assert h.answers[0].cancelled == [(1, 1), (3, 1)]
    assert {handle: end.state for handle, end in h.ended.items()} == {1: CANCELLED, 3: CANCELLED}
    h.welcome()
    assert h.sent() == [h.a_submit(0, 1), h.a_submit(2, 1), h.a_submit(4, 1)]


def test_a_queue_that_is_cancelled_whole_settles() -> None:
    h = Harness()
    h.submit(5)
    h.cancel((0, 5))
    assert h.core.settled(1)
    h.welcome()
    h.finish()


def test_the_scheduler_answers_for_the_others(h: Harness) -> None:
    h.submit(4)
    h.sent()
    h.accept((0, 4))
    h.results(1, 3)
    h.sent()
    h.cancel((0, 4), force=True)
    assert h.sent() == [wire.Cancel(1, PREFIX, [(0, 3)], True)]  # the last one was over already
    assert h.answers == []
    h.hear(wire.CancelAck(1, [(0, 1)], [(1, 1)], [(2, 1)]))
    (answer,) = h.answers
    assert (answer.token, answer.cancelled, answer.refused, answer.unknown) == (
        "token", [(0, 1)], [(3, 1), (1, 1)], [(2, 1)]
    )  # fmt: skip
    assert h.ended[0].state == CANCELLED
    h.failure(2, 0, CANCELLED, "JobCancelled")  # comes too late to be news
    assert h.core.stale == 1
    h.sent()


def test_a_cancel_is_asked_again_until_it_is_answered(h: Harness) -> None:
    h.submit(1)
    h.sent()
    h.accept((0, 1))
    h.cancel((0, 1))
    asked = h.sent()
    h.lose()
    h.welcome()
    assert h.sent() == [wire.Ask(PREFIX, [(0, 1)]), *asked]
    h.hear(wire.CancelAck(1, [(0, 1)], [], []))
    h.lose()
    h.welcome()
    h.hear(wire.CancelAck(1, [(0, 1)], [], []))
    assert len(h.answers) == 1


def test_a_forgotten_job_that_is_to_be_cancelled_does_not_run_again() -> None:
    h = Harness(unaccepted=1)
    h.welcome()
    h.submit(2, batch=0)
    h.accept((0, 2))
    h.cancel((0, 1))
    h.sent()
    h.lose()
    h.welcome()
    h.sent()
    h.hear(wire.Unknown(PREFIX, [(0, 2)], False), wire.CancelAck(1, [], [], [(0, 1)]))
    assert h.ended[0].state == CANCELLED
    assert h.answers[0].cancelled == [(0, 1)]
    assert [(m.first, len(m.args)) for m in h.sent()] == [(1, 1)]


def test_a_cancel_follows_a_job_that_was_submitted_again(h: Harness) -> None:
    h.submit(1)
    h.accept((0, 1))
    h.cancel((0, 1))
    h.sent()
    h.hear(wire.Unknown(PREFIX, [(0, 1)], False))
    assert h.sent() == [h.a_submit(0, 1)]
    h.hear(wire.CancelAck(1, [], [], [(0, 1)]))
    assert h.sent() == [wire.Cancel(2, PREFIX, [(0, 1)], False)]
    assert h.answers == []
    h.hear(wire.CancelAck(2, [(0, 1)], [], []))
    assert h.answers[0].cancelled == [(0, 1)]


# ------------------------------------------------------------------------------------------------ ids, asking, closing


def test_a_given_id_is_shared_by_those_who_submit_the_same(h: Harness) -> None:
    h.submit_given("one")
    (sent,) = h.sent()
    assert (sent.prefix, sent.first, sent.args) == (OTHER, 5, [b"x"])
    h.submit_given("two")
    h.submit_given("three", b"other content")
    assert payload.read_failure(h.ended["three"].payload).type_name == "JobConflict"
    h.accept((5, 1), prefix=OTHER)
    h.results(1, 5, prefix=OTHER)
    assert h.values == {"one": b"value 5", "two": b"value 5"}
    assert h.sent() == [ack(1)]
    h.submit_given("four")  # over here: the scheduler recognises it
    assert len(h.sent()) == 1


def test_an_unknown_job_that_is_asked_for_ends_so(h: Harness) -> None:
    assert h.turn(lambda now, fx: h.core.ask(OTHER, 1, "asked", now, fx)) == "asked"
    assert h.turn(lambda now, fx: h.core.ask(OTHER, 1, "again", now, fx)) == "asked"
    assert h.sent() == [wire.Ask(OTHER, [(1, 1)])]
    h.lose()
    h.welcome()
    assert h.sent() == [wire.Ask(OTHER, [(1, 1)])]
    h.hear(wire.Unknown(OTHER, [(1, 1)], False))
    assert h.ended["asked"].cause == "unknown"
    assert h.core.open == 0


def test_settled_says_whether_all_is_accepted(h: Harness) -> None:
    order = h.turn(lambda now, fx: h.core.submit(h.submission(2), now, fx))
    later = h.turn(lambda now, fx: h.core.submit(h.submission(1), now, fx))
    h.sent()
    assert not h.core.settled(order)
    h.accept((0, 2))
    assert h.core.settled(order)
    assert not h.core.settled(later)
    assert h.core.is_accepted(PREFIX, 1)
    assert not h.core.is_accepted(PREFIX, 2)


def test_closing_ends_every_job(h: Harness) -> None:
    h.submit(2)
    h.sent()
    h.turn(lambda _, fx: h.core.close("the client is closed", fx))
    assert payload.read_failure(h.ended[1].payload).type_name == "ClientClosed"
    assert h.core.open == 0


def test_a_notice_is_told_once(h: Harness) -> None:
    h.hear(wire.Notice("mind the gap"), wire.Notice("mind the gap"), wire.Ping())
    h.hear(wire.Notice("mind the gap"))
    assert h.notices == ["mind the gap"]


def test_the_newest_notice_that_concerns_a_job_is_remembered_even_if_it_is_a_repeat(h: Harness) -> None:
    def told(task: str = "", **spec: Any) -> str:
        about = h.core.notices.about([(task, wire.Spec(**spec))])
        return "" if about is None else about[0]

    gpu = (("gpu", 10_000),)
    assert told() == ""
    h.hear(
        wire.Notice("no queue", "high"), wire.Notice("no task", "default", "add"),
        wire.Notice("old Python", "default", "", "3.9"), wire.Notice("poor", "default", "add", "", gpu),
    )  # fmt: skip
    assert [told("add"), told("mul"), told("add", queue="low")] == ["no task", "", ""]
    assert [told(python="3.9"), told(python="3.11"), told("mul", queue="high")] == ["old Python", "", "no queue"]
    assert [told("add", resources=gpu), told("mul", resources=gpu)] == ["poor", ""]
    h.hear(wire.Notice("one"), wire.Notice("two"), wire.Notice("one"), wire.Notice("no task", "default", "add"))
    assert [told("add"), told("mul")] == ["no task", "one"]
    h.hear(wire.Notice("full"))
    assert told("add") == "full"
    for number in range(1_000):
        h.hear(wire.Notice("many", f"q{number}"))
    assert [told(queue="q999"), told(queue="q0")] == ["many", ""]


def test_open_jobs_are_named(h: Harness) -> None:
    h.submit(3)
    h.sent()
    h.results(1, 1)
    h.sent()
    assert h.core.open_jobs(10) == [(PREFIX.hex() + "00000000", "task"), (PREFIX.hex() + "00000002", "task")]
    assert len(h.core.open_jobs(1)) == 1


def test_many_lone_jobs_that_end_in_any_order_leave_nothing() -> None:
    h = Harness(unaccepted=10_000)
    h.welcome()
    for number in range(300):
        h.submit(1, Call(f"task {number % 7}", None, "msgpack", wire.Spec()))
    h.sent()
    h.accept((0, 300))
    for counter in sorted(range(300), key=lambda c: c * 7919 % 300):
        h.results(counter + 1, counter)
    h.sent()
    assert h.core.open == 0
    assert h.core.pending == (0, 0)
    assert arg(3) == b"arg 3"
    assert CALL.same(Call("task", None, "msgpack", wire.Spec()))
