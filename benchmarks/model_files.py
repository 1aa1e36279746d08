"""The model that is measured: its sizes, and the files of its forms. Peers read it too."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.paths import BUILD

# In the folder's name, so that models made by older code are never taken for today's.
MODEL_FORMAT = 6
NUM_FEATURES = 8
NUM_LAYERS = 3
# h and c of each layer, as the forms of Keras and ONNX name them.
STATES = tuple(f"{part}_{i}" for i in range(NUM_LAYERS) for part in ("h", "c"))


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

    @property
    def answers(self) -> Path:
        """The model's own answers to a sample of each workload: `reference.expected` reads them."""
        return self.home / "answers.npz"


def bench_model(units: int) -> BenchModel:
    """The place of a model, made or not yet."""
    return BenchModel(units, BUILD / f"lstm{units}-{MODEL_FORMAT}")
