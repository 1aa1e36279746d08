"""`Lane`: computes chunks into their sequences."""

import logging
from collections.abc import Sequence as Rows

import numpy as np

from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk
from app.engine.sequence import Sequence
from app.errors import Fault, NotFinite, RunFailed

logger = logging.getLogger(__name__)


class Lane:
    """What a lane's thread does with a chunk. It keeps nothing between chunks.

    Args:
        runner: computes.
    """

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner

    def compute(self, chunk: Chunk) -> None:
        """Computes a chunk into its sequences; a failure is its sequence's error, never raised."""
        self._compute_rows(chunk.sequences, chunk.steps)

    def _compute_rows(self, sequences: Rows[Sequence], steps: Rows[int]) -> None:
        """Computes rows together; where that fails, halves them until only the cause fails."""
        try:
            self._run(sequences, steps)
        except Exception as error:
            if len(sequences) == 1:
                logger.exception("the kernel failed on one sequence")
                sequences[0].error = RunFailed(f"the kernel failed: {type(error).__name__}")
                return
            half = len(sequences) // 2
            self._compute_rows(sequences[:half], steps[:half])
            self._compute_rows(sequences[half:], steps[half:])

    def _run(self, sequences: Rows[Sequence], steps: Rows[int]) -> None:
        rows = len(sequences)
        inputs = np.zeros((rows, max(steps), sequences[0].inputs.shape[1]), np.float32)
        state = np.zeros((rows, self._runner.state_size), np.float32)
        for row, (sequence, length) in enumerate(zip(sequences, steps, strict=True)):
            if sequence.cursor == 0:
                # Before the call: nothing after it may fail, or a row would be computed twice.
                shape = (len(sequence.inputs), self._runner.num_outputs)
                sequence.outputs = np.empty(shape, np.float32)
            inputs[row, :length] = sequence.inputs[sequence.cursor : sequence.cursor + length]
            if sequence.state is not None:
                state[row] = sequence.state
        outputs, next_state = self._runner.run(inputs, np.array(steps, np.int32), state)
        finite = finite_rows(outputs, next_state)
        for row, (sequence, length) in enumerate(zip(sequences, steps, strict=True)):
            if finite is not None and not finite[row]:
                sequence.error = _overflow(sequence, length)
                continue
            sequence.outputs[sequence.cursor : sequence.cursor + length] = outputs[row, :length]
            sequence.state = next_state[row]


def finite_rows(outputs: np.ndarray, state: np.ndarray) -> np.ndarray | None:
    """Which rows hold only finite numbers, bool `[S]`; None if all do, which is the usual.

    Args:
        outputs: float32 `[S, C, O]`.
        state: float32 `[S, sum of H]`.
    """
    # One number that is not finite makes the sum so; a sum may overflow of itself, which the
    # second look forgives.
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
