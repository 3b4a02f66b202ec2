"""A fanout queue over real processes: a copy for each worker that takes from it, whatever dies."""

import asyncio
from pathlib import Path

import pytest

from tests.helpers.processes import BOUND, Site, until
from zmqtasks import NoWorker
from zmqtasks.celery import Broadcast, Celery, Queue
from zmqtasks.celery.utils import worker_direct
from zmqtasks.operators import ask_status

APP = """\
from zmqtasks import current_job
from zmqtasks.celery import Broadcast, Celery, Queue

app = Celery("cast")
app.conf.update(
    CELERY_QUEUES=(Queue("work"), Broadcast("news")), CELERY_DEFAULT_QUEUE="work", task_create_missing_queues=False
)

@app.task(name="cast.where")
def where(said=None):
    if said == current_job().worker:
        raise ValueError(said)
    return said
"""


def queues(site: Site) -> dict[str, list[str]]:
    return {worker.name: sorted(worker.queues) for worker in ask_status(site.url, BOUND).workers}


def test_every_worker_of_the_queue_gets_a_copy(site: Site) -> None:
    Path(site.folder, "cast.py").write_text(APP, encoding="utf-8")
    data = ["-m", "zmqtasks", "scheduler", "--bind", site.url, "--data", str(site.folder / "data")]
    scheduler = site.start("scheduler", data)
    app = Celery("cast", broker=site.url)
    app.conf.update(CELERY_QUEUES=(Queue("work"), Broadcast("news")), task_routes={"cast.*": "news"})
    where = app.task(name="cast.where")(lambda said=None: said)
    try:
        with pytest.raises(NoWorker, match="no worker takes from queue 'news', and a job of it goes to each that does"):
            where.delay()
        site.worker("-A", "cast", "-c", "1", "-n", "one", cwd=site.folder, wait=False)
        two = site.worker("-A", "cast", "-c", "1", "-n", "two", "-Q", "news", cwd=site.folder, wait=False)
        site.worker("-A", "cast", "-c", "1", "-n", "three", "-Q", "work", cwd=site.folder, wait=False)
        all_three = {"one": ["news", "one.dq2", "work"], "two": ["news", "two.dq2"], "three": ["three.dq2", "work"]}
        until(lambda: queues(site) == all_three, "all have joined")

        assert where.delay(1).get(BOUND) == {"one": 1, "two": 1}
        assert [job.result(BOUND) for job in where.map([1, 2])] == [{"one": 1, "two": 1}, {"one": 2, "two": 2}]
        assert asyncio.run(_awaited(where)) == {"one": 3, "two": 3}
        assert where.apply_async((4,), queue="work").get(BOUND) == 4
        with pytest.raises(ValueError, match="three"):
            where.apply_async(("three",), queue=worker_direct("three")).get(BOUND)
        once, again = (app.send_task("cast.where", (5,), exchange="news", task_id="five") for _ in range(2))
        assert once.get(BOUND) == again.get(BOUND) == {"one": 5, "two": 5}
        assert [job.id for job in once.job.jobs.values()] == [job.id for job in again.job.jobs.values()]
        later = where.apply_async((7,), countdown=BOUND)
        assert app.client.cancel([once.job, later.job]) == [False, True]
        assert later.job.cancelled()
        failed = where.submit("two")
        with pytest.raises(ValueError, match="two") as caught:
            failed.result(BOUND)
        assert caught.value.__notes__[-1] == "the copy for worker two (1 of 2 copies did not succeed)"
        assert failed.jobs["one"].result() == "two"

        two.kill()  # its copy waits for it, and outlives the scheduler
        until(lambda: "suspect" in [worker.state for worker in ask_status(site.url, BOUND).workers], "it is missed")
        waits = where.delay(6)
        assert waits.job.accepted(BOUND)
        assert waits.job.jobs["one"].result(BOUND) == 6
        assert not waits.ready()
        scheduler.kill()
        scheduler.wait()
        site.start("scheduler", data)
        site.worker("-A", "cast", "-c", "1", "-n", "two", "-Q", "news", cwd=site.folder, wait=False)
        assert waits.get(BOUND) == {"one": 6, "two": 6}
    finally:
        app.close()


async def _awaited(where):
    return await (await where.asubmit(3))
