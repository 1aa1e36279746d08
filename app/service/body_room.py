"""`BodyRoom`: bytes of large bodies that a worker holds, shared by their callers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.engine.admission import RESERVED
from app.errors import Overloaded
from app.service.large_bodies import LARGE_BYTES

# Large bodies that a worker holds at once, as many as have the largest size; then it is overloaded.
MAX_LARGE = 16


class BodyRoom:
    """Bytes of large bodies that are held, from their arrival until they are read.

    Beyond the limit there is a part for callers who have less than their share, as there is for
    sequences (`AdmissionControl`): one who fills the room does not lock the others out.

    Args:
        limit: of them all.

    Attributes:
        came: bytes that were ever held.
    """

    def __init__(self, limit: int) -> None:
        self.came = 0
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

        Small bodies take none. Where there is no room for more the function raises `Overloaded`.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if size <= max(held, LARGE_BYTES):
                return
            self._take(caller, size - held)
            held = size

        try:
            yield hold
        finally:
            if held:
                self._give_back(caller, held)

    def _take(self, caller: str, more: int) -> None:
        own = self._of_callers.get(caller, 0) + more
        if self._held + more > self._limit:
            share = self._limit // (len(self._of_callers) + 1)
            if self._held + more > self._limit + self._limit // RESERVED or own > share:
                text = f"large bodies hold {self._held} bytes, the limit is {self._limit}"
                raise Overloaded(text)
        self.came += more
        self._held += more
        self._of_callers[caller] = own

    def _give_back(self, caller: str, held: int) -> None:
        self._held -= held
        self._of_callers[caller] -= held
        if not self._of_callers[caller]:
            del self._of_callers[caller]
