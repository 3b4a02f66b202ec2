"""What workers say, and what follows from their silence."""

import logging
from math import isfinite

from zmqtasks import resources
from zmqtasks.clock import Now
from zmqtasks.config import MAX_NAME
from zmqtasks.errors import PeerError
from zmqtasks.ids import inside, spans, total
from zmqtasks.scheduler.core import adoption, consumers, demands, lifecycle, retracts, strays
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.model import Worker
from zmqtasks.scheduler.core.needs import CAP, RATE
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.window import Window
from zmqtasks.states import ASSIGNED, RUNNING
from zmqtasks.wire import (
    DoneAck,
    Draining,
    Goodbye,
    Heartbeat,
    Kill,
    Retract,
    Retracted,
    WorkerHello,
    WorkerWelcome,
)
from zmqtasks.words import plural

NONCE_BYTES = 16
MAX_CREDIT = 1_000_000  # assignments that one worker may hold
MAX_NUMBER = 2**53  # assignment numbers of one worker's life stay far below


def on_hello(state: State, route: bytes, hello: WorkerHello, now: Now, fx: Effects, release: str) -> None:
    """A worker's connection begins: a new life, or one that goes on. Both sides now agree on what it holds."""
    _sane(hello)
    worker = state.workers.get(hello.nonce)
    if worker is not None and hello.connection < worker.connection:
        state.count("late_hellos")
        return
    if worker is None:
        worker = state.workers[hello.nonce] = Worker(hello.nonce)
        state.leases.add(now.mono + state.settings.lease, worker)
    known = worker.team is not None
    if not known:
        _introduce(state, worker, hello, now, fx)
    if worker.route != route:
        state.drop_route(worker, fx)
    else:
        state.drop_bulk(worker, fx)
    state.peers[route] = worker
    worker.route = route
    worker.connection = hello.connection
    worker.heard = now.mono
    worker.functions.clear()
    worker.asked.clear()
    dropped = _reconcile(state, worker, hello, now, fx)
    settings = state.settings
    fx.sends.append(
        Send(
            route,
            WorkerWelcome(state.epoch, release, settings.heartbeat, settings.lease, settings.max_payload, dropped),
        )
    )
    _repeat_cancels(state, worker, fx)
    lifecycle.seat(state, worker)
    if known:
        consumers.confirm(state, worker, hello.queues, now, fx)
        consumers.repeat(worker, fx)


def _introduce(state: State, worker: Worker, hello: WorkerHello, now: Now, fx: Effects) -> None:
    """A worker that was not here yet in this life of the scheduler; what the journal says it holds, it holds."""
    if hello.credit < len(worker.held):
        message = f"worker {hello.name} takes {hello.credit} assignments, and has {len(worker.held)}"
        raise PeerError(message)
    worker.next = max(hello.seen, worker.next - 1) + 1
    worker.offered = hello.credit
    worker.credit = hello.credit - len(worker.held)
    worker.slots = hello.slots
    worker.window = Window(hello.slots, hello.credit)
    worker.resources, worker.free = hello.resources, dict(hello.resources)
    for job in worker.held.values():
        demands.take(worker, job.submission.spec.resources)
    worker.name, worker.host, worker.pid = hello.name, hello.host, hello.pid
    worker.queues, worker.tasks = hello.queues, hello.tasks
    state.lines.join(worker, hello.queues, hello.tasks, hello.python)
    above = state.limits.announce(hello, state.workers.values(), now.mono)
    worker.limited = frozenset((*((RATE, task) for task, *_ in hello.rates), *((CAP, task) for task, _ in hello.caps)))
    if above:
        retracts.make_room(state, above, fx)
    text = f"worker {worker} joined with {plural(worker.slots, 'slot')}"
    fx.logs.append(Log(logging.INFO, "worker-joined", text))


