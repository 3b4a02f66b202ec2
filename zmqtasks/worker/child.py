"""The process that runs jobs: one slot, or several as threads, with what surrounds them.

It is forked by the fork server (`run`), or started by itself where the app's import starts threads (`main`).
What a job may do to its process, and what then follows:

- It closes descriptors of ours, or makes the process unfit in another way: the child ends with a line that says so,
  and a new one takes its place. The job is charged as for any death.
- It replaces `sys.stdout`, turns off the garbage collector, takes SIGINT or SIGTERM: put right after its claim.
  (Not `sys.stdout` where slots are threads: another one may be using it.) It leaves an alarm behind: ended with it.
- It changes the directory, the environment, `sys.path`, or leaves threads behind: that is left as it is.
"""

import errno
import gc
import io
import os
import signal
import socket
import sys
import threading
from _signal import getsignal  # type: ignore[import-not-found]  # that of `signal` makes an enum: 80 times as long
from collections.abc import Collection
from typing import Final, TextIO, cast

from zmqtasks import logs
from zmqtasks.errors import NoCurrentJob
from zmqtasks.request import Request
from zmqtasks.task import CurrentJob, set_current
from zmqtasks.worker import hostinfo
from zmqtasks.worker.cells import Cells
from zmqtasks.worker.claims import Boot, decode_to_forkserver
from zmqtasks.worker.functions import Functions
from zmqtasks.worker.gpus import Visible
from zmqtasks.worker.loading import Tasks, accepted_by, load_app
from zmqtasks.worker.output import Output, Sink
from zmqtasks.worker.reports import Progress, Reports
from zmqtasks.worker.running import Runner, Surroundings

_STDERR: Final = 2


class Child:
    """The process that has the slots from `first` on.

    Args:
        boot: what the fork server was told.
        first: index of its first slot.
        claims: shared by all children of the agent; each message is one claim.
        cells: of all slots.
        stream: this child's own to the agent.
        tasks: registered ones by name.
        accept: codecs that are decoded.
    """

    def __init__(
        self,
        boot: Boot,
        first: int,
        claims: socket.socket,
        cells: Cells,
        stream: socket.socket,
        tasks: Tasks,
        accept: Collection[str],
    ) -> None:
        self._output = Output(Sink(_STDERR, boot.logfile), self._whose)
        reports = Reports(stream)
        self._progress = Progress(reports.send, self._runs, reports.interrupted)
        around = Surroundings(
            cells,
            claims,
            Functions(tasks, boot.worker, accept),
            reports.send,
            self._output.finish,
            disarm if boot.per_child == 1 else _leave,
            self._mend if boot.per_child == 1 else _mend_process,
            Visible(alone=boot.per_child == 1),
            boot.per_child == 1,
            boot.worker,
            hostinfo.host(),
        )
        self._first = first
        self._runners = [Runner(first + i, around) for i in range(boot.per_child)]
        self._local = threading.local()

    def run(self) -> None:
        """Run claims until the agent is gone."""
        set_current(self._current, self._tell, self._request)
        sys.stdout, sys.stderr = cast("TextIO", self._output.stdout), cast("TextIO", self._output.stderr)
        logs.in_child(cast("TextIO", self._output.log), self._job_and_task)
        if len(self._runners) == 1:
            self._runners[0].loop()
            return
        threads = [
            threading.Thread(target=self._serve, args=(runner,), name=f"slot {runner.index}", daemon=True)
            for runner in self._runners
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self, runner: Runner) -> None:
        self._local.runner = runner
        code = 1
        try:
            runner.loop()
            code = 0
        except BaseException as error:  # noqa: BLE001  (of ours: jobs cannot raise into the loop)
            code = told(error)
        finally:
            if code:
                os._exit(code)

    def close(self) -> None:
        """End the lines that were begun."""
        for slot in (*(runner.index for runner in self._runners), -1):
            self._output.finish(slot)

    # -------------------------------------------------------------------------------------------- who runs here

    def _runner(self) -> Runner | None:
        """Whose the calling thread is. With one slot, all threads are its: jobs started them."""
        if len(self._runners) == 1:
            return self._runners[0]
        return getattr(self._local, "runner", None)

    def _current(self) -> CurrentJob | None:
        runner = self._runner()
        return runner.current() if runner is not None else None

    def _request(self) -> Request | None:
        runner = self._runner()
        return runner.request() if runner is not None else None

    def _whose(self) -> tuple[int, str]:
        runner = self._runner()
        job = runner.current() if runner is not None else None
        if runner is None or job is None:
            return -1, ""
        return runner.index, f"[{job.id} {job.task}] "

    def _job_and_task(self) -> tuple[str, str]:
        job = self._current()
        return (job.id, job.task) if job is not None else ("", "")

    # -------------------------------------------------------------------------------------------- progress

    def _tell(self, job: CurrentJob, value: bytes, at_once: bool) -> None:  # noqa: FBT001  (a hook)
        if not self._progress.usable:
            raise NoCurrentJob(f"job {job.id} runs in the process that forked this one; progress is told there")
        for runner in self._runners:
            number, claim = runner.number, runner.claim
            now = runner.current()
            if now is not None and now.attempt == job.attempt:
                self._progress.tell(runner.index, claim, number, value, at_once=at_once)
                return
        raise NoCurrentJob(f"job {job.id} is over")

    def _runs(self, slot: int, number: int) -> bool:
        return self._runners[slot - self._first].number == number

    # -------------------------------------------------------------------------------------------- after a claim

    def _mend(self) -> None:
        if sys.stdout is not self._output.stdout or sys.stderr is not self._output.stderr:
            sys.stdout, sys.stderr = cast("TextIO", self._output.stdout), cast("TextIO", self._output.stderr)
        for number in (signal.SIGINT, signal.SIGTERM):
            if getsignal(number) is not let_pass:
                signal.signal(number, let_pass)
        _mend_process()


