"""What workers say, and what follows from their silence."""

import logging

from zmqtasks import payload
from zmqtasks.clock import Now
from zmqtasks.errors import PeerError
from zmqtasks.ids import inside, spans, total
from zmqtasks.scheduler.core import lifecycle
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.model import Job, Payload, Ref, Worker
from zmqtasks.scheduler.core.records import Succeeded
from zmqtasks.scheduler.core.state import State
from zmqtasks.scheduler.core.story import Entry
from zmqtasks.states import ASSIGNED, CANCELLED, FAILED, READY, RUNNING, SUCCEEDED
from zmqtasks.wire import CANCELLED as END_CANCELLED
from zmqtasks.wire import (
    CRASHED,
    LOST,
    RETRYABLE,
    Done,
    DoneAck,
    Draining,
    End,
    Goodbye,
    Heartbeat,
    Held,
    Kill,
    Retract,
    Retracted,
    Run,
    WorkerHello,
    WorkerWelcome,
)

MAX_CREDIT = 1_000_000  # assignments that one worker may hold
MAX_NUMBER = 2**53  # assignment numbers of one worker's life stay far below

MANY_ACKS = 200  # outcomes whose acknowledgement does not wait for more


def on_hello(state: State, route: bytes, hello: WorkerHello, now: Now, fx: Effects, release: str) -> None:
    """A worker's connection begins: a new life, or one that goes on. Both sides now agree on what it holds."""
    _sane(hello)
    worker = state.workers.get(hello.nonce)
    if worker is not None and hello.connection < worker.connection:
        state.count("late_hellos")
        return
    if worker is None:
        worker = state.workers[hello.nonce] = Worker(hello.nonce)
        worker.next = hello.seen + 1
        worker.offered = worker.credit = hello.credit
        worker.slots = hello.slots
        worker.name, worker.host, worker.pid = hello.name, hello.host, hello.pid
        worker.queues, worker.tasks = hello.queues, hello.tasks
        state.lines.join(worker, hello.queues, hello.tasks, hello.python)
        state.leases.add(now.mono + state.settings.lease, worker)
        fx.logs.append(Log(logging.INFO, "worker-joined", f"worker {worker} joined with {worker.slots} slots"))
    elif worker.route != route:
        state.drop_route(worker, fx)
    else:
        state.drop_bulk(worker, fx)
    state.peers[route] = worker
    worker.route = route
    worker.connection = hello.connection
    worker.heard = now.mono
    worker.functions.clear()
    worker.asked.clear()
    dropped = _reconcile(state, worker, hello.held, now, fx)
    settings = state.settings
    fx.sends.append(
        Send(
            route,
            WorkerWelcome(state.epoch, release, settings.heartbeat, settings.lease, settings.max_payload, dropped),
        )
    )
    _repeat_cancels(state, worker, fx)
    lifecycle.seat(state, worker)


def _sane(hello: WorkerHello) -> None:
    if not 0 < hello.slots <= hello.credit <= MAX_CREDIT or not 0 <= hello.seen < MAX_NUMBER:
        message = f"worker {hello.name} has {hello.slots} slots, {hello.credit} assignments and has seen {hello.seen}"
        raise PeerError(message)
    if not all(0 < held.number <= hello.seen for held in hello.held):
        message = f"worker {hello.name} lists assignments that it has not seen"
        raise PeerError(message)


def _reconcile(state: State, worker: Worker, listed: list[Held], now: Now, fx: Effects) -> list[tuple[int, int]]:
    """Take back what an assignment lost on the old connection left behind, adopt what the worker still holds.

    Returns the numbers that the worker must drop.
    """
    attempts = {held.number: held.attempt for held in listed}
    lost = [job for number, job in worker.held.items() if attempts.get(number) != job.attempt]
    for job in reversed(lost):
        job.attempt = 0
        lifecycle.requeue(state, job, f"its assignment never reached worker {worker}", now, fx)
    dropped = {h.number for h in listed if h.number not in worker.held and not _adopt(state, worker, h, now)}
    worker.held = dict(sorted(worker.held.items()))
    return spans(sorted(dropped))


def _adopt(state: State, worker: Worker, held: Held, now: Now) -> bool:
    """The worker was given up, but the job has not started elsewhere: it is the worker's again."""
    job = state.find(held.prefix, held.counter)
    if job is None or job.attempt != held.attempt or job.state != READY or worker.credit <= 0:
        return False
    state.lines.remove(job)
    if job.solo:  # its worker was not dead after all
        job.solo = False
        job.crashes -= 1
        texts = state.evidence[job]
        texts.pop()
        if not texts:
            del state.evidence[job]
    job.worker, job.number, job.cost = worker, held.number, 0.0
    worker.held[held.number] = job
    worker.next = max(worker.next, held.number + 1)
    worker.credit -= 1
    state.moves.one(job, ASSIGNED)
    state.story.tell(Entry(now.wall, held.prefix, held.counter, 1, ASSIGNED, f"adopted again from worker {worker}"))
    state.count("adopted")
    return True


def _repeat_cancels(state: State, worker: Worker, fx: Effects) -> None:
    asked = {job.number: requests for job, requests in state.cancels.items() if job.worker is worker}
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
    for job in reversed(lost):
        job.attempt = 0
        state.count("lost_assignments")
        lifecycle.requeue(state, job, f"worker {worker} does not hold it any more", now, fx)
    worker.busy = len(message.running)
    for number in message.running:
        started = worker.held.get(number)
        if started is not None and started.state == ASSIGNED:
            state.moves.one(started, RUNNING)
            worker.running += 1


