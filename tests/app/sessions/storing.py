"""Stores under test, and records for them."""

import asyncio
from collections.abc import Awaitable, Callable

import uvloop

from app.sessions.record import LastPiece, Record
from app.sessions.store import SessionStore

LAST = LastPiece(0, None, "")


def record(time_step: int = 1) -> Record:
    return Record(time_step, "token", LAST)


def run(work: Callable[..., Awaitable[None]], *stores: SessionStore) -> None:
    """Runs on the event loop that the service has, then closes the stores."""

    async def all_of_it() -> None:
        try:
            await work(*stores)
        finally:
            for store in stores:
                await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(all_of_it())
