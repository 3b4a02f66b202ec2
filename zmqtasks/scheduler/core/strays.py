"""Attempts of an earlier life of the scheduler, whose jobs are unknown here until their submitters come back.

A scheduler that kept its jobs in memory forgets them when it ends; its workers go on running what they hold. When such
a worker says hello, its attempts are kept as strays for some minutes, and so are their outcomes. The submitter, told
that its jobs are unknown, submits them again under the same ids: then each stray becomes the current attempt of its
job, and nothing runs twice.
"""

from zmqtasks.clock import Now
from zmqtasks.ids import inside, spans
from zmqtasks.scheduler.core import demands, lifecycle
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import Stray, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import Disown, End, Heartbeat, Held, Run


def keep(state: State, worker: Worker, held: Held, now: Now, fx: Effects) -> bool:
    """Keep an attempt that a hello lists, if its job may still come; False: the worker is to drop it."""
    key = (held.prefix, held.counter)
    known = worker.strays.get(held.number)
    if known is not None:  # of the hello before
        return known.key == key
    if worker.draining or worker.credit <= 0 or held.attempt > state.first_attempt or state.remembers(*key):
        return False
    other = state.strays.get(key)
    if len(state.strays) >= state.settings.max_strays or (other is not None and other.attempt >= held.attempt):
        return False
    if other is not None:  # an older attempt, whose worker was given up in that life
        disown(state, [other], fx)
    stray = Stray(worker, held.number, key, held.attempt, held.resources)
    state.strays[key] = worker.strays[held.number] = stray
    worker.credit -= 1
    worker.astray += 1
    demands.take(worker, stray.resources)
    state.adoptions.add(now.mono + state.settings.adoption, stray)
    state.count("strays")
    return True


def on_outcome(state: State, stray: Stray, outcome: Run | End, fx: Effects) -> None:
    """What came of a stray is kept, and not acknowledged, so that the worker keeps it, too."""
    if stray.outcome is None:
        stray.size = len(outcome.payload) if isinstance(outcome, End) else len(outcome.results[0])
        state.stray_bytes += stray.size
        stray.outcome = outcome
        stray.worker.astray -= 1
        demands.give_back(stray.worker, stray.resources)
        lifecycle.seat(state, stray.worker)
    if state.stray_bytes > state.settings.max_stray_bytes:
        disown(state, [stray], fx)


def on_heartbeat(state: State, worker: Worker, message: Heartbeat) -> None:
    """Strays that the worker does not hold any more."""
    listed = set(inside(worker.strays, message.held))
    for number, stray in list(worker.strays.items()):
        if number <= message.seen and number not in listed:
            lifecycle.forget_stray(state, stray)


def disown(state: State, unwanted: list[Stray], fx: Effects) -> None:
    """Nobody waits for these any more: their workers are told to drop them."""
    numbers: dict[Worker, list[int]] = {}
    for stray in unwanted:
        lifecycle.forget_stray(state, stray)
        numbers.setdefault(stray.worker, []).append(stray.number)
    for worker, told in numbers.items():
        if worker.route is not None:
            fx.sends.append(Send(worker.route, Disown(spans(sorted(told)))))


def expire(state: State, now: Now, fx: Effects) -> None:
    """Strays whose submitter has not come back in time."""
    late = [stray for _, stray in state.adoptions.due(now.mono) if state.strays.get(stray.key) is stray]
    if late:
        state.count("disowned", len(late))
        disown(state, late, fx)
