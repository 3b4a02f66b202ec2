"""What jobs print becomes whole lines that say whose they are, whatever the jobs and the disk do."""

import errno
import os
import threading
from pathlib import Path

import pytest

from zmqtasks.worker.output import ATOMIC, MAX_LINE, Output, Sink


class Jobs:
    """An Output into a pipe or a file. `now`: the slot and the start of a line of whoever writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.now = (0, "[a] ")
        self.sink = Sink(self.fd)
        self.output = Output(self.sink, lambda: self.now)

    def print(self, *args, **options):
        print(*args, file=self.output.stdout, **options)

    def lines(self):
        return self.path.read_text().splitlines()

    def close(self):
        os.close(self.fd)
        os.close(self.sink._fd)


@pytest.fixture
def jobs(tmp_path):
    made = Jobs(tmp_path / "log")
    made.print("first")
    yield made
    made.close()


def test_a_line_says_whose_it_is(jobs):
    jobs.now = (-1, "")
    jobs.print("nobody's")
    jobs.now = (3, "[b task] ")
    jobs.print("two\nlines", "and a word")
    jobs.print("to stderr")
    assert jobs.lines() == ["[a] first", "nobody's", "[b task] two", "[b task] lines and a word", "[b task] to stderr"]


def test_an_unfinished_line_ends_with_its_job(jobs):
    jobs.print("half", end="")
    assert jobs.lines() == ["[a] first"]
    jobs.output.finish(1)
    assert jobs.lines() == ["[a] first"]
    jobs.output.finish(0)
    assert jobs.lines() == ["[a] first", "[a] half"]
    jobs.print("a", end="")
    jobs.now = (0, "[b] ")
    jobs.print("b", end="")
    jobs.print("!")
    assert jobs.lines()[2:] == ["[a] a", "[b] b!"]


def test_streams_and_slots_do_not_mix(jobs):
    jobs.print("out", end="")
    print("err", end="", file=jobs.output.stderr)
    jobs.now = (1, "[b] ")
    jobs.print("other", end="")
    jobs.now = (0, "[a] ")
    jobs.print(" more")
    jobs.output.finish(0)
    jobs.output.finish(1)
    assert jobs.lines()[1:] == ["[a] out more", "[a] err", "[b] other"]


def test_a_long_line_is_cut_and_told(jobs):
    for _ in range(3):
        jobs.print("x" * MAX_LINE, end="")
    jobs.print()
    jobs.print("next")
    assert jobs.lines()[1:] == [f"[a] {'x' * MAX_LINE} … {2 * MAX_LINE} more characters", "[a] next"]


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (["\r10%", "\r20%", "\r100%", "\n"], "100%"),
        (["10%\r", "20%\r", "done\n"], "done"),
        (["10%\r20%\r30%", "\r", "\n"], "30%"),
        (["dos\r\n"], "dos"),
    ],
)
def test_a_progress_bar_leaves_its_last_picture(jobs, written, line):
    for text in written:
        jobs.output.stdout.write(text)
    assert jobs.lines()[1:] == [f"[a] {line}"]


def test_whole_lines_reach_a_pipe_at_once(monkeypatch, jobs):
    sizes = []
    monkeypatch.setattr(jobs.sink, "write", lambda data: sizes.append(len(data)))
    jobs.print("y" * 100 + "\n" + "\n".join("z" * 50 for _ in range(500)))
    assert len(sizes) > 1
    assert max(sizes) <= ATOMIC


def test_what_cannot_be_encoded_is_escaped(jobs):
    jobs.print("a\udcffb")
    jobs.output.stdout.buffer.write(b"raw \xff bytes\n")
    assert jobs.lines()[1:] == ["[a] a\\udcffb", "[a] raw \\xff bytes"]


def test_a_character_may_come_in_parts(jobs):
    raw = jobs.output.stdout.buffer
    for byte in "é€\n".encode():
        raw.write(bytes([byte]))
    raw.write("é".encode()[:1])
    jobs.now = (1, "[b] ")
    raw.write("€".encode()[1:] + b"\n")
    jobs.output.finish(1)
    assert jobs.lines()[1:] == ["[a] é€", r"[b] \x82\xac"]
    jobs.output.finish(0)
    assert jobs.lines()[3:] == [r"[a] \xc3"]


def test_the_streams_behave_like_streams(jobs):
    stream = jobs.output.stdout
    stream.flush()
    stream.reconfigure(line_buffering=False)
    stream.close()
    with stream:
        assert stream.write("still open\n") == 11
    assert not stream.closed
    assert not stream.isatty()
    assert stream.writable()
    assert (stream.encoding, stream.fileno()) == ("utf-8", 2)
    with pytest.raises(TypeError, match=r"write\(\) argument must be str, not bytes"):
        stream.write(b"x")
    assert jobs.lines()[1:] == ["[a] still open"]


def test_a_full_disk_costs_lines_and_tells_how_many(monkeypatch, jobs):
    real = os.write

    def full(_fd, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    jobs.print("lost\nlost")
    monkeypatch.setattr(os, "write", real)
    jobs.print("kept")
    assert jobs.lines()[1:] == ["2 lines of output could not be written: No space left on device", "[a] kept"]


def test_a_closed_or_replaced_descriptor_does_no_harm(jobs, tmp_path):
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    os.dup2(other, jobs.fd)
    os.close(other)
    jobs.print("ours")
    assert jobs.lines()[1:] == ["[a] ours"]
    assert (tmp_path / "other").read_bytes() == b""
    os.close(jobs.sink._fd)
    jobs.print("lost: it was closed")
    jobs.print("goes where the descriptor leads now")
    assert len((tmp_path / "other").read_text().splitlines()) == 2


def test_a_log_file_is_opened_anew_after_its_rotation(tmp_path):
    path = tmp_path / "worker.log"
    sink = Sink(2, str(path))
    sink.write(b"one\n")
    path.rename(tmp_path / "worker.log.1")
    sink.write(b"two\n")
    os.close(sink._fd)
    assert [(tmp_path / name).read_text() for name in ("worker.log.1", "worker.log")] == ["one\n", "two\n"]


def test_threads_print_whole_lines(jobs):
    slots = threading.local()
    jobs.output._whose = lambda: (slots.number, f"[{slots.number}] ")

    def work(number):
        slots.number = number
        for _ in range(200):
            jobs.print("a", end="")
            jobs.print("b", end="")
            jobs.print("c")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(jobs.lines()[1:]) == sorted(f"[{n}] abc" for n in range(8) for _ in range(200))
