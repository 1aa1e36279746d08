"""What every peer shares: the native JSON, padding, and the two kernels. All of it is NumPy.

`BENCH_KERNEL` chooses the kernel, `BENCH_UNITS` the model, `BENCH_THREADS` the threads of a call.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import orjson

from benchmarks.model_files import NUM_FEATURES, NUM_LAYERS, STATES, BenchModel, bench_model

# The benchmark stops processes that it does not measure: uvicorn must not take them for dead.
HEALTH_S = 600
# Where a framework counts requests, a batch of large ones has far more sequences than pay.
MOST_ROWS = 64


class BadRequest(Exception):
    """The body is not what the service takes."""


@dataclass(frozen=True)
class Item:
    """One sequence of a request.

    Attributes:
        inputs: float32 `[T, F]`.
        states: float32 `[H]` for h and c of each layer; None for zeros.
    """

    inputs: np.ndarray
    states: tuple[np.ndarray, ...] | None = None


@dataclass(frozen=True)
class Result:
    """What became of an item: outputs `[T, 1]`, and h and c `[H]` of each layer."""

    outputs: np.ndarray
    states: tuple[np.ndarray, ...]


class Kernel(Protocol):
    """Computes a padded batch."""

    def run(self, items: Sequence[Item]) -> list[Result]:
        """One result an item, in order."""
        ...


def run_requests(kernel: Kernel, requests: Sequence[Sequence[Item]]) -> list[list[Result]]:
    """Computes a batch of requests; one list of results each.

    More than `MOST_ROWS` sequences are sorted by length and computed in calls of so many: else the
    longest of a thousand would be everybody's padding.
    """
    items = [item for request in requests for item in request]
    order = list(range(len(items)))
    if len(items) > MOST_ROWS:
        order.sort(key=lambda index: len(items[index].inputs))
    results: dict[int, Result] = {}
    for start in range(0, len(order), MOST_ROWS):
        part = order[start : start + MOST_ROWS]
        results.update(zip(part, kernel.run([items[index] for index in part]), strict=True))
    flat = iter(range(len(items)))
    return [[results[next(flat)] for _ in request] for request in requests]


def parse_document(document: Any, units: int) -> list[Item]:
    """Reads a parsed body.

    Raises:
        BadRequest: wrong types, shapes or numbers.
    """
    try:
        sequences = document["sequences"]
        states = document.get("initial_states") or [None] * len(sequences)
        return [
            Item(_checked(np.array(rows, np.float32), (len(rows), NUM_FEATURES)), _state(s, units))
            for rows, s in zip(sequences, states, strict=True)
        ]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadRequest(f"{type(error).__name__}: {error}") from error


def parse(body: bytes, units: int) -> list[Item]:
    """Reads a body; see `parse_document`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(str(error)) from error
    return parse_document(document, units)


def _checked(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape or not array.size or not np.isfinite(array).all():
        raise ValueError(f"numbers of shape {array.shape}, not {shape}, or not finite")
    return array


def _state(state: Any, units: int) -> tuple[np.ndarray, ...] | None:
    if state is None:
        return None
    if len(state) != NUM_LAYERS:
        raise ValueError(f"a state has {len(state)} layers, not {NUM_LAYERS}")
    return tuple(
        _checked(np.array(layer[part], np.float32), (units,))
        for layer in state
        for part in ("h", "c")
    )


def answer(results: Sequence[Result], model: BenchModel) -> dict[str, Any]:
    """The document of an answer; its numbers are NumPy arrays."""
    return {
        "model": {"name": model.name, "version": 1},
        "outputs": [result.outputs for result in results],
        "states": [
            [{"h": r.states[2 * i], "c": r.states[2 * i + 1]} for i in range(NUM_LAYERS)]
            for r in results
        ],
    }


def to_lists(document: dict[str, Any]) -> dict[str, Any]:
    """An answer with lists of numbers instead of arrays, for who does not print NumPy."""
    return {
        **document,
        "outputs": [outputs.tolist() for outputs in document["outputs"]],
        "states": [
            [{part: value.tolist() for part, value in layer.items()} for layer in state]
            for state in document["states"]
        ],
    }


def print_answer(results: Sequence[Result], model: BenchModel) -> bytes:
    """The body of an answer."""
    return orjson.dumps(answer(results, model), option=orjson.OPT_SERIALIZE_NUMPY)


@dataclass(frozen=True)
class Batch:
    """Items padded to the longest: float32 `[B, T, F]`, int32 `[B]`, float32 `[B, H]` a state."""

    sequences: np.ndarray
    lengths: np.ndarray
    states: dict[str, np.ndarray]

    def split(self, outputs: np.ndarray, states: Sequence[np.ndarray]) -> list[Result]:
        """The rows of a computed batch without their padding."""
        return [
            Result(outputs[row, :length], tuple(part[row] for part in states))
            for row, length in enumerate(self.lengths.tolist())
        ]


def pad(items: Sequence[Item], units: int) -> Batch:
    """Puts items into one batch."""
    lengths = np.array([len(item.inputs) for item in items], np.int32)
    sequences = np.zeros((len(items), int(lengths.max()), NUM_FEATURES), np.float32)
    for row, item in enumerate(items):
        sequences[row, : len(item.inputs)] = item.inputs
    states = {name: np.zeros((len(items), units), np.float32) for name in STATES}
    for row, item in enumerate(items):
        if item.states is not None:
            for part, value in zip(states.values(), item.states, strict=True):
                part[row] = value
    return Batch(sequences, lengths, states)


def served_model() -> BenchModel:
    """The model that the environment names."""
    return bench_model(int(os.environ["BENCH_UNITS"]))


def make_kernel(model: BenchModel, default: str = "keras", threads: int = 0) -> Kernel:
    """The kernel that the environment names.

    Args:
        model: to load.
        default: `keras` or `onnxruntime`, if it names none.
        threads: of a call; 0 leaves the library's default.
    """
    name = os.environ.get("BENCH_KERNEL") or default
    threads = int(os.environ.get("BENCH_THREADS") or threads)
    # Each library takes seconds to import, so only the one in use is.
    if name == "onnxruntime":
        from benchmarks.peers.onnxruntime_kernel import OnnxRuntimeKernel

        return OnnxRuntimeKernel(model, threads)
    if name == "keras":
        from benchmarks.peers.keras_kernel import KerasKernel

        return KerasKernel(model, threads)
    raise ValueError(f"BENCH_KERNEL is keras or onnxruntime, not {name!r}")
