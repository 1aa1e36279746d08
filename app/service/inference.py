"""`Intake`: what every protocol does with a request between its decoding and its encoding."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from starlette.types import Receive, Scope

from app.engine.admission import Admission, Done
from app.engine.sequence import Sequence
from app.errors import Expired, Fault, InvalidRequest, UnrollError
from app.registry.registry import Ready, Registry
from app.service.body import read_body
from app.service.deadlines import Watch, Watcher
from app.sessions.rules import Piece, SessionRef, Start, conflict
from app.sessions.service import SessionService
from app.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class Work:
    """A request once it is understood. Protocols add what they need to encode the answer.

    Attributes:
        ready: the model.
        sequences: in the order of the request; complete once it is computed.
        piece: of a session, if it is one; then there is one sequence.
        time_step: of the session after the piece.
        task: computes the piece.
        reason: why it was given up.
    """

    ready: Ready
    sequences: list[Sequence]
    piece: Piece | None = None
    time_step: int = 0
    task: asyncio.Task[None] | None = field(default=None, init=False)
    reason: UnrollError | None = field(default=None, init=False)

    @property
    def final_states(self) -> list[np.ndarray]:
        """Final states, float32 `[sum of H]` each."""
        # None is the state of zeros that a sequence begins with; these have been computed.
        return [s.state for s in self.sequences if s.state is not None]


W = TypeVar("W", bound=Work)


class Intake:
    """Reads bodies, begins to compute, waits, gives up.

    Args:
        settings: limits and times.
        registry: of the models.
        sessions: of the service.

    Attributes:
        watcher: of all requests that wait.
    """

    def __init__(self, settings: Settings, registry: Registry, sessions: SessionService) -> None:
        self.registry = registry
        self.sessions = sessions
        self.watcher = Watcher(
            settings.body_timeout_s, settings.request_timeout_s, lambda: registry.drained
        )
        self._settings = settings

    @property
    def max_body_bytes(self) -> int:
        """Of a request, and of what it unpacks to."""
        return self._settings.max_body_bytes

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """Raises `Expired` after the time of a request."""
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                yield
        except TimeoutError:
            raise Expired("others were before it for all of its time") from None

    def check_room(self) -> None:
        """Who cannot be answered is told before the body is read; raises `Unavailable`."""
        self.registry.current().engine.check_room()

    def sequences(
        self,
        ready: Ready,
        arrays: list[np.ndarray],
        states: list[np.ndarray | None],
        pointer: str = "/sequences",
    ) -> list[Sequence]:
        """New sequences, whose time begins now.

        Args:
            ready: the model.
            arrays: float32 `[T, F]` each.
            states: float32 `[sum of H]` each, or None for zeros.
            pointer: to them in the request.
        """
        deadline = ready.engine.clock() + self._settings.request_timeout_s
        return [
            Sequence(array, f"{pointer}/{index}", state, deadline)
            for index, (array, state) in enumerate(zip(arrays, states, strict=True))
        ]

    def piece(self, ref: SessionRef, sequences: list[Sequence]) -> Piece:
        """The piece of a session that a request is.

        Raises:
            InvalidRequest: there are several sequences.
        """
        if len(sequences) > 1:
            message = f"a session is one sequence, the request has {len(sequences)}"
            raise InvalidRequest(Fault(ref.pointer, message))
        return Piece(ref, sequences[0].inputs, sequences[0].state)

    def begin(self, work: Work, done: Done) -> None:
        """Begins to compute.

        Args:
            work: new.
            done: is called once, on the event loop, not before this returns: with None when all is
                computed, else with the error.

        Raises:
            Unavailable: nothing was begun.
        """
        if work.piece is None:
            work.ready.engine.begin(work.sequences, done)
            return
        engine = work.ready.engine
        admission = engine.admit(len(work.piece.inputs))

        def ended(task: asyncio.Task[None]) -> None:
            engine.leave(admission)
            done(_error_of(task, work))

        run = self._run_piece(work, work.piece, admission)
        work.task = asyncio.get_running_loop().create_task(run)
        work.task.add_done_callback(ended)

    def cancel(self, work: Work, reason: UnrollError) -> None:
        """Ends what was begun; who waits gets the reason."""
        if work.task is None:
            work.ready.engine.cancel(work.sequences, reason)
        else:
            work.reason = reason
            work.task.cancel()

    async def submit(self, work: Work) -> None:
        """As `begin`, for who can wait; raises what `done` would get."""
        if work.piece is None:
            await work.ready.engine.submit(work.sequences)
            return
        self.begin(work, lambda _: None)
        assert work.task is not None, "a piece has a task"
        try:
            await asyncio.wait([work.task])
        except asyncio.CancelledError:
            work.task.cancel()
            raise
        if (error := _error_of(work.task, work)) is not None:
            raise error

    async def run(self, scope: Scope, receive: Receive, decode: Callable[[bytes], W]) -> W:
        """A whole request: reads, computes, returns it complete; raises as `reading`."""
        async with self.reading(scope, receive, decode) as work:
            await self.submit(work)
        return work

    @asynccontextmanager
    async def reading(
        self, scope: Scope, receive: Receive, decode: Callable[[bytes], W], at_once: bool = False
    ) -> AsyncIterator[W]:
        """Reads a body; while this is entered, what was begun is given up if its caller goes.

        Args:
            scope, receive: of the request (ASGI).
            decode: understands a body.
            at_once: whether it listens for that from now on, not from the watcher's next look on.

        Raises:
            UnrollError: there is no room, or the body is not as it must be.
        """
        self.check_room()
        with Watch(self.watcher, receive) as watch:
            body = await read_body(scope["headers"], receive, watch, self.max_body_bytes)
            work = decode(body)
            # Not kept while it waits: the arrays are a fraction of it.
            del body
            watch.body_is_read(lambda reason: self.cancel(work, reason), at_once)
            yield work

    async def _run_piece(self, work: Work, piece: Piece, admission: Admission) -> None:
        (first,) = work.sequences
        made: list[Sequence] = []

        async def compute(start: Start) -> Sequence:
            if made and first.listener is not None:
                raise conflict(
                    piece.ref, "another piece came meanwhile, and outputs have been sent"
                )
            sequence = Sequence(piece.inputs, first.pointer, start.state, first.deadline)
            sequence.listener = first.listener
            made.append(sequence)
            await work.ready.engine.submit([sequence], admission)
            return sequence

        sequence, work.time_step = await self.sessions.run(
            piece, compute, work.ready.codec.states.tokens
        )
        work.sequences = [sequence]


def _error_of(task: asyncio.Task[None], work: Work) -> UnrollError | None:
    """Why a task failed, if it did."""
    if task.cancelled():
        return work.reason or UnrollError("cancelled")
    error = task.exception()
    if error is None or isinstance(error, UnrollError):
        return error
    logger.error("this is a bug: a piece of a session failed", exc_info=error)
    return UnrollError(type(error).__name__)
