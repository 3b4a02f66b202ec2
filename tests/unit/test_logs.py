import io
import logging
import re
from collections.abc import Iterator

import pytest

from zmqtasks import logs

LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (?P<level>[A-Z]+) (?P<rest>.*)$")


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def logged(level, tell):
    stream = io.StringIO()
    logs.setup(level, stream=stream)
    tell(logging.getLogger("zmqtasks.scheduler.daemon"))
    return stream.getvalue().splitlines()


def test_a_line_names_time_level_logger_process_and_key():
    (line,) = logged("info", lambda log: log.info("w%d joined", 1, extra={"action": "worker-joined"}))
    found = LINE.match(line)
    assert found
    assert found["level"] == "INFO"
    assert re.fullmatch(r"scheduler\.daemon\[\d+\] worker-joined: w1 joined", found["rest"])


def test_a_message_without_key_has_only_its_text():
    (line,) = logged("info", lambda log: log.warning("odd"))
    assert re.search(r"WARNING scheduler\.daemon\[\d+\]: odd$", line)


def test_less_than_the_level_is_not_said():
    assert logged("warning", lambda log: log.info("x")) == []
    assert len(logged("DEBUG", lambda log: log.debug("x"))) == 1


def test_line_breaks_do_not_make_new_lines():
    (line,) = logged("info", lambda log: log.info("one\r\ntwo"))
    assert line.endswith("one⏎two")


def fail(log):
    try:
        {}["no such peer"]
    except KeyError:
        log.exception("lost")


def test_an_exception_is_one_line_unless_at_debug():
    (line,) = logged("info", fail)
    assert line.endswith("lost (KeyError: 'no such peer')")
    lines = logged("debug", fail)
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'no such peer'"


def test_a_second_setup_replaces_the_first():
    logged("info", lambda log: None)
    assert len(logged("info", lambda log: log.info("once"))) == 1


def test_a_logfile_is_appended_to(tmp_path):
    path = tmp_path / "zmqtasks.log"
    path.write_text("before\n")
    logs.setup("info", str(path))
    logging.getLogger("zmqtasks.x").info("after")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["before", "after"]


def test_a_logfile_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(logs.LogFileError, match=r"cannot write the log file .*nowhere/x\.log: No such file"):
        logs.setup("info", str(tmp_path / "nowhere" / "x.log"))


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match=r"no log level is called 'loud' \(there are: debug, info,"):
        logs.setup("loud")


def test_in_a_child_lines_name_the_job_and_go_elsewhere():
    first, stream = io.StringIO(), io.StringIO()
    logs.setup("info", stream=first)
    of_user = logging.StreamHandler(theirs := io.StringIO())
    of_user.setFormatter(logging.Formatter("%(job_id)s|%(task)s|%(message)s"))
    logging.getLogger().addHandler(of_user)
    now = ["00a1", "shop.work"]
    logs.in_child(stream, lambda: tuple(now))
    log = logging.getLogger("shop")
    log.info("one", extra={"task": "their own", "action": "key"})
    log.info("two")
    now[:] = ["", ""]
    log.info("three")
    lines = stream.getvalue().splitlines()
    assert first.getvalue() == ""
    assert re.search(r" INFO shop\[\d+\] \[00a1 their own\] key: one$", lines[0])
    assert re.search(r" INFO shop\[\d+\] \[00a1 shop.work\]: two$", lines[1])
    assert re.search(r" INFO shop\[\d+\]: three$", lines[2])
    assert theirs.getvalue().splitlines() == ["00a1|their own|one", "00a1|shop.work|two", "||three"]
