"""What stands before a ready job, with whom it takes turns, and when a rate lets it start: for people who ask."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from zmqtasks.clock import Now
from zmqtasks.scheduler.core import rows
from zmqtasks.scheduler.core.model import NO_FLOWS, Job, Line, Profile
from zmqtasks.scheduler.core.quotas import Rate
from zmqtasks.scheduler.core.state import State
from zmqtasks.words import duration, plural


@dataclass(slots=True)
class Ahead:
    """Ready jobs that go before one, or take turns with it. Those whose limits are reached do neither.

    Attributes:
        earlier: of its queue and priority, that came earlier and have their turns together with it.
        urgent: of its queue, with a higher priority, by that.
        others: of its queue and priority, by their submitters.
        above: in other queues of its workers, with a higher priority, by that.
        queues: in other queues of its workers, with its priority, by the queue.
        whole: nothing was left out of the count.
    """

    earlier: int = 0
    urgent: Counter[int] = field(default_factory=Counter)
    others: Counter[bytes] = field(default_factory=Counter)
    above: Counter[int] = field(default_factory=Counter)
    queues: Counter[str] = field(default_factory=Counter)
    whole: bool = True


def look(state: State, job: Job) -> Ahead:
    """Count them, in O(lines + LOOK)."""
    line = state.lines.line_of(job.submission, solo=job.solo)
    found = Ahead()
    _add_earlier(found, line, job)
    if line.solo:  # its turn is when a worker is empty
        return found
    own = set(line.profiles)
    around = {profile for mine in own for team in mine.teams for profile in team.profiles}
    lines = state.lines.all()
    found.whole &= len(lines) <= rows.LOOK
    for other in islice(lines, rows.LOOK):
        here = other.need.queue == line.need.queue
        if other is line or not _goes(other) or not _meet(other, own if here else around, here=here):
            continue
        if other.level > line.level:
            (found.urgent if here else found.above)[other.level] += len(other)
        elif other.level < line.level:
            continue
        elif not here:
            found.queues[other.need.queue] += len(other)
        elif other.turn == line.turn:
            _add_earlier(found, other, job)
        elif other.flow != line.flow:
            found.others[other.flow] += len(other)
    return found


def _goes(line: Line) -> bool:
    """Whether jobs of it may start now, as far as that is up to them."""
    if line.solo or line.shut or not len(line):
        return False
    return not line.need.resources or any(
        line in profile.levels.get(line.level, NO_FLOWS).get(line.turn, ()) for profile in line.profiles
    )


def _meet(other: Line, profiles: set[Profile], *, here: bool) -> bool:
    """Whether a worker that could run the one could run the other; where nobody can, its queue is what counts."""
    return not profiles.isdisjoint(other.profiles) if profiles else here


def _add_earlier(found: Ahead, line: Line, job: Job) -> None:
    """Those of a line that were accepted before a job, or stand before it there."""
    own = line is job.submission.line or (job.solo and line.solo)
    order = job.submission.order
    for other in islice(line.jobs, rows.LOOK):
        if other is job or (not own and other.submission.order > order):
            return
        found.earlier += other not in line.gone
    found.whole &= len(line.jobs) <= rows.LOOK


# ------------------------------------------------------------------------------------------------ in sentences


def before(found: Ahead) -> str:
    """How many jobs go before it."""
    parts = [f"{plural(found.earlier, 'job')} of the same submitter"] if found.earlier else []
    if found.urgent:
        jobs = f"{found.urgent.total():,}" if parts else plural(found.urgent.total(), "job")
        parts.append(f"{jobs} with a higher priority ({_levels(found.urgent)})")
    if not parts:
        return "no job stands before it" if found.whole else "no job that was looked at stands before it"
    stand = "stands" if found.whole and found.earlier + found.urgent.total() == 1 else "stand"
    return f"{'' if found.whole else 'more than '}{' and '.join(parts)} {stand} before it"


def turns(state: State, line: Line, found: Ahead) -> list[str]:
    """What else has its turn: submitters in a queue, queues of the same workers."""
    told = []
    if found.others:
        ready = plural(found.others.total(), "job")
        told.append(f"It takes turns with {plural(len(found.others), 'other submitter')} in this queue ({ready}).")
    if found.above:
        jobs = plural(found.above.total(), "job")
        told.append(
            f"{jobs} with a higher priority ({_levels(found.above)}) in other queues of the same workers "
            f"{'goes' if found.above.total() == 1 else 'go'} first, too."
        )
    if found.queues:
        ready = plural(found.queues.total(), "job")
        told.append(
            f"Its queue takes turns with {plural(len(found.queues), 'other queue')} of the same workers ({ready})"
            f"{_share(state, line.need.queue, found.queues)}."
        )
    return told


def _share(state: State, queue: str, others: Iterable[str]) -> str:
    weights = state.shares.weights
    own, rest = weights.get(queue, 1.0), [weights.get(other, 1.0) for other in others]
    return "" if {own, *rest} == {1.0} else f"; of the slots' time it gets {own / (own + sum(rest)):.0%} by its weight"


def _levels(found: Counter[int]) -> str:
    return ", ".join(map(str, sorted(found)))


def of_rate(rate: Rate, line: Line, job: Job, now: Now) -> str:
    """When a rate lets a job start, at the earliest."""
    found = Ahead()
    _add_earlier(found, line, job)
    first, peers = 0, False
    for other in islice(rate.lines, rows.LOOK):
        if other is line or not len(other) or other.solo or other.shut > rate.shut:
            continue  # it is held up by something else as well
        if other.level > line.level:
            first += len(other)
        elif other.level == line.level and other.turn == line.turn and other.need.queue == line.need.queue:
            _add_earlier(found, other, job)
        else:
            peers = peers or other.level == line.level
    first += found.earlier
    wait = rate.opens_after(first, now.mono) - now.mono
    if first:
        go = "goes" if first == 1 else "go"
        when = f"in {duration(wait)}" if wait > 0 else "now"
        return f"{plural(first, 'job')} of them {go} before it, so it may start {when} at the earliest"
    one = "is one of the next" if peers else "is the next"
    return f"it {one}, in {duration(wait)}" if wait > 0 else "it may start now"
