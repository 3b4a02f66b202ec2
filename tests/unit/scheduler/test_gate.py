"""Durable before visible."""

from zmqtasks import wire
from zmqtasks.scheduler.core.effects import Send
from zmqtasks.scheduler.gate import Gate

A, B = b"a", b"b"
ACK = wire.DoneAck([(1, 1)])
ASSIGN = wire.Assign(1, 1, [], [])
PING = wire.Ping()


def test_what_waits_for_nothing_passes():
    sends = [Send(A, PING), Send(B, PING), Send(A, ACK, 3)]
    assert Gate().pass_(sends, 3) == sends


def test_what_is_not_durable_is_held_back_and_comes_in_order():
    gate = Gate()
    first, second, third = Send(A, ACK, 4), Send(A, ACK, 5), Send(B, PING)
    assert gate.pass_([first, second, third], 3) == [third]
    assert len(gate) == 2
    assert gate.pass_([], 3) == []
    assert gate.pass_([Send(B, PING)], 4) == [first, Send(B, PING)]
    assert gate.pass_([], 5) == [second]
    assert len(gate) == 0


def test_work_overtakes_acknowledgements():
    gate = Gate()
    ack, assign = Send(A, ACK, 9), Send(A, ASSIGN)
    assert gate.pass_([ack, assign], 3) == [assign]
    assert gate.pass_([], 9) == [ack]


def test_that_the_disk_is_full_overtakes_what_waits_for_it():
    gate = Gate()
    accepted = Send(A, wire.Accepted(b"p" * 12, [(0, 1)]), 9)
    told = [Send(A, wire.Notice("full")), Send(A, wire.Rejected(b"p" * 12, 1, 1, "JournalUnavailable", "full"))]
    conflict = Send(A, wire.Rejected(b"p" * 12, 2, 1, "JobConflict", "another"), 9)
    assert gate.pass_([accepted, *told, conflict], 3) == told
    assert gate.pass_([], 9) == [accepted, conflict]


def test_nothing_overtakes_anything_else():
    gate = Gate()
    sends = [Send(A, wire.Accepted(b"p" * 12, [(0, 1)]), 9), Send(A, PING), Send(A, ACK, 9)]
    assert gate.pass_(sends, 3) == []
    assert gate.pass_([], 9) == sends


def test_an_acknowledgement_does_not_overtake_another():
    gate = Gate()
    later = Send(A, ACK, 9)
    assert gate.pass_([later, Send(A, ACK, 8)], 3) == []
    assert [s.after for s in gate.pass_([], 9)] == [9, 8]


def test_a_connection_that_is_over_is_forgotten():
    gate = Gate()
    gate.pass_([Send(A, ACK, 9), Send(B, ACK, 9)], 0)
    gate.forget(A)
    gate.forget(A)
    assert gate.pass_([], 9) == [Send(B, ACK, 9)]


def test_nothing_is_seen_before_it_is_durable_but_work_goes_out(h):
    w, s = h.worker(), h.submitter()
    h.journal.held = True
    s.send(s.message(2))
    s.expect()
    assert w.assigned() == [0]  # a lost Assign is a second run, never a loss
    w.send(wire.Done([wire.Run(1, [b"r"], 0.5, 0.5)], []))
    assert w.assigned() == [1]
    s.expect()
    h.sync()
    w.expect(wire.DoneAck([(1, 1)]))
    s.expect(wire.Accepted, wire.Results)


def test_the_answer_to_a_repeat_waits_for_the_first(h):
    s = h.submitter()
    h.journal.held = True
    message = s.message()
    s.send(message)
    s.send(message)
    s.expect()
    h.sync()
    s.expect(wire.Accepted, wire.Accepted)


def test_control_and_bulk_wait_for_themselves_alone():
    gate = Gate()
    accepted = wire.Accepted(b"p" * 12, [(0, 1)])
    large, small = Send(A, accepted, 9, bulk=True), Send(A, accepted, 8)
    assert gate.pass_([large, Send(A, PING)], 3) == [Send(A, PING)]
    assert gate.pass_([small, Send(A, PING, bulk=True), Send(A, PING)], 3) == []
    assert len(gate) == 4
    assert gate.pass_([], 8) == [small, Send(A, PING)]
    assert gate.pass_([], 9) == [large, Send(A, PING, bulk=True)]


def test_a_connection_that_is_over_is_forgotten_with_its_bulk_connection():
    gate = Gate()
    gate.pass_([Send(A, ACK, 9), Send(A, ACK, 9, bulk=True), Send(B, ACK, 9, bulk=True)], 0)
    gate.forget(A)
    assert gate.pass_([], 9) == [Send(B, ACK, 9, bulk=True)]
