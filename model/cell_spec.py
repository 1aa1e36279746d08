"""`CellSpec`: what a kind of cell is but for its mathematics, which `layers/cells.py` has.

A new kind of cell is an entry of `CELL_SPECS`, a class of `layers/cells.py`, and an entry of
`app/manifest.py`, which says the same to the service.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CellKind = Literal["rnn", "lstm", "gru"]
Activation = Literal["tanh", "relu"]


@dataclass(frozen=True)
class OnnxOperator:
    """What computes a kind of cell in `chunk.onnx` (https://onnx.ai/onnx/operators/).

    Attributes:
        name: of the operator.
        gates: of the cell, in the operator's order.
        attributes: of the operator, beside its size and its activation.
    """

    name: str
    gates: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CellSpec:
    """A kind of cell.

    Attributes:
        gates: in the order of their columns in the weights.
        states: parts of the state, each `[B, H]`; the first, `h`, is the layer's output.
        num_sums: sums for each unit that the activations take, at each time step.
        num_biases: 1; 2 where inputs and state have a bias each.
        onnx: what computes it in `chunk.onnx`.
        activations: that a layer may ask for.
    """

    gates: tuple[str, ...]
    states: tuple[str, ...]
    num_sums: int
    onnx: OnnxOperator
    num_biases: int = 1
    activations: tuple[Activation, ...] = ("tanh",)

    @property
    def num_kept(self) -> int:
        """Numbers for each unit that training keeps of a time step: sums, state and output."""
        return self.num_sums + len(self.states) + 1

    def num_columns(self, units: int) -> int:
        """Columns of a layer's matrices: G*H."""
        return len(self.gates) * units

    def bias_shape(self, units: int) -> tuple[int, ...]:
        """`[G*H]`; `[2, G*H]` where inputs and state have a bias each."""
        width = self.num_columns(units)
        return (width,) if self.num_biases == 1 else (self.num_biases, width)

    def places(self, gates: Sequence[str]) -> tuple[int, ...]:
        """Where each of these gates, in another library's order, stands among ours."""
        return tuple(self.gates.index(gate) for gate in gates)


CELL_SPECS: Mapping[CellKind, CellSpec] = {
    "rnn": CellSpec(
        ("new",),
        ("h",),
        num_sums=1,
        onnx=OnnxOperator("RNN", ("new",)),
        activations=("tanh", "relu"),
    ),
    "lstm": CellSpec(
        ("input", "forget", "new", "output"),
        ("h", "c"),
        num_sums=4,
        onnx=OnnxOperator("LSTM", ("input", "output", "forget", "new")),
    ),
    # The sum of `new` is two: the reset gate comes between what inputs and state add to it.
    "gru": CellSpec(
        ("update", "reset", "new"),
        ("h",),
        num_sums=4,
        onnx=OnnxOperator("GRU", ("update", "reset", "new"), {"linear_before_reset": 1}),
        num_biases=2,
    ),
}
