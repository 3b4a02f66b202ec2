"""Daemons that end with the test, and peers whose sockets do."""

import pytest

from tests.helpers.daemon import Daemon, Peer
from zmqtasks.transport import Context


@pytest.fixture
def start():
    """Start daemons that end with the test."""
    started = []

    def _start(*arguments, **options):
        started.append(Daemon(*arguments, **options))
        return started[-1]

    yield _start
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.process.kill()
        daemon.process.communicate()


@pytest.fixture
def peers():
    """Make peers: Links with a decoder."""
    context = Context()
    made = []

    def _peer(url, decode):
        made.append(Peer(context, url, decode))
        return made[-1]

    yield _peer
    for peer in made:
        peer.link.close()
    context.close()
