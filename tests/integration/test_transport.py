"""Router and Link over real sockets."""

import os
import signal
import socket
import threading
import time

import pytest
import zmq

from tests.helpers.ports import steady_port
from zmqtasks import transport
from zmqtasks.errors import AddressInUse, BadUrl
from zmqtasks.transport import BusyPoll, Change, Context, Link, Router, Sleeper, Wakeup, parse_url, wait


@pytest.fixture
def context():
    context = Context()
    yield context
    context.close()


@pytest.fixture(params=["tcp", "ipc"])
def url(request, tmp_path):
    return "tcp://127.0.0.1:0" if request.param == "tcp" else f"ipc://{tmp_path}/s"


@pytest.fixture
def router(context, url):
    router = Router(context)
    router.url = router.bind(url)
    yield router
    router.close()


@pytest.fixture
def link(context, router):
    link = Link(context, router.url, 0.0)
    yield link
    link.close()


def until(condition, *links, seconds=10.0):
    """Serve the links until the condition yields something; what it yields."""
    deadline = time.monotonic() + seconds
    while True:
        for link in links:
            link.seen = [*getattr(link, "seen", []), *link.service(time.monotonic())]
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"nothing came; {[(k.connected, k.seen) for k in links]}"
        wait([r for link in links for r in link.readers()], 0.005)


def connect(link):
    until(lambda: link.connected, link)
    assert link.seen[-1] is Change.CONNECTED


def hello(router, link, data=b"hello"):
    connect(link)
    link.send(data)
    route, got = until(router.receive, link)
    assert got == data
    return route


def test_there_and_back(router, link):
    route = hello(router, link)
    router.send(route, b"welcome")
    assert until(link.receive, link) == b"welcome"
    assert link.receive() is None
    assert router.receive() is None
    assert not router.gone


def test_order_is_kept_and_large_frames_pass(router, link):
    route = hello(router, link)
    sent = [b"%d" % i for i in range(500)] + [os.urandom(1_000_000)]
    for data in sent:
        link.send(data)
    got = []
    until(lambda: link.flush() and (got.append(m[1]) if (m := router.receive()) else None, len(got) == 501)[1], link)
    assert got == sent
    router.send(route, sent[-1])
    assert until(link.receive, link) == sent[-1]


def test_without_a_connection_messages_are_dropped(context):
    link = Link(context, "tcp://127.0.0.1:1", 0.0)
    link.send(b"lost")
    assert link.receive() is None
    until(lambda: Change.BROKEN in link.seen, link)
    assert not link.connected
    assert link.next_deadline() is not None
    link.close()
    assert link.next_deadline() is None


def test_retries_back_off(context):
    link = Link(context, "tcp://127.0.0.1:1", 0.5)
    delays = []
    now = time.monotonic()
    while len(delays) < 7:
        link.service(now)
        if link.next_deadline() is not None:
            delays.append(link.next_deadline() - now)
            now = link.next_deadline()
        else:
            wait(link.readers(), 1.0)
    link.close()
    assert delays == pytest.approx([0.075, 0.15, 0.3, 0.6, 1.2, 1.5, 1.5])


def test_a_scheduler_that_comes_later_is_found(context):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    link = Link(context, url, 0.0)
    until(lambda: Change.BROKEN in link.seen, link)
    router = Router(context)
    router.bind(url)
    assert hello(router, link)
    link.close()
    router.close()


def test_after_a_break_comes_a_fresh_connection(context, url):
    router = Router(context)
    link = Link(context, router.bind(url.replace(":0", f":{steady_port()}")), 0.0)
    first = hello(router, link)
    router.send(first, b"on its way when the connection breaks")
    router.close()
    until(lambda: Change.BROKEN in link.seen, link)
    link.send(b"lost: there is no connection")
    again = Router(context)
    again.bind(link.url)
    second = hello(again, link, b"hello again")
    assert second != first
    assert again.receive() is None  # nothing of the first connection came
    assert link.receive() is None
    again.send(first, b"to the old route")
    assert again.gone == {first}
    link.close()
    again.close()


def test_restart_is_a_fresh_connection(router, link):
    first = hello(router, link)
    router.send(first, b"for the first connection")
    link.restart(time.monotonic())
    assert not link.connected
    second = hello(router, link, b"again")
    assert first != second
    assert link.receive() is None


def test_a_disconnect_is_noticed_and_a_probe_finds_whose(context, router, link):
    other = Link(context, router.url, 0.0)
    staying, leaving = hello(router, link), hello(router, other)
    assert router.disconnects() == 0
    other.close()
    assert until(router.disconnects, link) == 1

    def probed():
        for route in (staying, leaving):
            router.send(route, b"ping")
        return router.gone

    assert until(probed, link) == {leaving}


