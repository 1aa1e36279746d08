import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from benchmarks.peers.common import Item, Result
from benchmarks.peers.granian_onnxruntime import MAX_BATCH, Batcher


class CountingKernel:
    """Remembers the lengths of its batches; a sequence's output is its length."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def run(self, items: Sequence[Item]) -> list[Result]:
        lengths = [len(item.inputs) for item in items]
        self.batches.append(lengths)
        if 0 in lengths:
            raise ValueError("an empty sequence")
        return [Result(np.full((1, 1), length), ()) for length in lengths]


def answers(kernel: CountingKernel, lengths: Sequence[int]) -> list[object]:
    """Of callers who ask for a sequence each at the same moment, in their order."""

    async def run() -> list[object]:
        batcher = Batcher(kernel)
        asked = [batcher.run([Item(np.zeros((length, 1)))]) for length in lengths]
        found = await asyncio.gather(*asked, return_exceptions=True)
        return [int(each[0].outputs[0, 0]) if isinstance(each, list) else each for each in found]

    return asyncio.run(run())


def test_a_batch_is_the_oldest_and_those_nearest_to_it() -> None:
    kernel = CountingKernel()
    lengths = [20, 300, 21, 200, *range(1, 16)]
    assert answers(kernel, lengths) == lengths, "each gets its own answer"
    first, second = kernel.batches
    assert first == [20, 21, *range(15, 1, -1)]
    assert len(first) == MAX_BATCH
    assert second == [300, 200, 1], "the oldest of those left leads"


def test_an_error_is_the_answer_of_its_batch() -> None:
    lost, other = answers(CountingKernel(), [0, *([9] * MAX_BATCH)])[::MAX_BATCH]
    with pytest.raises(ValueError, match="an empty sequence"):
        raise lost  # type: ignore[misc]
    assert other == 9, "the next batch is computed"
