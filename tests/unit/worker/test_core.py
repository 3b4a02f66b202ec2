import pytest

from tests.unit.worker.harness import BASE, IDENTITY, PREFIX, Worker, run, work
from zmqtasks import payload, wire
from zmqtasks.errors import NotAuthorized, PeerError, ProtocolMismatch
from zmqtasks.wire import (
    CANCELLED,
    CRASHED,
    FAILED,
    LOST,
    SUSPECT,
    Assign,
    Done,
    DoneAck,
    Draining,
    End,
    Forget,
    Function,
    Goodbye,
    Heartbeat,
    Held,
    HelloAgain,
    Kill,
    Ping,
    Refused,
    Retract,
    Retracted,
    Work,
)
from zmqtasks.worker.ledger import GONE

# ------------------------------------------------------------------------------------------------ the connection


def test_the_first_message_is_the_hello_and_nothing_else_goes_before_the_welcome(worker):
    hello = worker.connect()
    assert hello == wire.WorkerHello(
        "zmqtasks", 1, "0.1", "3.11", "here", 42, "w1", IDENTITY.nonce, 1, 1000, ["default"], ["add"], 0, []
    )
    worker.turn(60.0)


def test_a_hello_lists_what_was_seen_and_is_held(worker):
    worker.up()
    worker.assign(2)
    worker.numbers()
    worker.disconnect()
    hello = worker.connect()
    assert (hello.seen, hello.held) == (2, [Held(1, PREFIX, 1, BASE + 1), Held(2, PREFIX, 2, BASE + 2)])


def test_queues_are_taken_and_left_and_the_next_hello_lists_them(worker):
    worker.up()
    worker.handle(wire.Consume(["high", "default"], ["low"]))
    assert worker.sent_one(wire.Consuming) == wire.Consuming(["default", "high"])
    worker.handle(wire.Consume([], ["default"]))
    assert worker.sent_one(wire.Consuming) == wire.Consuming(["high"])
    worker.disconnect()
    assert worker.connect().queues == ["high"]


def test_heartbeats_come_with_their_period_and_list_what_is_held_and_what_runs(worker):
    worker.up()
    worker.assign(3)
    assert worker.numbers() == [[1], [2]]
    assert worker.core.next_deadline() == 101.0
    worker.turn(1.0)
    worker.running((1, 1))
    assert worker.sent_one(Heartbeat) == Heartbeat(3, [(1, 3)], [1])
    assert worker.core.next_deadline() == 102.0


def test_hello_again_is_answered_once(worker):
    worker.up()
    worker.handle(HelloAgain())
    worker.sent_one(wire.WorkerHello)
    worker.handle(HelloAgain())
    worker.welcome()
    worker.handle(Ping())


@pytest.mark.parametrize(("code", "error"), [("protocol", ProtocolMismatch), ("authorization", NotAuthorized)])
def test_a_refusal_is_raised(worker, code, error):
    worker.connect()
    with pytest.raises(error, match="too old"):
        worker.handle(Refused(code, "too old", 2, "9.9"))


