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
from zmqtasks.transport import Wakeup, wait


class Leaders:
    """The threads of one scheduler with a journal on disk. The main thread is none of them: signals are handled there.

    Args:
        step: one turn of the loop, its sleep included; False: it was the last one. Called with the baton.
        journal: its thread does `lead` when the leader is stuck.

    Attributes:
        baton: see above.
        wanted: set by a turn: what the journal has taken is small, and should be written now.
        signals: ends the sleep of the main thread. Its descriptor is for `signal.set_wakeup_fd`: the kernel may give a
            signal to any thread, but handlers run in the main thread, once that is awake.
    """

    def __init__(self, step: Callable[[], bool], journal: Journal) -> None:
        self.baton = threading.Lock()
        self.wanted = False
        self._step, self._journal = step, journal
        self.signals = Wakeup()
        self._over = False
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Have the loop led until its last turn; nobody leads it, and the baton stays here, when this returns.

        Raises:
            what a turn has raised.
        """
        threading.Thread(target=self.lead, name="loop", daemon=True).start()
        while not self._over:
            wait((self.signals.fileno(),), None)
            self.signals.clear()
        self.baton.acquire()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """After the last turn."""
        self.signals.close()

    def lead(self) -> None:
        """Lead the loop until its last turn, or until nothing will be written any more."""
        try:
            while self._turn_until_wanted():
                if not (self._journal.commit() or self._journal.work()):
                    return  # the other one leads
        except BaseException as error:  # noqa: BLE001  (`run` raises it)
            self._failure = error
        self._over = True
        self.signals.set()

    def _turn_until_wanted(self) -> bool:
        """Turns, until what was taken should be written; False: it was the last one."""
        with self.baton:
            while self._step():
                if self.wanted:
                    self.wanted = False
                    return True
        return False
