"""Work that a worker holds and has not started is taken back: for an idle one, or for what is more urgent.

The worker answers a Retract with what has not started, at once; that stands in front of its line again.
"""

from collections.abc import Collection
from itertools import chain, islice

from zmqtasks.clock import Now
from zmqtasks.ids import spans
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.lifecycle import seat
from zmqtasks.scheduler.core.model import Profile, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED
from zmqtasks.wire import Retract

STALL = 0.005  # seconds without an outcome after which a free slot may get the waiting jobs of a crowded worker
STUCK = 0.05  # seconds after which they are taken back anyway: they wait behind long ones, and others overtake them
_LOOK_AHEAD = 8  # workers tried for one to take back from
_FLOWS = 8  # lines of the most urgent jobs that are counted


def ask_back(state: State, worker: Worker, numbers: list[int], fx: Effects) -> None:
    """Ask a worker that is there for these, in ascending order: what has not started comes back."""
    if numbers and worker.route is not None:
        worker.asked.update(numbers)
        fx.sends.append(Send(worker.route, Retract(spans(numbers))))
        state.count("retracts")


def free_stuck(state: State, now: Now, fx: Effects) -> None:
    """What has waited on a worker without any outcome goes back to the front of its line."""
    for _, worker in list(state.stalls.due(now.mono)):
        worker.watched = False
        more = len(worker.held) - worker.slots
        if more <= 0 or worker.route is None or state.workers.get(worker.nonce) is not worker:
            continue
        if now.mono < worker.moved + STUCK:
            worker.watched = True
            state.stalls.add(worker.moved + STUCK, worker)
            continue
        wanted = [number for number in islice(reversed(worker.held), more) if number not in worker.asked]
        if wanted:
            worker.stuck = True
            seat(state, worker)
            ask_back(state, worker, wanted[::-1], fx)


def balance(state: State, now: Now, fx: Effects) -> None:
    """Where a slot is free and no line has work for it, ask a crowded equal for half of what has not started."""
    uneven = state.lines.uneven
    for profile in list(islice(uneven, _LOOK_AHEAD)):
        uneven.move_to_end(profile)
        if profile.flows:
            continue
        crowded = ((team, victim) for team in profile.crowded for victim in team.crowded)
        for team, victim in list(islice(crowded, _LOOK_AHEAD)):
            ripe = victim.moved + STALL
            if now.mono < ripe:
                _wake(state, ripe)
            elif _retract_half(state, profile, victim, fx):
                profile.crowded.move_to_end(team)  # the next in turn is another
                team.crowded.move_to_end(victim)
                _wake(state, now.mono + STALL)
                break
    if len(uneven) > _LOOK_AHEAD:
        _wake(state, now.mono + STALL)


def _retract_half(state: State, profile: Profile, victim: Worker, fx: Effects) -> bool:
    """Ask for half of what it cannot be running and was not asked for yet; whether there was any."""
    held, queue = victim.held, profile.queue
    more = len(held) + victim.astray + victim.void - victim.slots
    if victim.route is None or len(victim.asked) >= more:
        return False
    behind = islice(reversed(held), more)
    excess = [n for n in behind if n not in victim.asked and held[n].submission.spec.queue == queue]
    wanted = excess[: (len(excess) + 1) // 2]
    if not wanted:
        return False
    ask_back(state, victim, wanted[::-1], fx)
    return True


def _wake(state: State, mono: float) -> None:
    state.balance_at = min(state.balance_at, mono)


def overtake(state: State, fx: Effects) -> None:
    """Where urgent jobs wait and no slot is free, ask for as many less urgent ones that have not started."""
    for profile in state.lines.urgent:
        if not profile.hungry:
            _make_way(state, profile, fx)


def _make_way(state: State, profile: Profile, fx: Effects) -> None:
    wanted = sum(len(flow.first()) for flow in islice(profile.flows.values(), _FLOWS))
    workers = islice(chain.from_iterable(team.able for team in profile.able), _LOOK_AHEAD)
    for worker in list(workers):
        wanted -= len(worker.asked)  # they are on their way back
        if wanted <= 0:
            return
        above = max(0, len(worker.held) - worker.window.size)  # they make no room for others
        numbers = _less_urgent(worker, profile.top, wanted + above)
        if numbers:
            ask_back(state, worker, numbers, fx)
            wanted -= max(0, len(numbers) - above)
            team = worker.team
            if team is not None and worker in team.able:
                team.able.move_to_end(worker)  # the next in turn is another


def make_way(worker: Worker, priority: int, state: State, fx: Effects) -> None:
    """Ask one worker for what it has not started and what is less urgent than this."""
    ask_back(state, worker, _less_urgent(worker, priority, len(worker.held)), fx)


def make_room(state: State, tasks: Collection[str], fx: Effects) -> None:
    """More jobs of these tasks are with workers than may run at once: what has not started comes back."""
    for worker in state.workers.values():
        some = (n for n, job in worker.held.items() if job.submission.target.key in tasks and job.state == ASSIGNED)
        ask_back(state, worker, [number for number in some if number not in worker.asked], fx)


def _less_urgent(worker: Worker, priority: int, most: int) -> list[int]:
    """The newest that it cannot be running, was not asked for, and that are less urgent than this."""
    held, asked = worker.held, worker.asked
    behind = islice(reversed(held), max(0, len(held) + worker.astray + worker.void - worker.slots))
    less = (n for n in behind if n not in asked and held[n].submission.urgency < priority)
    return list(islice(less, most))[::-1]
