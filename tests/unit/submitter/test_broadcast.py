"""A job of a fanout queue: who gets a copy, and what the copies are together."""

import asyncio
import concurrent.futures
import threading

import pytest

from tests.unit.submitter.test_job import PREFIX, Owner, value
from zmqtasks import errors, payload, wire
from zmqtasks.states import ABORTED, CANCELLED, FAILED
from zmqtasks.submitter.broadcast import Copies, takers
from zmqtasks.submitter.job import Job, Source
from zmqtasks.submitter.results import as_completed, end, finish


def copies(*names: str, owner: Owner | None = None) -> Copies:
    source = Source(owner or Owner(), PREFIX, "news")
    return Copies({name: Job(source, place) for place, name in enumerate(names, 7)})


def give(job: Job, of: object) -> None:
    finish([job], [value(of)], "pickle")


def test_its_value_is_that_of_all_by_their_workers():
    both = copies("one", "two")
    seen = []
    both.add_done_callback(lambda job: seen.append(job.result()))
    assert (both.id, both.state, both.done()) == (both.jobs["one"].id, "submitted", False)
    give(both.jobs["two"], 2)
    assert (both.done(), [pair[1] for pair in both.pairs]) == (False, [7])
    with pytest.raises(errors.JobTimeout, match=r"1 of 2 copies were not over within 0 s, those of one"):
        both.result(0)
    later = threading.Timer(0.0, give, (both.jobs["one"], 1))
    later.start()
    assert both.result(60) == {"one": 1, "two": 2}
    assert (both.state, both.pairs, both.exception(), both.cancel()) == ("succeeded", [], None, False)
    assert concurrent.futures.wait([both], 60).done == {both}
    assert list(as_completed([both], 60)) == [both]
    assert asyncio.run(_awaited(both)) == {"one": 1, "two": 2}
    later.join()
    while not seen:  # the callback thread comes to it
        threading.Event().wait(0.001)
    assert seen == [{"one": 1, "two": 2}]


async def _awaited(job):
    return await job


def test_it_is_awaited_and_watched_until_the_last_one():
    async def run():
        both = copies("one", "two")
        waits = asyncio.create_task(_awaited(both))
        await asyncio.sleep(0)
        give(both.jobs["one"], 1)
        give(both.jobs["two"], 2)
        return await waits

    assert asyncio.run(run()) == {"one": 1, "two": 2}
    both = copies("one", "two")
    stream = as_completed([both], 60)
    for name, job in both.jobs.items():
        give(job, name)
    assert next(stream) is both


def test_it_fails_as_the_first_copy_that_did():
    three = copies("one", "two", "three")
    give(three.jobs["one"], 1)
    end(three.jobs["two"], FAILED, payload.failure("WorkerLost", "gone"))
    end(three.jobs["three"], ABORTED, payload.failure("JobExpired", "late"))
    for _ in range(2):  # said once
        with pytest.raises(errors.WorkerLost, match="gone") as caught:
            three.result()
        assert caught.value.__notes__ == ["the copy for worker two (2 of 3 copies did not succeed)"]
    assert (three.state, three.cancelled(), three.jobs["one"].result()) == ("failed", False, 1)


def test_all_that_are_not_over_are_cancelled():
    owner = Owner()
    three = copies("one", "two", "three", owner=owner)
    assert three.accepted(60)
    give(three.jobs["one"], 1)
    assert three.cancel(force=True)
    assert owner.cancelled == [([(PREFIX, 8), (PREFIX, 9)], 5.0, True)]
    for name in ("two", "three"):
        end(three.jobs[name], CANCELLED, payload.failure("JobCancelled", "off"))
    assert three.cancelled()


# ------------------------------------------------------------------------------------------------ who gets one


def row(name: str, *queues: str, state: str = "up") -> wire.WorkerStatus:
    return wire.WorkerStatus(name, "host", 1, state, 1, 0, 0, 0, list(queues), [], 0.0)


def test_those_that_take_from_the_queue_and_stay():
    rows = [
        row("one", "news", "one.dq2"),
        row("two", "work", "two.dq2"),
        row("three", "news", "three.dq2", state="suspect"),  # it may come back
        row("three", "news", "three.dq2"),  # or was started again
        row("four", "news", "four.dq2", state="draining"),
    ]
    assert takers(rows, "news") == ["one", "three"]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("one", "work", "one.dq2")], "no worker takes from queue 'news'.*zmqtasks worker -A APP -Q news"),
        ([row("one", "news", "one.dq2"), row("two", "news")], "^two takes from queue 'news', but from no queue of its"),
        (
            [row("one", "news", "one.dq2"), row("one", "work", "one.dq2")],  # it would take the other one's copy
            "2 workers are called one, and a copy finds its worker by the name",
        ),
    ],
)
def test_a_worker_that_would_get_no_copy_is_told(rows, told):
    with pytest.raises(errors.NoWorker, match=told):
        takers(rows, "news")
