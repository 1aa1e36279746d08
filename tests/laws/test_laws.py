"""The laws of serving, over HTTP, with the real kernel. One test a law, by its name.

Each result is compared with `alone`, and `alone` with the float64 reference.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.exported_models import export, raw_sequence, to_json
from tests.support.real_server import Server, serve
from tests.support.reference_model import TOLERANCE, Reference, assert_close

SEED = 20131224
NEIGHBOURS = 63
pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def client(server_of_laws: Server) -> Iterator[httpx.Client]:
    with server_of_laws.client() as made:
        yield made


@pytest.fixture(scope="module")
def whole(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that computes a sequence in one chunk, and each by itself."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    sizes = {"max_chunk_steps": 256, "slots_per_lane": 1}
    with serve(models_dir, "mixed", log, **sizes) as running:
        yield running


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(SEED)


def predict(client: httpx.Client, sequences: list[np.ndarray], **options: Any) -> dict[str, Any]:
    body = {"sequences": [to_json(s) for s in sequences], **options}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def assert_same(answer: dict[str, Any], row: int, expected: dict[str, Any], message: str) -> None:
    """Row `row` of an answer against the one row of another."""
    assert_close(answer["outputs"][row], np.array(expected["outputs"][0]), f"{message}: outputs")
    assert_same_states(answer["states"][row], expected["states"][0], message)


def assert_same_states(actual: Any, expected: Any, message: str) -> None:
    for layer, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
        assert ours.keys() == theirs.keys()
        for part in ours:
            assert_close(ours[part], np.array(theirs[part]), f"{message}: layer {layer} {part}")


def test_alone_equals_reference(client, models_dir, random) -> None:
    reference = Reference(models_dir / "mixed" / "1")
    for length in (1, 7, 16, 17, 100):
        sequence = raw_sequence(random, length)
        answer = predict(client, [sequence])
        outputs, states = reference(sequence)
        assert_close(answer["outputs"][0], outputs)
        assert_same_states(answer["states"][0], states, f"length {length}")


def test_batched_equals_alone(client, random) -> None:
    sequences = [raw_sequence(random, int(n)) for n in random.integers(1, 120, NEIGHBOURS + 1)]
    batched = predict(client, sequences)
    for row in (0, 13, 31, NEIGHBOURS):
        assert_same(batched, row, predict(client, [sequences[row]]), f"row {row}")


def test_chunked_equals_whole(client, whole, random) -> None:
    """Chunks of at most 16 time steps against one chunk of all."""
    sequence = raw_sequence(random, 200)
    chunked = predict(client, [sequence])
    chunks = whole.counter("unroll_chunks_total")
    with whole.client() as other:
        expected = predict(other, [sequence])
    assert whole.counter("unroll_chunks_total") == chunks + 1
    assert_same(chunked, 0, expected, "16 time steps a chunk")


@pytest.mark.parametrize("form", ["per_layer", "concatenated", "token"])
def test_continued_equals_uninterrupted(client, random, form) -> None:
    sequence = raw_sequence(random, 90)
    expected = predict(client, [sequence])
    cuts = sorted({0, *random.integers(1, 90, 5).tolist(), 90})
    outputs, states = [], None
    for start, end in zip(cuts, cuts[1:], strict=False):
        piece = predict(client, [sequence[start:end]], initial_states=states, states=form)
        outputs += piece["outputs"][0]
        states = piece["states"]
    assert_close(outputs, np.array(expected["outputs"][0]), f"cut at {cuts}")
    if form == "per_layer":
        assert_same_states(states[0], expected["states"][0], f"cut at {cuts}")
    elif form == "concatenated":
        flat = [x for layer in expected["states"][0] for part in layer.values() for x in part]
        assert_close(states[0], np.array(flat), f"cut at {cuts}")


def test_padding_never_matters(client, random) -> None:
    """Neighbours that are longer, and all of them at the edge of float32."""
    sequence = raw_sequence(random, 11)
    expected = predict(client, [sequence])
    longer = [np.full((length, 4), 3e38, np.float32) for length in (12, 40, 300)]
    padded = predict(client, [longer[0], sequence, *longer[1:]])
    assert_same(padded, 1, expected, "beside longer neighbours")


def test_reused_slot_starts_clean(client, random) -> None:
    """More sequences than slots, one after the other through each slot, all the same."""
    sequence = raw_sequence(random, 9)
    expected = predict(client, [sequence])
    again = predict(client, [sequence] * 100)
    for row in range(100):
        assert_same(again, row, expected, f"row {row}")


def test_identical_requests_give_identical_bytes(client, random) -> None:
    for lengths in ([30], [5, 40, 100, 1, 17]):
        body = {"sequences": [to_json(raw_sequence(random, n)) for n in lengths]}
        answers = {client.post("/predict", json=body).content for _ in range(10)}
        assert len(answers) == 1, f"lengths {lengths}"


def test_cancelled_sequence_frees_its_slot(server_of_laws, client, random) -> None:
    """Callers who hang up in the middle of long sequences leave nothing behind."""
    server, count = server_of_laws, 40
    # Short to write, so that a body holds as many as take long to compute.
    long = {"sequences": [[[50.0, None, None, 3.0]] * 9000] * count, "outputs": "none"}

    async def hang_up() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=60.0) as caller:
            asking = asyncio.create_task(caller.post("/predict", json=long))
            while await asyncio.to_thread(server.counter, "unroll_sequences_running") == 0:
                assert not asking.done()
                await asyncio.sleep(0.005)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    failed = server.counter("unroll_sequences_failed_total")
    asyncio.run(hang_up())
    deadline = time.monotonic() + 30
    while server.counter("unroll_sequences_failed_total") < failed + count:
        assert time.monotonic() < deadline, "the sequences go on without a caller"
        time.sleep(0.05)
    assert server.counter("unroll_sequences_running") == 0
    assert server.counter("unroll_sequences_waiting") == 0
    assert len(predict(client, [raw_sequence(random, 3)])["outputs"][0]) == 3


def test_failing_sequence_fails_nobody_else(tmp_path, random) -> None:
    """A sequence that overflows, in the same chunks as others."""
    export(tmp_path, ("rnn:8:relu",), "relu", gain=300.0)
    good = [raw_sequence(random, 60) for _ in range(8)]
    bad = np.full((60, 4), 3e38, np.float32)
    results: list[Any] = [None] * len(good)
    with serve(tmp_path, "relu", tmp_path / "log", lanes=1) as server, server.client() as client:
        expected = [predict(client, [sequence]) for sequence in good]

        def ask(row: int) -> None:
            with server.client() as own:
                results[row] = [predict(own, [good[row]]) for _ in range(20)]

        threads = [threading.Thread(target=ask, args=(row,)) for row in range(len(good))]
        for thread in threads:
            thread.start()
        failures = []
        while any(thread.is_alive() for thread in threads):
            failures.append(
                client.post("/predict", json={"sequences": [to_json(bad), to_json(good[0])]})
            )
        assert failures
        for answer in failures:
            assert answer.status_code == 422, answer.text[:200]
            assert answer.json()["errors"][0]["pointer"] == "/sequences/0"
        for row, answers in enumerate(results):
            outputs = np.array(expected[row]["outputs"][0])
            for answer in answers:
                # Such a gain makes numbers of thousands that cancel out: float32 keeps seven digits
                # of the largest, not of what is left.
                np.testing.assert_allclose(
                    answer["outputs"][0], outputs, rtol=0, atol=TOLERANCE * np.abs(outputs).max()
                )
