"""Jobs as their users meet them: in threads, retried, with a large function, beside one that kills its process."""

import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import zmqtasks
from tests.helpers.processes import Site
from zmqtasks import Client, WorkerLost


class Line:
    """A TCP line to a scheduler on an ipc endpoint, that counts. `there`, `back`: bytes to and from the scheduler."""

    def __init__(self, site: Site) -> None:
        self._target = site.url.removeprefix("ipc://")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.there = self.back = 0
        self._ends: dict[socket.socket, socket.socket] = {}
        self._stop, self._told = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._listener, self._told):
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    one = key.fileobj
                    if one is self._told:
                        return
                    if one is self._listener:
                        self._accept(selector)
                    elif one in self._ends:
                        self._pass_on(selector, one)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        near = self._listener.accept()[0]
        far = socket.socket(socket.AF_UNIX)
        far.connect(self._target)
        for one, other, back in ((near, far, False), (far, near, True)):
            self._ends[one] = other
            selector.register(one, selectors.EVENT_READ, back)

    def _pass_on(self, selector: selectors.BaseSelector, one: socket.socket) -> None:
        other = self._ends[one]
        try:
            data = one.recv(1 << 20)
            other.sendall(data)
        except OSError:
            data = b""
        if selector.get_key(one).data:
            self.back += len(data)
        else:
            self.there += len(data)
        if not data:
            for each in (one, other):
                selector.unregister(each)
                del self._ends[each]
                each.close()

    def close(self) -> None:
        self._stop.send(b"x")
        self._thread.join(5)
        for each in (self._listener, self._stop, self._told, *self._ends):
            each.close()


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    made: list[Line] = []

    def make() -> Line:
        made.append(Line(site))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_a_functions_bytes_travel_once_per_connection(site, line):
    site.scheduler()
    to_worker, to_client = line(), line()
    site.start("worker", ["-m", "zmqtasks", "worker", "--broker", to_worker.url, "-c", "2"])
    ballast = os.urandom(1 << 20)

    def job(x):
        return x, len(ballast)

    with Client(to_client.url) as client:
        for start in range(0, 1000, 250):  # several Submits, and Assigns
            assert list(client.map(job, range(start, start + 250), chunksize=1)) == [
                (x, 1 << 20) for x in range(start, start + 250)
            ]
    assert 1 << 20 < to_client.there < 1.5 * (1 << 20)
    assert 1 << 20 < to_worker.back < 1.5 * (1 << 20)


def test_jobs_that_wait_run_together_in_threads(site):
    site.scheduler()
    site.worker("-P", "threads", "-c", "50")

    def meet():
        sys.door = getattr(sys, "door", None) or threading.Barrier(50)
        sys.door.wait(30)
        return os.getpid()

    with Client(site.url) as client:
        assert len({job.result(60) for job in client.submit_many(meet, [((), {})] * 50)}) == 1


def test_a_job_that_kills_the_process_of_its_threads_drags_nobody_with_it(site):
    site.scheduler()
    site.worker("-P", "threads", "-c", "8")

    def work(path):
        mine = Path(f"{path}.{zmqtasks.current_job().id}")
        if not mine.exists():
            mine.touch()
            while True:  # until it is killed
                time.sleep(0.001)
        return zmqtasks.current_job().id

    def kill(path, company):
        while len(list(Path(path).parent.glob("ran.*"))) < company:
            time.sleep(0.001)
        os._exit(9)

    path = str(site.folder / "ran")
    with Client(site.url) as client:
        beside = client.submit_many(work, [((path,), {})] * 7)
        poison = client.submit(kill, path, 7)
        with pytest.raises(WorkerLost) as one:
            poison.result(60)
        assert [job.result(60) for job in beside] == [job.id for job in beside]
    assert "ended with exit code 9 with " in str(one.value)
    assert str(one.value).count("ended with exit code 9 while running") == 3


def test_a_retried_job_knows_how_often(site, tmp_path):
    site.scheduler()
    site.worker("-P", "solo")
    seen = tmp_path / "seen"

    def job(path):
        job = zmqtasks.current_job()
        with Path(path).open("a") as told:
            told.write(f"{job.retries} ")
        if job.retries < 2:
            raise KeyError(job.retries)
        return job.id

    with Client(site.url) as client:
        sent = client.submit.options(retries=5)(job, str(seen))
        assert sent.result(60) == sent.id
    assert seen.read_text() == "0 1 2 "