def _sane(hello: WorkerHello) -> None:
    if len(hello.nonce) != NONCE_BYTES:
        message = f"a worker's nonce has {NONCE_BYTES} bytes, not {len(hello.nonce)}"
        raise PeerError(message)
    if not 0 < hello.slots <= hello.credit <= MAX_CREDIT or not 0 <= hello.seen < MAX_NUMBER:
        message = f"worker {hello.name} has {hello.slots} slots, {hello.credit} assignments and has seen {hello.seen}"
        raise PeerError(message)
    needs = {held.resources for held in hello.held}
    wrong = next(filter(None, map(resources.flaw, (hello.resources, *needs))), "")
    if wrong:
        message = f"worker {hello.name}: {wrong}"
        raise PeerError(message)
    if len(hello.rates) > len(hello.tasks) or not all(map(_is_rate, hello.rates)):
        message = f"worker {hello.name} says of {len(hello.rates)} of {len(hello.tasks)} tasks how often they may start"
        raise PeerError(message)
    if len(hello.caps) > len(hello.tasks) or not all(len(task) <= MAX_NAME and cap > 0 for task, cap in hello.caps):
        message = f"worker {hello.name} says of {len(hello.caps)} of {len(hello.tasks)} tasks how many may run at once"
        raise PeerError(message)
    if not all(0 < held.number <= hello.seen for held in hello.held):
        message = f"worker {hello.name} lists assignments that it has not seen"
        raise PeerError(message)


def _is_rate(told: tuple[str, float, int]) -> bool:
    task, rate, burst = told
    return len(task) <= MAX_NAME and isfinite(rate) and rate >= 0 and burst >= 1


def _reconcile(state: State, worker: Worker, hello: WorkerHello, now: Now, fx: Effects) -> list[tuple[int, int]]:
    """Take back what an assignment lost on the old connection left behind, adopt what the worker still holds.

    Returns the numbers that the worker must drop.
    """
    attempts = {held.number: held.attempt for held in hello.held}
    lost = [job for number, job in worker.held.items() if attempts.get(number) != job.attempt]
    for job in reversed(lost):
        job.attempt = 0
        if job.number > hello.seen:
            lifecycle.requeue(state, job, f"its assignment never reached worker {worker}", now, fx)
        else:
            lifecycle.lost(state, job, f"worker {worker} does not hold it any more", now, fx)
    for number, stray in list(worker.strays.items()):
        if attempts.get(number) != stray.attempt:
            lifecycle.forget_stray(state, stray)
    others = [held for held in hello.held if held.number not in worker.held]
    foreign = [held for held in others if not adoption.adopt_again(state, worker, held, now, fx)]
    dropped = {held.number for held in foreign if not strays.keep(state, worker, held, now, fx)}
    worker.held = dict(sorted(worker.held.items()))
    worker.void = min(len(dropped), worker.slots)  # some of them may run; the next heartbeat tells how many
    return spans(sorted(dropped))


def _repeat_cancels(state: State, worker: Worker, fx: Effects) -> None:
    if not state.cancels:
        return
    asked = {number: state.cancels[job] for number, job in worker.held.items() if job in state.cancels}
    forced = sorted(number for number, requests in asked.items() if any(request.force for request in requests))
    others = sorted(asked.keys() - set(forced))
    if worker.route is not None:
        if forced:
            fx.sends.append(Send(worker.route, Kill(spans(forced))))
        if others:
            fx.sends.append(Send(worker.route, Retract(spans(others))))


