"""Jobs that must not start after a certain time: what has not started then is ended by the system."""

from zmqtasks.clock import Now
from zmqtasks.scheduler.core import lifecycle, retracts
from zmqtasks.scheduler.core.effects import Effects
from zmqtasks.scheduler.core.model import Submission, Worker
from zmqtasks.scheduler.core.state import State
from zmqtasks.states import ASSIGNED, DELAYED, READY, WAITING


def watch(state: State, submission: Submission) -> None:
    """Have its jobs end when their time is over."""
    if submission.spec.expires:
        state.expirations.add(submission.spec.expires, submission)


def come_due(state: State, now: Now, fx: Effects) -> None:
    """End what has expired and stands here; ask for what a worker holds and has not started."""
    for _, submission in list(state.expirations.due(now.wall)):
        asked: dict[Worker, list[int]] = {}
        jobs = submission.source.jobs
        for counter in range(submission.first, submission.first + submission.count):
            job = jobs.get(counter)
            if job is None or job.submission is not submission:
                continue
            if job.state in (READY, DELAYED, WAITING):
                lifecycle.abort(state, job, "JobExpired", f"job {job.id}: {lifecycle.expired(submission)}", now, fx)
            elif job.state == ASSIGNED and job.worker is not None and job.number not in job.worker.asked:
                asked.setdefault(job.worker, []).append(job.number)
        for worker, numbers in asked.items():
            retracts.ask_back(state, worker, sorted(numbers), fx)