def test_messages_without_room_are_parked_and_come_in_order(context, router, link):
    route = hello(router, link)
    count = 0
    block = bytes(100_000)
    while not router.parked:
        router.send(route, b"%d " % count + block)
        count += 1
        assert count < 10_000
    for _ in range(10):
        router.send(route, b"%d " % count + block)
        count += 1
    got = []

    def drained():
        router.flush()
        while (data := link.receive()) is not None:
            got.append(int(data.split(b" ", 1)[0]))
        return len(got) == count

    until(drained, link, seconds=60)
    assert got == list(range(count))
    assert not router.parked


def test_what_is_parked_for_a_dead_route_is_forgotten(context, router, link):
    route = hello(router, link)
    block = bytes(100_000)
    while not router.parked:
        router.send(route, block)
    router.drop(route)
    assert not router.parked
    while not router.parked:
        router.send(route, block)
    link.close()

    def found():
        router.receive()  # zmq learns of it while it reads
        router.flush()
        router.send(route, b"one more")
        return route in router.gone

    until(found)
    router.drop(route)
    assert not router.parked


def test_a_link_parks_too(router, link):
    hello(router, link)
    block = bytes(100_000)
    count = 0
    while not link.writers():
        link.send(b"%d " % count + block)
        count += 1
        assert count < 10_000
    assert not link.flush() or count
    for _ in range(5):
        link.send(b"%d " % count + block)
        count += 1
    got = []

    def drained():
        link.flush()
        while (message := router.receive()) is not None:
            got.append(int(message[1].split(b" ", 1)[0]))
        return len(got) == count

    until(drained, link, seconds=60)
    assert got == list(range(count))
    assert link.writers() == []


def test_messages_of_another_shape(context, router, link):
    hello(router, link)
    other = context.zmq.socket(zmq.DEALER)
    other.connect(router.url)
    for frames in ([b"one", b"two"], [b""], [b"", b"", b""]):
        other.send_multipart(frames)
        assert until(router.receive, link)[1] == b""
    other.close(0)


def test_a_link_drops_messages_of_more_than_one_frame(context, router, link):
    route = hello(router, link)
    router._socket.send_multipart([route, b"one", b"two", b"three"])
    router.send(route, b"ours")
    assert until(link.receive, link) == b"ours"


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_an_address_in_use(context, kind, tmp_path):
    url = "tcp://127.0.0.1:0" if kind == "tcp" else f"ipc://{tmp_path}/s"
    one, two = Router(context), Router(context)
    url = one.bind(url)
    with pytest.raises(AddressInUse, match="in use by another process; stop it, or choose another --bind") as error:
        two.bind(url)
    assert url in str(error.value)
    link = Link(context, url, 0.0)
    assert hello(one, link)  # and the first one is still there
    for thing in (link, one, two):
        thing.close()