def on_heartbeat(state: State, worker: Worker, message: Heartbeat, now: Now, fx: Effects) -> None:
    """The lease is renewed by the message itself. What it does not list, and should, is lost."""
    listed = set(inside(worker.held, message.held))
    lost = [job for number, job in worker.held.items() if number <= message.seen and number not in listed]
    if worker.strays:
        strays.on_heartbeat(state, worker, message)
    for job in reversed(lost):
        job.attempt = 0
        state.count("lost_assignments")
        lifecycle.lost(state, job, f"worker {worker} does not hold it any more", now, fx)
    worker.busy = len(message.running)
    if message.void != worker.void:
        worker.void = max(0, min(message.void, worker.slots))
        lifecycle.seat(state, worker)
    news: dict[bytes, list[int]] = {}
    for number in message.running:
        started = worker.held.get(number)
        if started is not None and started.state == ASSIGNED:
            state.moves.one(started, RUNNING)
            worker.running += 1
            news.setdefault(started.submission.source.prefix, []).append(started.counter)
    for prefix, counters in news.items():
        state.story.tell_run(now.wall, prefix, counters, RUNNING, f"worker {worker.name} says that it runs")


def on_retracted(state: State, worker: Worker, message: Retracted, now: Now, fx: Effects) -> None:
    """These have not started: they go back into their lines."""
    back = [worker.held[number] for number in inside(worker.held, message.numbers)]
    for number in inside(worker.strays, message.numbers):
        lifecycle.forget_stray(state, worker.strays[number])
    if len(back) < total(message.numbers):
        state.count("stale_retractions")
    for job in reversed(back):
        job.attempt = 0
        lifecycle.requeue(state, job, f"handed back by worker {worker}", now, fx)
    for number in inside(worker.held, message.started):
        job = worker.held[number]
        if job in state.cancels:
            lifecycle.refuse_cancels(state, job, fx)


def on_draining(state: State, worker: Worker, message: Draining, now: Now, fx: Effects) -> None:
    """No new work for this one."""
    worker.draining = True
    strays.disown(state, list(worker.strays.values()), fx)
    if worker in state.acks:
        state.hurry_acks(worker)
    lifecycle.seat(state, worker)


def on_goodbye(state: State, worker: Worker, message: Goodbye, now: Now, fx: Effects) -> None:
    """Nothing of it runs any more: what it held is free without a charge."""
    jobs = list(worker.held.values())
    for job in reversed(jobs):
        job.attempt = 0
        lifecycle.lost(state, job, f"worker {worker} ended in good order", now, fx)
    lifecycle.remove_worker(state, worker, fx)
    fx.logs.append(Log(logging.INFO, "worker-left", f"worker {worker} left"))


def on_gone(state: State, worker: Worker, now: Now, fx: Effects) -> None:
    """Its connection broke: it is suspect. Its jobs wait for it until its lease ends."""
    held = plural(len(worker.held), "job")
    text = f"worker {worker} lost its connection; what it holds ({held}) waits for it until its lease ends"
    fx.logs.append(Log(logging.WARNING, "worker-suspect", text))
    state.drop_route(worker, fx)
    state.acks.pop(worker, None)
    lifecycle.seat(state, worker)


def flush_acks(state: State, now: Now, fx: Effects) -> None:
    """Acknowledge what is durable, in few messages: when it is many, or late.

    A message of its own for each lone job would cost the whole way more than the job does.
    """
    acks = state.acks
    while acks:
        worker = next(iter(acks))
        numbers, since = acks[worker]
        if now.mono < since + state.settings.ack_delay:
            return
        del acks[worker]
        if worker.route is not None:
            fx.sends.append(Send(worker.route, DoneAck(spans(sorted(set(numbers)))), state.seq))


def next_ack(state: State) -> float:
    """Monotonic time since when the first of these waits; there must be one."""
    return next(iter(state.acks.values()))[1]


def expire_leases(state: State, now: Now, fx: Effects) -> None:
    """Workers that were silent for a whole lease are lost."""
    lease = state.settings.lease
    for _, worker in state.leases.due(now.mono):
        if state.workers.get(worker.nonce) is not worker:
            continue
        if now.mono < worker.heard + lease:
            state.leases.add(worker.heard + lease, worker)
        else:
            lifecycle.lose(state, worker, f"silent for {now.mono - worker.heard:.1f} s", now, fx)
