"""Every table of the scheduler has a bound, and reaches it: small bounds, many jobs, then nothing grows any more."""

from zmqtasks import wire


def sizes(state):
    lines = list(state.lines.all())
    return {
        "sources": len(state.sources),
        "submissions": sum(len(source.submissions) for source in state.sources.values()),
        "jobs": sum(len(source.jobs) for source in state.sources.values()),
        "finished": len(state.finished),
        "delivered": len(state.delivered),
        "tombstones": len(state.tombstones),
        "targets": len(state.targets),
        "lines": len(lines),
        "standing": sum(len(line.jobs) + len(line.gone) for line in lines),
        "timers": sum(map(len, (state.leases, state.delays, state.backoffs, state.expiries, state.patience))),
        "evidence": len(state.evidence),
        "watchers": len(state.watchers),
        "cancels": len(state.cancels),
        "unacked": sum(
            len(lane.unacked) + len(lane.outbox) for s in state.submitters.values() for lane in (s.small, s.large)
        ),
        "strays": len(state.strays) + len(state.adoptions),
        "progress": len(state.progress) + len(state.told) + len(state.blocked),
    }


def work(h, w, s, first, count):
    """Lone jobs, one after the other, every third with an id of the user."""
    for number in range(first, first + count):
        prefix = number.to_bytes(12, "big") if number % 3 == 0 else s.prefix
        s.submit(prefix=prefix, first=number)
        w.assigned()
        w.done()
        s.results()


def test_no_table_grows_beyond_its_bound(make):
    h = make(max_results=20, max_tombstones=30, max_functions=5)
    w, s = h.worker(), h.submitter()
    work(h, w, s, 0, 200)
    before = sizes(h.core.state)
    assert before["jobs"] <= 21
    assert before["tombstones"] <= 31
    work(h, w, s, 200, 400)
    after = sizes(h.core.state)
    grown = {name: (before[name], after[name]) for name in after if after[name] > before[name] + 2}
    assert not grown


def test_an_endless_stream_of_accepted_but_forgotten_work_is_refused_not_piled_up(make):
    h = make(max_bytes=10_000)
    s = h.submitter()
    refused = 0
    for number in range(100):
        s.send(s.message(1, first=number, args=[b"x" * 100]))
        refused += sum(isinstance(message, wire.Rejected) for message in s.inbox)
        s.inbox.clear()
    assert refused > 50
    assert h.core.state.held_bytes <= 10_400
