"""Who may connect. Until keys come: this machine, and the networks that --plaintext names.

zmq asks a ZAP handler (ZeroMQ RFC 27) about every TCP connection before the peer can send anything.
"""

import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import zmq

from zmqtasks.errors import BadUrl

_ZAP = "inproc://zeromq.zap.01"
_ADDRESSES = 100  # refused ones that are told apart in a turn
_REQUEST_FRAMES = 8  # route, delimiter, version, request id, domain, address, identity, mechanism

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressRule:
    """Loopback and the given networks.

    Args:
        networks: in CIDR notation.

    Raises:
        BadUrl: one of them is none.
    """

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks: list[Network] = []
        for text in networks:
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as error:
                message = f"--plaintext {text}: {error}; it takes a network such as 10.0.0.0/8"
                raise BadUrl(message) from None

    def allows(self, address: str) -> bool:
        """Whether a peer at this address may connect."""
        if not address or address.startswith("localhost:"):
            return True  # an ipc peer, as localhost:UID:GID:PID; the permissions of the socket's folder decide
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        return ip.is_loopback or any(ip in network for network in self._networks)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's addresses. Raises BadUrl for one that has none."""
    if host in {"*", "localhost"}:
        return host == "localhost"
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        message = f"cannot listen on host {host!r}: {error.strerror or error}"
        raise BadUrl(message) from None
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)


def check_bind(url: str, plaintext: tuple[str, ...]) -> None:
    """Refuse an address that others can reach, unless --plaintext names somebody.

    Raises:
        BadUrl: says what to do instead.
    """
    if not url.startswith("tcp://") or plaintext:
        return
    parts = urlsplit(url)
    if not _is_loopback(parts.hostname or ""):
        message = (
            f"{url} can be reached from other machines, and this version has no keys yet; "
            f"bind tcp://127.0.0.1:{parts.netloc.rpartition(':')[2]}, "
            "or name the networks that you trust: --plaintext 10.0.0.0/8"
        )
        raise BadUrl(message)


class Doorkeeper:
    """The ZAP handler of a process, served by its loop.

    Args:
        context: the one whose sockets ask.
        rule: decides.
    """

    def __init__(self, context: zmq.Context[Any], rule: AddressRule) -> None:
        self._rule = rule
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_ZAP)
        self.refused: dict[str, int] = {}  # by address, since the owner emptied it
        self.full = False  # there is no room for more connections
        self.turned_away = 0

    def readers(self) -> list[zmq.Socket[bytes]]:
        """What to wait for."""
        return [self._socket]

    def service(self) -> None:
        """Answer what was asked."""
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(frames) < _REQUEST_FRAMES:
                continue
            route, delimiter, version, request = frames[:4]
            self._socket.send_multipart([route, delimiter, version, request, *self._status(frames[5]), b"", b""])

    def _status(self, told: bytes) -> tuple[bytes, bytes]:
        address = told.decode("ascii", "replace")
        if not self._rule.allows(address):
            if address in self.refused or len(self.refused) < _ADDRESSES:
                self.refused[address] = self.refused.get(address, 0) + 1
            return b"400", b"this address may not connect"
        if self.full:
            self.turned_away += 1
            return b"300", b"there is no room for more connections"
        return b"200", b"OK"

    def close(self) -> None:
        """Answer no more."""
        self._socket.close(0)
