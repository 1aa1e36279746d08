"""The generator of streams, against the service with a fake kernel."""

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import uvloop

from app.server.frames import find_frame, text_frame
from benchmarks.load import timed_sending as generator_module
from benchmarks.load.precise_alarm import Timer
from benchmarks.load.streams import CoreClock, Streams, drive_elsewhere, frame
from tests.app.live import Live


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1000, 65535])
def test_frames_are_read_as_they_are_made(size: int) -> None:
    payload = bytes(range(256)) * 256
    for made, masked in ((frame(payload[:size]), True), (text_frame(payload[:size]), False)):
        found = find_frame(b"x" + made + b"y", 1)
        assert found is not None
        assert (found.kind, found.masked) == (0x81, masked)
        assert (b"x" + made)[found.start : found.end] == payload[:size]
        assert found.end == len(made) + 1


def test_every_message_of_the_generator_is_answered_and_timed(live: Live, port: int) -> None:
    sent_at_window = []
    generator = Streams(
        port,
        streams=7,
        interval_s=0.02,
        seconds=0.12,
        warm_up_s=0.08,
        at_window=lambda: sent_at_window.append(generator._next),
    )

    async def run() -> None:
        async with asyncio.timeout(30):
            await generator.run()

    live.run(run())
    assert len(generator.latencies) == 70
    assert np.isfinite(generator.latencies).all()
    assert (generator.latencies >= 0).all()
    assert live.app.state.context.registry.engine.counters.completed == 70
    # Four rounds are the warm-up.
    assert sent_at_window == [28, 70]


class AnsweringAtOnce(Streams):
    """Takes each message for answered when it is sent; there is no server."""

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Any:
        return SimpleNamespace(transport=SimpleNamespace(abort=lambda: None))

    def send(self, number: int) -> None:
        self.answered(number, good=True)


def test_the_alarm_rings_when_a_message_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not every millisecond, which would make messages late. Never before."""
    rings: list[float] = []

    class NotedTimer(Timer):
        def set(self, moment: float) -> None:
            rings.append(moment)
            super().set(moment)

    monkeypatch.setattr(generator_module, "Timer", NotedTimer)
    generator = AnsweringAtOnce(
        0, streams=5, interval_s=0.05, seconds=0.5, warm_up_s=0.0, at_window=lambda: None
    )
    uvloop.run(generator.run())
    assert rings
    since_start = np.array(rings) - generator._start
    assert np.abs(since_start[:, None] - np.array(generator.moments)).min(axis=1).max() < 1e-6
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
