"""What asks for streams, lines and formats, against the service with a fake kernel."""

import asyncio
import http.client
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import uvloop

from app.server.websocket_protocol import find_frame, text_frame
from benchmarks.load import streams
from benchmarks.load.streams import CoreClock, _Generator, drive_elsewhere, frame
from benchmarks.load.timer import Timer
from benchmarks.load.workloads import make
from benchmarks.sections.formats import formats
from benchmarks.sections.lines import LINES, ask
from tests.app.api.test_fast_path import live_of
from tests.app.fakes import write_version
from tests.app.live import Live
from tests.app.running_service import Loader

FEATURES = [
    {"name": f"sensor_{i}", "unit": "1", "transform": {"kind": "standardize"}} for i in range(8)
]


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    write_version(tmp_path / "tiny", 1, features=FEATURES)
    with live_of(tmp_path, Loader()) as live:
        live.run(live.ready())
        yield live


def port_of(live: Live) -> int:
    return int(live.server.servers[0].sockets[0].getsockname()[1])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 65535])
def test_frames_are_read_as_they_are_made(size: int) -> None:
    payload = bytes(range(256)) * 256
    for made, masked in ((frame(payload[:size]), True), (text_frame(payload[:size]), False)):
        found = find_frame(b"x" + made + b"y", 1)
        assert found is not None
        assert (found.kind, found.masked) == (0x81, masked)
        assert (b"x" + made)[found.start : found.end] == payload[:size]
        assert found.end == len(made) + 1


def test_every_message_of_the_generator_is_answered_and_timed(live: Live) -> None:
    generator = _Generator(port_of(live), streams=7, interval_s=0.02, seconds=0.12, warm_up_s=0.08)
    sent_at_window = []

    async def run() -> None:
        async with asyncio.timeout(30):
            await generator.run(lambda: sent_at_window.append(generator._next))

    live.run(run())
    assert len(generator.latencies) == 70
    assert np.isfinite(generator.latencies).all()
    assert (generator.latencies >= 0).all()
    assert live.app.state.registry.engine.counters.completed == 70
    # Four rounds are the warm-up.
    assert sent_at_window == [28, 70]


class AnsweringAtOnce(_Generator):
    """Takes each message for answered when it is sent; there is no server."""

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Any:
        return SimpleNamespace(transport=SimpleNamespace(abort=lambda: None))

    def _send(self, number: int) -> None:
        self.answered(number, good=True)


def test_the_alarm_rings_when_a_message_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not every millisecond, which would make messages late. Never before."""
    rings: list[float] = []

    class NotedTimer(Timer):
        def set(self, moment: float) -> None:
            rings.append(moment)
            super().set(moment)

    monkeypatch.setattr(streams, "Timer", NotedTimer)
    generator = AnsweringAtOnce(0, streams=5, interval_s=0.05, seconds=0.5, warm_up_s=0.0)
    uvloop.run(generator.run(lambda: None))
    assert rings
    since_start = np.array(rings) - generator._start
    assert np.abs(since_start[:, None] - generator.moments).min(axis=1).max() < 1e-6
    assert (generator.latencies >= 0).all()


def test_cores_are_those_between_the_marks_of_the_generator() -> None:
    """What comes before and after would count 1000 s each."""
    script = """
import time
time.sleep(0.3)
print("window", flush=True)
time.sleep(0.5)
print("window", flush=True)
time.sleep(0.3)
print('{"streams": 7}')
"""
    taken = iter([1000.0, 1001.0, 2000.0])
    clock = CoreClock(lambda: next(taken))
    assert drive_elsewhere([sys.executable, "-c", script], clock) == {"streams": 7}
    # 1 s of a core in 0.5 s; more or less if this process was late.
    assert 0 < clock.cores < 100


def test_a_generator_that_fails_is_told() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        drive_elsewhere([sys.executable, "-c", "exit(3)"], CoreClock(lambda: 0.0))


def test_all_formats_bring_the_same_numbers(live: Live) -> None:
    """Each is decoded by the service to the sequences of the workload."""
    work = make("many")
    outputs = []
    for given in formats("tiny"):
        body, head = given.body(work.bodies[0], work.requests[0])
        headers = {"Content-Type": given.media_type}
        if head:
            headers["Inference-Header-Content-Length"] = str(head)
            body = body.replace(b'"binary_data_output": true', b'"binary_data_output":false')

        async def ask(path: str = given.path, content: bytes = body, with_: Any = headers) -> Any:
            url = f"http://127.0.0.1:{port_of(live)}{path}"
            async with httpx.AsyncClient(timeout=30) as client:
                answer = await client.post(url, content=content, headers=with_)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        answer = live.run(ask())
        if head:
            tensor = next(t for t in answer["outputs"] if t["name"] == "outputs")
            padded = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
            lengths = [len(rows) for rows in work.requests[0]]
            outputs.append([rows[:n].tolist() for rows, n in zip(padded, lengths, strict=True)])
        else:
            outputs.append(answer["outputs"])
    assert len(outputs[0]) == 16
    for other in outputs[1:]:
        for ours, theirs in zip(outputs[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_first_line_is_timed_before_the_last(live: Live) -> None:
    rows = np.ones((200, len(FEATURES)))
    body = orjson.dumps({"sequences": [rows]}, option=orjson.OPT_SERIALIZE_NUMPY)

    async def run() -> None:
        first, last = await asyncio.to_thread(ask, caller, body, LINES)
        assert 0 < first < last
        first, last = await asyncio.to_thread(ask, caller, body, "application/json")
        assert first == last

    caller = http.client.HTTPConnection("127.0.0.1", port_of(live), timeout=30)
    live.run(run())
    caller.close()
