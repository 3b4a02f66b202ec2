"""Who may connect, and where a scheduler may listen."""

import pytest
import zmq

from zmqtasks.errors import BadUrl
from zmqtasks.security import AddressRule, Doorkeeper, check_bind


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_may_always_connect(address):
    assert AddressRule(()).allows(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "8.8.8.8", "fe80::1%eth0", "::ffff:10.0.0.1", "nonsense"]
)
def test_nobody_else_may(address):
    assert not AddressRule(()).allows(address)


def test_networks_that_are_named():
    rule = AddressRule(("10.1.0.0/16", "fe80::/10", "192.0.2.7"))
    assert all(map(rule.allows, ["10.1.255.255", "fe80::1%eth0", "::ffff:10.1.2.3", "192.0.2.7", "127.0.0.1"]))
    assert not any(map(rule.allows, ["10.2.0.0", "192.0.2.8", "2001:db8::1"]))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "everybody", ""])
def test_what_is_no_network_is_named(text):
    with pytest.raises(BadUrl, match=f"--plaintext {text}"):
        AddressRule((text,))


@pytest.mark.parametrize(
    "url", ["tcp://127.0.0.1:5555", "tcp://127.0.0.2:1", "tcp://localhost:0", "tcp://[::1]:5555", "ipc:///tmp/s"]
)
def test_loopback_and_ipc_may_be_bound(url):
    check_bind(url, ())


@pytest.mark.parametrize("url", ["tcp://0.0.0.0:5555", "tcp://*:5555", "tcp://10.0.0.1:5555", "tcp://[::]:1"])
def test_other_addresses_need_plaintext(url):
    port = url.rpartition(":")[2]
    with pytest.raises(BadUrl, match=rf"bind tcp://127\.0\.0\.1:{port}, .* --plaintext 10\.0\.0\.0/8"):
        check_bind(url, ())
    check_bind(url, ("10.0.0.0/8",))


def test_a_host_that_does_not_exist_is_told_as_that():
    with pytest.raises(BadUrl, match="no-such-host"):
        check_bind("tcp://no-such-host.invalid:5555", ())


def test_the_doorkeeper_answers_in_the_words_of_zap():
    context = zmq.Context()
    keeper = Doorkeeper(context, AddressRule(()))
    asking = context.socket(zmq.REQ)
    asking.setsockopt(zmq.RCVTIMEO, 5000)
    asking.connect("inproc://zeromq.zap.01")
    try:
        for address, status in (("127.0.0.1", b"200"), ("10.0.0.1", b"400")):
            asking.send_multipart([b"1.0", b"7", b"zmqtasks", address.encode(), b"", b"NULL"])
            keeper.service()
            answer = asking.recv_multipart()
            assert answer[:3] == [b"1.0", b"7", status]
            assert len(answer) == 6
        assert keeper.refused == {"10.0.0.1": 1}
    finally:
        asking.close(0)
        keeper.close()
        context.destroy(linger=0)


def test_the_doorkeeper_survives_nonsense():
    context = zmq.Context()
    keeper = Doorkeeper(context, AddressRule(()))
    asking = context.socket(zmq.DEALER)
    asking.connect("inproc://zeromq.zap.01")
    try:
        asking.send_multipart([b"", b"1.0"])
        asking.send(b"")
        keeper.service()
        assert asking.poll(50) == 0
    finally:
        asking.close(0)
        keeper.close()
        context.destroy(linger=0)
