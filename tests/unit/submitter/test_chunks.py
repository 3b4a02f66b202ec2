"""`map` in chunks, decided without threads: how large chunks are, and what becomes of items that fail."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from zmqtasks import errors, payload
from zmqtasks.submitter.chunks import BYTES, GROWTH, PARTS, PROBES, TARGET, Chunked, ChunkedMap, Send, Sizer, Wait

WINDOW = 10_000


class FakeJob:
    """A job that is over."""

    def __init__(self, outcome: Callable[[], Any]) -> None:
        self._outcome = outcome

    def result(self, timeout: float) -> Any:
        return self._outcome()


class Bench:
    """Carries out a plan at once, in this process; the worker dies of the items in `deadly`."""

    def __init__(self, fn: Callable[..., Any], items: Iterable[Any], *, deadly: Iterable[Any] = (), **how: Any) -> None:
        self.sizer = Sizer(how.pop("chunksize", 0), how.get("window", WINDOW))
        self.fn, self.deadly = fn, set(deadly)
        self.sends: list[Send] = []
        self.values: list[Any] = []
        self._ready: deque[FakeJob] = deque()
        given = {"window": WINDOW, "retries": 0, "ordered": True, "once": False, **how}
        self.plan = ChunkedMap(((item,) for item in items), self.sizer, **given)

    def run(self) -> list[Any]:
        steps, reply = self.plan.steps(), None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration:
                return self.values
            reply = None
            if isinstance(step, list):
                self.values += step
            elif isinstance(step, Send):
                self.sends.append(step)
                reply = [FakeJob(lambda call=call, how=step.how: self._outcome(call, how)) for call in step.calls]
                self._ready.extend(reply)
            else:
                assert isinstance(step, Wait)
                reply = step.job or self._ready.popleft()

    def _outcome(self, call: tuple[Any, ...], how: str) -> Any:
        items = call[0] if how == "chunk" else [call]
        if any(args[0] in self.deadly for args in items):
            raise errors.WorkerLost("it died")
        return Chunked(self.fn)(items) if how == "chunk" else self.fn(*call)

    @property
    def sizes(self) -> list[int]:
        return [len(items) for send in self.sends if send.how == "chunk" for (items,) in send.calls]


def double(x: int) -> int:
    return 2 * x


def picky(x: int) -> int:
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("count", [0, 1, PROBES, PROBES + 1, 25_000])
def test_all_items_come_once(ordered: bool, count: int) -> None:  # noqa: FBT001
    values = Bench(double, range(count), ordered=ordered).run()
    assert (values if ordered else sorted(values)) == [2 * i for i in range(count)]


def test_short_items_travel_in_ever_larger_chunks_and_never_more_than_a_part_of_the_window() -> None:
    bench = Bench(double, range(100_000))
    bench.run()
    assert bench.sizes[:PROBES] == [1] * PROBES
    assert max(bench.sizes) == WINDOW // PARTS
    grown = [size for size in bench.sizes if size > 1]
    assert grown[0] <= GROWTH


def test_a_fixed_size_is_kept() -> None:
    bench = Bench(double, range(100), chunksize=8)
    assert bench.run() == [2 * i for i in range(100)]
    assert bench.sizes == [8] * 12 + [4]


def test_long_items_go_alone_and_so_do_large_ones() -> None:
    sizer = Sizer(0, WINDOW)
    sizer.measured(1, TARGET * 2, 10)
    assert sizer.size == 1
    sizer = Sizer(0, WINDOW)
    for _ in range(10):
        sizer.measured(100, 1e-5, 10)
    assert sizer.size == WINDOW // PARTS
    sizer.carried(10, 10 * BYTES)
    assert sizer.size == 1


def test_chunks_take_the_time_that_is_wanted() -> None:
    sizer = Sizer(0, WINDOW)
    for _ in range(20):
        sizer.measured(sizer.size, sizer.size * TARGET / 40, 10)
    assert sizer.size == pytest.approx(40, abs=1)


@pytest.mark.parametrize("ordered", [True, False])
def test_an_item_that_raises_is_tried_again_alone(ordered: bool) -> None:  # noqa: FBT001
    tries: dict[int, int] = {}

    def twice(x: int) -> int:
        tries[x] = tries.get(x, 0) + 1
        if x % 7 == 0 and tries[x] < 2:
            raise ValueError(x)
        return x

    bench = Bench(twice, range(50), chunksize=20, retries=1, ordered=ordered)
    values = bench.run()
    assert (values if ordered else sorted(values)) == list(range(50))
    assert tries == {x: 2 if x % 7 == 0 else 1 for x in range(50)}
    again = [args[0] for send in bench.sends if send.how == "again" for args in send.calls]
    assert sorted(again) == list(range(0, 50, 7))


def test_without_retries_the_exception_comes_at_its_place() -> None:
    bench = Bench(picky, range(20), chunksize=8)
    with pytest.raises(ValueError, match="no 3"):
        bench.run()
    assert bench.values == [0, 1, 2]


@pytest.mark.parametrize("ordered", [True, False])
def test_of_a_chunk_that_died_only_the_item_that_is_to_blame_fails(ordered: bool) -> None:  # noqa: FBT001
    bench = Bench(double, range(20), chunksize=10, deadly=[13], ordered=ordered)
    with pytest.raises(errors.WorkerLost):
        bench.run()
    assert [send.how for send in bench.sends].count("alone") == 1
    assert set(bench.values) == {2 * i for i in range(13)}


def test_what_must_not_run_twice_is_not_done_again() -> None:
    bench = Bench(double, range(20), chunksize=10, deadly=[13], once=True)
    with pytest.raises(errors.WorkerLost):
        bench.run()
    assert [send.how for send in bench.sends] == ["chunk"]


def test_a_value_that_cannot_travel_fails_alone() -> None:
    def make(x: int) -> Any:
        return (y for y in ()) if x == 3 else x

    bench = Bench(make, range(6), chunksize=6)
    with pytest.raises(errors.PayloadError, match="generator"):
        bench.run()
    assert bench.values == [0, 1, 2]


def test_no_more_is_read_than_the_window_holds() -> None:
    read: list[int] = []

    def items() -> Iterable[int]:
        for i in range(10**9):
            read.append(i)
            yield i

    bench = Bench(double, items(), window=20, chunksize=6)
    steps, jobs = bench.plan.steps(), 0
    step = steps.send(None)
    while isinstance(step, Send):
        jobs += len(step.calls)
        step = steps.send([FakeJob(lambda: None) for _ in step.calls])
    assert isinstance(step, Wait)
    assert (jobs, len(read)) == (3, 18)
    steps.close()
    assert len(bench.plan.rest()) == 3


def test_the_decoded_failure_is_the_items_own() -> None:
    _, data, failed = Chunked(picky)([(1,), (13,)])
    assert payload.decoder("cloudpickle")(data) == [1, None]
    ((place, failure, may),) = failed
    assert (place, may) == (1, True)
    assert isinstance(payload.decode_exception(failure), ValueError)
