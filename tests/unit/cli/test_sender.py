"""The client behind submit: what it is asked to send, and when it is replaced by a fresh one."""

import types

import pytest

from zmqtasks.cli import _sender
from zmqtasks.cli._targets import ByName
from zmqtasks.errors import BadOption


class FakeClient:
    """Notes what it is asked to send. Options make a view of it, as with the real one."""

    def __init__(self, url, connect_timeout=None):
        self.url, self.sent, self.closed, self.views = url, [], None, 0
        self.submit_timeout = 30.0
        self.connection = types.SimpleNamespace(prefix=bytes(12), open_count=0)
        type(self).made.append(self)

    def options(self, **given):
        self.views += 1
        return self

    def submit_many(self, fn, calls):
        self.sent.append((fn, calls))
        return ["many"]

    def submit(self, fn, *args, **kwargs):
        self.sent.append((fn, args, kwargs))
        return "one"

    def send_batch(self, prepared, calls):
        self.sent.append((prepared.call.task, prepared.call.codec, prepared.call.spec, calls))
        return ["batch"]

    def send_one(self, prepared, args, kwargs, timeout):
        self.sent.append((prepared.call.task, args, kwargs, timeout))
        return "named"

    def close(self, timeout=5.0):
        self.closed = timeout


@pytest.fixture(autouse=True)
def clients(monkeypatch):
    monkeypatch.setattr(_sender, "open_client", FakeClient)
    monkeypatch.setattr(FakeClient, "made", [], raising=False)
    return FakeClient.made


CALLS = [((1,), {}), ((2,), {"x": 3})]


def test_functions_and_names_go_their_ways(clients):
    with _sender.connect("tcp://head:1") as sender:
        assert sender.submit(abs, CALLS, queue="q") == ["many"]
        assert sender.submit(abs, CALLS[1:], job_id="mine") == ["one"]
        assert sender.submit(ByName("t", "json"), CALLS, queue="q", on_unknown="fail") == ["batch"]
        assert sender.submit(ByName("t"), CALLS[1:], job_id="mine") == ["named"]
    (client,) = clients
    assert client.sent[:2] == [(abs, CALLS), (abs, (2,), {"x": 3})]
    task, codec, spec, calls = client.sent[2]
    assert (task, codec, spec.queue, spec.fail_unknown, spec.python, calls) == ("t", "json", "q", True, "", CALLS)
    assert client.sent[3] == ("t", (2,), {"x": 3}, 30.0)
    assert client.closed == _sender.FLUSH


def test_one_set_of_options_is_made_once(clients):
    with _sender.connect("tcp://head:1") as sender:
        for _ in range(3):
            sender.submit(abs, CALLS, queue="q", retries=2, resources={"mem": "1GiB", "gpu": 1})
    assert clients[0].views == 1


def test_a_bad_option_of_a_named_task_is_refused():
    with pytest.raises(BadOption, match="retries"), _sender.connect("tcp://head:1") as sender:
        sender.submit(ByName("t"), CALLS, retries=-1)


def test_jobs_that_nobody_waits_for_do_not_pile_up(clients):
    with _sender.connect("tcp://head:1") as sender:
        sender.forget()
        assert len(clients) == 1
        clients[0].connection.open_count = _sender.MAX_OPEN + 1
        sender.forget()
        assert len(clients) == 2
        sender.submit(abs, CALLS)
    assert clients[0].closed
    assert clients[1].sent == [(abs, CALLS)]


def test_an_error_gets_a_short_farewell(clients):
    with pytest.raises(ZeroDivisionError), _sender.connect("tcp://head:1"):
        raise ZeroDivisionError
    assert clients[0].closed == _sender.FAREWELL
