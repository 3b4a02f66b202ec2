"""What every test gets: a mark for its folder, and a check that no process outlives it."""

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

TESTS = Path(__file__).parent
MARKED_FOLDERS = {"sim", "integration", "e2e", "hosts"}
WATCHED_MARKS = ("integration", "e2e", "hosts")  # only these start processes

GRACE = 2.0  # seconds; a process that lost its owner has one second to end
OURS = "ZMQTASKS_TEST_SESSION"
SESSION = uuid.uuid4().hex
os.environ[OURS] = SESSION  # whatever the tests start inherits it, so an orphan is found under any parent

# In a shell's background, or under nohup, these are ignored, and so they would be by everything that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(TESTS):
            folder = item.path.relative_to(TESTS).parts[0]
            if folder in MARKED_FOLDERS:
                item.add_marker(folder)
    if "nightly" not in config.option.markexpr:
        long = [item for item in items if item.get_closest_marker("nightly")]
        items[:] = [item for item in items if item not in set(long)]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Schedulers that are not told where keep their journals here, not with those of whoever runs the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def own_journals(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each test begins with no journal, and those of a wider fixture stay as they are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process running; those of a wider fixture, and what they start, may go on."""
    if not any(request.node.get_closest_marker(mark) for mark in WATCHED_MARKS):
        yield
        return
    before = _started_by_tests()
    known = {process.pid for process in before}
    yield
    deadline = time.monotonic() + GRACE
    while left := {process: line for process, line in _started_by_tests().items() if _is_new(process, known)}:
        if time.monotonic() > deadline:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            pytest.fail("processes left behind:\n" + "\n".join(left.values()))
        time.sleep(0.02)


def _started_by_tests() -> dict[psutil.Process, str]:
    """The living processes that this session's tests started, each with the line that describes it."""
    found = {}
    for process in psutil.process_iter():
        try:
            if process.environ().get(OURS) == SESSION and process.status() != psutil.STATUS_ZOMBIE:
                found[process] = f"{process.pid} (child of {process.ppid()}): {' '.join(process.cmdline())}"
        except psutil.Error:
            continue  # it ended meanwhile, or belongs to somebody else
    return found


def _is_new(process: psutil.Process, known: set[int]) -> bool:
    """Whether neither the process nor any of its ancestors was there before the test."""
    try:
        if process.ppid() == os.getpid() and "multiprocessing.resource_tracker" in " ".join(process.cmdline()):
            return False  # Python keeps one for as long as it lives
        return known.isdisjoint({process.pid, *(parent.pid for parent in process.parents())})
    except psutil.Error:
        return False
