"""`Reservation`: room in the engine for a sequence that waits for something else first."""

from collections.abc import Awaitable, Callable

from app.engine.scheduler import Scheduler
from app.engine.sequence import Sequence


class Reservation:
    """See the module. It counts as waiting, so that those who wait elsewhere have a limit too.

    Args:
        scheduler: of the engine; has the room.
        steps: time steps of the sequence.
        submit: computes sequences.
        changed: is called when room was taken or given back.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        steps: int,
        submit: Callable[[list[Sequence]], Awaitable[None]],
        changed: Callable[["Reservation"], None],
    ) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._submit = submit
        self._changed = changed
        self.is_over = False
        scheduler.keep_room(steps)
        changed(self)

    async def submit(self, sequence: Sequence) -> None:
        """Computes a sequence of so many time steps, as often as it is asked to.

        Raises:
            UnrollError: as `Engine.submit`, but not since others wait, nor since the engine drains.
        """
        self._scheduler.give_room(self._steps)
        try:
            await self._submit([sequence])
        finally:
            self._scheduler.keep_room(self._steps)
            self._changed(self)

    def end(self) -> None:
        """Gives the room back."""
        self.is_over = True
        self._scheduler.give_room(self._steps)
        self._changed(self)
