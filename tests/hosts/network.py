"""Hosts: processes with a network card, addresses and a host name of their own, joined by a switch.

A host is a pair of namespaces that nothing but open files of the test process holds, and its card is a TAP device of
that process. So there are no names that two test runs could share, and nothing to clear away after a run that was
killed: with the process its hosts are gone, and the kernel ends what ran on them.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.hosts.switch import Switch

CLONE_NEWUTS, CLONE_NEWNET = 0x04000000, 0x40000000  # <sched.h>
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # <linux/if_tun.h>
TUN = "/dev/net/tun"
TOOLS = ("ip", "ss", "nsenter", "setpriv")  # of iproute2 and util-linux
NETWORK, NETWORK6 = "10.0.0.0/24", "fd00::/64"

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def missing() -> str | None:
    """Why no hosts can be made here; None: they can."""
    if os.uname().sysname != "Linux":
        return "network namespaces need Linux"
    if os.geteuid() != 0:
        return "network namespaces need root"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"these programs are missing: {', '.join(absent)} (Debian: iproute2, util-linux)"
    try:
        with Network() as network:
            network.host("probe")
    except OSError as error:
        return f"a host cannot be made: {error}"
    return None


class Host:
    """One host. Made by `Network.host`.

    Attributes:
        name: its host name.
        address, address6, mac: of its card.
        cable: joins it to the switch.
    """

    def __init__(self, name: str, number: int, switch: Switch) -> None:
        self.name = name
        self.address, self.address6 = f"10.0.0.{number}", f"fd00::{number}"
        self._switch = switch
        self._started: list[subprocess.Popen[str]] = []
        self.mac = f"02:00:00:00:00:{number:02x}"
        self._net, self._uts, tap = _boot(name, self.mac, [self.address, self.address6])
        self.cable = switch.attach(tap)
        self._id = os.fstat(self._net).st_ino

    def popen(self, words: Sequence[str], **keywords: Any) -> "subprocess.Popen[str]":
        """Start a program on this host; it ends with the test process at the latest."""
        spaces = [f"--{kind}=/proc/{os.getpid()}/fd/{fd}" for kind, fd in (("net", self._net), ("uts", self._uts))]
        # nsenter and setpriv become the program: the process id is the program's own.
        command = ["nsenter", *spaces, "setpriv", "--pdeathsig", "KILL", *words]
        process = subprocess.Popen(command, text=True, **keywords)
        self._started.append(process)
        return process

    def run(self, words: Sequence[str], timeout: float = 30.0) -> str:
        """Run a program on this host to its end; returns what it printed."""
        process = self.popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, f"{words} → {process.returncode}\n{out}"
        return out

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket of the test process on this host's network."""
        return _in_thread(lambda: self._enter() or socket.socket(socket.AF_INET, kind))

    def route_to(self, other: "Host") -> None:
        """Reach the other host as if through a router: whether it lives or not, its neighbour's card takes frames."""
        words = ["ip", "neigh", "replace", other.address, "lladdr", other.mac, "dev", "eth0", "nud", "permanent"]
        self.run(words)

    def _enter(self) -> None:
        _check(_libc.setns(self._net, CLONE_NEWNET), "setns")

    def pids(self) -> list[int]:
        """Whatever runs here."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "ns/net").stat().st_ino == self._id:
                        found.append(int(entry.name))
        return found

    def kill(self) -> None:
        """SIGKILL for everything that runs here."""
        end = time.monotonic() + 10
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                process.poll()
            assert time.monotonic() < end, f"these cannot be killed: {pids}"
            time.sleep(0.005)
        for process in self._started:
            process.wait()

    def vanish(self) -> None:
        """As if the power went: nobody is told anything, and what comes for it is swallowed."""
        self.cable.sever()
        self.close()

    def close(self) -> None:
        """Kill everything and take the host away."""
        if self._net >= 0:
            self.kill()
            self._switch.detach(self.cable)
            os.close(self._net)
            os.close(self._uts)
            self._net = self._uts = -1


class Network:
    """A switch and its hosts, for one test. Addresses repeat from test to test, for each has a network of its own."""

    def __init__(self) -> None:
        self._switch = Switch()
        self.hosts: list[Host] = []

    def host(self, name: str, number: int = 0) -> Host:
        """A new host.

        Args:
            name: its host name.
            number: the last part of its addresses; 0: the next free one.
        """
        host = Host(name, number or len(self.hosts) + 1, self._switch)
        self.hosts.append(host)
        return host

    def close(self) -> None:
        """Take everything away."""
        for host in self.hosts:
            host.close()
        self._switch.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _boot(name: str, mac: str, addresses: list[str]) -> tuple[int, int, int]:
    """Make the namespaces and the card; returns open files: network, host name, TAP device."""
    made: list[int] = []

    def boot() -> None:
        _check(_libc.unshare(CLONE_NEWNET | CLONE_NEWUTS), "unshare")
        socket.sethostname(name)
        made.extend(os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "uts"))
        made.append(_tap())
        address, address6 = addresses
        lines = [
            "link set lo up",
            f"link set eth0 address {mac}",
            "link set eth0 up",
            f"addr add {address}/24 dev eth0",
            f"addr add {address6}/64 dev eth0 nodad",
        ]
        ip = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, capture_output=True, check=False)
        if ip.returncode:
            raise OSError(f"ip: {ip.stderr}")

    try:
        _in_thread(boot)
    except OSError:
        for fd in made:
            os.close(fd)
        raise
    net, uts, tap = made
    return net, uts, tap


def _in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread of its own: a namespace is entered by a thread, and with it left again."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()


def _check(status: int, what: str) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _tap() -> int:
    tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TAP | IFF_NO_PI))
    except OSError:
        os.close(tap)
        raise
    return tap
