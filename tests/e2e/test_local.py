"""LocalCluster and local://: real processes, and what is left of them."""

import importlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import zmqtasks
from zmqtasks import errors
from zmqtasks.local import processes


@pytest.fixture(scope="module")
def cluster() -> Iterator[zmqtasks.LocalCluster]:
    with zmqtasks.LocalCluster(workers=2) as made:
        yield made


@pytest.fixture
def client(cluster: zmqtasks.LocalCluster) -> Iterator[zmqtasks.Client]:
    with cluster.client() as made:
        yield made


BY_DEFAULT = re.compile(
    r"zmqtasks: no broker is named, so a scheduler and \d+ slots? were started on this machine for this script "
    r"\(local://\); name one with broker=, ZMQTASKS_BROKER or zmqtasks\.toml"
)


def wait_until(condition: Callable[[], object], what: str, seconds: float = 10) -> None:
    end_time = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_time, f"in {seconds} s it was never true that {what}"
        time.sleep(0.01)


def script(folder: Path, text: str, name: str = "script.py") -> list[str]:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return [sys.executable, str(path)]


def run(folder: Path, text: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "ZMQTASKS_BROKER"}
    env["TMPDIR"] = str(folder)
    return subprocess.run(
        script(folder, text), cwd=folder, env=env, capture_output=True, text=True, timeout=seconds, check=False
    )


# ------------------------------------------------------------------------------------------------ the cluster


def test_functions_run_on_the_workers(cluster: zmqtasks.LocalCluster, client: zmqtasks.Client) -> None:
    assert client.submit(pow, 2, 10).result(timeout=10) == 1024
    assert client.submit(lambda: os.getppid() != 0).result(10)
    assert list(client.map(abs, range(-2000, 0))) == list(range(2000, 0, -1))
    worker = psutil.Process(cluster.worker_pids[0])
    pid = client.submit(os.getpid).result(10)
    assert pid in [child.pid for child in worker.children(recursive=True)]


def test_two_slots_run_two_jobs_at_once(client: zmqtasks.Client, tmp_path: Path) -> None:
    def meet(mine: str, other: str) -> bool:
        Path(mine).touch()
        end_time = time.monotonic() + 10
        while not Path(other).exists():
            if time.monotonic() > end_time:
                return False
            time.sleep(0.005)
        return True

    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert client.gather(client.submit_many(meet, [((a, b), {}), ((b, a), {})]), 20) == [True, True]


def test_exceptions_carry_the_remote_traceback(client: zmqtasks.Client) -> None:
    def fails() -> None:
        message = "on purpose"
        raise LookupError(message)

    with pytest.raises(LookupError, match="on purpose") as caught:
        client.submit(fails).result(10)
    assert "in fails" in str(caught.value.__cause__)


def test_a_job_that_exits_does_not_end_the_script(client: zmqtasks.Client) -> None:
    def leaves(kind: type[BaseException]) -> None:
        raise kind("over")

    for kind in (SystemExit, KeyboardInterrupt, GeneratorExit):
        with pytest.raises(errors.RemoteError, match=f"{kind.__name__}: over") as caught:
            client.submit(leaves, kind).result(10)
        assert "in leaves" in str(caught.value.__cause__)
    assert client.submit(pow, 2, 3).result(10) == 8


def test_a_job_that_gives_a_coroutine_fails_clearly(client: zmqtasks.Client) -> None:
    async def fetch() -> None:
        pass

    with pytest.raises(errors.PayloadError, match=r"async functions are not supported yet: .* returned a coroutine"):
        client.submit(lambda: fetch()).result(10)  # noqa: PLW0108  (it hides that it is async)


