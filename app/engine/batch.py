"""`Batch`: the numbers of a chunk as a kernel takes them; `LoopLane` computes them.

A chunk's sequences are packed and unpacked on the event loop. A lane computes: the event loop too,
or a thread (`thread_lanes.py`). A worker has a core to itself, so a thread would gain nothing
there, and waking it costs more than a small chunk.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from app.engine.runner_interface import ModelRunner
from app.engine.scheduler import Chunk
from app.engine.sequence import Sequence
from app.errors import Fault, NotFinite, RunFailed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """The arrays that go into a call of the kernel.

    Attributes:
        inputs: float32 `[S, C, F]`, zeros where a row is shorter than C.
        lengths: int32 `[S]`, time steps of each row.
        state: float32 `[S, sum of H]`.
    """

    inputs: np.ndarray
    lengths: np.ndarray
    state: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Results:
    """The arrays that come out of a call of the kernel.

    Attributes:
        outputs: float32 `[S, C, O]`.
        state: float32 `[S, sum of H]`.
        failures: rows that the kernel could not compute, and the name of the error of each; their
            numbers mean nothing. The error itself would keep all that its frames refer to.
    """

    outputs: np.ndarray
    state: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)


# Is called on the event loop with a chunk and its results, or the name of an error that came from
# outside of the kernel.
Computed = Callable[[Chunk, Results | str], None]


class Lanes(Protocol):
    """What the engine needs of `LoopLane` and `ThreadLanes`."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on batches are computed; `loop` is where the engine lives."""

    @property
    def alive(self) -> bool:
        """Whether every lane runs."""
        ...

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """Queues a batch, or computes it at once. Called on the event loop."""

    def stop(self, timeout_s: float) -> None:
        """Ends the lanes after all queued batches, and waits for that. Blocks.

        Args:
            timeout_s: for all of them; one that hangs in a kernel is left behind.
        """


class LoopLane:
    """One lane: the event loop.

    Args:
        runner: computes.
        computed: is told of each chunk.
    """

    def __init__(self, runner: ModelRunner, computed: Computed) -> None:
        self._runner = runner
        self._computed = computed
        self.alive = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """See `Lanes`."""
        self.alive = True

    def give(self, chunk: Chunk, batch: Batch) -> None:
        """Computes a batch before it returns."""
        self._computed(chunk, attempt(self._runner, batch))

    def stop(self, timeout_s: float) -> None:
        """See `Lanes`."""
        self.alive = False


def pack(chunk: Chunk, state_size: int) -> Batch:
    """Copies the next time steps and the states of a chunk's sequences."""
    sequences, steps = chunk.sequences, chunk.steps
    rows = len(sequences)
    inputs = np.zeros((rows, max(steps), sequences[0].inputs.shape[1]), np.float32)
    state = np.zeros((rows, state_size), np.float32)
    for row, (sequence, length) in enumerate(zip(sequences, steps, strict=True)):
        inputs[row, :length] = sequence.inputs[sequence.cursor : sequence.cursor + length]
        if sequence.state is not None:
            state[row] = sequence.state
    return Batch(inputs, np.array(steps, np.int32), state)


def compute(runner: ModelRunner, batch: Batch) -> Results:
    """Computes all rows together; if that fails, halves of them, down to the rows that fail."""
    try:
        return Results(*runner.run(batch.inputs, batch.lengths, batch.state))
    except Exception as error:
        rows = len(batch.lengths)
        if rows == 1:
            logger.exception("the kernel failed on one sequence")
            nothing = np.zeros((*batch.inputs.shape[:2], runner.num_outputs), np.float32)
            return Results(nothing, batch.state, {0: type(error).__name__})
        half = rows // 2
        first, second = (
            compute(runner, Batch(batch.inputs[part], batch.lengths[part], batch.state[part]))
            for part in (slice(None, half), slice(half, None))
        )
        of_second = {half + row: failure for row, failure in second.failures.items()}
        return Results(
            np.concatenate([first.outputs, second.outputs]),
            np.concatenate([first.state, second.state]),
            first.failures | of_second,
        )


def attempt(runner: ModelRunner, batch: Batch) -> Results | str:
    """What `compute` gives, or the name of an error that came from outside of the kernel."""
    try:
        return compute(runner, batch)
    except Exception as error:
        # If the lane ended here, the callers of its chunks would wait for ever.
        logger.exception("this is a bug: a lane failed outside of its kernel")
        return type(error).__name__


def unpack(chunk: Chunk, results: Results) -> None:
    """Copies results into a chunk's sequences; a failure is its sequence's error, never raised."""
    finite = finite_rows(results.outputs, results.state)
    for row, (sequence, length) in enumerate(zip(chunk.sequences, chunk.steps, strict=True)):
        if row in results.failures:
            sequence.error = _failed("the kernel", results.failures[row])
        elif finite is not None and not finite[row]:
            sequence.error = _overflow(sequence, length)
        else:
            try:
                _take(sequence, results.outputs[row, :length])
            except MemoryError as error:
                sequence.error = _failed("keeping its outputs", type(error).__name__)
            sequence.state = results.state[row]


def _take(sequence: Sequence, outputs: np.ndarray) -> None:
    start, total = sequence.cursor, len(sequence.inputs)
    if len(outputs) == total:
        sequence.outputs = outputs
        return
    if start == 0:
        sequence.outputs = np.empty((total, outputs.shape[1]), np.float32)
    sequence.outputs[start : start + len(outputs)] = outputs


def _failed(what: str, error: str) -> RunFailed:
    return RunFailed(f"{what} failed: {error}")


def finite_rows(outputs: np.ndarray, state: np.ndarray) -> np.ndarray | None:
    """Which rows hold only finite numbers, bool `[S]`; None if all do, which is the usual.

    Args:
        outputs: float32 `[S, C, O]`.
        state: float32 `[S, sum of H]`.
    """
    # A sum with a number that is not finite is not finite. The sum of finite numbers may overflow
    # too, so the rows are looked at before any is blamed.
    with np.errstate(over="ignore", invalid="ignore"):
        total = outputs.sum() + state.sum()
    if np.isfinite(total):
        return None
    finite: np.ndarray = np.isfinite(outputs).all(axis=(1, 2)) & np.isfinite(state).all(axis=1)
    return finite


def _overflow(sequence: Sequence, length: int) -> NotFinite:
    first, last = sequence.cursor, sequence.cursor + length - 1
    return NotFinite(
        Fault(
            sequence.pointer,
            f"the model overflows between time steps {first} and {last}: "
            "the values are too large for it",
        )
    )
