"""The bar and what is written while it is drawn, on a terminal that is a text."""

import io
import logging
import re
import sys
from types import SimpleNamespace

import pytest

from zmqtasks import logs
from zmqtasks.cli._outcomes import Tally
from zmqtasks.cli._progress import AboveBar, Bar


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """What stands at the left of its lines, after all the drawing."""
        return [line.rsplit("\r", 1)[-1].replace("\x1b[2K", "") for line in self.getvalue().split("\n")]


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    yield
    root = logging.getLogger()
    for handler in [h for h in root.handlers if getattr(h, "_zmqtasks", False)]:
        root.removeHandler(handler)


def use_terminal(monkeypatch, stream="stderr"):
    """To be called in a test, not in a fixture: pytest sets these streams anew when the test itself begins."""
    terminal = Terminal()
    monkeypatch.setattr(sys, stream, terminal)
    return terminal


def feed(submitted, **states):
    tally = Tally(None, "")
    tally.states.update(states)
    return SimpleNamespace(submitted=submitted, source_ended=True, tally=tally)


def test_cancelled_jobs_are_neither_done_nor_failed(monkeypatch):
    stderr = use_terminal(monkeypatch)
    with Bar(120, shown=True, label="jobs") as bar:
        bar.update(feed(120, succeeded=56, failed=1, aborted=1, cancelled=62), accepted_only=False)
    text = stderr.getvalue()
    assert "58/120" in text
    assert "2 failed" in text
    assert "62 cancelled" in text


def test_a_log_line_stands_alone_above_the_bar(monkeypatch):
    stderr = use_terminal(monkeypatch)
    logs.setup("warning")
    with Bar(3, shown=True, label="jobs"):
        logging.getLogger("zmqtasks.submitter").warning("nobody takes %s %s", "[red]from[/] it", "x" * 100)
    logging.getLogger("zmqtasks.submitter").warning("later")
    (line,) = (line for line in stderr.lines() if "nobody" in line)
    assert line.endswith("nobody takes [red]from[/] it " + "x" * 100)
    assert "jobs" not in line
    assert stderr.lines()[-2].endswith(": later")


def test_results_stand_alone_above_the_bar(monkeypatch):
    stderr = use_terminal(monkeypatch)
    bar = Bar(3, shown=True, label="jobs")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not bar.in_the_way
    use_terminal(monkeypatch, "stdout")
    assert bar.in_the_way
    assert not Bar(3, shown=False, label="jobs").in_the_way
    with bar:
        output = AboveBar(bar)
        output.write(b'{"line": 1}\n')
        output.write('{"line": "é"}\n'.encode())
        assert "line" not in stderr.getvalue()
        output.flush()
        output.flush()
    assert [line for line in stderr.lines() if "line" in line] == ['{"line": 1}', '{"line": "é"}']


def test_stdout_is_not_touched(monkeypatch):
    """rich would send it where the bar is, away from the file that the user named."""
    use_terminal(monkeypatch)
    mine = io.StringIO()
    monkeypatch.setattr(sys, "stdout", mine)
    with Bar(1, shown=True, label="jobs"):
        assert sys.stdout is mine


def test_there_is_room_for_the_echo_of_ctrl_c(monkeypatch):
    stderr = use_terminal(monkeypatch)
    with Bar(3, shown=True, label="jobs") as bar:
        bar.update(feed(3, succeeded=1), accepted_only=False)
    shown = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in stderr.getvalue().replace("\r", "\n").split("\n")]
    assert max(map(len, shown)) == 78


def test_the_bar_of_one_job_goes_and_tells_no_rate(monkeypatch):
    stderr = use_terminal(monkeypatch)
    bar = Bar(1, shown=True, label="jobs", keep=False)
    with bar:
        bar.update(feed(1), accepted_only=False)
    assert stderr.getvalue().endswith("\x1b[1A\x1b[2K")
    assert "/s" not in stderr.getvalue()