def test_outcomes_are_kept_until_acknowledged_and_sent_again_after_a_welcome(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.report(1, [run(1, 1)])
    assert worker.sent_one(Done) == Done([run(1, 1)], [])
    worker.disconnect()
    assert worker.connect().held == [Held(1, PREFIX, 1, BASE + 1)]
    worker.welcome()
    assert worker.sent_one(Done) == Done([run(1, 1)], [])
    worker.handle(DoneAck([(1, 1)]))
    worker.handle(DoneAck([(1, 1), (500, 2**40)]))  # a repeat, and numbers that were never here
    worker.disconnect()
    assert worker.connect().held == []


def test_what_ends_without_a_connection_is_told_after_the_next_welcome(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.disconnect()
    worker.report(1, [], [End(1, FAILED, b"boom", 0.1)])
    worker.connect()
    worker.welcome()
    assert worker.sent_one(Done) == Done([], [End(1, FAILED, b"boom", 0.1)])


def test_dropped_numbers_are_void_wherever_they_are_and_outcomes_are_told_again(worker):
    """That of 1 may have reached the scheduler and not its disk: a DoneAck says when it is safe."""
    worker.up()
    worker.assign(6)
    assert worker.numbers() == [[1], [2]]
    worker.report(1, [run(1, 1, each=1.0)])
    assert worker.numbers() == [[3]]
    worker.all_sent()
    worker.disconnect()
    worker.connect()
    worker.welcome(dropped=[(1, 4)])  # 1 has ended, 2 runs, 3 is in the queue, 4 waits
    assert [run.first for run in worker.sent_one(Done).runs] == [1]
    worker.running((0, 0), (2, 2))  # it is told at once which of them has a slot
    assert worker.sent_one(Heartbeat) == Heartbeat(6, [(1, 1), (5, 2)], [], void=1)
    worker.handle(DoneAck([(1, 1)]))
    assert worker.core.work.ledger.state(1) == GONE
    worker.reclaimed(3)
    assert worker.numbers() == [[5]]  # 3 and 4 are gone; 2 runs out
    worker.report(2, [run(2, 1)])
    assert worker.numbers() == [[6]]
    assert worker.all_sent() == []


# ------------------------------------------------------------------------------------------------ jobs


def test_a_repeated_assign_is_ignored_and_an_overlapping_one_counts_from_what_is_new(worker):
    worker.up()
    worker.assign(2)
    assert worker.numbers() == [[1], [2]]
    worker.assign(2, number=1)
    worker.assign(3, number=1)
    worker.report(1, [run(1, 1)])
    claim = worker.pushes()[0]
    assert [(p.first, p.attempt, p.counters) for p in claim.pieces] == [(3, BASE + 3, [3])]
    worker.all_sent()


def test_an_assign_that_contradicts_itself_is_the_schedulers_fault(worker):
    worker.up()
    with pytest.raises(PeerError):
        worker.handle(Assign(1, BASE, [Work(PREFIX, "add", b"", "msgpack", [1, 2], [b"x"])], []))


def test_a_function_travels_with_every_claim_and_is_forgotten_on_request(worker):
    worker.up()
    function = Function(b"d" * 16, "f", b"blob")
    ship = Work(PREFIX, "f", function.digest, "pickle", [1], [b"x"])
    worker.handle(Assign(1, BASE + 1, [ship], [function]))
    claim = worker.pushes()[0]
    assert (claim.name, claim.digest, claim.blob, claim.codec) == ("f", b"d" * 16, b"blob", "pickle")
    worker.handle(Forget([function.digest]))
    worker.handle(Assign(2, BASE + 2, [ship], []))
    end = worker.sent_one(Done).ends[0]
    assert (end.number, end.kind) == (2, FAILED)
    assert "without sending the function" in payload.read_failure(end.payload).text


def test_claims_are_single_until_the_time_is_known_then_hold_one_millisecond(worker):
    worker.up()
    worker.assign(500)
    assert worker.numbers() == [[1], [2]]
    worker.report(1, [run(1, 1, each=1e-5)])
    assert worker.numbers() == [list(range(3, 103))]  # 100 jobs of 10 µs
    worker.report(2, [run(2, 1, each=0.5)])  # one long run: they vary
    assert worker.numbers() == [[103]]
    worker.all_sent()


def test_a_claim_holds_one_target_and_goes_on_over_assigns(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.report(1, [run(1, 1, each=1e-6)])
    worker.handle(Assign(2, BASE + 2, [work(2, 1), work(3, 2), work(5, 1, "other")], []))
    assert worker.numbers() == [[2, 3, 4], [5]]
    worker.all_sent()


def test_large_arguments_travel_alone(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.report(1, [run(1, 1, each=1e-6)])
    worker.assign(4, args=b"x" * 40_000)
    assert worker.numbers() == [[2], [3]]
    worker.all_sent()


def test_a_claim_that_does_not_fit_waits_for_a_report(worker):
    worker.up()
    worker.assign(3)
    assert worker.numbers() == [[1], [2]]
    worker.core.on_push_refused(2)
    worker.core.check()
    worker.report(1, [run(1, 1, each=1.0)])
    assert worker.numbers() == [[2], [3]]
    worker.all_sent()


def test_outcomes_go_in_messages_of_bounded_size(worker):
    worker.up()
    worker.assign(3)
    worker.numbers()
    large = wire.Run(1, [b"r" * 60_000], 1.0, 1.0)
    worker.report(1, [large])
    worker.disconnect()
    second = wire.Run(2, [b"r" * 60_000], 1.0, 1.0)
    worker.report(2, [second])
    worker.numbers()
    worker.all_sent()
    worker.connect()
    worker.welcome()
    assert worker.all_sent() == [Done([large], []), Done([second], [])]


def test_a_report_on_a_claim_that_was_given_up_is_dropped(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.core.on_push_refused(1)
    worker.report(1, [run(1, 1)])
    assert worker.numbers() == [[1]]
    assert worker.all_sent() == []


# ------------------------------------------------------------------------------------------------ children that die


def assigned(count: int = 5) -> Worker:
    """A worker whose claim 2 holds the numbers 2 … count, the first report having told that they are short."""
    worker = Worker(ahead=1).up()
    worker.assign(1)
    worker.numbers()
    worker.report(1, [run(1, 1, each=1e-6)])
    worker.assign(count - 1)
    assert worker.numbers() == [list(range(2, count + 1))]
    worker.all_sent()
    return worker


def test_the_job_in_the_cell_crashed_those_before_are_lost_those_after_run_again():
    worker = assigned()
    worker.report(2, [run(2, 1)], finished=False)
    worker.exit(2, 4)
    assert worker.numbers() == [[5]]
    reported, died = worker.all_sent()
    assert reported == Done([run(2, 1)], [])
    assert [(e.number, e.kind) for e in died.ends] == [(3, LOST), (4, CRASHED)]
    told = payload.read_failure(died.ends[1].payload)
    assert (told.type_name, told.text) == ("WorkerLost", "child 9 was killed by SIGKILL while running add on here")
    worker.nothing_more()


@pytest.mark.parametrize(("how", "kind"), [({"company": True}, SUSPECT), ({"ours": True, "company": True}, LOST)])
def test_whose_process_had_other_slots_is_a_suspect_or_was_killed_for_another_job(how, kind):
    worker = assigned()
    worker.exit(2, 4, **how)
    assert worker.numbers() == [[5]]
    (died,) = worker.all_sent()
    assert [(e.number, e.kind) for e in died.ends] == [(2, LOST), (3, LOST), (4, kind)]
    worker.nothing_more()


@pytest.mark.parametrize(("took", "way"), [(0.0001, False), (0.5, True)])
def test_long_jobs_in_the_shared_queue_make_way_for_urgent_ones(took, way):
    worker = Worker(ahead=2).up()
    worker.assign(1)
    worker.numbers()
    worker.report(1, [run(1, 1, each=took)])
    worker.assign(2)
    claims = worker.numbers()
    assert claims
    worker.handle(Assign(4, BASE + 4, [Work(b"p" * 12, "urgent", b"", "msgpack", [4], [b"x"], [], 9)], []))
    assert worker.reclaim == way
    if way:
        assert claims == [[2], [3]]
        worker.reclaimed(3)
        assert worker.numbers() == [[4]]
    else:
        worker.numbers()
    worker.all_sent()


def test_a_claim_tells_where_its_jobs_came_from_and_how_often_they_were_tried():
    worker = Worker().up()
    works = [work(1, 2), work(3, 1)]
    works[1].queue, works[1].priority = "high", 9
    worker.handle(Assign(1, BASE + 1, works, [], [(2, 4)], [1]))
    told = [(claim.queue, claim.priority, claim.retried, claim.again) for claim in worker.pushes()]
    assert told == [("high", 9, {}, []), ("", 0, {}, [1])]
    worker.report(1, [run(3, 1)])
    assert [(claim.retried, claim.again) for claim in worker.pushes()] == [({2: 4}, [])]
    worker.report(2, [run(1, 1)])
    worker.report(3, [run(2, 1)])
    worker.handle(Assign(4, BASE + 4, [work(4, 1)], [], [(4, 1)], [4]))
    assert (worker.core.work.retried, worker.core.work.again) == ({4: 1}, {4})
    worker.all_sent()
    worker.pushes()


def test_a_child_that_had_not_begun_its_claim_charges_nobody():
    worker = assigned()
    worker.exit(2, 0)
    assert worker.numbers() == [[2, 3, 4, 5]]
    worker.nothing_more()


def test_a_child_that_died_after_its_last_report_charges_nobody():
    worker = assigned()
    worker.report(2, [run(2, 4)])
    worker.all_sent()
    worker.exit(2, 5)
    worker.nothing_more()


def test_a_claim_that_died_before_its_cell_was_written_is_given_out_again_after_two_looks():
    worker = assigned()
    worker.exit(0, 0)
    assert worker.core.next_deadline() == 101.0
    worker.turn(1.0)
    worker.reclaimed()
    worker.running((0, 0))
    worker.all_sent()  # the heartbeat
    assert worker.pushed == []
    worker.turn(0.25)
    worker.reclaimed()
    worker.running((0, 0))
    assert worker.numbers() == [[2, 3, 4, 5]]
    worker.nothing_more()


def test_a_claim_that_a_living_child_has_is_not_given_out_again():
    worker = assigned()
    worker.exit(0, 0)
    worker.turn(1.0)
    worker.reclaimed()
    worker.running((2, 3))
    worker.all_sent()
    worker.turn(0.5)
    worker.nothing_more()


# ------------------------------------------------------------------------------------------------ taking back


def test_retract_gives_back_what_waits_and_what_no_child_has_taken(worker):
    worker.up()
    worker.assign(4)
    assert worker.numbers() == [[1], [2]]
    worker.handle(Retract([(1, 3)]))  # 1 is with a child, 2 in the queue, 3 waits
    assert worker.sent_one(Retracted) == Retracted([(3, 1)])
    worker.reclaimed(2)
    assert worker.sent_one(Retracted) == Retracted([(2, 1)], started=[(1, 1)])
    assert worker.numbers() == [[4]]
    worker.report(1, [run(1, 1)])
    worker.sent_one(Done)


def test_what_was_taken_back_and_is_not_wanted_is_pushed_again_in_order():
    worker = Worker(ahead=4).up()
    worker.assign(4)
    worker.numbers()
    worker.handle(Retract([(3, 1)]))
    worker.reclaimed(2, 3, 4)
    assert worker.numbers() == [[2], [4]]
    assert worker.sent_one(Retracted) == Retracted([(3, 1)])
    worker.nothing_more()


def test_nothing_is_pushed_while_claims_are_asked_back(worker):
    worker.up()
    worker.assign(2)
    worker.numbers()
    worker.handle(Retract([(2, 1)]))
    worker.assign(1)
    assert worker.pushed == []
    worker.reclaimed(2)
    assert worker.numbers() == [[3]]
    worker.sent_one(Retracted)


def test_a_running_job_is_killed_and_told_as_cancelled():
    worker = assigned()
    worker.handle(Kill([(3, 1)]))
    worker.reclaimed()
    worker.running((2, 2))  # not yet
    assert worker.kills == []
    worker.turn(0.02)
    worker.running((2, 3))
    assert worker.kills == [0]
    worker.kills.clear()
    worker.turn(0.02)
    worker.running((2, 3))  # dying: once is enough
    assert worker.kills == []
    worker.exit(2, 3)
    assert worker.numbers() == [[4, 5]]
    assert [(e.number, e.kind) for e in worker.sent_one(Done).ends] == [(2, LOST), (3, CANCELLED)]
    worker.nothing_more()


def test_a_job_that_follows_the_killed_one_in_time_is_not_charged():
    worker = assigned()
    worker.handle(Kill([(3, 1)]))
    worker.reclaimed()
    worker.running((2, 3))
    worker.kills.clear()
    worker.report(2, [run(2, 2)], finished=False)
    worker.exit(2, 4)  # the kill came late: 3 was over
    worker.sent.pop(0)
    assert [(e.number, e.kind) for e in worker.sent_one(Done).ends] == [(4, LOST)]
    assert worker.numbers() == [[5]]
    worker.nothing_more()


def test_killed_jobs_that_have_not_started_are_handed_back():
    worker = assigned()
    worker.handle(Kill([(5, 1)]))
    worker.reclaimed()
    worker.running((2, 2))
    worker.exit(2, 2)  # dies by itself
    done, back = sorted(worker.all_sent(), key=lambda m: type(m).__name__)
    assert [(e.number, e.kind) for e in done.ends] == [(2, CRASHED)]
    assert back == Retracted([(5, 1)])
    assert worker.numbers() == [[3, 4]]
    worker.nothing_more()


# ------------------------------------------------------------------------------------------------ the end


def test_a_drain_hands_back_finishes_and_says_goodbye(worker):
    worker.up()
    worker.assign(3)
    worker.numbers()
    worker.drain()
    assert worker.all_sent() == [Draining(), Retracted([(3, 1)])]
    worker.reclaimed(2)
    assert worker.sent_one(Retracted) == Retracted([(2, 1)])
    worker.assign(1)  # it was on its way
    assert worker.sent_one(Retracted) == Retracted([(4, 1)])
    worker.reclaimed()
    worker.report(1, [run(1, 1)])
    worker.sent_one(Done)
    assert not worker.core.drained
    worker.handle(DoneAck([(1, 1)]))
    assert worker.sent_one(Goodbye) == Goodbye()
    assert worker.core.drained


def test_a_drain_is_told_anew_after_a_reconnect(worker):
    worker.up()
    worker.assign(1)
    worker.numbers()
    worker.drain()
    worker.reclaimed()
    assert worker.sent_one(Draining) == Draining()
    worker.disconnect()
    worker.connect()
    worker.welcome()
    assert worker.sent_one(Draining) == Draining()


def test_a_drain_without_a_connection_and_without_jobs_is_over_at_once(worker):
    worker.drain()
    assert worker.core.drained


def test_abandon_kills_what_runs_and_nobody_is_charged():
    worker = assigned()
    worker.abandon()
    worker.sent_one(Draining)
    worker.reclaimed()
    worker.running((2, 3))
    assert worker.kills == [0]
    worker.kills.clear()
    worker.exit(2, 3)
    retracted, done = worker.all_sent()
    assert retracted == Retracted([(4, 2)])
    assert [(e.number, e.kind) for e in done.ends] == [(2, LOST), (3, LOST)]
    worker.handle(DoneAck([(2, 2), (1, 1)]))
    worker.sent_one(Goodbye)
    worker.look = False
