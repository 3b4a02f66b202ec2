"""asyncio: coroutines wait for room in the line in which they came, without a thread for each."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from zmqtasks.errors import QueueFull
from zmqtasks.submitter.intake import Intake
from zmqtasks.submitter.loops import Event

T = TypeVar("T")


class Room:
    """The line of one loop's coroutines that wait until a client has room for their jobs; the first one looks."""

    __slots__ = ("_intake", "_turn")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._turn = asyncio.Lock()  # first come, first served

    async def take(self, put: Callable[[], T], timeout: float) -> T:
        """The value of `put()`, called when there is room for what it puts.

        Raises:
            QueueFull: there was no room within `timeout` seconds.
        """
        if not self._turn.locked():
            try:
                return put()
            except QueueFull:
                if timeout <= 0:
                    raise
        try:
            async with asyncio.timeout(timeout), self._turn:
                while True:
                    await self._until_room()
                    try:
                        return put()
                    except QueueFull:
                        continue  # somebody was quicker
        except TimeoutError:
            raise self._intake.no_room(timeout) from None

    async def _until_room(self) -> None:
        event = Event()
        tell = event.set
        if self._intake.when_room(tell):
            try:
                await event.wait(None)
            finally:
                self._intake.forget(tell)


def room_of(intake: Intake) -> Room:
    """The running loop's line for this client."""
    loop = asyncio.get_running_loop()
    found: Room | None = intake.rooms.get(loop)
    if found is None:
        # Loops of several threads may come here at once; each touches only its own, and those that are closed.
        for over in [one for one in list(intake.rooms) if one.is_closed()]:
            intake.rooms.pop(over, None)
        found = intake.rooms[loop] = Room(intake)
    return found
