"""The law *continued = uninterrupted*, for every way in which a sequence can be carried."""

import asyncio
import itertools
import random
from contextlib import AsyncExitStack

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exported_models import raw_sequence, to_json
from tests.support.real_server import Server
from tests.support.reference_model import assert_close
from tests.support.sequence_carriers import KINDS, carrier, post

SEQUENCES = 50
MAX_STEPS = 60
names = itertools.count()
pytestmark = pytest.mark.alone


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.integers(1, 20))
def test_any_cut_of_any_sequence_carried_in_any_way_equals_the_whole(
    server_of_laws: Server, drawn: random.Random, together: int
) -> None:
    """50 sequences at once, their pieces in any order, some at the same moment."""
    numbers = np.random.default_rng(drawn.randrange(2**32))
    sequences = [raw_sequence(numbers, drawn.randint(1, MAX_STEPS)) for _ in range(SEQUENCES)]
    pieces = [cut(sequence, drawn) for sequence in sequences]
    turns = [row for row, each in enumerate(pieces) for _ in each]
    drawn.shuffle(turns)
    kinds = [KINDS[row % len(KINDS)] for row in range(SEQUENCES)]
    whole, outputs = asyncio.run(carry(server_of_laws, sequences, pieces, turns, kinds, together))
    for row, kind in enumerate(kinds):
        lengths = [len(piece) for piece in pieces[row]]
        assert_close(outputs[row], np.array(whole[row]), f"{kind}, pieces of {lengths}")


def cut(sequence: np.ndarray, drawn: random.Random) -> list[np.ndarray]:
    """The sequence in up to six pieces."""
    places = sorted(drawn.sample(range(1, len(sequence)), min(5, (len(sequence) - 1) // 2)))
    return [sequence[a:b] for a, b in itertools.pairwise([0, *places, len(sequence)])]


async def carry(
    server: Server,
    sequences: list[np.ndarray],
    pieces: list[list[np.ndarray]],
    turns: list[int],
    kinds: list[str],
    together: int,
) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    """Outputs of the whole sequences, and of their pieces put together."""
    left = [iter(each) for each in pieces]
    outputs: list[list[list[float]]] = [[] for _ in sequences]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=server.url, timeout=120.0)
        )
        whole = await post(client, "/predict", sequences=[to_json(s) for s in sequences])
        carriers = [
            await stack.enter_async_context(carrier(kind, client, "mixed", f"s{next(names)}"))
            for kind in kinds
        ]

        async def take_turn(row: int) -> None:
            outputs[row] += await carriers[row].send(next(left[row]))

        while turns:
            # Pieces of one sequence follow each other; those of others do not wait for them.
            now, later = [], []
            for row in turns:
                (later if row in now or len(now) == together else now).append(row)
            turns = later
            await asyncio.gather(*(take_turn(row) for row in now))
    return whole["outputs"], outputs
