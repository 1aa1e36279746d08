"""Where the benchmark keeps what it makes. Imports nothing heavy: peers read it too."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"

# In the folder's name, so that models made by older code are never taken for today's.
MODEL_FORMAT = 3
NUM_FEATURES = 8
NUM_LAYERS = 3


@dataclass(frozen=True)
class BenchModel:
    """Three LSTM layers of `units` and a dense head of one output, in every form a server needs.

    Attributes:
        units: of each layer.
        home: folder of all forms.
    """

    units: int
    home: Path

    @property
    def name(self) -> str:
        """As answers name it."""
        return f"lstm{self.units}"

    @property
    def models_dir(self) -> Path:
        """The folder of models that Unroll is given."""
        return self.home / "unroll"

    @property
    def folder(self) -> Path:
        """The exported version that Unroll serves."""
        return self.models_dir / self.name / "1"

    @property
    def keras(self) -> Path:
        """A SavedModel of Keras' own LSTM layers."""
        return self.home / "keras"

    @property
    def onnx(self) -> Path:
        """An ONNX graph of three LSTM operators and the head."""
        return self.home / "model.onnx"

    @property
    def weights(self) -> Path:
        """The weights as NumPy arrays: `layer_0/kernel`, ..., `head/bias`."""
        return self.home / "weights.npz"


def bench_model(units: int) -> BenchModel:
    """The place of a model, made or not yet."""
    return BenchModel(units, BUILD / f"lstm{units}-{MODEL_FORMAT}")