def test_an_ipc_path_that_a_dead_scheduler_left_is_taken_over(context, tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert path.exists()
    router = Router(context)
    url = router.bind(f"ipc://{path}")
    link = Link(context, url, 0.0)
    assert hello(router, link)
    link.close()
    router.close()


@pytest.mark.parametrize(
    "url",
    [
        "", "head:5555", "http://head:5555", "tcp://", "tcp://head", "tcp://head:", "tcp://:5555", "tcp://head:port",
        "tcp://head:99999", "tcp://head:5555/path", "tcp://head:5555?x", "tcp://head:5555#x", "tcp://me@head:5555",
        "tcp://[::1:5555", "ipc://", "ipc://" + "x" * 108, "local://", "inproc://x", "tcp://he ad:5555",
    ],
)  # fmt: skip
def test_bad_urls_are_named(context, url):
    with pytest.raises(BadUrl, match="bad URL") as error:
        parse_url(url)
    assert repr(url) in str(error.value)
    with pytest.raises(BadUrl):
        Link(context, url, 0.0)


@pytest.mark.parametrize("url", ["tcp://head:5555", "tcp://10.0.0.1:1", "tcp://[::1]:5555", "ipc:///tmp/s", "ipc://s"])
def test_good_urls(url):
    assert parse_url(url) == url


@pytest.mark.parametrize("url", ["tcp://192.0.2.1:5555", "ipc:///no/such/directory/s", "tcp://no-such-host.invalid:1"])
def test_an_address_that_cannot_be_bound(context, url):
    router = Router(context)
    with pytest.raises(BadUrl, match="cannot listen on"):
        router.bind(url)
    router.close()


@pytest.mark.parametrize("url", ["tcp://no-such-host.invalid:5555", "ipc:///no/such/directory/s", "tcp://127.0.0.1:1"])
def test_an_address_that_nobody_can_reach_is_tried_again(context, url):
    link = Link(context, url, 0.0)
    for _ in range(20):
        link.service(time.monotonic())
        wait(link.readers(), 0.01)
    assert not link.connected
    link.close()


def test_ipv6():
    context = Context()
    router = Router(context)
    try:
        url = router.bind("tcp://[::1]:0")
    except BadUrl:
        pytest.skip("this machine has no IPv6")
    else:
        link = Link(context, url, 0.0)
        assert hello(router, link)
        link.close()
    finally:
        router.close()
        context.close()


def test_a_message_that_another_thread_took_in_during_the_sleep_is_seen(context, router, link):
    """Who holds the baton makes calls to the socket; then its descriptor tells the sleeper nothing of the message."""
    connect(link)
    wakeup = Wakeup()
    readers = [*router.readers(), wakeup.fileno()]

    class Baton:
        """Held by somebody else as soon as it is let go."""

        def release(self):
            link.send(b"here")
            until(lambda: router.ready, link)
            wakeup.set()

        def acquire(self):
            pass

    while router.receive() or router.disconnects():
        pass
    sleeper = Sleeper(baton=Baton())
    for _ in range(2):  # the first time all sockets are asked
        assert router.readers()[0] in sleeper.wait(readers, 10.0)
        assert router.receive()[1] == b"here"
        assert router.receive() is None
        wakeup.clear()
    wakeup.close()


def test_wakeup_ends_a_wait():
    wakeup = Wakeup()
    assert wait([wakeup.fileno()], 0.0) == {}
    wakeup.set()
    wakeup.set()
    assert wakeup.fileno() in wait([wakeup.fileno()], 10.0)
    assert wakeup.clear() == b"\0\0"
    assert wakeup.clear() == b""
    for _ in range(100_000):
        wakeup.set()  # a full pipe is as good
    wakeup.close()
    wakeup.set()
    wakeup.close()


def looking(seconds):
    """A BusyPoll that looks for so long, on however many cores."""
    busy = BusyPoll(0.0)
    busy.most = busy.seconds = seconds
    return busy


def test_news_that_come_while_it_looks_need_no_sleep(router, link, monkeypatch):
    connect(link)
    hello(router, link)
    while router.receive() or router.disconnects():
        pass
    sleeper = Sleeper()
    assert sleeper.wait(router.readers(), 0.0) == {}
    monkeypatch.setattr(sleeper, "_sleep", None)  # it may not be called
    sender = threading.Timer(0.05, lambda: link.send(b"here"))
    sender.start()
    ready = {}
    while router.readers()[0] not in ready:  # commands without a message may come first
        ready = sleeper.wait(router.readers(), 60.0, (), looking(60.0))
        if not router.ready:
            ready = {}
    sender.join()
    assert router.receive()[1] == b"here"


def test_news_that_do_not_come_while_it_looks_end_its_sleep():
    wakeup = Wakeup()
    busy = looking(0.01)
    sender = threading.Timer(0.3, wakeup.set)
    sender.start()
    assert wakeup.fileno() in Sleeper().wait([wakeup.fileno()], 60.0, (), busy)
    assert busy.seconds == 0.0  # it was in vain
    sender.join()
    wakeup.close()


def test_while_it_looks_others_may_use_the_sockets():
    wakeup, baton = Wakeup(), threading.Lock()
    held = []

    def use():
        with baton:
            held.append(baton)
        wakeup.set()

    other = threading.Thread(target=use)
    baton.acquire()
    other.start()
    assert wakeup.fileno() in Sleeper(baton=baton).wait([wakeup.fileno()], 60.0, (), looking(60.0))
    assert baton.locked()  # it is ours again
    other.join()
    assert held
    wakeup.close()


def test_a_signal_that_raises_ends_its_look():
    wakeup = Wakeup()
    handler = signal.signal(signal.SIGUSR1, lambda *_: (_ for _ in ()).throw(InterruptedError))
    late = threading.Timer(0.05, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    late.start()
    try:
        with pytest.raises(InterruptedError):
            Sleeper().wait([wakeup.fileno()], 60.0, (), looking(60.0))
    finally:
        late.join()
        signal.signal(signal.SIGUSR1, handler)
        wakeup.close()


def test_it_looks_for_no_longer_than_it_may_wait():
    wakeup = Wakeup()
    assert Sleeper().wait([wakeup.fileno()], 0.01, (), looking(600.0)) == {}
    assert Sleeper().wait([wakeup.fileno()], 0.0, (), looking(600.0)) == {}
    wakeup.close()


def test_a_context_is_not_closed_by_a_forked_child(monkeypatch):
    context = Context()
    sock = context.zmq.socket(zmq.DEALER)
    monkeypatch.setattr(transport.sockets.os, "getpid", lambda: -1)
    context.close()
    assert not sock.closed
    monkeypatch.undo()
    context.close()
    assert sock.closed
