"""Many callers at once: every answer is right, and they are computed together."""

import asyncio
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import serve
from tests.support.reference_model import Reference, assert_close

CLIENTS = 64
SECONDS = 30.0
MAX_STEPS = 500
pytestmark = pytest.mark.alone


async def ask(url: str, pool: list[tuple[list, np.ndarray]], seed: int, deadline: float) -> int:
    """One client: random pieces of known sequences until the time is up; returns how many."""
    random = np.random.default_rng(seed)
    count = 0
    async with httpx.AsyncClient(base_url=url, timeout=120.0) as client:
        while time.monotonic() < deadline:
            rows, expected = pool[random.integers(len(pool))]
            # Outputs of a time step depend on those before only: any beginning is a known answer.
            length = int(random.integers(1, MAX_STEPS + 1))
            answer = await client.post("/predict", json={"sequences": [rows[:length]]})
            assert answer.status_code == 200, answer.text
            assert_close(answer.json()["outputs"][0], expected[:length], f"seed {seed}")
            count += 1
    return count


def test_concurrent_clients_get_right_answers_computed_together(
    models_dir: Path, tmp_path: Path
) -> None:
    reference = Reference(models_dir / "lstm" / "1")
    random = np.random.default_rng(3)
    pool = []
    for _ in range(8):
        sequence = raw_sequence(random, MAX_STEPS)
        pool.append((to_json(sequence), reference(sequence)[0]))

    async def load(url: str) -> list[int]:
        deadline = time.monotonic() + SECONDS
        return await asyncio.gather(*(ask(url, pool, seed, deadline) for seed in range(CLIENTS)))

    with serve(models_dir, "lstm", tmp_path / "log", slots_per_lane=32) as server:
        counts = asyncio.run(load(server.url))
        chunks = server.counter("unroll_chunks_total")
        rows = server.counter("unroll_chunk_rows_total")
        completed = server.counter("unroll_sequences_completed_total")
    print(f"{sum(counts)} answers, {rows / chunks:.2f} sequences a chunk")
    assert min(counts) > 0, "a client got nothing"
    assert completed == sum(counts)
    assert rows / chunks > 1.0
