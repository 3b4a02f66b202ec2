"""What a job can say of itself, and what everybody else is told who tries."""

import msgspec
import pytest

import zmqtasks
from zmqtasks import task as tasks
from zmqtasks.config import MAX_PROGRESS
from zmqtasks.errors import NoCurrentJob, PayloadError
from zmqtasks.task import CurrentJob, TaskBase, current_job, progress, set_current

JOB = CurrentJob("0" * 31 + "1", 9, "shop.work", "w1")


@pytest.fixture
def said():
    """What the job that runs in this process tells of itself, as (value, at once)."""
    out = []
    set_current(lambda: JOB, lambda job, data, at_once: out.append((msgspec.msgpack.decode(data), at_once)))
    yield out
    set_current(None)


def test_outside_of_a_job_there_is_none_and_it_says_nothing():
    assert current_job() is None
    for tell in (progress, zmqtasks.progress):
        with pytest.raises(NoCurrentJob, match="no job is running here"):
            tell(1, 2)
    with pytest.raises(RuntimeError, match="no job is running here"):
        TaskBase(lambda: None, name="t").update_state(state="X")
    with pytest.raises(NoCurrentJob, match=r"job 0+1 does not run here"):
        JOB.progress(1)


def test_progress_is_numbers_and_its_end_does_not_wait(said):
    progress(1, 3)
    progress(0.5)
    JOB.progress(3, 3)
    assert said == [
        ({"done": 1, "total": 3}, False),
        ({"done": 0.5, "total": None}, False),
        ({"done": 3, "total": 3}, True),
    ]


def test_numbers_of_other_libraries_are_numbers(said):
    class Index:
        def __index__(self):
            return 2

    class Float:
        def __float__(self):
            return 2.5

    progress(Index(), Float())
    assert said == [({"done": 2, "total": 2.5}, False)]
    for wrong in ("1", None, object()):
        with pytest.raises(TypeError, match="progress is told in numbers, not in"):
            progress(wrong)


def test_a_state_is_a_word_with_plain_data(said):
    TaskBase(lambda: None, name="t").update_state(meta={"file": [1, "two"]})
    JOB.update_state("LOADING")
    assert [value for value, _ in said] == [
        {"state": "PROGRESS", "meta": {"file": [1, "two"]}},
        {"state": "LOADING", "meta": None},
    ]
    with pytest.raises(PayloadError, match=r"^shop\.work: this progress is no plain data: "):
        JOB.update_state(meta=object())


def test_it_has_a_bound(said):
    room = MAX_PROGRESS - len(msgspec.msgpack.encode({"state": "PROGRESS", "meta": "x" * 300})) + 300
    JOB.update_state(meta="x" * room)
    with pytest.raises(ValueError, match=rf"progress of {MAX_PROGRESS + 1} bytes; it may have {MAX_PROGRESS}"):
        JOB.update_state(meta="x" * (room + 1))
    assert len(said) == 1


def test_the_module_forgets_who_ran_here():
    assert tasks._teller is None
