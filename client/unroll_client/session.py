"""`Session`: a sequence whose state the service keeps."""

from unroll_client.core import SessionCore
from unroll_client.encode import Rows
from unroll_client.plans import AsyncRun, Run
from unroll_client.results import ModelRef, Numbers, Outputs, SessionInfo


class _Position:
    """Which session, and where it is."""

    def __init__(self, core: SessionCore) -> None:
        self._core = core

    @property
    def id(self) -> str:
        """Of the session."""
        return self._core.id

    @property
    def time_step(self) -> int | None:
        """Time steps so far; None before the first piece."""
        return self._core.time_step


class Session(_Position):
    """A sequence whose state the service keeps. One piece after the other, from one thread."""

    def __init__(self, run: Run, core: SessionCore) -> None:
        super().__init__(core)
        self._run = run

    def send(
        self, sequence: Rows, *, outputs: Outputs = "all", model: ModelRef | str | None = None
    ) -> Numbers:
        """The next time steps.

        It counts once, however often it has to be sent. After an error too the same time steps may
        be sent again; other ones are refused (`Conflict`) if the first did arrive.

        Args:
            sequence: `[T, F]` or columns by name; or the single row of a time step, `[F]` or
                numbers by name.
            outputs: of all time steps, the last one, or none.
            model: to be refused by any other model or version.

        Returns:
            float32 `[T, O]`; `[O]` for a single row and for "last"; `[0]` for "none".

        Raises:
            NotFound: the session was ended, or was idle for too long.
            Conflict: somebody else sent to it meanwhile.
        """
        return self._run(self._core.send(sequence, outputs, model))

    def info(self) -> SessionInfo:
        """What the service keeps: where the session is, its state as a token, and for how long."""
        return self._run(self._core.info())

    def end(self) -> None:
        """Lets the service forget the session; raises `NotFound` if there is none."""
        self._run(self._core.end())


class AsyncSession(_Position):
    """As `Session`. One piece after the other, from one task."""

    def __init__(self, run: AsyncRun, core: SessionCore) -> None:
        super().__init__(core)
        self._run = run

    async def send(
        self, sequence: Rows, *, outputs: Outputs = "all", model: ModelRef | str | None = None
    ) -> Numbers:
        """As `Session.send`."""
        return await self._run(self._core.send(sequence, outputs, model))

    async def info(self) -> SessionInfo:
        """As `Session.info`."""
        return await self._run(self._core.info())

    async def end(self) -> None:
        """As `Session.end`."""
        await self._run(self._core.end())
