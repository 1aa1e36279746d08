"""`InferenceService`: what every protocol does with a request between decoding and encoding."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from starlette.types import Scope

from app.engine.sequence import Admission, Done, Sequence
from app.errors import Expired, Fault, InvalidRequest, Overloaded, UnrollError
from app.registry.registry import LoadedModel, Registry
from app.service.callers import Callers
from app.service.pending_request import Deadlines
from app.service.request_bodies import RequestBodies
from app.sessions.continuation import Piece, SessionRef, Start, conflict
from app.sessions.service import SessionService
from app.settings import Settings

# To print so many takes 2 to 3 ms.
LONG_NUMBERS = 50_000

logger = logging.getLogger(__name__)


@dataclass(eq=False, kw_only=True)
class InferenceRequest:
    """A request once it is understood. Protocols add what they need to encode the answer.

    Attributes:
        ready: the model.
        sequences: in the order of the request; complete once it is computed.
        piece: of a session, if it is one; then there is one sequence.
        time_step: of the session after the piece.
        caller: who sent it.
        timeout_s: seconds that the caller has for it; that of the settings holds too.
        waited_s: seconds of these that were over when its body was understood.
        task: computes the piece.
        reason: why it was given up.
    """

    ready: LoadedModel
    sequences: list[Sequence]
    piece: Piece | None = None
    time_step: int = 0
    caller: str = ""
    timeout_s: float = math.inf
    waited_s: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, init=False)
    reason: UnrollError | None = field(default=None, init=False)

    @property
    def has_long_answer(self) -> bool:
        """Whether others would wait too long while its answer is printed."""
        outputs = sum([sequence.outputs.size for sequence in self.sequences])
        return outputs + len(self.sequences) * self.ready.codec.states.size > LONG_NUMBERS

    @property
    def num_bytes(self) -> int:
        """Bytes of its arrays, once it is computed."""
        codec = self.ready.codec
        steps = sum([len(sequence.inputs) for sequence in self.sequences])
        numbers = steps * (codec.signature.features + codec.signature.outputs)
        return np.float32().nbytes * (numbers + len(self.sequences) * codec.states.size)

    @property
    def final_states(self) -> list[np.ndarray]:
        """Final states, float32 `[sum of H]` each."""
        # None is the state of zeros that a sequence begins with; these have been computed.
        return [s.state for s in self.sequences if s.state is not None]


def new_sequences(
    arrays: list[np.ndarray], states: list[np.ndarray | None], pointer: str = "/sequences"
) -> list[Sequence]:
    """The sequences of a request.

    Args:
        arrays: float32 `[T, F]` each.
        states: float32 `[sum of H]` each, or None for zeros.
        pointer: to them in the request.
    """
    return [
        Sequence(array, f"{pointer}/{index}", state)
        for index, (array, state) in enumerate(zip(arrays, states, strict=True))
    ]


class InferenceService:
    """Begins to compute, waits, gives up.

    Args:
        settings: limits and times.
        registry: of the models.
        sessions: of the service.

    Attributes:
        deadlines: of all requests that are open.
        bodies: of requests.
    """

    def __init__(self, settings: Settings, registry: Registry, sessions: SessionService) -> None:
        self.registry = registry
        self.sessions = sessions
        self.deadlines = Deadlines(
            settings.body_timeout_s, settings.request_timeout_s, lambda: registry.drained
        )
        self._settings = settings
        self._callers = Callers(settings.proxy_networks)
        self.bodies = RequestBodies(self.deadlines, settings.max_body_bytes)
        registry.have_begun = self.bodies.understood

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

    def caller_of(self, scope: Scope) -> str:
        """The name of who sent a request."""
        client = scope.get("client")
        if self._settings.trusted_proxies or not client or ":" in client[0]:
            return self._callers.name_of(scope)
        # An address of IPv4 is the name.
        address: str = client[0]
        return address

    def early_refusal(self, client: tuple[str, int] | None) -> Overloaded | None:
        """Why a request is refused of which only the client's address and port are known.

        None if it is not: nothing is overloaded, or only its head tells who sent it.
        """
        engine = self.registry.engine
        if engine is None or self._settings.trusted_proxies:
            return None
        return engine.refusal(self.caller_of({"client": client}), self._settings.request_timeout_s)

    @property
    def is_crowded(self) -> bool:
        """Whether it is worth to `check_room` before a body is parsed."""
        engine = self.registry.engine
        return engine is not None and engine.is_crowded

    def check_room(self, caller: str, steps: int, timeout_s: float) -> None:
        """Who cannot be answered is told before the body is parsed; raises `Unavailable`.

        Args:
            caller: who sends a request.
            steps: its time steps, as far as is known.
            timeout_s: seconds that the caller has for it.
        """
        left_s = min(timeout_s, self._settings.request_timeout_s)
        # Where there is none, whoever asks for the model is told so.
        if (engine := self.registry.engine) is not None:
            engine.check_room(steps, caller, left_s)

    def piece(self, ref: SessionRef, sequences: list[Sequence]) -> Piece:
        """The piece of a session that a request is.

        Raises:
            InvalidRequest: there are several sequences.
        """
        if len(sequences) > 1:
            message = f"a session is one sequence, the request has {len(sequences)}"
            raise InvalidRequest(Fault(ref.pointer, message))
        return Piece(ref, sequences[0].inputs, sequences[0].state)

    def begin(self, request: InferenceRequest, done: Done) -> None:
        """Begins to compute.

        Args:
            request: new.
            done: is called once, on the event loop, not before this returns: with None when all is
                computed, else with the error.

        Raises:
            Unavailable: nothing was begun.
        """
        engine = request.ready.engine
        left_s = min(request.timeout_s, self._settings.request_timeout_s) - request.waited_s
        deadline = engine.clock() + left_s
        for sequence in request.sequences:
            sequence.caller, sequence.deadline = request.caller, deadline
        if request.piece is None:
            engine.begin(request.sequences, done)
            return
        admission = engine.admit(len(request.piece.inputs), request.caller, left_s)

        def ended(task: asyncio.Task[None]) -> None:
            # The task's frames hold the request.
            request.task = None
            engine.leave(admission)
            done(_error_of(task, request))

        run = self._run_piece(request, request.piece, admission)
        request.task = asyncio.get_running_loop().create_task(run)
        request.task.add_done_callback(ended)

    def cancel(self, request: InferenceRequest, reason: UnrollError) -> None:
        """Ends what was begun; who waits gets the reason."""
        if request.task is None:
            request.ready.engine.cancel(request.sequences, reason)
        else:
            request.reason = reason
            request.task.cancel()

    async def _run_piece(
        self, request: InferenceRequest, piece: Piece, admission: Admission
    ) -> None:
        (first,) = request.sequences
        made: list[Sequence] = []

        async def compute(start: Start) -> Sequence:
            if made and first.listener is not None:
                raise conflict(
                    piece.ref, "another piece came meanwhile, and outputs have been sent"
                )
            sequence = Sequence(
                piece.inputs, first.pointer, start.state, first.deadline, first.caller
            )
            sequence.listener = first.listener
            made.append(sequence)
            await request.ready.engine.submit([sequence], admission)
            return sequence

        sequence, request.time_step = await self.sessions.run(
            piece, compute, request.ready.codec.states.tokens
        )
        request.sequences = [sequence]


def _error_of(task: asyncio.Task[None], request: InferenceRequest) -> UnrollError | None:
    """Why a task failed, if it did."""
    if task.cancelled():
        return request.reason or UnrollError("cancelled")
    error = task.exception()
    if isinstance(error, UnrollError):
        # Its frames hold the sequence, which holds the error.
        return error.with_traceback(None)
    if error is None:
        return None
    logger.error("this is a bug: a piece of a session failed", exc_info=error)
    return UnrollError(type(error).__name__)
