"""Which queues a worker takes from, changed by operators while it runs.

The worker owns the list: its hello tells it, so it outlives the scheduler and connections, and ends with the worker. A
change holds here at once. Until the worker has confirmed it, it is a wish, which is told again after each hello.
"""

import logging
from collections.abc import Iterable
from difflib import get_close_matches

from zmqtasks.clock import Now
from zmqtasks.config import MAX_NAME, MAX_NAMES
from zmqtasks.scheduler.core import lifecycle, names, retracts, unserved
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.model import Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.wire import Consume, Consuming, Controlled, SetConsumer


def on_set_consumer(state: State, route: bytes, message: SetConsumer, now: Now, fx: Effects) -> None:
    """Have workers take from a queue, or no longer."""
    error = _wrong(state, message)
    found = [] if error else _named(state, message.worker)
    warning = "" if error or message.take else names.not_taken(message.queue, found)
    for worker in found:
        worker.wishes[message.queue] = message.take
        _ask(worker, fx)
        _settle(state, worker, worker.queues, now, fx)
        verb = "takes from" if message.take else "takes no more from"
        fx.logs.append(Log(logging.INFO, "consumers", f"worker {worker} {verb} queue {message.queue!r}"))
    if route in state.peers:
        fx.sends.append(Send(route, Controlled(error, len(found), warning), 0 if error else state.seq))


def _named(state: State, name: str) -> list[Worker]:
    """Workers of that name, or all, that are there."""
    there = [worker for worker in state.workers.values() if worker.team is not None and worker.route is not None]
    return [worker for worker in there if name in ("", worker.name)]


def _wrong(state: State, message: SetConsumer) -> str:
    """Why it cannot be done; empty: it can."""
    if not 0 < len(message.queue) <= MAX_NAME:
        return f"the name of a queue has 1 to {MAX_NAME:,} characters"
    found = _named(state, message.worker)
    if not found:
        names = sorted({worker.name for worker in _named(state, "")})
        near = get_close_matches(message.worker, names, n=1) or names[:10]
        hint = f"; there is {', '.join(near)}" if near else ""
        return f"no worker is called {message.worker!r}{hint}" if message.worker else "there is no worker"
    if message.take and any(len(worker.queues) >= MAX_NAMES and message.queue not in worker.queues for worker in found):
        return f"a worker takes from at most {MAX_NAMES:,} queues"
    return ""


def on_consuming(state: State, worker: Worker, message: Consuming, now: Now, fx: Effects) -> None:
    """A worker tells from which queues it takes."""
    confirm(state, worker, message.queues[:MAX_NAMES], now, fx)


def confirm(state: State, worker: Worker, queues: list[str], now: Now, fx: Effects) -> None:
    """What a worker says of itself holds, but for what it was asked and has not done yet."""
    listed = set(queues)
    worker.wishes = {queue: take for queue, take in worker.wishes.items() if (queue in listed) != take}
    _settle(state, worker, queues, now, fx)


def repeat(worker: Worker, fx: Effects) -> None:
    """After a hello: what was asked may never have come."""
    if worker.wishes:
        _ask(worker, fx)


def _ask(worker: Worker, fx: Effects) -> None:
    wishes = worker.wishes
    if worker.route is not None:
        take = [queue for queue, wanted in wishes.items() if wanted]
        fx.sends.append(Send(worker.route, Consume(take, [queue for queue, wanted in wishes.items() if not wanted])))


def _settle(state: State, worker: Worker, queues: Iterable[str], now: Now, fx: Effects) -> None:
    """Have a worker serve these queues, with the wishes."""
    wishes = worker.wishes
    wanted = [queue for queue in dict.fromkeys((*queues, *wishes)) if wishes.get(queue, True)]
    if wanted == worker.queues or worker.team is None:
        return
    python, left = worker.team.python, set(worker.queues).difference(wanted)
    worker.queues = wanted
    state.lines.leave(worker)
    state.lines.join(worker, wanted, worker.tasks, python)
    lifecycle.seat(state, worker)
    held, asked = worker.held, worker.asked
    back = [number for number, job in held.items() if number not in asked and job.submission.spec.queue in left]
    retracts.ask_back(state, worker, back, fx)
    unserved.on_join(state, now, fx)
