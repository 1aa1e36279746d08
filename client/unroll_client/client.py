"""`Client`: Unroll from code that waits. `async_client.py` is the same for asyncio."""

import time
from collections.abc import Mapping, Sequence
from typing import Self, TypeVar

import httpx

from unroll_client.chunks import Chunks
from unroll_client.core import Core, SessionCore
from unroll_client.encode import Batch, Rows
from unroll_client.errors import InvalidInput
from unroll_client.messages import Messages
from unroll_client.place import Place
from unroll_client.plans import Answered, Pause, Plan, Reply, Step
from unroll_client.results import (
    ModelInfo,
    ModelRef,
    Outputs,
    Prediction,
    SequencePrediction,
    State,
    States,
)
from unroll_client.retry import Retry
from unroll_client.session import Session
from unroll_client.stream import Stream

T = TypeVar("T")


class Client:
    """A service of Unroll. Threads may share it.

    Args:
        url: of the service.
        timeout_s: seconds to wait for a connection and for each part of an answer.
        retry: how often and how long to try where the service is not reached or is busy.
        headers: sent with everything, for a proxy that wants to know who asks.
        http: sends the requests instead of a client of its own, and is left open.

    Every method raises the errors of `unroll_client.errors`, all of them `UnrollError`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._place = Place(url, timeout_s, headers or {})
        self._core = Core(Answered(retry or Retry()))
        self._http = http or httpx.Client()
        self._owned = http is None

    def predict(
        self,
        sequences: Batch,
        *,
        initial_states: Sequence[State | None] | None = None,
        outputs: Outputs = "all",
        states: States = "token",
        model: ModelRef | str | None = None,
    ) -> Prediction:
        """Outputs of every time step and the final state of every sequence.

        Args:
            sequences: a list of sequences, whose lengths may differ, or one array `[B, T, F]`. Each
                is an array or lists `[T, F]` in the model's order, or has columns by name: a
                DataFrame, a dictionary. NaN, None and NA are missing.
            initial_states: one entry a sequence, as an answer had it; None for zeros.
            outputs: of all time steps, the last one, or none.
            states: the form of the final states.
            model: to be refused by any other model or version.
        """
        return self._run(self._core.predict(sequences, initial_states, outputs, states, model))

    def predict_one(
        self,
        sequence: Rows,
        *,
        initial_state: State | None = None,
        outputs: Outputs = "all",
        states: States = "token",
        model: ModelRef | str | None = None,
    ) -> SequencePrediction:
        """As `predict`, for one sequence."""
        return self._run(self._core.predict_one(sequence, initial_state, outputs, states, model))

    def predict_in_chunks(
        self,
        sequences: Batch,
        *,
        initial_states: Sequence[State | None] | None = None,
        states: States = "none",
        model: ModelRef | str | None = None,
    ) -> Chunks:
        """As `predict`, but the outputs come as soon as they are computed.

        Returns:
            an iterator, whose first `next` sends. What has begun to come is not asked for again:
            `NoAnswer` is raised if it breaks off.
        """
        plan = self._core.predict_in_chunks(sequences, initial_states, states, model)
        return Chunks(lambda: self._run(plan))

    def model(self) -> ModelInfo:
        """The model that answers: names and units of what goes in and what comes out."""
        return self._run(self._core.model())

    def session(
        self, id: str, *, initial_state: State | None = None, must_exist: bool = False
    ) -> Session:
        """A sequence whose state the service keeps.

        Args:
            id: any name. Where the service knows the session, it goes on from there.
            initial_state: to begin a new session from; None for zeros.
            must_exist: begin none: `send` raises `NotFound` if there is no such session.
        """
        return Session(self._run, SessionCore(self._core, id, initial_state, must_exist))

    def stream(self, *, initial_state: State | None = None) -> Stream:
        """A conversation over WebSocket, for one time step after the other: `with` opens it.

        Args:
            initial_state: to begin from; None for zeros.
        """
        return Stream(self._place, Messages(initial_state))

    def close(self) -> None:
        """Closes the connections."""
        if self._owned:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, plan: Plan[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply = self._do(step)

    def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            time.sleep(step.wait_s)
            return None
        try:
            response = self._http.send(self._place.request(self._http, step), stream=step.stream)
            if step.stream and not response.is_success:
                response.read()
            return response
        except httpx.RequestError as error:
            return error
        except RuntimeError:
            if not self._http.is_closed:
                raise
            raise InvalidInput("the client is closed") from None
