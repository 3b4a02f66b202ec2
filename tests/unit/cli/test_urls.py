import pytest

from zmqtasks.cli import _urls
from zmqtasks.errors import BadUrl
from zmqtasks.operators import no_scheduler


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:5555", "tcp://[::1]:5555", "ipc:///tmp/x"])
def test_a_right_one_is_taken_as_it_is(url):
    assert _urls.check(url) == url


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("5566", "did you mean tcp://127.0.0.1:5566?"),
        (":5566", "did you mean tcp://127.0.0.1:5566?"),
        ("localhost:5555", "did you mean tcp://localhost:5555?"),
        ("[::1]:5555", "did you mean tcp://[::1]:5555?"),
        ("head", "did you mean tcp://head:5555?"),
        ("/tmp/x.ipc", "did you mean ipc:///tmp/x.ipc?"),
        ("http://head", "it must be tcp://HOST:PORT or ipc://PATH"),
        ("a b", "it must be tcp://HOST:PORT or ipc://PATH"),
        ("99999", "it must be tcp://HOST:PORT or ipc://PATH"),
        ("tcp://head", "a TCP URL is tcp://HOST:PORT"),
    ],
)
def test_a_wrong_one_says_what_was_meant(url, says):
    with pytest.raises(BadUrl) as caught:
        _urls.check(url)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"bad URL {url!r}")
    assert "local://" not in str(caught.value)


def test_local_is_named_where_it_would_do():
    with pytest.raises(BadUrl, match=r"it must be tcp://HOST:PORT, ipc://PATH or local://$"):
        _urls.check("redis://x", local=True)


def test_what_can_be_listened_on_only():
    assert _urls.check("tcp://*:0", listen=True) == "tcp://*:0"
    with pytest.raises(BadUrl, match=r"did you mean tcp://\*:5555\?"):
        _urls.check("*:5555", listen=True)


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:1", "tcp://localhost:1", "tcp://[::1]:1", "ipc:///tmp/x"])
def test_on_this_machine_a_scheduler_can_be_started(url):
    assert no_scheduler(url, 5) == (
        f"no scheduler answered at {url} within 5 s; start one with: zmqtasks scheduler --bind {url}"
    )


@pytest.mark.parametrize("host", ["head", "10.0.0.7"])
def test_on_another_host_it_cannot(host):
    assert no_scheduler(f"tcp://{host}:5555", 0.5) == (
        f"no scheduler answered at tcp://{host}:5555 within 0.5 s; "
        f"is {host} the right host, and is the scheduler started there?"
    )
