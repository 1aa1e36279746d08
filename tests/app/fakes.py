"""`FakeRunner`: outputs are running sums, so that a leaked slot or a lost chunk shows exactly.

Sums of whole numbers below 2**24 are exact in float32, however they are cut into chunks.
"""

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from app.engine.cost_model import Cost
from app.manifest import Manifest

# More rows cost nothing, so chunks are as wide as they may be; calls cost more than time steps, so
# chunks are mostly as long as they may be.
WIDE = Cost(call_s=1e-3, time_step_s=1e-5, row_step_s=0.0)


class FakeRunner:
    """Output = state = the sum of feature 0 so far. Fails as a whole when it meets `poison`.

    Args:
        poison: an input that makes `run` raise.
        overflow: an input that makes its row's outputs and state infinite.
        num_outputs: as the manifest has; each output is the same sum.

    Attributes:
        calls: rows of each call so far.
        gate: closed, it holds every call back until it is opened.
        entered: set once a call has begun.
    """

    kernel = "fake"
    state_size = 1
    compilations = 0
    devices: tuple[str, ...] = ("CPU:0",)

    def __init__(
        self, poison: float | None = None, overflow: float | None = None, num_outputs: int = 1
    ) -> None:
        self.poison = poison
        self.overflow = overflow
        self.num_outputs = num_outputs
        self.calls: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def set_limits(self, max_rows: int, max_steps: int) -> None:
        """Nothing depends on them."""

    def warm_up(self, max_rows: int, max_steps: int) -> Cost:
        """Nothing to compile, and nothing is measured."""
        return WIDE

    @np.errstate(over="ignore", invalid="ignore")
    def run(
        self, inputs: np.ndarray, lengths: np.ndarray, state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        self.entered.set()
        self.gate.wait(30)
        self.calls.append(len(inputs))
        valid = np.arange(inputs.shape[1]) < lengths[:, None]
        values = np.where(valid, inputs[:, :, 0], 0.0)
        if self.poison is not None and (values == self.poison).any():
            raise RuntimeError("the kernel met the poison")
        if self.overflow is not None:
            values[values == self.overflow] = np.inf
        sums = state + np.cumsum(values, axis=1, dtype=np.float32)
        outputs = np.where(valid, sums, 0.0)[..., None].astype(np.float32)
        return np.repeat(outputs, self.num_outputs, axis=2), sums[:, -1:]


def load_fake(folder: Path, manifest: Manifest) -> FakeRunner:
    """A `RunnerLoader`; usable where the manifest has one state of one unit."""
    return FakeRunner(num_outputs=len(manifest.outputs))


def write_version(home: Path, number: int, /, **changes: Any) -> Path:
    """A whole model folder that `load_fake` can serve, made by hand.

    Args:
        home: `models/<name>`.
        number: version of the manifest and the folder.
        changes: entries of the manifest to replace.
    """
    folder = home / str(number)
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights of a fake")
    standardize = {"kind": "standardize", "mean": 0.0, "std": 1.0}
    manifest = {
        # Fake kernels run no `chunk.onnx`.
        "format": "unroll/1",
        "name": home.name,
        "version": number,
        "created": "2026-01-01T00:00:00+00:00",
        "dtype": "float32",
        "features": [{"name": "x", "unit": "1", "transform": standardize}],
        "outputs": [{"name": "sum", "unit": "1", "transform": standardize}],
        "layers": [{"cell": "rnn", "units": 1, "states": [{"name": "h", "tensor": "state_0_h"}]}],
        "example": [[1.0], [2.0]],
        "files": {"weights.bin": describe_file(folder / "weights.bin")},
    }
    write_manifest(folder, {**manifest, **changes})
    return folder


def describe_file(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    data = path.read_bytes()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes a manifest with the right checksum beside it, whatever it says."""
    text = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)
    digest = hashlib.sha256(text).hexdigest()
    (folder / "manifest.sha256").write_text(f"{digest}  manifest.json\n")
