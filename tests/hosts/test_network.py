"""The hosts and cables themselves: a fault that is not injected would let every other test here pass."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.hosts.cluster import until
from tests.hosts.network import Host, Network

PORT = 7000
SCRIPT = """
import time
from tests.hosts.network import Network

with Network() as network:
    host = network.host("doomed")
    print(host.popen(["sleep", "1000"]).pid, host._id, flush=True)
    time.sleep(1000)
"""


class Mail:
    """Datagrams between two hosts."""

    def __init__(self, one: Host, two: Host) -> None:
        self.hosts = [one, two]
        self.sockets = [host.socket(socket.SOCK_DGRAM) for host in self.hosts]
        for sock, host in zip(self.sockets, self.hosts, strict=True):
            sock.bind((host.address, PORT))
        until(lambda: self.passes(0, 1) and self.passes(1, 0), "datagrams pass")

    def send(self, sender: int, data: bytes) -> None:
        self.sockets[sender].sendto(data, (self.hosts[1 - sender].address, PORT))

    def receive(self, receiver: int, wait: float) -> bytes | None:
        ready, _, _ = select.select([self.sockets[receiver]], [], [], wait)
        return self.sockets[receiver].recv(2000) if ready else None

    def passes(self, sender: int, receiver: int, wait: float = 0.2) -> bool:
        """Whether a datagram arrives; older ones are dropped."""
        data = os.urandom(8)
        self.send(sender, data)
        while (got := self.receive(receiver, wait)) is not None:
            if got == data:
                return True
        return False


@pytest.fixture
def mail(network: Network):
    mail = Mail(network.host("one"), network.host("two"))
    yield mail
    for sock in mail.sockets:
        sock.close()


def test_hosts_have_names_addresses_and_processes_of_their_own(network: Network) -> None:
    one, two = network.host("one"), network.host("two")
    assert one.run(["uname", "-n"]) == "one\n"
    assert two.run(["uname", "-n"]) == "two\n"
    process = one.popen(["sleep", "1000"])
    assert until(one.pids, "a process") == [process.pid]
    assert two.pids() == []
    one.kill()
    assert (one.pids(), process.returncode) == ([], -signal.SIGKILL)
    assert socket.gethostname() not in {"one", "two"}


def test_a_pulled_cable_carries_nothing_until_it_is_plugged_in(mail: Mail) -> None:
    one, two = mail.hosts
    one.cable.pull()
    assert "NO-CARRIER" in one.run(["ip", "link", "show", "eth0"])
    assert not mail.passes(0, 1)
    assert not mail.passes(1, 0)
    one.cable.plug()
    until(lambda: mail.passes(0, 1) and mail.passes(1, 0), "datagrams pass again")
    two.cable.sever()
    assert "NO-CARRIER" not in two.run(["ip", "link", "show", "eth0"])
    assert not mail.passes(0, 1)
    assert not mail.passes(1, 0)


def test_loss_in_one_direction_leaves_the_other_alone(mail: Mail) -> None:
    mail.hosts[0].cable.up.loss = 1.0
    assert not mail.passes(0, 1)
    assert mail.passes(1, 0)
    mail.hosts[0].cable.up.loss = 0.0
    mail.hosts[0].cable.down.loss = 1.0
    assert mail.passes(0, 1)
    assert not mail.passes(1, 0)


def test_loss_takes_its_share(mail: Mail) -> None:
    mail.hosts[0].cable.up.loss = 0.3
    came = 0
    for _ in range(300):
        mail.send(0, b"x")
        came += mail.receive(1, 0.005) is not None
    while mail.receive(1, 0.2) is not None:
        came += 1
    assert 130 < came < 290, "210 would be the mean"


def test_delay_keeps_the_order(mail: Mail) -> None:
    way = mail.hosts[0].cable.up
    way.delay, way.jitter = 0.1, 0.09
    begun = time.monotonic()
    for number in range(50):
        mail.send(0, b"%d" % number)
    got = [mail.receive(1, 5.0) for _ in range(50)]
    assert got == [b"%d" % number for number in range(50)]
    assert time.monotonic() - begun > 0.1, "the slowest of fifty takes longer than the mean"
    assert mail.passes(1, 0)


def test_a_slow_line_takes_its_time_and_drops_what_its_buffer_cannot_hold(mail: Mail) -> None:
    way = mail.hosts[0].cable.up
    way.rate, way.buffer = 100_000.0, 20_000
    begun = time.monotonic()
    for _ in range(40):
        mail.send(0, b"x" * 1000)
    came = 0
    while mail.receive(1, 0.5) is not None:
        came += 1
    assert 15 <= came < 40, "20 kB fit"
    assert time.monotonic() - begun > came * 1000 / way.rate


def test_a_host_that_vanishes_says_nothing_to_those_it_talked_to(network: Network) -> None:
    left, crashed, vanished = (network.host(name) for name in ("left", "crashed", "vanished"))
    talk = f"import socket, time; s = socket.create_connection(('{left.address}', {PORT})); time.sleep(1000)"
    with left.socket(socket.SOCK_STREAM) as listener:
        listener.bind((left.address, PORT))
        listener.listen()
        listener.settimeout(20)
        lines = {}
        for host in (crashed, vanished):
            host.popen([sys.executable, "-c", talk])
            lines[host], _ = listener.accept()
        with lines[crashed] as of_crashed, lines[vanished] as of_vanished:
            vanished.vanish()
            crashed.kill()
            of_crashed.settimeout(20)
            assert of_crashed.recv(1) == b"", "the kernel of a crashed process's host says so"
            of_vanished.setblocking(False)
            with pytest.raises(BlockingIOError):
                of_vanished.recv(1)


def test_kill_9_of_the_process_that_made_the_hosts_leaves_nothing(hosts_can_be_made: None) -> None:
    script = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    pid, space = map(int, script.stdout.readline().split())
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it runs")
    script.kill()
    script.wait()
    script.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists(), "what ran on the host has ended")
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            assert entry.stat().st_ino != space
        except OSError:
            continue
