"""Names that operators type: whether anybody knows them, and what a wrong one was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import chain, islice
from typing import Final

from zmqtasks.scheduler.core.model import Worker
from zmqtasks.scheduler.core.state import State

LOOK: Final = 100_000  # submissions among which one of a queue is looked for
NEAR: Final = 1_000  # names that are compared, those of the same first letter before others: a turn is short


def near(name: str, names: Iterable[str]) -> str:
    """The one of these names that was probably meant; empty: none."""
    alike = sorted(names, key=lambda one: (one[:1] != name[:1], one))[:NEAR]
    found = get_close_matches(name, alike, n=1)
    return found[0] if found else ""


def no_task(state: State, task: str) -> str:
    """That nobody knows a task of this name, with the name of one that was perhaps meant; empty: somebody does."""
    known = {name for name in state.targets if isinstance(name, str)}
    known.update(*(profile.tasks for profile in state.lines.profiles()))
    if task in known:
        return ""
    return f"no worker knows a task {task!r}, and no job of it is here{_meant(task, known)}"


def no_queue(state: State, queue: str) -> str:
    """That nobody takes from a queue of this name, and no job is in it; empty: that is not so, or not sure."""
    lines = state.lines
    known = {*lines.served(), *(line.need.queue for line in lines.all())}
    if queue in known:
        return ""
    many = chain.from_iterable(source.submissions.values() for source in state.sources.values())
    for looked, submission in enumerate(islice(many, LOOK + 1)):  # delayed jobs stand in no line
        if looked == LOOK or (submission.live and submission.spec.queue == queue):
            return ""
    return f"no worker takes from queue {queue!r}, and no job is in it{_meant(queue, known)}"


def not_taken(queue: str, workers: Iterable[Worker]) -> str:
    """That none of these workers takes from a queue of this name; empty: one does."""
    known = {name for worker in workers for name in worker.queues}
    if queue in known:
        return ""
    return f"no worker that was asked takes from queue {queue!r}{_meant(queue, known)}"


def _meant(name: str, names: Iterable[str]) -> str:
    found = near(name, names)
    return f"; did you mean {found!r}?" if found else ""
