"""`Chunks`: an answer as it is computed."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, closing

import httpx

from unroll_client.errors import transport_errors
from unroll_client.lines import Lines
from unroll_client.results import Chunk, ModelRef, State


class _Progress:
    """What is known of an answer that comes chunk by chunk."""

    def __init__(self) -> None:
        self._lines = Lines()

    @property
    def model(self) -> ModelRef | None:
        """The model that computes; None before the first chunk."""
        return self._lines.model

    @property
    def states(self) -> list[State]:
        """The final state of each sequence, after the last chunk, if they were asked for."""
        return self._lines.states


class Chunks(_Progress, Iterator[Chunk]):
    """Outputs as they are computed, chunk by chunk; sequences take turns. To be read once."""

    def __init__(self, begin: Callable[[], httpx.Response]) -> None:
        super().__init__()
        self._chunks = self._read(begin)

    def __next__(self) -> Chunk:
        return next(self._chunks)

    def close(self) -> None:
        """Wants no more: the service stops to compute them."""
        self._chunks.close()

    def _read(self, begin: Callable[[], httpx.Response]) -> Generator[Chunk]:
        with closing(begin()) as response, transport_errors():
            for data in response.iter_bytes():
                yield from self._lines.take(data)
        self._lines.end()


class AsyncChunks(_Progress, AsyncIterator[Chunk]):
    """As `Chunks`, for `async for`."""

    def __init__(self, begin: Callable[[], Awaitable[httpx.Response]]) -> None:
        super().__init__()
        self._chunks = self._read(begin)

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """As `Chunks.close`."""
        await self._chunks.aclose()

    async def _read(self, begin: Callable[[], Awaitable[httpx.Response]]) -> AsyncGenerator[Chunk]:
        async with aclosing(await begin()) as response:
            with transport_errors():
                async for data in response.aiter_bytes():
                    for chunk in self._lines.take(data):
                        yield chunk
        self._lines.end()
