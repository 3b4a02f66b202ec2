"""What goes wrong in the safety phase of a history, at random moments."""

from typing import TYPE_CHECKING, Any

from tests.sim.worker import WorkerNode

if TYPE_CHECKING:
    from tests.sim.history import History

GIVEN_UP = 4.0  # seconds without a sign after which the ends of a connection give it up


class Faults:
    """Everything that can befall a history's nodes.

    Args:
        history: whose nodes.
        theme: of the history: "lonely": partitions only, which last until a worker is given up; "paused": the
            scheduler stands still now and then; "frozen": a worker does, for longer than a lease; "clock": the wall
            clock is set; "watched": the scripts' connections break; "flapping": slow connections
            break; "forgetful": scripts hear nothing for a while, and the scheduler, which keeps everything in memory,
            is restarted; otherwise everything.
        restarts: the scheduler may be killed and begin anew, knowing nothing.
    """

    def __init__(self, history: "History", *, theme: str, restarts: bool) -> None:
        self.history, self.world, self.network = history, history.world, history.network
        self.furthest = 0.0  # seconds that the wall clock was ahead at most
        self.lonely = theme == "lonely"
        always = [self.break_link, self.break_link, self.partition, self.swizzle, self.kill_worker, self.kill_child]
        always += [self.kill_child, self.kill_submitter, self.stop_somebody, self.stop_somebody, self.step_clock]
        always += [self.drain_worker]
        if restarts:
            always += [self.restart_scheduler, self.restart_scheduler]
        if history.scheduler.disk is not None:
            always += [self.fill_disk]
        only = {
            "lonely": [self.partition],
            "paused": [self.pause_scheduler],
            "frozen": [self.freeze_worker],
            "clock": [self.step_clock],
            "watched": [self.break_script],
            "flapping": [self.break_link],
            "forgetful": [self.deafen_script, self.deafen_script, self.forget_everything, self.kill_child],
        }
        self.kinds = only.get(theme, always)

    def one(self) -> None:
        """Something goes wrong."""
        fault = self.world.random.choice(self.kinds)
        if fault != self.step_clock:
            self.history.laws.faultless = False
        fault()

    def _some_links(self) -> list[tuple[Any, Any]]:
        return [(link, node) for link, node in self.network.links.items() if node.alive]

    # ------------------------------------------------------------------------------------------ the network

    def break_link(self) -> None:
        """A connection breaks."""
        links = self._some_links()
        if links:
            self.network.cut(*self.world.random.choice(links))

    def _scripts(self) -> list[tuple[Any, Any]]:
        return [(link, node) for link, node in self._some_links() if node in self.history.submitters]

    def break_script(self) -> None:
        """A script's connection breaks."""
        scripts = self._scripts()
        if scripts:
            self.network.cut(*self.world.random.choice(scripts))

    def deafen_script(self) -> None:
        """What a script says arrives, and it hears nothing."""
        scripts = self._scripts()
        if scripts:
            self._clog(*self.world.random.choice(scripts), self.world.random.uniform(0.5, 4.0), up=False)

    def partition(self) -> None:
        """Nothing passes, one way or both."""
        links = self._some_links()
        if links:
            random = self.world.random
            up, down = random.choice(((True, True), (True, False), (False, True)))
            length = random.uniform(4.5 if self.lonely else 0.2, 9.0)
            self._clog(*random.choice(links), length, up=up, down=down)

    def swizzle(self) -> None:
        """Some connections are clogged one after the other, and come free in another order."""
        random = self.world.random
        links = self._some_links()
        for link, node in random.sample(links, random.randint(0, len(links))):
            begin, end = random.uniform(0, 1.0), random.uniform(1.0, 6.0)
            self.world.after(begin, self._clog, link, node, end - begin)

    def _clog(self, link: Any, node: Any, length: float, *, up: bool = True, down: bool = True) -> None:
        if not link.alive:
            return
        link.stall(up=up, down=down)
        self.network.isolated.add(node.name)
        if length > GIVEN_UP:
            self.world.after(GIVEN_UP, self.network.cut, link, node)
        self.world.after(length, self._free, link, node)

    def _free(self, link: Any, node: Any) -> None:
        self.network.isolated.discard(node.name)
        link.resume()

    # ------------------------------------------------------------------------------------------ processes

    def kill_worker(self) -> None:
        """kill -9 of an agent; another worker comes."""
        alive = [w for w in self.history.workers if w.alive]
        if alive:
            self.world.random.choice(alive).die()
            self.world.after(self.world.random.uniform(0.1, 3.0), self.history.new_worker)

    def drain_worker(self) -> None:
        """SIGTERM of an agent, sometimes twice; another worker comes."""
        random = self.world.random
        alive = [w for w in self.history.workers if w.alive]
        if alive:
            victim: WorkerNode = random.choice(alive)
            victim.terminate()
            if random.random() < 0.3:
                self.world.after(random.uniform(0.0, 2.0), victim.terminate)
            self.world.after(random.uniform(0.1, 3.0), self.history.new_worker)

    def kill_child(self) -> None:
        """kill -9 of a child."""
        children = [(w, c) for w in self.history.workers if w.alive and not w.stopped for c in w.children if c.alive]
        if children:
            worker, child = self.world.random.choice(children)
            worker.child_dies(child, "killed by SIGKILL")

    def kill_submitter(self) -> None:
        """kill -9 of a script."""
        alive = [s for s in self.history.submitters if s.alive]
        if len(alive) > 1:
            self.world.random.choice(alive).die()

    def stop_somebody(self) -> None:
        """SIGSTOP of a process for up to a minute; its connections are given up when it is long."""
        random = self.world.random
        length = random.choice((random.uniform(0.1, 3.0), random.uniform(3.0, 8.0), random.uniform(8.0, 60.0)))
        victims: list[Any] = [*self.history.workers, *self.history.submitters, self.history.scheduler]
        victims += [child for worker in self.history.workers if worker.alive for child in worker.children]
        self._stop(random.choice(victims), length)

    def pause_scheduler(self) -> None:
        """SIGSTOP of the scheduler, which must not take the silence for that of its workers."""
        self._stop(self.history.scheduler, self.world.random.uniform(0.6, 20.0))

    def freeze_worker(self) -> None:
        """SIGSTOP of an agent until its work runs elsewhere: what it has not begun then, it must not begin any more."""
        self.history.laws.faultless = False
        self._stop(self.world.random.choice(self.history.workers), self.world.random.uniform(4.5, 12.0))

    def _stop(self, victim: Any, length: float) -> None:
        if hasattr(victim, "until"):  # a child
            victim.until = self.world.time + length
            self.world.after(length, victim.ask)
            return
        victim.stop()
        self.world.after(length, victim.go_on)
        for link, node in self._some_links():
            if victim in (node, self.history.scheduler) and length > GIVEN_UP:
                self.world.after(GIVEN_UP, self.network.cut, link, node)

    def restart_scheduler(self) -> None:
        """kill -9 of the scheduler, or the loss of its machine's power; another begins at its address."""
        scheduler, random = self.history.scheduler, self.world.random
        if scheduler.up:
            scheduler.end(power=random.random() < 0.3)
            self.network.cut_all()
            self.world.after(random.choice((0.1, 1.0, 8.0)), scheduler.begin)

    def forget_everything(self) -> None:
        """The scheduler is restarted, and some workers come back late: their jobs may have moved on by then."""
        self.restart_scheduler()
        for worker in self.history.workers:
            if self.world.random.random() < 0.5:
                worker.held_back = self.world.time + self.world.random.uniform(0.0, 6.0)

    def fill_disk(self) -> None:
        """The disk is full for a while."""
        self.history.laws.troubled = True
        self.history.scheduler.fill_disk(self.world.random.uniform(0.1, 5.0))

    # ------------------------------------------------------------------------------------------ time

    def step_clock(self) -> None:
        """Somebody sets the wall clock."""
        self.world.wall_ahead += self.world.random.choice((3600.0, 60.0, 1.0, -1.0, -60.0, -3600.0))
        self.furthest = max(self.furthest, self.world.wall_ahead)
        self.history.scheduler.wake()
