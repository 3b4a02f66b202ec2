import os

import pytest

from zmqtasks.cli._jobs import BadLine, JobLines
from zmqtasks.cli._sources import FileSource, OneJob, StreamSource, open_source


def lines():
    return JobLines("jobs.jsonl", "m:f", {}, lambda text: None)


def args(requests):
    return [(request.line, request.args) for request in requests]


@pytest.fixture
def pipe():
    read, write = os.pipe()
    with open(read, "rb", buffering=0) as reader:  # noqa: PTH123  (a file descriptor)
        yield reader, write
    try:
        os.close(write)
    except OSError:
        pass


def test_a_file_is_checked_whole_before_its_first_job_is_given(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"args": [1]}\n' * 16 + "{broken\n" + '{"args": [1]}\n' * 3)
    with path.open("rb") as file, pytest.raises(BadLine, match=r"^jobs\.jsonl line 17: is no JSON"):
        FileSource(file, lines())


def test_a_file_knows_its_total_and_counts_empty_lines(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(b'{"args": [1]}\r\n\n  \n{"args": [2]}')
    with path.open("rb") as file:
        source = open_source(file, lines())
        assert (source.total, source.ended, source.fd) == (2, False, None)
        assert args(source.take(500)) == [(1, [1]), (4, [2])]
        assert source.ended


def test_a_file_gives_no_more_than_asked_for(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(f'{{"args": [{i}]}}\n' for i in range(5)))
    with path.open("rb") as file:
        source = open_source(file, lines())
        taken = [len(source.take(2)) for _ in range(3)]
        assert taken == [2, 2, 1]
        assert source.ended


def test_an_empty_file_is_over_at_once(tmp_path):
    path = tmp_path / "jobs.jsonl"
    path.touch()
    with path.open("rb") as file:
        assert open_source(file, lines()).ended


def test_one_job_is_given_once():
    source = OneJob(lines().parse(1, b"{}"))
    assert (source.total, source.ended) == (1, False)
    assert args(source.take(500)) == [(1, [])]
    assert source.ended
    assert source.take(500) == []


def test_a_stream_gives_what_is_there_and_waits_for_nothing(pipe):
    reader, write = pipe
    source = open_source(reader, lines())
    assert isinstance(source, StreamSource)
    assert source.take(500) == []
    os.write(write, b'{"args": [1]}\n\n{"args": [2]}\n{"ar')
    assert args(source.take(500)) == [(1, [1]), (3, [2])]
    assert not source.ended
    assert source.fd == reader.fileno()
    os.write(write, b'gs": [3]}')
    assert source.take(500) == []
    os.close(write)
    assert args(source.take(500)) == [(4, [3])]
    assert source.ended


def test_a_stream_keeps_what_was_not_asked_for(pipe):
    reader, write = pipe
    source = open_source(reader, lines())
    os.write(write, b"{}\n" * 5)
    os.close(write)
    assert len(source.take(3)) == 3
    assert source.fd is None  # there is more without waiting
    assert len(source.take(3)) == 2
    source.take(3)
    assert source.ended


def test_a_broken_line_of_a_stream_is_told_when_it_comes(pipe):
    reader, write = pipe
    source = open_source(reader, lines())
    os.write(write, b"{}\n{}\noh\n")
    assert len(source.take(5)) == 2
    assert isinstance(source.broken, BadLine)
    assert "line 3: is no JSON" in str(source.broken)
    assert source.ended
    assert source.take(5) == []
