"""The laws of serving where every chunk that can be is computed on several cores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.laws.test_laws import (
    client,
    random,
    test_alone_equals_reference,
    test_batched_equals_alone,
    test_chunked_equals_whole,
    test_continued_equals_uninterrupted,
    test_identical_requests_give_identical_bytes,
    test_padding_never_matters,
    test_reused_slot_starts_clean,
    whole,
)
from tests.support.real_server import Server, serve

pytestmark = pytest.mark.alone
__all__ = [
    "client",
    "random",
    "test_alone_equals_reference",
    "test_batched_equals_alone",
    "test_chunked_equals_whole",
    "test_continued_equals_uninterrupted",
    "test_identical_requests_give_identical_bytes",
    "test_padding_never_matters",
    "test_reused_slot_starts_clean",
    "whole",
]
# These layers are so small that by itself nothing would pay.
FORCE = """
from app.kernels import idle_time, many_cores, several_threads
from app.kernels.runners import onnxruntime as runner
runs = []
def forced(way, parts):
    make, run = way.__init__, way.run
    def made(self, *given):
        make(self, *given)
        self.shortest_s = 0.0
    def counted(self, *given):
        runs.append(given)
        print(f"several threads: {len(runs)}", flush=True)
        return run(self, *given)
    way.__init__, way.run, way.parts = made, counted, parts
forced(several_threads.Threads, lambda self, alone_s, lengths, steps, threads: 1)
forced(
    several_threads.Pipeline,
    lambda self, alone_s, lengths, steps, threads: int(lengths.min() == steps) * min(3, steps),
)
runner.available_cores = lambda: 3
idle_time.IdleTime.is_used = lambda self: True
many_cores.ManyCoresRunner.alone_s = lambda self, rows, steps: 1.0
"""


@pytest.fixture(scope="module", params=["pipeline", "threads"])
def server_of_laws(
    request: pytest.FixtureRequest, models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Serves `mixed`, in a single process: one worker has the cores of two others."""
    log = tmp_path_factory.mktemp("laws") / "server.log"
    split_s = 0.0 if request.param == "threads" else 1.0
    before = f"{FORCE}many_cores.SPLIT_S = {split_s}\n"
    sizes = {"max_chunk_steps": 16, "workers": 1, "runner": "onnxruntime"}
    with serve(models_dir, "mixed", log, before=before, **sizes) as running:
        yield running
        assert log.read_text().count("several threads") > 50
