"""`ModelRunner`: what every kernel does for the engine."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from app.engine.cost_model import Cost
from app.manifest import Manifest

# Rows of a chunk at most, where no setting says so. Rows are nearly free on an accelerator.
MOST_ROWS, MOST_ROWS_ON_ACCELERATOR = 64, 512


class ModelRunner(Protocol):
    """A loaded model that computes chunks. Several lanes may call `run` at the same time.

    Attributes:
        kernel: its name, as `UNROLL_RUNNER` has it.
        num_outputs: O.
        state_size: the sum of H over all state tensors.
    """

    kernel: str
    num_outputs: int
    state_size: int

    @property
    def devices(self) -> tuple[str, ...]:
        """Where each layer is, such as `GPU:0`."""
        ...

    @property
    def compilations(self) -> int:
        """Call shapes compiled since the start; none is after warm-up."""
        ...

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """Allows `run` up to these sizes, without a warm-up."""

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """Compiles every call shape that `run` can need, and checks the model on its example.

        Returns:
            What chunks cost, measured.

        Raises:
            ModelRefused: the model does not compute what its manifest says.
        """
        ...

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Computes one chunk.

        Args:
            inputs: float32 `[S, C, F]`, raw; NaN where a feature is missing.
            lengths: int32 `[S]`, valid time steps of each row.
            state: float32 `[S, sum of H]`, the state tensors side by side.

        Returns:
            Outputs, float32 `[S, C, O]`, and the next state, shaped as `state`.
        """
        ...


class RunnerLoader(Protocol):
    """Makes a runner from a verified folder."""

    def __call__(self, folder: Path, manifest: Manifest) -> ModelRunner:
        """Loads the model.

        Raises:
            ModelRefused: it cannot be loaded, or does not have the signatures of the contract.
        """
        ...


def on_accelerator(devices: Iterable[str]) -> bool:
    """Whether some of the devices are not the processor."""
    return any(not device.startswith("CPU") for device in devices)


def most_rows(devices: Iterable[str]) -> int:
    """Most rows of a chunk on these devices, where no setting says so."""
    return MOST_ROWS_ON_ACCELERATOR if on_accelerator(devices) else MOST_ROWS
