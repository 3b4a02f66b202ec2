import pytest

from zmqtasks import errors
from zmqtasks.submitter.effects import Submission
from zmqtasks.submitter.intake import Intake, submission
from zmqtasks.submitter.job import RUN, Job, Source
from zmqtasks.submitter.ledger import Call
from zmqtasks.wire import Spec

PREFIX = bytes(range(12))


class Threads:
    """What threads submit, of two functions, and the loop that takes it."""

    def __init__(self, max_pending: int = 100_000) -> None:
        self.woken = 0
        self.intake = Intake("ipc://x", PREFIX, max_pending, self.wake)
        self.calls = {name: Call(name, None, "msgpack", Spec()) for name in "ab"}
        self.sources = {name: Source(None, PREFIX, name) for name in "ab"}  # type: ignore[arg-type]

    def wake(self) -> None:
        self.woken += 1

    def one(self, name: str = "a") -> Job[object]:
        return self.intake.submit_one(self.sources[name], self.calls[name], b"x", 0.0)

    def part(self, count: int, first: int | None = None) -> list[Job[object]]:
        return self.intake.submit_part(self.sources["a"], self.calls["a"], [b"x"] * count, timeout=0.0, first=first)

    def take(self) -> list[Submission]:
        return [submission(command, PREFIX) for command in self.intake.take()]  # type: ignore[arg-type]


def test_single_jobs_of_one_function_travel_together_in_order() -> None:
    threads = Threads()
    jobs = [threads.one() for _ in range(2 * RUN + 10)]
    taken = threads.take()
    assert [job.pair for job in jobs] == [(PREFIX, counter) for counter in range(2 * RUN + 10)]
    assert [(each.first, len(each.handles)) for each in taken] == [(0, RUN), (RUN, RUN), (2 * RUN, 10)]
    assert [handle for each in taken for handle in each.handles] == jobs
    later = threads.one()
    assert later.pair == (PREFIX, 2 * RUN + 10)
    assert later._source is jobs[-1]._source, "it has room for more"


def test_jobs_of_two_functions_stay_in_order_and_know_theirs() -> None:
    threads = Threads()
    jobs = [threads.one(name) for name in "aabbbab"] + threads.part(3) + [threads.one("b")]
    assert [job.pair[1] for job in jobs] == list(range(11))
    assert "".join(job.task for job in jobs) == "aabbbabaaab"
    assert [(each.call.task, each.first, len(each.handles)) for each in threads.take()] == [
        ("a", 0, 2), ("b", 2, 3), ("a", 5, 1), ("b", 6, 1), ("a", 7, 3), ("b", 10, 1),
    ]  # fmt: skip


def test_reserved_counters_are_left_out_by_others() -> None:
    threads = Threads()
    first = threads.intake.reserve(600)
    lone = threads.one()
    made = threads.part(300, first) + threads.part(300, first + 300)
    assert [job.pair[1] for job in made] == list(range(600))
    assert (lone.pair[1], threads.one().pair[1]) == (600, 601)


def test_where_there_is_no_room_nothing_is_taken() -> None:
    threads = Threads(max_pending=2)
    threads.part(2)
    with pytest.raises(errors.QueueFull, match="no room within 0 s: 2 jobs"):
        threads.one()
    assert threads.intake.fresh == 2


def test_the_loop_is_woken_once_where_it_sleeps() -> None:
    threads = Threads()
    threads.one()
    assert (threads.woken, threads.intake.may_sleep()) == (0, False)
    threads.take()
    assert threads.intake.may_sleep()
    threads.one()
    threads.one()
    assert threads.woken == 1
