"""The laws of serving while many others are served: any mixture of lengths, cuts and states.

What hypothesis draws is one request among those of a crowd, which joins, leaves and hangs up as it
likes. Every answer, of the crowd's too, is compared with the float64 reference.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import Server
from tests.support.reference_model import Reference, State, assert_close

CROWD = 24
MAX_LENGTH = 120
# What the crowd asks for; its answers are known beforehand.
POOL = 6
pytestmark = pytest.mark.alone


class Crowd:
    """Callers in a thread of their own, from entering the context to leaving it.

    Attributes:
        answers: how many were right.
        hung_up: how many did not wait for theirs.
    """

    def __init__(self, url: str, pool: list[tuple[list[Any], np.ndarray]]) -> None:
        self._url = url
        self._pool = pool
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._failures: list[BaseException] = []
        self.answers = self.hung_up = 0

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "somebody in the crowd got no answer"

    def check(self) -> None:
        """Raises what went wrong for anybody so far."""
        if self._failures:
            raise self._failures[0]

    async def _all(self) -> None:
        await asyncio.gather(*(self._ask(seed) for seed in range(CROWD)))

    async def _ask(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        try:
            async with httpx.AsyncClient(base_url=self._url, timeout=60.0) as client:
                while not self._stop.is_set():
                    await self._ask_once(client, random)
        except BaseException as error:
            self._failures.append(error)

    async def _ask_once(self, client: httpx.AsyncClient, random: np.random.Generator) -> None:
        chosen = random.integers(POOL, size=random.integers(1, 4))
        lengths = random.integers(1, MAX_LENGTH + 1, len(chosen))
        rows = [self._pool[i][0][:n] for i, n in zip(chosen, lengths, strict=True)]
        if random.random() < 0.1:
            with suppress(httpx.TimeoutException):
                await client.post("/predict", json={"sequences": rows * 4}, timeout=0.05)
            self.hung_up += 1
            return
        answer = await client.post("/predict", json={"sequences": rows, "states": "none"})
        assert answer.status_code == 200, answer.text
        for i, n, made in zip(chosen, lengths, answer.json()["outputs"], strict=True):
            # Outputs of a time step depend on those before only.
            assert_close(made, self._pool[i][1][:n], "somebody in the crowd")
        self.answers += 1


@dataclass
class Served:
    """A server under load and what it must compute."""

    server: Server
    client: httpx.Client
    crowd: Crowd
    reference: Reference
    sizes: list[dict[str, int]] = field(default_factory=list)

    def predict(self, **body: Any) -> dict[str, Any]:
        answer = self.client.post("/predict", json=body)
        self.crowd.check()
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture(scope="module")
def served(server_of_laws: Server, models_dir: Path) -> Iterator[Served]:
    """Fewer slots than sequences and short chunks: all queue, join late and are cut."""
    server = server_of_laws
    reference = Reference(models_dir / "mixed" / "1")
    random = np.random.default_rng(5)
    pool = []
    for _ in range(POOL):
        sequence = raw_sequence(random, MAX_LENGTH)
        pool.append((to_json(sequence), reference(sequence)[0]))
    sizes = [
        {part["name"]: layer["units"] for part in layer["states"]}
        for layer in reference.manifest["layers"]
    ]
    before = computed(server)
    with server.client() as client, Crowd(server.url, pool) as crowd:
        yield Served(server, client, crowd, reference, sizes)
    crowd.check()
    assert crowd.answers > CROWD, "there was no load"
    assert crowd.hung_up, "nobody hung up"
    deadline = time.monotonic() + 20
    while server.counter("unroll_sequences_running", "unroll_sequences_waiting"):
        assert time.monotonic() < deadline, "sequences go on without a caller"
        time.sleep(0.05)
    rows, chunks = (a - b for a, b in zip(computed(server), before, strict=True))
    print(f"{crowd.answers} answers, {rows / chunks:.2f} sequences a chunk")
    assert rows > chunks, "nobody was computed together"


def computed(server: Server) -> tuple[float, float]:
    """How many rows of chunks it has computed, and how many chunks."""
    return server.counter("unroll_chunk_rows_total"), server.counter("unroll_chunks_total")


seeds = st.integers(0, 2**32 - 1)
# Chunks have at most 16 time steps: what is near to one and its multiples is drawn more often.
lengths = st.integers(1, MAX_LENGTH) | st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33])


@st.composite
def mixtures(draw: st.DrawFn) -> list[tuple[int, bool, int]]:
    """Sequences of a request: length, whether it has an initial state, seed of its numbers."""
    return draw(st.lists(st.tuples(lengths, st.booleans(), seeds), min_size=1, max_size=10))


def make_state(random: np.random.Generator, sizes: list[dict[str, int]]) -> State:
    """Any state: also one that no sequence leaves behind."""
    return [
        {name: random.uniform(-2, 2, size).astype(np.float32) for name, size in layer.items()}
        for layer in sizes
    ]


def state_to_json(state: State | None, form: str) -> Any:
    if state is None:
        return None
    if form == "per_layer":
        return [{name: part.tolist() for name, part in layer.items()} for layer in state]
    return [x for layer in state for part in layer.values() for x in part.tolist()]


def assert_state(made: Any, expected: State, form: str, message: str) -> None:
    if form == "concatenated":
        flat = np.concatenate([part for layer in expected for part in layer.values()])
        assert_close(made, flat, message)
        return
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert_close(ours[name], theirs[name], message)


forms = st.sampled_from(["per_layer", "concatenated"])


@settings(max_examples=60)
@given(mixtures(), forms)
def test_any_mixture_is_computed_as_if_each_were_alone(
    served: Served, mixture: list[tuple[int, bool, int]], form: str
) -> None:
    """Batched is alone, chunked is whole, padding does not matter, slots start clean."""
    sequences, initial = [], []
    for length, continues, seed in mixture:
        random = np.random.default_rng(seed)
        sequences.append(raw_sequence(random, length))
        initial.append(make_state(random, served.sizes) if continues else None)
    answer = served.predict(
        sequences=[to_json(sequence) for sequence in sequences],
        initial_states=[state_to_json(state, form) for state in initial],
        states=form,
    )
    for row, (sequence, state) in enumerate(zip(sequences, initial, strict=True)):
        outputs, final = served.reference(sequence, state)
        assert_close(answer["outputs"][row], outputs, f"row {row} of {mixture}")
        assert_state(answer["states"][row], final, form, f"state {row} of {mixture}")


@settings(max_examples=30)
@given(st.lists(lengths, min_size=2, max_size=5), st.integers(1, 4), seeds, forms)
def test_any_cuts_change_nothing(
    served: Served, pieces: list[int], rows: int, seed: int, form: str
) -> None:
    """Continued is uninterrupted: several sequences, cut at the same places, go on together."""
    random = np.random.default_rng(seed)
    sequences = [raw_sequence(random, sum(pieces)) for _ in range(rows)]
    outputs: list[list[Any]] = [[] for _ in sequences]
    states: Any = None
    end = 0
    for piece in pieces:
        start, end = end, end + piece
        answer = served.predict(
            sequences=[to_json(sequence[start:end]) for sequence in sequences],
            initial_states=states,
            states=form,
        )
        states = answer["states"]
        for collected, made in zip(outputs, answer["outputs"], strict=True):
            collected += made
    for row, sequence in enumerate(sequences):
        expected, final = served.reference(sequence)
        assert_close(outputs[row], expected, f"row {row} cut to {pieces}")
        assert_state(states[row], final, form, f"row {row} cut to {pieces}")


@settings(max_examples=30)
@given(mixtures(), st.sampled_from(["last", "none"]))
def test_what_is_answered_does_not_change_what_is_computed(
    served: Served, mixture: list[tuple[int, bool, int]], outputs: str
) -> None:
    """The last outputs are the last of all; and who asks for none gets none."""
    sequences = [raw_sequence(np.random.default_rng(s), length) for length, _, s in mixture]
    answer = served.predict(sequences=[to_json(s) for s in sequences], outputs=outputs)
    assert ("outputs" in answer) == (outputs == "last")
    for row, sequence in enumerate(sequences):
        expected, final = served.reference(sequence)
        assert_state(answer["states"][row], final, "per_layer", f"row {row}")
        if outputs == "last":
            assert_close(answer["outputs"][row], expected[-1], f"row {row}")
