"""The client against a real scheduler and real workers: cancelling, overload, shipped modules, apps that differ."""

import asyncio
import importlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

import zmqtasks
from zmqtasks import errors


@pytest.fixture(scope="module")
def cluster():
    with zmqtasks.LocalCluster(workers=2) as made:
        yield made


@pytest.fixture
def client(cluster):
    with cluster.client() as made:
        yield made


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in {seconds} s it was never true that {what}"
        time.sleep(0.01)


def modules(folder, monkeypatch, **files):
    """Modules that this process can import and workers that run already cannot."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(folder)
    return [importlib.import_module(name) for name in files]


# ------------------------------------------------------------------------------------------------ cancelling


def test_cancelling_what_waits_what_a_worker_holds_and_what_runs(client, tmp_path):
    def hold(sign):
        Path(sign).touch()
        time.sleep(60)

    def nap(seconds):
        time.sleep(seconds)
        return seconds

    list(client.map(nap, [0] * 500))  # measured: workers get many of these in advance
    signs = [tmp_path / "a", tmp_path / "b"]
    running = [client.submit(hold, str(sign)) for sign in signs]
    until(lambda: all(sign.exists() for sign in signs), "both run")
    held = client.submit_many(nap, [((0,), {})] * 300)
    assert held[-1].accepted(10)
    assert not running[0].cancel()
    assert client.cancel(held, timeout=20) == [True] * 300
    assert client.cancel([*running, *held], force=True, timeout=20) == [True] * 302
    for job in (running[0], held[0], held[-1]):
        with pytest.raises(errors.JobCancelled):
            job.result(10)
    over = client.submit(nap, 0)
    assert over.result(20) == 0
    assert not over.cancel(force=True)


def test_a_job_by_its_id_from_another_process(cluster, client):
    job = client.submit(pow, 2, 20)
    same = client.job(job.id)
    assert job.result(20) == same.result(20) == 1 << 20
    script = "import sys, zmqtasks; c = zmqtasks.Client(sys.argv[1]); print(c.job(sys.argv[2]).result(10)); c.close()"
    told = subprocess.run(
        [sys.executable, "-c", script, cluster.url, job.id], capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout == f"{1 << 20}\n"
    begin = time.monotonic()
    with pytest.raises(errors.UnknownJob, match="nobody-made-it"):
        client.job("nobody-made-it").result(10)
    assert time.monotonic() - begin < 5


# ------------------------------------------------------------------------------------------------ overload


def test_a_scheduler_that_stops_holds_up_its_submitters_and_no_more():
    with zmqtasks.LocalCluster(workers=1) as cluster, cluster.client(max_pending=3000, submit_timeout=0.3) as client:
        scheduler = psutil.Process(cluster.scheduler_pid)
        scheduler.suspend()
        try:
            jobs = [client.submit(pow, i, 2) for i in range(3000)]
            with pytest.raises(errors.QueueFull, match=r"no room within 0\.3 s: 3000 jobs .* wait to be accepted"):
                client.submit(pow, 2, 2)
            with pytest.raises(errors.QueueFull, match="no room within 0 s"):
                client.submit_nowait(pow, 2, 2)
            assert client.info().pending_jobs == 3000
        finally:
            scheduler.resume()
        assert client.gather(jobs, 60) == [i * i for i in range(3000)]
        assert client.submit(pow, 2, 2).result(30) == 4


# ------------------------------------------------------------------------------------------------ asyncio


def test_ten_thousand_jobs_through_asyncio(cluster):
    async def main():
        async with zmqtasks.AsyncClient(cluster.url) as client:
            jobs = [await client.submit(pow, i, 2) for i in range(5000)]
            assert await asyncio.gather(*jobs) == [i * i for i in range(5000)]
            values = [value async for value in client.map(pow, range(5000), [2] * 5000)]
            assert values == [i * i for i in range(5000)]

    asyncio.run(asyncio.wait_for(main(), 60))


def test_asyncio_brings_its_own_cluster(tmp_path):
    script = """
        import asyncio, zmqtasks

        async def main():
            async with zmqtasks.AsyncClient("local://") as client:
                print(await (await client.submit(pow, 2, 10)))

        if __name__ == "__main__":
            asyncio.run(main())
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    env = os.environ | {"TMPDIR": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (told.stdout, told.stderr) == ("1024\n", "")


# ------------------------------------------------------------------------------------------------ shipping


def test_modules_that_only_the_script_has_are_shipped(cluster, tmp_path, monkeypatch):
    only, _ = modules(
        tmp_path,
        monkeypatch,
        only_mine="import only_help\n\ndef fn(x):\n    return only_help.Box(only_help.twice(x))\n",
        only_help="class Box:\n    def __init__(self, x):\n        self.x = x\n\ndef twice(x):\n    return 2 * x\n",
    )
    with cluster.client() as client, pytest.raises(errors.PayloadError, match=r"only_mine.*ship=\[module\]"):
        client.submit(only.fn, 1).result(20)
    with cluster.client(ship=[only, only.only_help]) as client:
        value = client.submit(only.fn, 4).result(20)
        assert type(value) is only.only_help.Box
        assert value.x == 8
        assert [box.x for box in client.map(only.fn, range(20), chunksize=3)] == [2 * i for i in range(20)]


# ------------------------------------------------------------------------------------------------ progress


def test_progress_of_a_running_job_arrives(client, tmp_path):
    def work(until_exists):
        import zmqtasks

        job = zmqtasks.current_job()
        job.update_state("LOADING", {"file": "a"})
        zmqtasks.progress(3, 10)
        while not os.path.exists(until_exists):  # noqa: PTH110
            time.sleep(0.01)
        return "done"

    sign = tmp_path / "sign"
    job = client.submit(work, str(sign))
    seen = []
    job.add_progress_callback(lambda one: seen.append(one.progress))
    until(lambda: job.progress == (3, 10), "progress came")
    assert job.state == "running"
    sign.touch()
    assert job.result(20) == "done"
    assert seen[-1] == (3, 10)


# ------------------------------------------------------------------------------------------------ apps that differ

WORKERS_APP = """
    from zmqtasks import App

    app = App("differs")

    @app.task(name="resize")
    def resize(path):
        return f"resized {path}"

    @app.task(name="both", serializer="msgpack")
    def both(value):
        return value
"""

SUBMITTERS_APP = """
    import sys
    from zmqtasks import App

    app = App("differs", broker=sys.argv[1])

    @app.task(name="resize")
    def resize(path, width):
        return None

    @app.task(name="both", serializer="pickle")
    def both(value):
        return None

    @app.task(name="rezise")
    def rezise(path):
        return None
"""

SCRIPT = """
    from zmqtasks import errors
    from differs_here import app

    def main():
        try:
            app.send_task("resize", ["a.png", 20]).get(20)
        except TypeError as error:
            print("signature:", error)
            print(error.__cause__)
        print("serializer:", app.send_task("both", [{1, 2}]).get(20))
        try:
            app.send_task("rezise", ["a.png"], on_unknown="fail").get(20)
        except errors.TaskNotRegistered as error:
            print("missing:", error)
        app.close()

    main()
"""


def test_an_app_that_differs_between_worker_and_submitter_is_told(tmp_path, monkeypatch):
    (tmp_path / "differs_app.py").write_text(textwrap.dedent(WORKERS_APP))
    (tmp_path / "differs_here.py").write_text(textwrap.dedent(SUBMITTERS_APP))
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    monkeypatch.syspath_prepend(tmp_path)
    with zmqtasks.LocalCluster(workers=1, app="differs_app") as cluster:
        told = subprocess.run(
            [sys.executable, "script.py", cluster.url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert told.returncode == 0, told.stderr
    assert "signature: resize() takes 1 positional argument but 2 were given" in told.stdout
    assert "differs_app.py" in told.stdout, "the error says which file the worker ran"
    assert "serializer: {1, 2}" in told.stdout
    missing = told.stdout.partition("missing: ")[2]
    assert "rezise" in missing
    assert "did you mean resize" in missing
