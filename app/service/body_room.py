"""`BodyRoom`: bytes of bodies that a worker holds, shared by their callers.

Small bodies have a room of their own, which large ones do not fill, nor they theirs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.engine.admission import RESERVED
from app.errors import Overloaded
from app.service.large_bodies import LARGE_BYTES

# Large bodies that a worker holds at once, as many as have the largest size; then it is overloaded.
MAX_LARGE = 16
# A body of no more takes no room: as much is held for each connection anyway.
UNCOUNTED_BYTES = 16 << 10


class BodyRoom:
    """Bytes of bodies that are held, from their arrival until they are read.

    Beyond the limit there is a part for callers who have less than their share, as there is for
    sequences (`AdmissionControl`): one who fills the room does not lock the others out.

    Args:
        limit: of all that are large, and of all that are not.

    Attributes:
        came: bytes that were ever held.
        small: the room of those that are not large; None in itself.
    """

    def __init__(self, limit: int, *, is_small: bool = False) -> None:
        self.came = 0
        self.small = None if is_small else BodyRoom(limit, is_small=True)
        self._limit = limit
        self._held = 0
        self._of_callers: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Bytes that all hold."""
        return self._held

    @contextmanager
    def share(self, caller: str) -> Iterator[Callable[[int], None]]:
        """What a caller's body is held in; the function is told its size whenever that grows.

        Where there is no room for more the function raises `Overloaded`.
        """
        part = Part(self, caller)
        try:
            yield part.grow
        finally:
            part.shrink(0)

    def take(self, caller: str, more: int) -> None:
        """So many bytes more are a caller's; raises `Overloaded` if there is no room for them."""
        own = self._of_callers.get(caller, 0) + more
        if self._held + more > self._limit:
            share = self._limit // (len(self._of_callers) + 1)
            if self._held + more > self._limit + self._limit // RESERVED or own > share:
                kind = "large" if self.small else "small"
                text = f"{kind} bodies hold {self._held} bytes, the limit is {self._limit}"
                raise Overloaded(text)
        self.came += more
        self._held += more
        self._of_callers[caller] = own

    def give_back(self, caller: str, held: int) -> None:
        """So many bytes are no longer a caller's."""
        self._held -= held
        self._of_callers[caller] -= held
        if not self._of_callers[caller]:
            del self._of_callers[caller]


class Part:
    """Bytes of a room that one caller's body holds, or what waits on one of its connections.

    Args:
        room: of them all.
        caller: whose they are.

    Attributes:
        held: bytes.
    """

    __slots__ = ("_caller", "_large", "_room", "held")

    def __init__(self, room: BodyRoom, caller: str) -> None:
        self._large = room
        # The one that holds them.
        self._room = room.small or room
        self._caller = caller
        self.held = 0

    def grow(self, size: int) -> None:
        """Holds so many bytes, if it holds fewer; raises `Overloaded` if there is no room."""
        if size <= max(self.held, UNCOUNTED_BYTES):
            return
        if size > LARGE_BYTES and self._room is not self._large:
            self._large.take(self._caller, size)
            self.shrink(0)
            self._room = self._large
        else:
            self._room.take(self._caller, size - self.held)
        self.held = size

    def shrink(self, size: int) -> None:
        """Holds so many bytes, if it holds more."""
        if size <= (LARGE_BYTES if self._room is self._large else UNCOUNTED_BYTES):
            size = 0
        if size < self.held:
            self._room.give_back(self._caller, self.held - size)
            self.held = size
        if not size:
            self._room = self._large.small or self._large
