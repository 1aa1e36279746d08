"""`AsyncClient`: Unroll from asyncio. `client.py` is the same for code that waits."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self, TypeVar

import httpx

from unroll_client.chunks import AsyncChunks
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
from unroll_client.session import AsyncSession
from unroll_client.stream import AsyncStream

T = TypeVar("T")


class AsyncClient:
    """A service of Unroll, as `Client`. Tasks may share it.

    Args:
        url, timeout_s, retry, headers: as for `Client`.
        http: sends the requests instead of a client of its own, and is left open.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 60.0,
        retry: Retry | None = None,
        headers: Mapping[str, str] | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._place = Place(url, timeout_s, headers or {})
        self._core = Core(Answered(retry or Retry()))
        self._http = http or httpx.AsyncClient()
        self._owned = http is None

    async def predict(
        self,
        sequences: Batch,
        *,
        initial_states: Sequence[State | None] | None = None,
        outputs: Outputs = "all",
        states: States = "token",
        model: ModelRef | str | None = None,
    ) -> Prediction:
        """As `Client.predict`."""
        return await self._run(
            self._core.predict(sequences, initial_states, outputs, states, model)
        )

    async def predict_one(
        self,
        sequence: Rows,
        *,
        initial_state: State | None = None,
        outputs: Outputs = "all",
        states: States = "token",
        model: ModelRef | str | None = None,
    ) -> SequencePrediction:
        """As `Client.predict_one`."""
        return await self._run(
            self._core.predict_one(sequence, initial_state, outputs, states, model)
        )

    def predict_in_chunks(
        self,
        sequences: Batch,
        *,
        initial_states: Sequence[State | None] | None = None,
        states: States = "none",
        model: ModelRef | str | None = None,
    ) -> AsyncChunks:
        """As `Client.predict_in_chunks`."""
        plan = self._core.predict_in_chunks(sequences, initial_states, states, model)
        return AsyncChunks(lambda: self._run(plan))

    async def model(self) -> ModelInfo:
        """As `Client.model`."""
        return await self._run(self._core.model())

    def session(
        self, id: str, *, initial_state: State | None = None, must_exist: bool = False
    ) -> AsyncSession:
        """As `Client.session`."""
        return AsyncSession(self._run, SessionCore(self._core, id, initial_state, must_exist))

    def stream(self, *, initial_state: State | None = None) -> AsyncStream:
        """As `Client.stream`, opened by `async with`."""
        return AsyncStream(self._place, Messages(initial_state))

    async def aclose(self) -> None:
        """Closes the connections."""
        if self._owned:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _run(self, plan: Plan[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = plan.send(reply)
            except StopIteration as stop:
                result: T = stop.value
                return result
            reply = await self._do(step)

    async def _do(self, step: Step) -> Reply:
        if isinstance(step, Pause):
            await asyncio.sleep(step.wait_s)
            return None
        try:
            response = await self._http.send(
                self._place.request(self._http, step), stream=step.stream
            )
            if step.stream and not response.is_success:
                await response.aread()
            return response
        except httpx.RequestError as error:
            return error
        except RuntimeError:
            if not self._http.is_closed:
                raise
            raise InvalidInput("the client is closed") from None