def test_a_function_that_cannot_be_loaded_names_no_place_in_the_library(
    client: zmqtasks.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def fn():\n    pass\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("only_here")
    with pytest.raises(errors.PayloadError, match=r"No module named 'only_here'; make its module importable"):
        client.submit(module.fn).result(10)
    sys.modules.pop("only_here")


def test_a_queued_job_can_be_cancelled_and_a_running_one_with_force(client: zmqtasks.Client, tmp_path: Path) -> None:
    def hold(sign: Path) -> None:
        sign.touch()
        time.sleep(60)

    signs = [tmp_path / "one", tmp_path / "two"]
    running = [client.submit(hold, sign) for sign in signs]
    wait_until(lambda: all(sign.exists() for sign in signs), "both jobs run")
    queued = client.submit(time.sleep, 60)
    assert queued.cancel()
    assert not running[0].cancel()
    assert client.cancel(running, force=True) == [True, True]
    with pytest.raises(errors.JobCancelled):
        running[0].result(10)
    assert client.submit(pow, 2, 3).result(10) == 8


def write_and_wait(count: int, door: str) -> None:
    os.write(2, b"x" * count)
    while not os.path.exists(door):  # noqa: PTH110
        time.sleep(0.01)


def test_output_without_line_breaks_is_passed_on_in_pieces(
    client: zmqtasks.Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    door = tmp_path / "door"
    job = client.submit(write_and_wait, 300_000, str(door))
    try:
        wait_until(lambda: told.append(capsys.readouterr().err) or "".join(told).count("x") > 200_000, "most was told")
    finally:
        door.touch()
    job.result(10)


def test_a_process_that_ends_just_now_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    process = processes.Process("scheduler", ["version"], dict(os.environ))
    wait = process.popen.wait

    def waits(seconds: float | None = None) -> int:
        code = wait()
        if seconds is not None:  # it went on until then
            raise subprocess.TimeoutExpired("", seconds)
        return code

    monkeypatch.setattr(process.popen, "wait", waits)
    process.end(10.0)
    process.forget()
    if process.watch >= 0:
        os.close(process.watch)


def test_a_successor_that_cannot_be_started_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    monkeypatch.setattr(processes, "SLOWLY", 0.1)
    with zmqtasks.LocalCluster(workers=1) as cluster, cluster.client() as client:
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/nowhere/python")
            os.kill(cluster.worker_pids[0], signal.SIGKILL)
            wait_until(
                lambda: told.append(capsys.readouterr().err) or "no new local worker 1 can be" in "".join(told), "told"
            )
        assert client.submit(pow, 2, 3).result(30) == 8


def test_several_agents_share_the_slots_over_tcp() -> None:
    with zmqtasks.LocalCluster(workers=3, agents=2, transport="tcp") as cluster, cluster.client() as client:
        assert cluster.url.startswith("tcp://127.0.0.1:")
        assert len(cluster.worker_pids) == 2
        assert client.gather(client.submit_many(pow, [((2, i), {}) for i in range(100)]), 10)[-1] == 2**99


def test_stopping_leaves_nothing() -> None:
    cluster = zmqtasks.LocalCluster(workers=2)
    client = cluster.client()
    client.submit(time.sleep, 60)
    client.flush(10)
    processes = [psutil.Process(cluster.scheduler_pid), *map(psutil.Process, cluster.worker_pids)]
    processes += [child for process in processes for child in process.children(recursive=True)]
    folder = Path(cluster.url.removeprefix("ipc://")).parent
    assert folder.stat().st_mode & 0o777 == 0o700
    cluster.stop()
    cluster.stop()
    assert not folder.exists()
    wait_until(lambda: not [p for p in processes if p.is_running()], "all processes are gone", 3)
    with pytest.raises(errors.ClientClosed):
        client.submit(pow, 2, 2)


def test_wrong_use_is_told() -> None:
    for given in ({"workers": 0}, {"workers": 1, "agents": 2}, {"transport": "pigeon"}):
        with pytest.raises(errors.BadOption):
            zmqtasks.LocalCluster(**given)  # type: ignore[arg-type]


def test_an_app_that_does_not_import_is_told() -> None:
    with pytest.raises(errors.AppNotLoaded, match="no_such_app_anywhere"):
        zmqtasks.LocalCluster(workers=1, app="no_such_app_anywhere")


def test_a_cluster_that_does_not_come_up_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.SchedulerUnreachable, match=r"local (scheduler|worker 1) was not ready within 0 s"):
        zmqtasks.LocalCluster(workers=1, start_timeout=0)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(errors.SchedulerUnreachable, match="ended with exit code 1"):
        zmqtasks.LocalCluster(workers=1)


def test_kill_9_of_the_script_leaves_nothing(tmp_path: Path) -> None:
    text = """
        import time, zmqtasks
        cluster = zmqtasks.LocalCluster(workers=2)
        cluster.client().submit(time.sleep, 60).accepted(10)
        print(cluster.scheduler_pid, *cluster.worker_pids, cluster.url, flush=True)
        time.sleep(60)
    """
    with subprocess.Popen(script(tmp_path, text), stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        *pids, url = process.stdout.readline().split()
        started = [psutil.Process(int(pid)) for pid in pids]
        started += [child for one in started for child in one.children(recursive=True)]
        assert len(started) >= 4
        process.kill()
    folder = Path(url.removeprefix("ipc://")).parent
    wait_until(lambda: not [p for p in started if _lives(p)], "all processes are gone", 3)
    wait_until(lambda: not folder.exists(), "the folder is gone", 3)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


# ------------------------------------------------------------------------------------------------ local://


def test_an_app_without_a_broker_brings_its_own_cluster(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import os
        import zmqtasks

        app = zmqtasks.App("script")
        FACTOR = 3

        @app.task
        def triple(x):
            print("in the job")
            return [FACTOR * x, os.getpid(), zmqtasks.current_job() is not None]

        @app.task(bind=True, autoretry_for=(LookupError,), max_retries=3)
        def third_time(self, path):
            with open(path, "a") as file:
                file.write("x")
            if os.path.getsize(path) < 3:
                raise LookupError
            return self.name

        if __name__ == "__main__":
            value, pid, known = triple.submit(4).result(20)
            assert pid != os.getpid()
            print(value, third_time.delay("tries").get(20), list(app.client.map(abs, [-1])))
            client = zmqtasks.Client()
            assert client.submit(pow, 2, 3).result(10) == 8
            assert repr(client).startswith("<Client local:// (ipc://"), client
            assert repr(app.client).startswith("<Client local:// (ipc://"), app.client
        """,
    )
    told, *rest = done.stderr.splitlines()
    assert BY_DEFAULT.fullmatch(told)
    (said,) = rest
    assert re.fullmatch(r"\[[0-9a-f]{32} __main__\.triple\] in the job", said)
    assert done.stdout.splitlines() == ["12 __main__.third_time [1]"]
    assert done.returncode == 0
    assert not list(tmp_path.glob("zmqtasks-*"))


def test_workers_of_local_know_the_app_of_a_module(tmp_path: Path) -> None:
    (tmp_path / "conf.py").write_text(
        'import zmqtasks\napp = zmqtasks.App("a", include=["more.tasks"])\n', encoding="utf-8"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "tasks.py").write_text(
        "from conf import app\nimport os\n@app.task(queue='high')\ndef who(n):\n    return [n, os.getppid()]\n"
        "@app.task\ndef nested(n):\n    return who.submit(n).result(10)\n",
        encoding="utf-8",
    )
    done = run(
        tmp_path,
        """
        from more.tasks import nested, who
        if __name__ == "__main__":
            print(who.submit(1).result(20)[0], nested.delay(2).get(20)[0])
        """,
    )
    assert (done.stdout, done.returncode) == ("1 2\n", 0)
    assert BY_DEFAULT.fullmatch(done.stderr.strip())


def test_local_that_was_named_is_not_told(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import zmqtasks
        if __name__ == "__main__":
            print(zmqtasks.App("x", broker="local://").client.submit(pow, 2, 3).result(20))
            print(zmqtasks.Client().submit(pow, 2, 3).result(20))
        """,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("8\n8\n", "", 0)


def test_leaving_the_script_waits_for_unfinished_jobs(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
        import time, zmqtasks
        app = zmqtasks.App("script")

        @app.task
        def late(path):
            time.sleep(1.5)
            open(path, "w").close()

        if __name__ == "__main__":
            late.delay("done")
        """,
    )
    assert (tmp_path / "done").exists()
    told, *rest = done.stderr.splitlines()
    assert BY_DEFAULT.fullmatch(told)
    assert rest == ["zmqtasks: local:// waits up to 30 s for 1 unfinished jobs"]


def test_a_script_that_fails_does_not_wait_and_names_what_it_drops(tmp_path: Path) -> None:
    begin = time.monotonic()
    done = run(
        tmp_path,
        """
        import time, zmqtasks
        client = zmqtasks.Client("local://")
        jobs = [client.submit(time.sleep, 60) for _ in range(7)]
        raise SystemExit("over") if False else KeyError("over")
        """,
    )
    assert "KeyError" in done.stderr
    assert "local:// drops 7 unfinished jobs with its cluster: " in done.stderr
    assert "(time.sleep)" in done.stderr
    assert "and 2 more" in done.stderr
    assert time.monotonic() - begin < 15
    assert not list(tmp_path.glob("zmqtasks-*"))


def test_ctrl_c_ends_script_and_cluster(tmp_path: Path) -> None:
    text = """
        import time, zmqtasks
        client = zmqtasks.Client("local://")
        job = client.submit(time.sleep, 60)
        job.accepted(10)
        print(client.url, flush=True)
        job.result()
    """
    with subprocess.Popen(
        script(tmp_path, text), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
    assert "drops 1 unfinished jobs" in err
    assert not Path(url.removeprefix("ipc://")).parent.exists()


def test_what_dies_of_a_cluster_is_replaced(tmp_path: Path) -> None:
    """Also where a job does it: it is a dead letter, and the script goes on."""
    done = run(
        tmp_path,
        """
        import os, signal, zmqtasks

        def take_the_worker_along(path):
            import psutil
            with open(path, "a") as file:
                file.write("x")
            psutil.Process(os.getppid()).parent().kill()
            os.kill(os.getpid(), signal.SIGKILL)

        with zmqtasks.LocalCluster(workers=2) as cluster, cluster.client() as client:
            before = [cluster.scheduler_pid, *cluster.worker_pids]
            for pid in before:
                os.kill(pid, signal.SIGKILL)
                assert client.gather(client.submit_many(pow, [((n, 2), {}) for n in range(50)]), 30)[-1] == 49 * 49
            assert not {cluster.scheduler_pid, *cluster.worker_pids} & set(before)
            killer = client.options(crash_budget=0).submit(take_the_worker_along, "deaths")
            assert isinstance(killer.exception(30), zmqtasks.WorkerLost)
            assert client.submit(pow, 2, 3).result(30) == 8
        """,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("zmqtasks: ")]
    assert told == [
        "zmqtasks: the local scheduler was killed by SIGKILL; a new one takes its place",
        "zmqtasks: the local worker 1 was killed by SIGKILL; a new one takes its place",
        "zmqtasks: the local worker 1 was killed by SIGKILL; a new one takes its place",
    ]
    assert (tmp_path / "deaths").read_text() == "x"
    assert not list(tmp_path.glob("zmqtasks-*"))
