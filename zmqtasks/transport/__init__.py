"""Sockets: the only package besides `zmqtasks.security` that imports zmq.

Two ends: a `Router` (the scheduler's) and a `Link` (everybody else's). Both hand over whole frames of bytes and never
block. Rules that hold here, each from a fact of libzmq that was seen in practice (`docs/architecture.md`):

- a connection is never resumed: when it breaks, the Link closes its socket and opens a new one, so that nothing from
  the old connection can arrive on the new one, in either direction;
- a ROUTER drops silently unless told not to: ROUTER_MANDATORY and DONTWAIT, and what does not fit is parked here;
- every high-water mark, time-out, size limit and linger is set explicitly.
"""

from zmqtasks.transport.busy import BusyPoll as BusyPoll
from zmqtasks.transport.link import NOBODY as NOBODY
from zmqtasks.transport.link import RETRY_FIRST as RETRY_FIRST
from zmqtasks.transport.link import RETRY_MAX as RETRY_MAX
from zmqtasks.transport.link import Change as Change
from zmqtasks.transport.link import Link as Link
from zmqtasks.transport.router import Router as Router
from zmqtasks.transport.sockets import MAX_FRAME as MAX_FRAME
from zmqtasks.transport.sockets import Context as Context
from zmqtasks.transport.urls import parse_url as parse_url
from zmqtasks.transport.waiting import Ready as Ready
from zmqtasks.transport.waiting import Sleeper as Sleeper
from zmqtasks.transport.waiting import Waitable as Waitable
from zmqtasks.transport.waiting import Wakeup as Wakeup
from zmqtasks.transport.waiting import wait as wait
