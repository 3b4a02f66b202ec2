import gc
import weakref

import pytest

from zmqtasks import payload
from zmqtasks.submitter.asyncresult import AsyncResult
from zmqtasks.submitter.job import Job, Source

PREFIX = bytes(range(12))


class Owner:
    accept = payload.ALL_CODECS

    def check_usable(self) -> None:
        pass

    def attend(self) -> None:
        pass


def job(counter: int = 7) -> Job[int]:
    return Job(Source(Owner(), PREFIX, "t"), counter)  # type: ignore[arg-type]


def test_it_is_the_result_of_a_job_at_hand() -> None:
    made = job()
    result = AsyncResult.of(made)
    assert (result.job, result.id, result.task_id, str(result)) == (made, made.id, made.id, made.id)
    assert result == AsyncResult.of(made)
    assert hash(result) == hash(AsyncResult.of(made))
    assert result != AsyncResult.of(job(8))


def test_an_id_is_looked_up_once_and_not_before_it_must_be() -> None:
    asked: list[Job[int]] = []

    def find() -> Job[int]:
        asked.append(job())
        return asked[-1]

    result = AsyncResult("mine", find)
    assert (result.id, repr(result), asked) == ("mine", "<AsyncResult mine>", [])
    assert result.state == "PENDING"
    assert not result.ready()
    assert result.job is asked[0]
    assert (result.id, len(asked)) == ("mine", 1), "it keeps the id that was given"


def test_what_cannot_be_found_is_asked_for_again() -> None:
    tries: list[None] = []

    def find() -> Job[int]:
        tries.append(None)
        if len(tries) == 1:
            raise ConnectionError
        return job()

    result = AsyncResult("mine", find)
    with pytest.raises(ConnectionError):
        result.ready()
    assert not result.ready()


def test_it_can_be_referred_to_weakly_and_costs_little() -> None:
    result = AsyncResult.of(job())
    weak = weakref.ref(result)
    assert AsyncResult.__basicsize__ <= 32, "a word more is 16 bytes more for each of a million"
    del result
    gc.collect()
    assert weak() is None
