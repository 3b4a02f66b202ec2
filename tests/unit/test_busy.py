"""How long a wait looks for news before it sleeps."""

import pytest

from zmqtasks import cpus
from zmqtasks.transport import BusyPoll, busy

MOST = 0.0005


@pytest.fixture
def poll(monkeypatch):
    monkeypatch.setattr(busy, "cores", lambda: 2)
    return BusyPoll(MOST)


def test_short_waits_make_it_look_for_longer_up_to_a_bound(poll):
    seen = []
    for _ in range(6):
        seen.append(poll.seconds)
        poll.waited(0.0003, news=True)
    assert seen == [0.0, busy.FIRST, 2 * busy.FIRST, 4 * busy.FIRST, 8 * busy.FIRST, MOST]


def test_a_long_wait_ends_it(poll):
    for _ in range(6):
        poll.waited(0.0003, news=True)
    poll.waited(MOST * 1.1, news=True)
    assert poll.seconds == 0.0


def test_a_wait_that_ended_without_news_teaches_nothing(poll):
    poll.waited(0.0003, news=True)
    poll.waited(0.0003, news=False)
    assert poll.seconds == busy.FIRST
    poll.waited(1.0, news=False)
    assert poll.seconds == 0.0


def test_it_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(busy, "cores", lambda: 2)
    never = BusyPoll(0.0)
    never.waited(0.0, news=True)
    assert (never.most, never.seconds) == (0.0, 0.0)


def test_on_one_core_it_is_off(monkeypatch):
    monkeypatch.setattr(busy, "cores", lambda: 1)
    assert BusyPoll(MOST).most == 0.0


@pytest.mark.parametrize(
    ("told", "found"),
    [("max 100000\n", 8), ("100000 100000\n", 1), ("150000 100000\n", 2), ("1000 100000\n", 1), ("?", 8), (None, 8)],
)
def test_a_container_may_use_fewer_cores_than_it_sees(monkeypatch, tmp_path, told, found):
    monkeypatch.setattr(cpus.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cpus, "_QUOTA", tmp_path / "cpu.max")
    if told is not None:
        (tmp_path / "cpu.max").write_text(told)
    assert cpus.cores() == found
