"""`Lane`: computes the chunks of one thread and keeps the states of its slots."""

import logging
from collections.abc import Sequence as Rows

import numpy as np

from app.engine.runner import ModelRunner
from app.engine.scheduler import Chunk
from app.engine.sequence import Sequence
from app.errors import Fault, NotFinite, RunFailed

logger = logging.getLogger(__name__)


class Lane:
    """The slots of one lane.

    Args:
        runner: computes.
        num_slots: slots `0..num_slots-1`.
    """

    def __init__(self, runner: ModelRunner, num_slots: int) -> None:
        self._runner = runner
        self._states = tuple(np.zeros((num_slots, size), np.float32) for size in runner.state_sizes)

    def compute(self, chunk: Chunk) -> None:
        """Computes a chunk into its sequences; a failure is its sequence's error, never raised."""
        self._compute_rows(chunk.sequences, chunk.steps)

    def _start(self, sequence: Sequence) -> None:
        """Puts the initial state into the slot, whatever was there before."""
        sequence.outputs = np.empty((len(sequence.inputs), self._runner.num_outputs), np.float32)
        for index, rows in enumerate(self._states):
            initial = sequence.initial_state
            rows[_slot(sequence)] = 0.0 if initial is None else initial[index]

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
        for sequence in sequences:
            if sequence.cursor == 0:
                self._start(sequence)
        slots = [_slot(sequence) for sequence in sequences]
        inputs = np.zeros(
            (len(sequences), max(steps), sequences[0].inputs.shape[1]), dtype=np.float32
        )
        for row, (sequence, length) in enumerate(zip(sequences, steps, strict=True)):
            inputs[row, :length] = sequence.inputs[sequence.cursor : sequence.cursor + length]
        outputs, state = self._runner.run(
            inputs, np.array(steps, np.int32), tuple(rows[slots] for rows in self._states)
        )
        finite = np.isfinite(outputs).all(axis=(1, 2))
        for rows, next_rows in zip(self._states, state, strict=True):
            rows[slots] = next_rows
            finite &= np.isfinite(next_rows).all(axis=1)
        for row, (sequence, length) in enumerate(zip(sequences, steps, strict=True)):
            self._take(sequence, length, outputs[row], bool(finite[row]))

    def _take(self, sequence: Sequence, length: int, outputs: np.ndarray, finite: bool) -> None:
        start, end = sequence.cursor, sequence.cursor + length
        if not finite:
            sequence.error = NotFinite(
                Fault(
                    sequence.pointer,
                    f"the model overflows between time steps {start} and {end - 1}: "
                    "the values are too large for it",
                )
            )
            return
        sequence.outputs[start:end] = outputs[:length]
        if end == len(sequence.inputs):
            sequence.final_state = tuple(rows[_slot(sequence)].copy() for rows in self._states)


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None, "this is a bug: a sequence in a chunk holds no slot"
    return sequence.slot
