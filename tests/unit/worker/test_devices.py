"""What a worker has for its jobs, and which of its devices each gets."""

import os

import pytest

from tests.unit.worker.harness import Worker
from zmqtasks import wire
from zmqtasks.errors import BadOption
from zmqtasks.resources import UNIT, parse
from zmqtasks.worker import gpus
from zmqtasks.worker.claims import Claim
from zmqtasks.worker.devices import Devices
from zmqtasks.worker.gpus import Visible, devices_of

HALF, ONE, TWO = (parse({"gpu": n}) for n in (0.5, 1, 2))


def test_whole_devices_are_ones_own_and_shares_lie_close_together():
    devices = Devices(parse({"gpu": 3}), ("a", "b", "c"))
    first, second = devices.grant(HALF), devices.grant(HALF)
    assert devices.names(first) == devices.names(second) == ["a"]
    two = devices.grant(TWO)
    assert devices.names(two) == ["b", "c"]
    assert not devices.fits(HALF)
    devices.give_back(first)
    assert devices.fits(HALF)
    assert not devices.fits(ONE)
    devices.give_back(second)
    one = devices.grant(ONE)
    assert devices.names(one) == ["a"]
    devices.check([one, two])
    with pytest.raises(AssertionError, match="resources: "):
        devices.check([one])


def test_halves_of_two_are_no_whole_one():
    devices = Devices(parse({"gpu": 2, "mem": 1}), ("0", "1"))
    halves = [devices.grant(HALF) for _ in range(3)]
    devices.give_back(halves[0])
    assert devices.free["gpu"] == UNIT
    assert not devices.fits(ONE)
    assert devices.fits(parse({"gpu": 0.5, "mem": 1}))


@pytest.mark.parametrize(
    ("amount", "named", "expected"),
    [
        (2, None, ("0", "1")), (2, "3,5", ("3", "5")), (1, "GPU-8a, GPU-9b", ("GPU-8a",)), (0, "3", ()),
        (2, "3", "shows 1 device"), (1, "", "shows 0 devices"), (0.5, None, "a number of whole GPUs, not 0.5"),
    ],
)  # fmt: skip
def test_a_workers_devices_are_those_that_it_sees_itself(amount, named, expected):
    environment = {} if named is None else {"CUDA_VISIBLE_DEVICES": named}
    if isinstance(expected, tuple):
        assert devices_of(parse({"gpu": amount}), environment) == expected
    else:
        with pytest.raises(BadOption, match=expected):
            devices_of(parse({"gpu": amount}), environment)


def claim(*devices: str) -> Claim:
    return Claim(1, "add", b"", b"", "msgpack", 100, [], {}, (), list(devices))


def test_jobs_see_their_devices_and_what_has_used_cuda_shows_no_others(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    used = []
    monkeypatch.setattr(gpus, "_used_cuda", lambda: bool(used))
    visible = Visible(alone=True)
    seen = []
    for devices in (("1",), ("0", "2"), (), ("3",)):
        assert visible.choose(claim(*devices))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["1", "0,2", "", "3"]
    used.append(True)
    assert not visible.choose(claim("1"))  # it may have begun CUDA with other ones
    assert visible.choose(claim())
    fresh = Visible(alone=True)
    assert fresh.choose(claim("1"))
    assert fresh.choose(claim("1"))
    assert Visible(alone=False).choose(claim("7"))  # threads share the environment
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def assign(worker: Worker, first: int, count: int, resources: tuple[tuple[str, int], ...]) -> None:
    counters = list(range(first, first + count))
    work = wire.Work(b"p" * 12, "add", b"", "msgpack", counters, [b"x"] * count, [], 0, resources)
    worker.handle(wire.Assign(first, 1_000 + first, [work], []))


def test_what_does_not_fit_waits_until_what_runs_is_over():
    worker = Worker(slots=4, resources=ONE, devices=("5",)).up()
    assign(worker, 1, 3, HALF)
    assign(worker, 4, 1, ())
    pushed = worker.pushes()
    assert [[p.first for p in c.pieces] for c in pushed] == [[1], [2], [4]]
    assert [c.devices for c in pushed] == [["5"], ["5"], []]
    assert [c.resources for c in pushed] == [HALF, HALF, ()]
    worker.handle(wire.Disown([(1, 1)]))  # it runs on, and keeps what it has
    worker.reclaimed()
    assert worker.pushes() == []
    worker.exit(pushed[0].id, 1)
    assert worker.numbers() == [[3]]
    assign(worker, 5, 1, ONE)
    assign(worker, 6, 1, TWO)  # there is no such thing here
    assert worker.numbers() == []
    (done,) = [m for m in worker.all_sent() if isinstance(m, wire.Done)]
    assert [(end.number, end.kind) for end in done.ends] == [(6, wire.FAILED)]
    assert b"needs gpu 2, to a worker that has gpu 1" in done.ends[0].payload
    worker.core.check()
