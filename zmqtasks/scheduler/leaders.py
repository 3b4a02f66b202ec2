"""Two threads, of which one leads the loop and the other is the journal's writer (the leader/followers pattern).

A commit is one fsync. To hand it to a thread that sleeps, and to be woken by that, costs a lone job half as much again.
So the leader commits what is small by itself, as long as the disk is quick. Should a commit get stuck all the same, the
writer notices within some ms and leads the loop from then on; the one that is stuck is the writer when it comes back.
Other commits are the writer's, who sends what they make durable, unless the leader is in the middle of a turn: then
that does so.

The baton is held by whoever uses the sockets and the core: by the leader, but while it sleeps or commits. Nobody waits
for a disk with it.

Source: D. C. Schmidt et al., Pattern-Oriented Software Architecture, volume 2, "Leader/Followers".
"""

import threading
from collections.abc import Callable

from zmqtasks.scheduler.journal import Journal


class Leaders:
    """The threads of one scheduler with a journal on disk. The main thread is none of them: signals are handled there.

    Args:
        step: one turn of the loop, its sleep included; False: it was the last one. Called with the baton.
        journal: its thread does `lead` when the leader is stuck.

    Attributes:
        baton: see above.
        wanted: set by a turn: what the journal has taken is small, and should be written now.
    """

    def __init__(self, step: Callable[[], bool], journal: Journal) -> None:
        self.baton = threading.Lock()
        self.wanted = False
        self._step, self._journal = step, journal
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Have the loop led until its last turn; nobody leads it, and the baton stays here, when this returns.

        Raises:
            what a turn has raised.
        """
        threading.Thread(target=self.lead, name="loop", daemon=True).start()
        self._over.wait()
        self.baton.acquire()
        if self._failure is not None:
            raise self._failure

    def lead(self) -> None:
        """Lead the loop until its last turn, or until nothing will be written any more."""
        try:
            with self.baton:
                while self._step():
                    if self.wanted and not self._commit():
                        return  # the other one leads
        except BaseException as error:  # noqa: BLE001  (`run` raises it)
            self._failure = error
        self._over.set()

    def _commit(self) -> bool:
        """Write what was taken; whether this thread leads afterwards."""
        self.wanted = False
        self.baton.release()
        try:
            return self._journal.commit() or self._journal.work()
        finally:
            self.baton.acquire()
