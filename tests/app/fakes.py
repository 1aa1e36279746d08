"""`FakeRunner`: outputs are running sums, so that a leaked slot or a lost chunk shows exactly."""

import threading
from pathlib import Path

import numpy as np

from app.engine.sequence import State
from app.manifest import Manifest


class FakeRunner:
    """Output = state = the sum of feature 0 so far. Fails as a whole when it meets `poison`.

    Attributes:
        calls: rows of each call so far.
        gate: closed, it holds every call back until it is opened.
    """

    num_outputs = 1
    state_sizes = (1,)

    def __init__(self, poison: float | None = None) -> None:
        self.poison = poison
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def warm_up(self, max_rows: int, max_steps: int) -> None:
        """Nothing to compile."""

    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        self.gate.wait(30)
        self.calls.append(len(inputs))
        valid = np.arange(inputs.shape[1]) < lengths[:, None]
        values = np.where(valid, inputs[:, :, 0], 0.0)
        if self.poison is not None and (values == self.poison).any():
            raise RuntimeError("the kernel met the poison")
        sums = state[0] + np.cumsum(values, axis=1, dtype=np.float32)
        return np.where(valid, sums, 0.0)[..., None].astype(np.float32), (sums[:, -1:],)


def load_fake(folder: Path, manifest: Manifest) -> FakeRunner:
    """A `RunnerLoader`; usable where the manifest has one output and one state of one unit."""
    return FakeRunner()
