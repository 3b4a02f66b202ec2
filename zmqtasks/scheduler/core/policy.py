"""What operators set while the scheduler runs: rates of tasks, weights of queues, queues that are paused or purged.

It is written down with the totals, so it holds after a restart, too.
"""

from collections.abc import Iterator
from math import isfinite
from typing import Final

from zmqtasks.clock import Now
from zmqtasks.scheduler.core import compaction, lifecycle, names, retracts
from zmqtasks.scheduler.core.effects import Effects, Send
from zmqtasks.scheduler.core.model import DISK, Job, Purging, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import DELAYED, READY, WAITING
from zmqtasks.wire import Controlled, Purge, SetQueue, SetRate

SLICE: Final = 1_000  # jobs that a turn looks at for a purge
MOST: Final = 10_000  # tasks and queues that something can be set for


def on_set_rate(state: State, route: bytes, message: SetRate, now: Now, fx: Effects) -> None:
    """Have a task start so often, whatever its jobs say."""
    rate = message.rate
    if (rate is not None and not (isfinite(rate) and rate >= 0)) or message.burst < 1:
        _answer(state, route, "a rate is a number of starts per second, 0 or more, and a burst 1 or more", 0, fx)
        return
    if len(state.limits.told) >= MOST and message.task not in state.limits.told:
        _answer(state, route, f"rates are set for {MOST:,} tasks already", 0, fx)
        return
    back = rate is None and message.task in state.limits.told  # what was set is taken back: the name is right
    warning = "" if back else names.no_task(state, message.task)
    state.limits.tell(message.task, rate, message.burst, now)
    _written(state, route, fx, warning)


def on_set_queue(state: State, route: bytes, message: SetQueue, now: Now, fx: Effects) -> None:
    """Pause or resume a queue, or give it another weight."""
    weight, queue = message.weight, message.queue
    if weight is not None and not (isfinite(weight) and weight > 0):
        _answer(state, route, "a weight is a number above 0", 0, fx)
        return
    before = state.shares.weights.keys() | state.lines.paused
    if len(before) >= MOST and queue not in before:
        _answer(state, route, f"something is set for {MOST:,} queues already", 0, fx)
        return
    back = queue in before and (weight is None or weight == 1.0) and message.paused is not True  # as with rates
    warning = "" if back else names.no_queue(state, queue)
    if weight == 1.0:
        state.shares.weights.pop(queue, None)
    elif weight is not None:
        state.shares.weights[queue] = weight
    if message.paused is True:
        state.lines.pause(queue)
        _take_back(state, queue, fx)
    elif message.paused is False:
        state.lines.resume(queue)
    _written(state, route, fx, warning)


def _take_back(state: State, queue: str, fx: Effects) -> None:
    """What stands on workers and has not started comes back."""
    for worker in state.workers.values():
        retracts.ask_back(state, worker, _of_queue(worker, queue), fx)


def _of_queue(worker: Worker, queue: str) -> list[int]:
    held, asked = worker.held, worker.asked
    return [n for n, job in held.items() if n not in asked and job.submission.spec.queue == queue]


def on_purge(state: State, route: bytes, message: Purge, now: Now, fx: Effects) -> None:
    """Cancel all jobs of a queue that have not started."""
    warning = names.no_queue(state, message.queue)
    state.purges.append(Purging(route, _all(state, message.queue), [0], warning))


def _all(state: State, queue: str) -> Iterator[Job]:
    for source in list(state.sources.values()):
        for submission in list(source.submissions.values()):
            if submission.spec.queue == queue and submission.live:
                for counter in range(submission.first, submission.first + submission.count):
                    job = source.jobs.get(counter)
                    if job is not None and job.submission is submission and job.state in (READY, DELAYED, WAITING):
                        yield job


def step(state: State, now: Now, fx: Effects) -> None:
    """Go on with the first purge."""
    purge = state.purges[0]
    for _, job in zip(range(SLICE), purge.jobs, strict=False):
        lifecycle.cancel(state, job, now, fx)
        purge.done[0] += 1
        if purge.done[0] % SLICE == 0:
            return
    state.purges.popleft()
    _answer(state, purge.route, "", purge.done[0], fx, purge.warning)


def _written(state: State, route: bytes, fx: Effects, warning: str) -> None:
    if state.durable:
        compaction.write_totals(state, fx, DISK)
    _answer(state, route, "", 0, fx, warning)


def _answer(state: State, route: bytes, error: str, count: int, fx: Effects, warning: str = "") -> None:
    if route in state.peers:
        fx.sends.append(Send(route, Controlled(error, count, warning), 0 if error else state.seq))