def disarm() -> None:
    """End the timer that a job has left behind. If it has run out by now, its handler ends here, whatever it raises."""
    while True:
        try:
            signal.alarm(0)
        except BaseException:  # noqa: BLE001, S112  (it is for a job that is over)
            continue
        return


def _leave() -> None:
    """Where slots are threads, a timer is no job's: Python runs handlers in the main thread alone."""


def _mend_process() -> None:
    if not gc.isenabled():
        gc.enable()


def told(error: BaseException) -> int:
    """Say why this process ends; its exit code."""
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return 0  # the agent is gone
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        print(  # noqa: T201
            f"this process (pid {os.getpid()}) cannot take in its next jobs: it may not open more files; "
            "jobs have left too many open, or the limit is too low (ulimit -n). It ends; a new one takes its place",
            file=sys.stderr,
        )
    elif isinstance(error, OSError) and error.errno in (errno.EBADF, errno.ENOTSOCK):
        print(  # noqa: T201  (this is the output of jobs)
            f"a job has closed descriptors of this process (pid {os.getpid()}), which ends; a new one takes its place",
            file=sys.stderr,
        )
    else:
        sys.excepthook(type(error), error, error.__traceback__)  # a bug of ours
    return 1


# ------------------------------------------------------------------------------------------------ the process


def let_pass(_number: int, _frame: object) -> None:
    """Ctrl-C and a service manager's SIGTERM go to every process; the agent alone decides what ends when.

    A handler, not SIG_IGN: what jobs start by exec must not inherit that.
    """


def quiet_signals() -> None:
    """Let SIGINT and SIGTERM pass."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, let_pass)


def run(
    boot: Boot,
    index: int,
    claims_fd: int,
    cells_fd: int,
    report_fd: int,
    tasks: Tasks,
    accept: Collection[str],
) -> None:
    """The life of a child, in its process. Ends when the agent is gone; never returns."""
    code = 1
    child: Child | None = None
    try:
        quiet_signals()
        hostinfo.keep_freed_memory()
        _reseed()
        gc.enable()
        claims, reports = socket.socket(fileno=claims_fd), socket.socket(fileno=report_fd)
        child = Child(boot, index * boot.per_child, claims, Cells(boot.slots, cells_fd), reports, tasks, accept)
        child.run()
        code = 0
    except BaseException as error:  # noqa: BLE001  (jobs cannot raise into the loop)
        code = told(error)
    finally:
        if child is not None:
            child.close()
        for stream in (sys.__stdout__, sys.__stderr__):
            try:
                cast("io.TextIOBase", stream).flush()
            except (OSError, ValueError, AttributeError):
                pass
        os._exit(code)


def _reseed() -> None:
    """Forked children would all draw the same numbers from numpy's global generator; Python's reseeds itself."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(int.from_bytes(os.urandom(4), "little"))


def main() -> None:
    """A child started by exec: INDEX CLAIMS_FD CELLS_FD REPORT_FD PARENT BOOT, the last one encoded, in hex."""
    index, claims_fd, cells_fd, report_fd, parent = map(int, sys.argv[1:6])
    boot = decode_to_forkserver.decode(bytes.fromhex(sys.argv[6]))
    assert isinstance(boot, Boot)  # noqa: S101  (the fork server passes on what it got)
    hostinfo.die_with_parent(parent)
    logs.setup(boot.loglevel, boot.logfile or None)
    app = load_app(boot.app, boot.directory) if boot.app else None
    run(boot, index, claims_fd, cells_fd, report_fd, app.tasks if app else {}, accepted_by(app))


if __name__ == "__main__":
    main()
