"""Submitters that fork: the child is told, or makes a client of its own; the parent notices nothing."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.helpers.processes import BOUND, family, until_gone

BEGIN = """
import concurrent.futures, multiprocessing, os, sys, threading, time, traceback
import zmqtasks
from zmqtasks import errors

def in_child(fn):
    # Fork; the child runs fn and leaves as a script does, with its atexit handlers.
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            fn()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)
    assert os.waitpid(pid, 0)[1] == 0, "the child failed"

def told(call):
    try:
        call()
    except errors.ClientClosed as error:
        assert "was made before this process forked; make a new one in the child" in str(error), error
    else:
        raise AssertionError("it was not refused")

def power(url, x):
    with zmqtasks.Client(url) as client:
        return client.submit(pow, 2, x).result(30)
"""


def run(folder: Path, text: str) -> str:
    """Run a script to its end; what it printed. It leaves nothing in its folder for temporary files."""
    path, temporary = folder / "script.py", folder / "t"
    path.write_text(BEGIN + textwrap.dedent(text), encoding="utf-8")
    temporary.mkdir()
    env = {name: value for name, value in os.environ.items() if name != "ZMQTASKS_BROKER"}
    env |= {"PYTHONPATH": str(Path.cwd()), "TMPDIR": str(temporary), "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(path)], cwd=folder, env=env, capture_output=True, text=True, timeout=BOUND,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert not [p for p in temporary.iterdir() if p.name.startswith("zmqtasks-")]
    return done.stdout


def test_a_forked_child_is_told_and_the_parent_unaffected(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        cluster = zmqtasks.LocalCluster(workers=2)
        client = cluster.client()

        def until_there(path):
            while not os.path.exists(path):
                time.sleep(0.01)

        open_job = client.submit(until_there, os.path.abspath("door"))
        done_job = client.submit(pow, 2, 3)
        assert done_job.result(30) == 8

        def child():
            assert done_job.result() == 8
            assert not open_job.done()
            for call in (
                lambda: client.submit(pow, 2, 3), lambda: client.submit_many(pow, [((2, 3), {})]),
                lambda: list(client.map(abs, [1])), lambda: client.flush(1), lambda: client.job(open_job.id),
                lambda: open_job.result(), lambda: open_job.exception(), lambda: open_job.accepted(1),
                lambda: open_job.cancel(), lambda: client.gather([open_job]),
                lambda: list(zmqtasks.as_completed([open_job])),
            ):
                told(call)
            client.close()
            cluster.stop()

        for _ in range(3):
            in_child(child)
        open("door", "w").close()
        assert open_job.result(30) is None
        assert client.gather(client.submit_many(pow, [((n, 2), {}) for n in range(500)]), 30)[-1] == 499 * 499
        print("fine")
        """,
    )
    assert out == "fine\n"


def test_a_forked_child_makes_its_own_client_and_cluster(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        cluster = zmqtasks.LocalCluster(workers=2)
        client = cluster.client()
        assert client.submit(pow, 2, 3).result(30) == 8

        def child():
            with cluster.client() as mine:
                assert mine.submit(pow, 2, 4).result(30) == 16
            with zmqtasks.LocalCluster(workers=1) as own, own.client() as mine:
                assert own.url != cluster.url
                assert mine.submit(pow, 2, 5).result(30) == 32

        in_child(child)
        assert client.submit(pow, 2, 6).result(30) == 64
        print("fine")
        """,
    )
    assert out == "fine\n"


def test_a_local_broker_of_the_parent_is_not_the_childs(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        app = zmqtasks.App("a", broker="local://")

        @app.task
        def double(x):
            return 2 * x

        if __name__ == "__main__":
            assert double.submit(2).result(30) == 4
            url = app.client.url

            def child():
                assert double.submit(4).result(30) == 8
                assert app.client.url != url

            in_child(child)
            assert double.submit(3).result(30) == 6
            assert app.client.url == url
            print("fine")
        """,
    )
    assert out == "fine\n"


def test_pools_of_forked_processes_submit_with_clients_of_their_own(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        fork = multiprocessing.get_context("fork")
        with zmqtasks.LocalCluster(workers=2) as cluster, cluster.client() as client:
            assert client.submit(pow, 2, 3).result(30) == 8
            with concurrent.futures.ProcessPoolExecutor(3, mp_context=fork) as pool:
                assert list(pool.map(power, [cluster.url] * 12, range(12))) == [2**n for n in range(12)]
            with fork.Pool(3) as pool:
                assert pool.starmap(power, [(cluster.url, n) for n in range(12)]) == [2**n for n in range(12)]
            assert client.submit(pow, 2, 4).result(30) == 16
        print("fine")
        """,
    )
    assert out == "fine\n"


def test_forks_while_other_threads_submit(tmp_path: Path) -> None:
    """Any lock may be held at the fork, by a thread that the child does not have."""
    out = run(
        tmp_path,
        """
        with zmqtasks.LocalCluster(workers=1) as cluster, cluster.client() as client:
            url, over, sums = cluster.url, threading.Event(), []

            def busy(n):
                count = 0
                while not over.is_set():
                    jobs = [client.submit(abs, -n) for _ in range(20)]
                    called = threading.Event()
                    jobs[-1].add_done_callback(lambda _: called.set())
                    assert client.gather(jobs, 30) == [n] * 20
                    assert called.wait(30)
                    count += 1
                sums.append(count)

            threads = [threading.Thread(target=busy, args=(n,)) for n in (1, 2)]
            for thread in threads:
                thread.start()

            def child():
                told(lambda: client.submit(pow, 2, 3))
                with zmqtasks.Client(url) as mine:
                    job = mine.submit(pow, 2, 4)
                    called = threading.Event()
                    job.add_done_callback(lambda _: called.set())
                    assert job.result(30) == 16
                    assert called.wait(30)

            for _ in range(8):
                in_child(child)
            over.set()
            for thread in threads:
                thread.join(30)
            assert len(sums) == 2 and all(sums), sums
        print("fine")
        """,
    )
    assert out == "fine\n"


@pytest.mark.parametrize("how", ["fork", "exec"])
def test_a_child_that_outlives_the_script_does_not_keep_its_cluster_alive(tmp_path: Path, how: str) -> None:
    text = """
        cluster = zmqtasks.LocalCluster(workers=1)
        client = cluster.client()
        job = client.submit(os.system, "yes '' | head -c 10000000 >&2; sleep 1000")  # it says more than pipes hold
        client.flush(30)
        if HOW == "fork":
            pid = os.fork() or time.sleep(1000)
        else:
            import subprocess
            pid = subprocess.Popen(["sleep", "1000"], close_fds=False).pid
        print(pid, cluster.scheduler_pid, *cluster.worker_pids, flush=True)
        time.sleep(1000)
    """
    path = tmp_path / "script.py"
    path.write_text(BEGIN + textwrap.dedent(text).replace("HOW", repr(how)), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as script:  # fmt: skip
        assert script.stdout is not None
        child, *cluster = map(int, script.stdout.readline().split())
        everybody = family(*cluster)
        script.kill()
    try:
        until_gone(everybody)
        assert psutil.Process(child).is_running()
    finally:
        os.kill(child, 9)
