"""What must hold of a worker's workload after every turn, as conservation laws."""

from zmqtasks.worker.ledger import ENDED, GONE, PUSHED, VOID, WAITING
from zmqtasks.worker.workload import Workload


def check(work: Workload) -> None:
    """Raises AssertionError where a number is in no place, or in two, or sums do not match."""
    work.ledger.check()
    places: list[set[int]] = [set(), set(), set()]
    waiting = list(work.backlog.numbers())
    assert len(waiting) == work.backlog.waiting, "the backlog counts wrong"
    waiting += work.late.numbers()
    places[WAITING].update(waiting)
    places[ENDED].update(work.outcomes.numbers())
    assert len(waiting) == len(places[WAITING]), "a number waits twice"
    void: set[int] = set()
    for claim, pushed in work.claims.items():
        left = 0
        for piece in pushed.pieces:
            for state, first, n in work.ledger.segments(piece.first, len(piece.args)):
                if state in (PUSHED, VOID):
                    place = places[PUSHED] if state == PUSHED else void
                    assert place.isdisjoint(range(first, first + n)), f"{first} is in two claims"
                    place.update(range(first, first + n))
                    left += n
        assert left == pushed.left, f"claim {claim} says {pushed.left} are left, the ledger says {left}"
    counts = work.ledger.counts
    found = [*map(len, places), len(void)]
    assert found == counts[:GONE], f"the ledger counts {counts[:GONE]}, found {found}"
    for state, first, n in work.ledger.everything():
        if state != VOID:
            missing = set(range(first, first + n)) - places[state]
            assert not missing, f"{sorted(missing)} are not where the ledger says"
    limit = work.settings
    assert counts[WAITING] + counts[PUSHED] <= limit.credit, f"more than {limit.credit} jobs are held"
    assert len(work.claims) <= limit.slots * limit.ahead, f"{len(work.claims)} claims are pushed"
    work.devices.check(pushed.grant for pushed in work.claims.values() if pushed.grant is not None)
    assert work.doomed <= work.wanted <= places[PUSHED], "somebody wants back what is not pushed"