def on_done(state: State, worker: Worker, message: Done, now: Now, fx: Effects) -> None:
    """Outcomes: taken from the current attempt only; late and repeated ones are counted and acknowledged."""
    numbers: list[int] = []
    for run in message.runs:
        numbers.extend(range(run.first, run.first + len(run.results)))
        _succeeded(state, worker, run, now, fx)
    for end in message.ends:
        numbers.append(end.number)
        job = worker.held.get(end.number)
        if job is None:
            state.count("stale_results")
        else:
            worker.done += 1
            _ended(state, worker, job, end, now, fx)
    worker.moved = now.mono
    lifecycle.seat(state, worker)
    state.acks.setdefault(worker, ([], now.mono))[0].extend(numbers)


def _succeeded(state: State, worker: Worker, run: Run, now: Now, fx: Effects) -> None:
    held = worker.held
    jobs: list[Job] = []
    outcomes: list[Payload] = []
    load = 0.0
    number = run.first
    keep = state.payloads.keep
    spill = state.payloads.spill
    for result in run.results:
        job = held.pop(number, None)
        number += 1
        if job is None:
            state.count("stale_results")
            continue
        load += job.cost
        if job.state == RUNNING:
            worker.running -= 1
        job.worker = None
        jobs.append(job)
        outcomes.append(result if len(result) <= spill else keep(result, fx))
    if not jobs:
        return
    worker.asked.difference_update(range(run.first, number))
    worker.credit += len(jobs)
    worker.load = worker.load - load if held else 0.0
    worker.done += len(jobs)
    state.moves.many(jobs, SUCCEEDED)
    jobs[0].submission.target.measured(len(run.results), run.total, run.longest)
    _record_success(state, jobs, outcomes, now, fx)
    lifecycle.settle(state, jobs, outcomes, now, fx)
    state.count("succeeded", len(jobs))


def _record_success(state: State, jobs: list[Job], outcomes: list[Payload], now: Now, fx: Effects) -> None:
    """One record and one line of the story per prefix."""
    start = 0
    for index in range(1, len(jobs) + 1):
        prefix = jobs[start].submission.source.prefix
        if index < len(jobs) and jobs[index].submission.source.prefix == prefix:
            continue
        told = [o.number if isinstance(o, Ref) else o for o in outcomes[start:index]]
        state.record(fx, Succeeded(prefix, [job.counter for job in jobs[start:index]], told))
        state.story.tell(Entry(now.wall, prefix, jobs[start].counter, index - start, SUCCEEDED, "its result came"))
        start = index


def _ended(state: State, worker: Worker, job: Job, end: End, now: Now, fx: Effects) -> None:
    if end.took and end.kind not in (CRASHED, LOST):
        job.submission.target.measured(1, end.took, end.took)
    if end.kind == END_CANCELLED:
        lifecycle.end(state, job, CANCELLED, end.payload, now, fx)
    elif end.kind == RETRYABLE:
        lifecycle.retry(state, job, end.payload, now, fx)
    elif end.kind == CRASHED:
        job.attempt = 0
        lifecycle.crash(state, job, payload.read_failure(end.payload).text, now, fx)
    elif end.kind == LOST:
        job.attempt = 0
        lifecycle.requeue(state, job, f"its outcome was lost with a child of worker {worker}", now, fx)
    else:
        lifecycle.end(state, job, FAILED, end.payload, now, fx)
        state.count("failed")


def on_retracted(state: State, worker: Worker, message: Retracted, now: Now, fx: Effects) -> None:
    """These have not started: they go back into their lines."""
    back = [worker.held[number] for number in inside(worker.held, message.numbers)]
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
    lifecycle.seat(state, worker)


def on_goodbye(state: State, worker: Worker, message: Goodbye, now: Now, fx: Effects) -> None:
    """Nothing of it runs any more: what it held is free without a charge."""
    jobs = list(worker.held.values())
    for job in reversed(jobs):
        job.attempt = 0
        lifecycle.requeue(state, job, f"worker {worker} ended in good order", now, fx)
    lifecycle.remove_worker(state, worker, fx)
    fx.logs.append(Log(logging.INFO, "worker-left", f"worker {worker} left"))


def on_gone(state: State, worker: Worker, now: Now, fx: Effects) -> None:
    """Its connection broke: it is suspect. Its jobs wait for it until its lease ends."""
    fx.logs.append(
        Log(
            logging.WARNING,
            "worker-suspect",
            f"worker {worker} lost its connection; its {len(worker.held)} jobs wait for it until its lease ends",
        )
    )
    state.drop_route(worker, fx)
    state.acks.pop(worker, None)
    lifecycle.seat(state, worker)


def flush_acks(state: State, now: Now, fx: Effects) -> None:
    """Acknowledge what is durable, in few messages: when it is many, or late.

    A message of its own for each lone job would cost the whole way more than the job does.
    """
    for worker in list(state.acks):
        numbers, since = state.acks[worker]
        if now.mono >= since + state.settings.ack_delay or worker.draining or len(numbers) >= MANY_ACKS:
            del state.acks[worker]
            if worker.route is not None:
                fx.sends.append(Send(worker.route, DoneAck(spans(sorted(set(numbers)))), state.seq))


def next_ack(state: State) -> float | None:
    """Monotonic time when the first of these is late."""
    return min((since for _, since in state.acks.values()), default=None)


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
