"""As `test_finished_requests`, where bodies are read and answers printed beside the worker.

Each may hold megabytes: some that refer to themselves are more than all the rest of a worker.
"""

import asyncio
import json
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.codec import npz
from app.service import inference
from tests.app.api.protocols.native.test_finished_messages import left as left_by_streams
from tests.app.api.protocols.native.test_finished_messages import message as answer_of
from tests.app.api.test_fast_path import live_of
from tests.app.api.test_finished_requests import COUNT, answered, left, warm
from tests.app.engine.running import until
from tests.app.formats import npy, zip_of
from tests.app.live import Live, request
from tests.app.raw_caller import RawCaller
from tests.app.requests_of_routes import ROUTES, Message
from tests.app.running_service import Loader

pytestmark = pytest.mark.long

STEPS = 9000
LIMITS = {"max_sequence_steps": STEPS, "max_waiting_steps": 4 * COUNT * STEPS, "max_sequences": 4}


def packed(*lines: str, features: int = 4) -> Message:
    """Whole in one read, and large once it is unpacked."""
    array = npy(np.zeros((1, STEPS, features), np.float32))
    body = zip_of(zipfile.ZIP_DEFLATED, sequences=array)
    return request("/predict", body, f"Content-Type: {npz.MEDIA_TYPE}", *lines)


def message(route: str, *lines: str) -> Message:
    return packed(*lines) if route == "packed" else ROUTES[route](STEPS, 1.0, *lines)


@pytest.fixture(scope="module")
def live(tiny_dir: Path) -> Iterator[Live]:
    with live_of(tiny_dir, Loader(), lanes=0, **LIMITS) as live:
        warm(live)
        yield live


@pytest.fixture(autouse=True)
def _prints_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "LONG_NUMBERS", 0)


def bodies_of(live: Live) -> Any:
    return live.app.state.context.endpoints["POST", "/predict"].inference.bodies


async def quiet(live: Live) -> None:
    """Waits until nothing is read beside the worker."""
    await until(lambda: not bodies_of(live).large._is_busy)


@pytest.mark.parametrize("route", ["json", "packed", "ndjson", "v1", "v2"])
class TestLarge:
    """In pieces, or (packed) whole."""

    def test_with_numbers(self, live: Live, route: str) -> None:
        assert not left(live, answered(200, in_pieces=False), lambda: message(route))

    def test_that_it_is_invalid(self, live: Live, route: str) -> None:
        def wrong() -> Message:
            if route == "packed":
                return packed(features=3)
            head, body = message(route)
            return head, b"!" + body[1:]

        assert not left(live, answered(400, 422, in_pieces=False), wrong)

    def test_that_there_is_no_room(
        self, live: Live, route: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bodies_of(live).room, "_limit", 0)
        assert not left(live, answered(429, 503, in_pieces=False), lambda: message(route))

    def test_that_time_is_over(self, live: Live, route: str) -> None:
        """While it waits to be read."""
        together = asyncio.Barrier(COUNT)
        gates: list[threading.Event] = []

        async def ask(caller: RawCaller, message: Message) -> None:
            hold(live, gates)
            await caller.send(b"".join(message))
            assert await caller.status() in (503, 504)
            await together.wait()
            gates.pop().set()
            await quiet(live)

        assert not left(live, ask, lambda: message(route, "Prefer: wait=0"))

    def test_to_whom_hangs_up(self, live: Live, route: str) -> None:
        """While it waits to be read, or has its turn."""
        together = asyncio.Barrier(COUNT)
        gates: list[threading.Event] = []

        async def ask(caller: RawCaller, message: Message) -> None:
            hold(live, gates)
            await caller.send(b"".join(message))
            await until(lambda: bodies_of(live).room.held > COUNT * (STEPS << 2))
            await together.wait()
            caller.close()
            await until(lambda: not live.app.state.context.deadlines._open)
            await together.wait()
            gates.pop().set()
            await quiet(live)

        assert not left(live, ask, lambda: message(route))


def hold(live: Live, gates: list[threading.Event]) -> None:
    gate = threading.Event()
    gates.append(gate)
    bodies_of(live).large._thread.submit(gate.wait)


def test_messages_of_streams(live: Live) -> None:
    rows = [[1.0, None, None, 0.0]] * STEPS

    async def talk(caller: RawCaller) -> None:
        for given in (rows, [*rows, []]):
            payload = json.dumps({"sequence": given, "outputs": "last"}).encode()
            await caller.send(b"\x81\xff" + len(payload).to_bytes(8) + bytes(4) + payload)
            assert (b"error" in await answer_of(caller)) is (given is not rows)
            await quiet(live)

    assert not left_by_streams(live, talk)
