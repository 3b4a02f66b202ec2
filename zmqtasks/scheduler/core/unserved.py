"""Jobs that no worker can run: they wait, and people are told; or they fail at once where that was asked for.

Those that are for one worker wait for it for a minute: one that was started again by its name runs them.
"""

import logging
from difflib import get_close_matches

from zmqtasks import queues, resources, wire
from zmqtasks.clock import Now
from zmqtasks.resources import Amounts
from zmqtasks.scheduler.core import lifecycle, names
from zmqtasks.scheduler.core.effects import Effects, Log, Send
from zmqtasks.scheduler.core.model import Line, Profile
from zmqtasks.scheduler.core.needs import Need
from zmqtasks.scheduler.core.state import State

AGAIN = 3600.0  # seconds until a line that still waits is told again
GONE = 60.0  # seconds after which a worker that does not come back is gone
SCREENFUL = 20  # lines of which `status` warns; the log has them all
AT_ONCE = 10  # lines told one by one in one turn


def watch(state: State, now: Now, fx: Effects) -> None:
    """Begin to be patient with lines that nobody serves now; tell of those that have waited long enough."""
    lines = state.lines
    for line in [line for line in state.warned if line not in lines.unserved] if state.warned else ():
        del state.warned[line]
    for line in lines.lately:
        if line in lines.unserved:
            line.since = now.mono
            state.patience.add(now.mono + state.settings.unknown_task_after, line)
            _fail_strict(state, line, now, fx)
    lines.lately.clear()
    told = 0
    for _, line in state.patience.due(now.mono):
        since = line.since
        if line not in lines.unserved or since is None or now.mono < since + state.settings.unknown_task_after:
            continue
        if line.need.bound and now.mono >= since + GONE:
            _fail_bound(state, line, now, fx)
            continue
        state.patience.add(since + GONE if line.need.bound else now.mono + AGAIN, line)
        told += 1
        _tell(state, line, fx, log=told <= AT_ONCE)
    if told > AT_ONCE:
        text = f"jobs of {told - AT_ONCE} more submitters or tasks wait for a worker that can run them"
        fx.logs.append(Log(logging.WARNING, "unserved", text))


def why(state: State, line: Line) -> str:
    """Why no worker serves this line, for people who ask."""
    return _why(state, line)


def warnings(state: State) -> list[str]:
    """What `status` warns of: how many jobs wait now, of the lines that have waited long enough, for each reason."""
    waiting: dict[str, int] = {}
    for line in state.warned:
        if line in state.lines.unserved:
            reason = _why(state, line)
            waiting[reason] = waiting.get(reason, 0) + len(line)
    return [_text(jobs, reason) for reason, jobs in waiting.items()]


def on_join(state: State, now: Now, fx: Effects) -> None:
    """A worker came: what must not wait for an unknown task can be decided now."""
    for line in [line for line in state.lines.unserved if line.need.strict]:
        _fail_strict(state, line, now, fx)


def _fail_strict(state: State, line: Line, now: Now, fx: Effects) -> None:
    known = state.lines.known_tasks(line.need.queue) if line.need.strict else None
    if known is None or state.lines.that_know(line.need):
        return  # it may wait; or there is no worker at all yet: not unknown, only early; or it is known there
    text = _why(state, line)
    while len(line):
        lifecycle.abort(state, line.head(), "TaskNotRegistered", text, now, fx)


def _fail_bound(state: State, line: Line, now: Now, fx: Effects) -> None:
    text = f"{_why(state, line)}; it was waited for for {GONE:.0f} s"
    while len(line):
        lifecycle.abort(state, line.head(), "WorkerLost", text, now, fx)


def _tell(state: State, line: Line, fx: Effects, *, log: bool) -> None:
    text = _text(len(line), _why(state, line))
    state.warned.pop(line, None)
    state.warned[line] = None
    while len(state.warned) > SCREENFUL:
        del state.warned[next(iter(state.warned))]
    if log:
        fx.logs.append(Log(logging.WARNING, "unserved", text))
    submitter = state.submitters.get(line.flow)
    if submitter is not None and submitter.route is not None:
        fx.sends.append(Send(submitter.route, wire.Notice(text, *_subject(state, line.need))))


def _subject(state: State, need: Need) -> tuple[str, str, str, Amounts]:
    """Queue, task, Python and resources of the jobs that wait for the same reason."""
    if state.lines.known_tasks(need.queue) is None:
        return need.queue, "", "", ()
    return need.queue, need.task, need.python, need.resources if state.lines.that_know(need) else ()


def _text(jobs: int, reason: str) -> str:
    return f"{'1 job waits' if jobs == 1 else f'{jobs} jobs wait'}: {reason}"


def _why(state: State, line: Line) -> str:
    need = line.need
    known = state.lines.known_tasks(need.queue)
    if known is None and queues.owner(need.queue):
        name = queues.owner(need.queue)
        return f"worker {name!r}, whose own queue {need.queue!r} is, is not there; zmqtasks worker -n {name} starts it"
    if known is None:
        near = get_close_matches(need.queue, state.lines.served(), n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        return f"no worker takes from queue {need.queue!r}{meant}; start one with: {_start(need)}"
    poor = state.lines.that_know(need)
    if poor:
        return _too_poor(need, poor)
    if not need.task:
        return f"shipped functions need Python {need.python}, which no worker of queue {need.queue!r} runs"
    near = get_close_matches(need.task, sorted(known), n=3)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    elif known:
        hint = f"they know: {', '.join(sorted(known)[:10])}"
    else:
        hint = f"they know no task at all; start one that does with: {_start(need)}"
    return f"no worker of queue {need.queue!r} knows a task {need.task!r}; {hint}"


def _start(need: Need) -> str:
    """The command of a worker for such jobs. A worker without an app knows no task; shipped functions need none."""
    return f"zmqtasks worker {'-A APP ' if need.task else ''}-Q {need.queue}"


def _too_poor(need: Need, poor: list[Profile]) -> str:
    """No worker has so much of what is needed, even if it did nothing else."""
    most = {name: max(dict(profile.resources).get(name, 0) for profile in poor) for name, _ in need.resources}
    least = [f"{name} {resources.show_amount(most[name])}" for name, amount in need.resources if most[name] < amount]
    has = f"the most that one has is {' and '.join(least)}" if least else "none has all of it"
    have = sorted({name for profile in poor for name, _ in profile.resources})
    near = {name: names.near(name, have) for name in most if not most[name]}
    meant = "".join(f"; did you mean {other!r} by {name!r}?" for name, other in near.items() if other)
    arguments = " ".join(
        f"--resource {name}={resources.show_amount(n).replace(' ', '').replace(',', '')}" for name, n in need.resources
    )
    return (
        f"a job needs {resources.show(need.resources)}, and no worker of queue {need.queue!r} that could run it has "
        f"that ({has}{meant}); start one with: {_start(need)} {arguments}"
    )
